"""Counts the statements and storage calls of a clean run by other means than ``points``: what those miss is found here.

Statements are what Django logs for debugging; calls are seen by the interpreter's profiler, whoever makes them.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from django.core.files.storage import Storage, default_storage
from django.db import connection

from tests.async_uploads.faults import clouds
from tests.async_uploads.faults.points import Points

#: Functions of the operating system that change something on disk, or see to it that it stays.
CHANGING = frozenset(
    (
        *("chmod", "chown", "copy_file_range", "fdatasync", "fsync", "ftruncate", "link", "mkdir", "mkfifo", "pwrite"),
        *("pwritev", "rename", "replace", "rmdir", "sendfile", "splice", "symlink", "truncate", "unlink", "utime"),
        *("write", "writev"),
    )
)
#: Methods of storages that ask nobody: they work on names, or on what the storage object knows.
PURE = frozenset(
    (
        *("generate_filename", "get_valid_name", "identity", "is_temporary_path", "source_lifetime"),
        *("blobs", "client", "full_key", "get_blob_client", "get_object_parameters", "permanent_parameters"),
        *("read_parameters", "takes_conditions", "temporary_parameters", "upload_parameters"),
    )
)


def storage_class() -> type[Storage]:
    """Return the class of the default storage, behind Django's lazy object."""
    return type(getattr(default_storage, "_wrapped", default_storage))


def find_functions(cls: type) -> dict[Any, str]:
    """Return the code of each function that a class has or inherits, with its name."""
    found = {}
    for base in cls.__mro__:
        for name, value in vars(base).items():
            function = getattr(value, "__func__", None) or getattr(value, "fget", None) or value
            if hasattr(function, "__code__") and not name.startswith("_"):
                found[function.__code__] = name
    return found


class Census:
    """What happened: how many statements, and how often each call."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.calls: Counter[str] = Counter()
        self._functions = find_functions(storage_class())

    @property
    def count(self) -> int:
        """How many there were of both."""
        return len(self.statements) + sum(self.calls.values())

    def find_missed(self, points: Points) -> dict[str, int]:
        """Return what a run had more of than it had points."""
        missed = self.calls - Counter(points.names)
        missed["statements"] = len(self.statements) - points.statements
        return dict(+missed)

    @contextmanager
    def taken(self) -> Iterator[None]:
        connection.ensure_connection()  # what it says of itself when it is new is no part of the run
        connection.force_debug_cursor = True
        connection.queries_log.clear()
        if clouds.current is not None:
            clouds.current.sent.clear()
        sys.setprofile(self._see)
        try:
            yield
        finally:
            sys.setprofile(None)
            connection.force_debug_cursor = False
            self.statements = [query["sql"] for query in connection.queries_log]
            if clouds.current is not None:
                self.calls += clouds.current.sent

    def _see(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "c_call" and clouds.current is None:
            if argument.__module__ == os.link.__module__ and argument.__name__ in CHANGING:
                self.calls[f"os.{argument.__name__}"] += 1
        elif event == "call" and (name := self._functions.get(frame.f_code)) and name not in PURE:
            caller = frame.f_back
            if caller is None or caller.f_code not in self._functions:
                self.calls[name] += 1
