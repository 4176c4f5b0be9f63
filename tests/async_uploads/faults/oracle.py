"""What is true, read from the storage's directory and the database's own driver; nothing of ours is asked."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

from tests import settings
from tests.async_uploads.faults import clouds

COLUMNS = {"testapp_document": ("file",), "testapp_triple": ("first", "second", "third")}

ROW = ("key", "object_name", "claim", "moved_to_location", "promoted_at", "target_digest", "attempts", "error")


class Violation(AssertionError):
    """A promise that was not kept."""


def connect() -> Any:
    """Open a connection of the oracle's own."""
    configured: dict[str, Any] = settings.DATABASES["default"]
    if configured["ENGINE"].endswith("sqlite3"):
        return sqlite3.connect(configured["NAME"], timeout=60)
    if configured["ENGINE"].endswith("mysql"):
        import pymysql

        place = {"host": configured["HOST"], "port": int(configured["PORT"]), "user": "root", "ssl_disabled": True}
        return pymysql.connect(database=configured["NAME"], charset="utf8mb4", autocommit=True, **place)
    import psycopg

    return psycopg.connect(dbname=configured["NAME"], autocommit=True)


def quote(name: str) -> str:
    """Quote a name that may be a word of SQL (``key``)."""
    return f"`{name}`" if settings.DATABASES["default"]["ENGINE"].endswith("mysql") else f'"{name}"'


def select(database: Any, sql: str) -> list[Any]:
    """Return all rows of a statement."""
    cursor = database.cursor()
    cursor.execute(sql)
    return list(cursor.fetchall())


def read_tree(media: Path) -> dict[str, bytes]:
    """Return every file; one that is moved at this moment is at one of its names."""
    if clouds.current is not None:
        return clouds.current.read_tree()
    found = {}
    for directory, _, names in os.walk(media, followlinks=True):
        for path in (Path(directory, name) for name in names):
            try:
                found[str(path.relative_to(media))] = path.read_bytes()
            except FileNotFoundError:
                continue
    return found


class Facts:
    """A look at everything: ``columns`` as committed, ``rows`` of the journal, ``tree`` of the storage."""

    def __init__(self, media: Path) -> None:
        database = connect()
        try:
            self.columns: dict[tuple[str, str, int], str] = {}
            for table, columns in COLUMNS.items():
                for column in columns:
                    # A row's column may be NULL or empty: no file.
                    for pk, value in select(database, f"SELECT id, {quote(column)} FROM {table} ORDER BY id"):
                        if value:
                            self.columns[table, column, pk] = value
            listed = ", ".join(map(quote, ROW))
            found = select(database, f"SELECT {listed} FROM async_uploads_asynctempfile ORDER BY id")
            self.rows: list[dict[str, Any]] = [dict(zip(ROW, row, strict=True)) for row in found]
        finally:
            database.close()
        self.tree = read_tree(media)
        self.keys = {row["key"] for row in self.rows}

    def find(self, value: str) -> bytes | None:
        """Return the file that a column's value stands for, as our rules of reading say."""
        if value in self.tree:
            return self.tree[value]
        for row in self.rows:
            if value in (row["key"], row["moved_to_location"]):
                for name in (row["key"], row["object_name"], row["moved_to_location"]):
                    if name in self.tree:
                        return self.tree[name]
        return None

    def require_readable(self, allowed: set[bytes]) -> None:
        """Every committed column has its file, and its content is one of those that were sent."""
        for where, value in self.columns.items():
            if self.find(value) not in allowed:
                raise Violation(f"{where} holds {value}, which cannot be read; there are {sorted(self.tree)}")

    def require_settled(self, also: dict[str, bytes]) -> None:
        """Every file lies in exactly one permanent place, and nothing else lies anywhere but ``also``."""
        expected = dict(also)
        for where, value in self.columns.items():
            if value.startswith("async-temp-files/"):
                raise Violation(f"{where} still holds the key {value}")
            if value not in self.tree:
                raise Violation(f"{where} holds {value}, which is not there")
            expected[value] = self.tree[value]
        if expected != self.tree:
            raise Violation(f"expected {sorted(expected)}, there are {sorted(self.tree)}")
        for row in self.rows:
            if row["claim"] and not row["promoted_at"]:
                raise Violation(f"{row} is still claimed")
