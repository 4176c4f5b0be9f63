"""The bytes that a process holds on their way to a cloud backend: one budget for all uploads, and where they lie.

Rules for stores that receive into buffers:

* Every byte in memory was taken from the budget before it was copied, and is given back when the backend has it or it
  is forgotten. ``take`` waiting means: stop reading from the client.
* Whoever holds bytes while waiting for more (a part that is not full yet) is registered and can be told to let them go
  (``Holder.flush``). Nobody waits for the network while holding a place in the pool (``pipeline``).
"""

from __future__ import annotations

import io
import mmap
import os
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Protocol

from tus_server.errors import StoreUnavailable

#: Bytes that a process holds at most, unless told otherwise.
DEFAULT_LIMIT = 128 * 1024 * 1024
#: Parts above this size, in bytes, are gathered in files.
LARGEST_IN_MEMORY = 64 * 1024 * 1024
#: Bytes that a client library gets at once of a part. botocore asks for a MiB to compute a sum, and each thread that
#: sends would keep the room of two of these.
PIECE_BYTES = 128 * 1024
#: Behind its first 2 MiB a part lies in huge pages, where the kernel has them: 0.1 CPU seconds per GiB instead of 0.6
#: (measured). Up to there a part takes no more than it has: most slow clients do not come further.
_HUGE: int | None = getattr(mmap, "MADV_HUGEPAGE", None)
_HUGE_BYTES = 2 * 1024 * 1024


class Holder(Protocol):
    """Somebody who holds bytes of the budget while waiting for more: a sink."""

    def flush(self) -> bool:
        """Leave what is held with the backend and give it back, unless it is being used at this moment.

        Called in another thread than the holder's. Must not raise, must not wait for the holder.

        Returns:
            Whether bytes were given back; for tests and logs.
        """


