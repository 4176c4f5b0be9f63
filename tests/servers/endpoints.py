"""The tus endpoints of the test site: one engine each, differing in one thing that a test needs.

``files`` is the standalone endpoint of the documentation. Every endpoint keeps its data in
``<directory>/files/<name>``; ``finished.log`` has a line per run of a finish hook, for tests that count them;
``clock`` moves the time of ``clocked``, in seconds. The engines of ``broken`` are at endpoints of their names.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings

from tests.servers.broken import MISTAKES, BrokenEngine
from tus_server.config import TusConfig
from tus_server.engine import Engine
from tus_server.errors import Forbidden, UploadNotFound
from tus_server.hooks import Hooks
from tus_server.locks.filesystem import FileLocker
from tus_server.messages import Request
from tus_server.stores.base import Sink, UploadStore
from tus_server.stores.filesystem import FilesystemStore
from tus_server.uploads import Upload, UploadRecord


class LoggingHooks(Hooks):
    """Writes a line per finished upload."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def post_finish(self, upload: Upload) -> None:
        with self._log.open("a") as log:
            log.write(f"{upload.id}\n")


class GuardingHooks(LoggingHooks):
    """Refuses what the request's headers ask it to refuse."""

    def pre_create(self, request: Request, record: UploadRecord) -> UploadRecord:
        if request.headers.get("X-Refuse") == "create":
            raise Forbidden("Not for you.")
        return record

    def pre_access(self, request: Request, upload: Upload) -> None:
        if request.headers.get("X-Refuse") == "access":
            raise UploadNotFound

    def pre_terminate(self, request: Request, upload: Upload) -> None:
        if request.headers.get("X-Refuse") == "terminate":
            raise Forbidden("A record owns this file.")


class PlainStore(UploadStore):
    """A store that declares no capability: it creates and appends, nothing else."""

    def __init__(self, store: FilesystemStore) -> None:
        self._store = store
        self.records = store.records

    def create(self, record: UploadRecord) -> Upload:
        return self._store.create(record)

    def load(self, record: UploadRecord) -> Upload:
        return self._store.load(record)

    def open_sink(self, upload: Upload, offset: int, expected: int | None = None) -> Sink:
        return self._store.open_sink(upload, offset, expected)

    def finish(self, upload: Upload, now: datetime) -> Upload:
        return self._store.finish(upload, now)

    def sync(self, upload: Upload) -> None:
        self._store.sync(upload)

    def read(self, upload: Upload, start: int, count: int) -> bytes:
        return self._store.read(upload, start, count)


class BrokenStore(PlainStore):
    """A store with an error of its own that nobody foresaw."""

    def load(self, record: UploadRecord) -> Upload:
        raise RuntimeError("the store is broken")


def _now() -> datetime:
    return datetime.now(UTC)


def _moved_clock(clock: Path) -> Callable[[], datetime]:
    def now() -> datetime:
        seconds = float(clock.read_text()) if clock.exists() else 0.0
        return _now() + timedelta(seconds=seconds)

    return now


def build_engines() -> dict[str, Engine]:
    """Return the engines of all endpoints by name."""
    directory: Path = settings.DIRECTORY
    finished = LoggingHooks(directory / "finished.log")

    def config(**limits: Any) -> TusConfig:
        return TusConfig(
            **limits, fast_path=settings.FAST_PATH != "off", uvicorn_handover=settings.FAST_PATH == "handover"
        )

    def store(name: str) -> FilesystemStore:
        return FilesystemStore(directory / "files" / name, durability=settings.DURABILITY)

    def locker(name: str) -> FileLocker:
        return FileLocker(directory / "locks" / name)

    return {
        "files": Engine(store("files"), locker("files"), hooks=finished, config=config()),
        "limited": Engine(store("limited"), locker("limited"), hooks=finished, config=config(max_size=1000)),
        "clocked": Engine(
            store("clocked"),
            locker("clocked"),
            hooks=finished,
            config=config(lifetime=timedelta(hours=1)),
            clock=_moved_clock(directory / "clock"),
        ),
        "eternal": Engine(store("eternal"), locker("eternal"), hooks=finished, config=config(lifetime=None)),
        "impatient": Engine(store("impatient"), locker("impatient"), hooks=finished, config=config(idle_timeout=0.5)),
        "guarded": Engine(
            store("guarded"), locker("guarded"), hooks=GuardingHooks(directory / "finished.log"), config=config()
        ),
        "plain": Engine(PlainStore(store("plain")), locker("plain"), hooks=finished, config=config()),
        "broken": Engine(BrokenStore(store("broken")), locker("broken"), config=config()),
        **{name: BrokenEngine(name, store(name), locker(name), hooks=finished) for name in MISTAKES},
    }
