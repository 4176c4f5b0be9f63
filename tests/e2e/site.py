"""The example project on a real server, in a private directory, seen from outside: its disk and its database."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.servers import Kind, RunningServer

ROOT = Path(__file__).resolve().parents[2]
MIB = 1024 * 1024

T = TypeVar("T")


def build_environment(directory: Path, language: str = "en") -> dict[str, str]:
    """Return the variables that make a process run the example in a directory of its own."""
    return {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "example")]),
        "DJANGO_SETTINGS_MODULE": "demo.settings",
        "DEMO_DIRECTORY": str(directory),
        "DEMO_LANGUAGE": language,
    }


def manage(environment: Mapping[str, str], *arguments: str) -> str:
    """Run a management command of the example; return what it printed."""
    command = [sys.executable, str(ROOT / "example" / "manage.py"), *arguments]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def prepare_database(directory: Path) -> Path:
    """Let ``manage.py demo`` make a database with the demo user; return its path."""
    printed = manage(build_environment(directory), "demo", "--no-serve")
    assert "demo, password demo" in printed
    return directory / "db.sqlite3"


@dataclass(frozen=True)
class Cloud:
    """A service that keeps a site's files.

    Attributes:
        storage: The storage, as in Django's ``STORAGES``.
        url: Scheme, host and port of the service, for the browser.
        read: Returns the bytes of a file by its name, past all of our code.
        names: Returns the names of all files.
    """

    storage: Mapping[str, Any]
    url: str
    read: Callable[[str], bytes]
    names: Callable[[], list[str]]

    @property
    def environment(self) -> dict[str, str]:
        """The variables of ``cloud_settings``."""
        return {
            "DJANGO_SETTINGS_MODULE": "tests.e2e.cloud_settings",
            "SITE_STORAGE": json.dumps(self.storage),
            "SITE_CLOUD": self.url,
        }


class Site:
    """The example project, served; killable and restartable on the same port and directory.

    Args:
        kind: Which server.
        directory: For its database, files and log; private to this site.
        database: A prepared database to begin with; see ``prepare_database``.
        language: Of the pages.
        cloud: Who keeps its files, instead of its directory.
    """

    def __init__(
        self, kind: Kind, directory: Path, *, database: Path, language: str = "en", cloud: Cloud | None = None
    ) -> None:
        self.directory = directory
        self.environment = {
            **build_environment(directory, language),
            **({} if cloud is None else cloud.environment),
        }
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(database, directory / "db.sqlite3")
        self.server = self.start_server(kind, directory)

    @property
    def url(self) -> str:
        """Scheme, host and port, without a slash at the end."""
        return self.server.url

    @property
    def media(self) -> Path:
        """Where its storage keeps files."""
        return self.directory / "media"

    def start_server(self, kind: Kind, directory: Path) -> RunningServer:
        """Start a server of the project, the first or another beside it; ``directory`` is for its log."""
        return RunningServer(
            kind,
            directory,
            env=self.environment,
            wsgi="demo.wsgi:application",
            asgi="demo.asgi:application",
            health="/",
        )

    def manage(self, *arguments: str) -> str:
        """Run a management command of the project in a process of its own; return what it printed."""
        return manage(self.environment, *arguments)

    def run(self, code: str) -> str:
        """Run Python in another process of the project; return what it printed."""
        return self.manage("shell", "--no-imports", "-c", code)

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Ask the database, past all of our code."""
        uri = f"file:{self.directory / 'db.sqlite3'}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=60)) as connection:
            return connection.execute(query, parameters).fetchall()

    def uploads(self) -> list[Path]:
        """Return the data files of uploads, newest last."""
        found = [path for path in (self.media / "async-temp-files").rglob("*") if path.is_file()]
        return sorted(found, key=lambda path: path.stat().st_mtime_ns)

    def stop(self) -> None:
        """End the server."""
        self.server.stop()


@contextmanager
def served(kind: Kind, directory: Path, **options: Any) -> Iterator[Site]:
    """Serve the example for a while; pytest shows its log where a test failed."""
    site = Site(kind, directory, **options)
    try:
        yield site
    finally:
        site.stop()
        print(site.server.log[-8000:])


@dataclass(frozen=True)
class Sample:
    """A file of pseudo-random bytes to upload, and what it must be in the end."""

    path: Path
    size: int
    sha256: str


def make_sample(path: Path, size: int, seed: int = 1, head: bytes = b"") -> Sample:
    """Write a file that no file system can store sparsely, and that nothing compresses."""
    generator, digest = random.Random(seed), hashlib.sha256(head)
    left = size - len(head)
    with path.open("wb") as file:
        file.write(head)
        while left:
            piece = generator.randbytes(min(left, MIB))
            file.write(piece)
            digest.update(piece)
            left -= len(piece)
    return Sample(path, size, digest.hexdigest())


def compute_sha256(path: Path) -> str:
    """Read a file and return its SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def wait_for(question: Callable[[], T | None], seconds: float = 60, pause: float = 0.005) -> T:
    """Ask until the answer is true, and return it."""
    deadline = time.monotonic() + seconds
    while not (answer := question()):
        if time.monotonic() > deadline:
            raise AssertionError(f"It did not happen within {seconds} s.")
        time.sleep(pause)
    return answer