class ReceiveBudget:
    """How many received bytes a process may hold. Waiting is fair: first come, first served.

    Args:
        limit: In bytes.
        patience: For how many seconds nothing may come free before the holder that was quiet for longest is flushed,
            and after another as many the request is refused.
    """

    def __init__(self, limit: int = DEFAULT_LIMIT, patience: float = 5.0) -> None:
        self.limit = limit
        self.patience = patience
        self._used = 0
        self._given = 0
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()
        # In the order of their last bytes, the quietest first.
        self._holders: dict[Holder, None] = {}

    @property
    def used(self) -> int:
        """How many bytes are held now."""
        return self._used

    @property
    def largest_in_memory(self) -> int:
        """The largest part, in bytes, that is gathered in memory: two of them fit."""
        return min(LARGEST_IN_MEMORY, self.limit // 2)

    def take(self, count: int, holder: Holder | None = None, *, may_wait: bool = True) -> None:
        """Wait until so many bytes may be held.

        Args:
            count: In bytes. One larger than the limit is granted when nothing else is held.
            holder: Who holds them, if it can be flushed while it waits for more; ``forget`` it in the end.
            may_wait: Without it they are granted at once, over the limit: for the few that a flush needs.

        Raises:
            StoreUnavailable: Nothing came free for twice the patience; nothing was taken.
        """
        with self._changed:
            if may_wait and (self._queue or not self._fits(count)):
                self._wait(count)
            self._used += count
            if holder is not None:
                self._holders.pop(holder, None)
                self._holders[holder] = None

    def give(self, count: int) -> None:
        """Give bytes back."""
        with self._changed:
            self._used -= count
            self._given += 1
            self._changed.notify_all()

    def forget(self, holder: Holder) -> None:
        """No longer flush a holder; what it holds stays taken until it is given back."""
        with self._changed:
            self._holders.pop(holder, None)

    def _fits(self, count: int) -> bool:
        return self._used + count <= self.limit or self._used == 0

    def _wait(self, count: int) -> None:
        ticket = object()
        self._queue.append(ticket)
        try:
            was_refused = False
            while True:
                seen = self._given
                is_time = self._changed.wait_for(
                    lambda: self._queue[0] is ticket and self._fits(count), timeout=self.patience
                )
                if is_time:
                    return
                if self._given != seen or self._queue[0] is not ticket:
                    was_refused = False  # it goes on, if slowly; or somebody before us sees to it
                elif self._flush_quietest(count):
                    return
                elif was_refused:
                    raise StoreUnavailable("The server holds as many bytes as it may.", code="busy", retry_after=5)
                else:
                    was_refused = True
        finally:
            self._queue.remove(ticket)
            self._changed.notify_all()

    def _flush_quietest(self, count: int) -> bool:
        """Flush holders, those whose last bytes are the oldest first, until so many bytes fit; says whether they do.

        Parts on their way hold bytes too: nobody can be flushed for these, they come free by themselves.
        """
        for holder in list(self._holders):
            self._changed.release()
            try:
                holder.flush()
            finally:
                self._changed.acquire()
            if self._fits(count):
                return True
        return False


class PartBuffer(Protocol):
    """The bytes of one part as they are gathered. Some may be missing in front; they are ``prepend``ed later."""

    @property
    def size(self) -> int:
        """How many bytes there are, in all."""

    def append(self, data: memoryview) -> None:
        """Copy bytes to the end."""

    def prepend(self, pieces: Iterable[bytes], size: int, *, may_wait: bool = True) -> None:
        """Put ``size`` missing bytes in front. Whoever is flushing must not wait for the budget."""

    def content(self) -> bytes:
        """Return a copy of all bytes."""

    # Any: clients take bytes, bytearrays and readable files, and every one calls that something else.
    def body(self) -> Any:
        """Return what to hand to the client library: all bytes, from the first. The buffer must not change after."""

    def close(self) -> None:
        """Forget the bytes, and give back what they took of the budget. May be repeated."""


class MemoryBuffer:
    """A part in memory, counted in the budget.

    The memory is mapped for the part alone, and goes back to the kernel when the part is closed: on the heap, blocks of
    megabytes that come and go leave holes, and whatever small lies behind one keeps it. Pages count when they are
    filled, so a part that is half full takes half of the memory.

    Args:
        budget: Where its bytes are counted.
        holder: Who holds them.
        part_size: How many bytes a full part has, which is the most that fits.
    """

    def __init__(self, budget: ReceiveBudget, holder: Holder, part_size: int) -> None:
        self._budget = budget
        self._holder = holder
        self._part_size = part_size
        self._memory: mmap.mmap | None = None
        self._size = 0
        self._taken = 0

    @property
    def size(self) -> int:
        """See ``PartBuffer``."""
        return self._size

    def append(self, data: memoryview) -> None:
        """See ``PartBuffer``. May wait for the budget.

        Raises:
            StoreUnavailable: The budget is used up; nothing was appended.
        """
        self._budget.take(len(data), self._holder)
        self._taken += len(data)
        end = self._size + len(data)
        self._mapped()[self._size : end] = data
        self._size = end

    def prepend(self, pieces: Iterable[bytes], size: int, *, may_wait: bool = True) -> None:
        """See ``PartBuffer``. May wait for the budget, before the first piece is fetched.

        Raises:
            StoreUnavailable: The budget is used up; nothing was changed.
        """
        self._budget.take(size, self._holder, may_wait=may_wait)
        self._taken += size
        fetched = list(pieces)
        memory, position = self._mapped(), 0
        memory.move(size, 0, self._size)
        for piece in fetched:
            memory[position : position + len(piece)] = piece
            position += len(piece)
        self._size += size

    def _mapped(self) -> mmap.mmap:
        if self._memory is None:
            self._memory = mmap.mmap(-1, self._part_size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            if _HUGE is not None and self._part_size >= 2 * _HUGE_BYTES:
                with suppress(OSError):  # a kernel without huge pages
                    self._memory.madvise(_HUGE, _HUGE_BYTES, self._part_size - _HUGE_BYTES)
        return self._memory

    def content(self) -> bytes:
        """See ``PartBuffer``."""
        return b"" if self._memory is None else self._memory[: self._size]

    def body(self) -> io.RawIOBase:
        """See ``PartBuffer``: a file, which client libraries send in pieces. Some copy what is not a file."""
        memory = self._mapped()
        return Slice(lambda start, count: memory[start : start + count], 0, self._size)

    def close(self) -> None:
        """See ``PartBuffer``."""
        memory, self._memory = self._memory, None
        if memory is not None:
            memory.close()
        self._size = 0
        taken, self._taken = self._taken, 0
        if taken:
            self._budget.give(taken)


class FileBuffer:
    """A part in a file without a name, for parts too large for memory.

    Args:
        gap: How many bytes will be prepended.
        directory: Where the file lies; ``None`` for the system's directory for temporary files.
    """

    def __init__(self, gap: int, directory: str | None = None) -> None:
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115  # closed by close()
        self._begin = gap
        self._end = gap

    @property
    def size(self) -> int:
        """See ``PartBuffer``."""
        return self._end - self._begin

    def append(self, data: memoryview) -> None:
        """See ``PartBuffer``."""
        self._end = _write(self._file.fileno(), data, self._end)

    def prepend(self, pieces: Iterable[bytes], size: int, *, may_wait: bool = True) -> None:
        """See ``PartBuffer``."""
        position = self._begin - size
        for piece in pieces:
            position = _write(self._file.fileno(), memoryview(piece), position)
        self._begin -= size

    def content(self) -> bytes:
        """See ``PartBuffer``."""
        return os.pread(self._file.fileno(), self.size, self._begin)

    def body(self) -> io.RawIOBase:
        """See ``PartBuffer``: a file that begins with the first byte that is there."""
        descriptor = self._file.fileno()
        return Slice(lambda start, count: os.pread(descriptor, count, start), self._begin, self._end)

    def close(self) -> None:
        """See ``PartBuffer``."""
        self._file.close()


class Slice(io.RawIOBase):
    """A range of a part's bytes as a file of its own: client libraries rewind to 0 when they try again.

    Args:
        fetch: Returns up to so many bytes (the second argument) from a position (the first), at least one if there is.
        begin: The position of the first byte.
        end: The position behind the last.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], begin: int, end: int) -> None:
        self._fetch = fetch
        self._begin = begin
        self._end = end
        self._position = begin

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """See ``io.RawIOBase``: everything, or up to ``size`` bytes, and never more than ``PIECE_BYTES`` of them."""
        left = self._end - self._position
        data = self._fetch(self._position, left if size is None or size < 0 else min(size, left, PIECE_BYTES))
        self._position += len(data)
        return data

    def readall(self) -> bytes:
        """See ``io.RawIOBase``."""
        return self.read()

    # Any: what may be filled is typed differently by each version of the type stubs.
    def readinto(self, buffer: Any) -> int:
        """See ``io.RawIOBase``."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """See ``io.IOBase``."""
        base = {os.SEEK_SET: self._begin, os.SEEK_CUR: self._position, os.SEEK_END: self._end}[whence]
        self._position = min(max(base + offset, self._begin), self._end)
        return self._position - self._begin

    def tell(self) -> int:
        """See ``io.IOBase``."""
        return self._position - self._begin


def _write(descriptor: int, data: memoryview, position: int) -> int:
    while data:
        written = os.pwrite(descriptor, data, position)
        position += written
        data = data[written:]
    return position


_shared: ReceiveBudget | None = None
_shared_lock = threading.Lock()


def shared_budget(limit: Callable[[], int] = lambda: DEFAULT_LIMIT) -> ReceiveBudget:
    """Return the budget of this process; ``limit`` says how large it is when it is made."""
    global _shared
    with _shared_lock:
        if _shared is None:
            _shared = ReceiveBudget(limit())
        return _shared


def _forget_shared() -> None:
    """A forked process begins with nothing: its parent's buffers and waiting threads are not there."""
    global _shared, _shared_lock
    _shared, _shared_lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget_shared)
