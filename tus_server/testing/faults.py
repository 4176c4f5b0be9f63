"""A store that fails when it is told to, before or after a call had its effect."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Literal, ParamSpec, TypeAlias, TypeVar

from tus_server.errors import StoreUnavailable
from tus_server.stores.base import Concatenates, DefersLength, Expires, Sink, Terminates, UploadStore
from tus_server.uploads import Upload, UploadRecord

P = ParamSpec("P")
T = TypeVar("T")

#: Whether a failing call fails before its effect, or after it, when the answer is lost.
When: TypeAlias = Literal["before", "after"]


class Faults:
    """Which call fails, and what has failed."""

    def __init__(self) -> None:
        #: The names of the calls that failed, with when they did.
        self.fired: list[tuple[str, When]] = []
        self._left: int | None = None
        self._when: When = "before"
        self._error: Callable[[], BaseException] = StoreUnavailable

    def arm(self, skip: int, when: When, error: Callable[[], BaseException] = StoreUnavailable) -> None:
        """Let one call fail: the next but ``skip``."""
        self._left, self._when, self._error = skip, when, error

    def disarm(self) -> None:
        """Let nothing fail any more."""
        self._left = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let nothing fail, and count nothing, for a while: whoever only looks has no part in the play."""
        left, self._left = self._left, None
        try:
            yield
        finally:
            self._left = left

    def call(self, name: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a call, or fail if it is its turn."""
        if self._left is None:
            return function(*args, **kwargs)
        if self._left > 0:
            self._left -= 1
            return function(*args, **kwargs)
        self._left = None
        self.fired.append((name, self._when))
        if self._when == "after":
            function(*args, **kwargs)
        raise self._error()


class FaultyStore(UploadStore, Terminates, DefersLength, Expires, Concatenates):
    """A store in front of another, with every ability; ``faults`` decides which call fails.

    A ``settle`` that fails has let the upload go all the same, as its contract says. ``crash`` does what the kernel
    does when a process dies: it closes what is open.
    """

    def __init__(self, store: UploadStore, faults: Faults) -> None:
        self.store = store
        self.faults = faults
        self.records = store.records
        self._open: list[FaultySink] = []

    def create(self, record: UploadRecord) -> Upload:
        """See ``UploadStore``."""
        return self.faults.call("create", self.store.create, record)

    def get(self, upload_id: str) -> Upload:
        """See ``UploadStore``."""
        return self.faults.call("get", self.store.get, upload_id)

    def load(self, record: UploadRecord) -> Upload:
        """See ``UploadStore``."""
        return self.faults.call("load", self.store.load, record)

    def open_sink(self, upload: Upload, offset: int, expected: int | None = None) -> Sink:
        """See ``UploadStore``."""

        # Whoever never got a sink cannot settle it, so a store that fails here has let go: there is no "after".
        sink = self.store.open_sink(upload, offset, expected)
        try:
            self.faults.call("open_sink", lambda: None)
        except BaseException:
            sink.settle()
            raise
        self._open.append(FaultySink(sink, self.faults))
        return self._open[-1]

    def sync(self, upload: Upload) -> None:
        """See ``UploadStore``."""
        self.faults.call("sync", self.store.sync, upload)

    def read(self, upload: Upload, start: int, count: int) -> bytes:
        """See ``UploadStore``."""
        return self.faults.call("read", self.store.read, upload, start, count)

    def finish(self, upload: Upload, now: datetime) -> Upload:
        """See ``UploadStore``."""
        return self.faults.call("finish", self.store.finish, upload, now)

    def scratch_directory(self, record: UploadRecord) -> Path | None:
        """See ``UploadStore``."""
        return self.store.scratch_directory(record)

    def terminate(self, upload: Upload) -> None:
        """See ``Terminates``."""
        assert isinstance(self.store, Terminates)
        self.faults.call("terminate", self.store.terminate, upload)

    def declare_length(self, upload: Upload, length: int) -> Upload:
        """See ``DefersLength``."""
        assert isinstance(self.store, DefersLength)
        return self.faults.call("declare_length", self.store.declare_length, upload, length)

    def touch(self, upload: Upload, now: datetime, expires_at: datetime | None) -> Upload:
        """See ``Expires``."""
        assert isinstance(self.store, Expires)
        return self.faults.call("touch", self.store.touch, upload, now, expires_at)

    def expired(self, now: datetime, limit: int) -> list[Upload]:
        """See ``Expires``."""
        assert isinstance(self.store, Expires)
        return self.faults.call("expired", self.store.expired, now, limit)

    def concatenate(self, final: Upload, partials: Sequence[Upload]) -> Upload:
        """See ``Concatenates``."""
        assert isinstance(self.store, Concatenates)
        return self.faults.call("concatenate", self.store.concatenate, final, partials)

    def crash(self, *, closes: bool = True) -> None:
        """Let the process die that has sinks open: the kernel closes files, and what was written stays written.

        Args:
            closes: Whether there is anything that the kernel closes; else the sinks are just forgotten.
        """
        for sink in self._open:
            if closes:
                sink.close()
        self._open.clear()


class FaultySink(Sink):
    """A sink of ``FaultyStore``."""

    def __init__(self, sink: Sink, faults: Faults) -> None:
        self._sink = sink
        self._faults = faults
        self._is_open = True

    def write(self, data: memoryview) -> None:
        """See ``Sink``."""
        self._faults.call("write", self._sink.write, data)

    def settle(self) -> int:
        """See ``Sink``."""
        self._is_open = False
        offset = self._sink.settle()
        return self._faults.call("settle", lambda: offset)

    def close(self) -> None:
        """Let go if nobody did."""
        if self._is_open:
            self._is_open = False
            self._sink.settle()
