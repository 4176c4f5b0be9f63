"""The budget of received bytes: who waits, who is flushed, who is refused; and where a part is gathered."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tus_server.errors import StoreUnavailable
from tus_server.stores import buffers
from tus_server.stores.buffers import PIECE_BYTES, FileBuffer, MemoryBuffer, PartBuffer, ReceiveBudget, shared_budget


class Quiet:
    """A holder that gives back what it holds when it is told to."""

    def __init__(self, budget: ReceiveBudget, count: int, *, is_busy: bool = False) -> None:
        self.budget = budget
        self.count = count
        self.is_busy = is_busy
        self.flushes = 0
        budget.take(count, self)

    def flush(self) -> bool:
        self.flushes += 1
        if self.is_busy or not self.count:
            return False
        self.budget.give(self.count)
        self.count = 0
        return True


def test_bytes_are_taken_until_the_limit_and_given_back() -> None:
    budget = ReceiveBudget(100, patience=0.01)
    budget.take(60)
    budget.take(40)
    assert budget.used == 100
    with pytest.raises(StoreUnavailable) as caught:
        budget.take(1)
    assert (caught.value.code, caught.value.headers["Retry-After"]) == ("busy", "5")
    assert budget.used == 100
    budget.give(100)
    budget.take(1)
    assert budget.used == 1


def test_who_waits_goes_on_when_bytes_come_free() -> None:
    budget = ReceiveBudget(100, patience=30)
    budget.take(100)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(budget.take, 50)
        budget.give(20)
        assert not waiting.done()
        budget.give(30)
        waiting.result(10)
    assert budget.used == 100


def test_first_come_first_served() -> None:
    budget = ReceiveBudget(100, patience=30)
    budget.take(100)
    order: list[int] = []

    def take(count: int) -> None:
        budget.take(count)
        order.append(count)

    with ThreadPoolExecutor(2) as pool:
        large = pool.submit(take, 80)
        while len(budget._queue) < 1:
            pass
        small = pool.submit(take, 10)
        while len(budget._queue) < 2:
            pass
        budget.give(30)  # enough for the small one, which came later
        assert not small.done()
        budget.give(60)
        large.result(10)
        small.result(10)
    assert order == [80, 10]


def test_the_holder_that_is_quiet_for_longest_is_flushed() -> None:
    budget = ReceiveBudget(100, patience=0.01)
    first, second, third = Quiet(budget, 30), Quiet(budget, 30), Quiet(budget, 40)
    budget.give(1)
    budget.take(1, first)  # it has just received something
    budget.take(30)
    assert (first.flushes, second.flushes, third.flushes) == (0, 1, 0)


def test_a_holder_that_is_at_work_is_passed_over() -> None:
    budget = ReceiveBudget(100, patience=0.01)
    busy, quiet = Quiet(budget, 50, is_busy=True), Quiet(budget, 50)
    budget.take(10)
    assert (busy.flushes, quiet.flushes) == (1, 1)


def test_a_holder_that_is_forgotten_is_not_flushed() -> None:
    budget = ReceiveBudget(100, patience=0.01)
    holder = Quiet(budget, 100)
    budget.forget(holder)
    with pytest.raises(StoreUnavailable):
        budget.take(1)
    assert holder.flushes == 0


def test_while_something_comes_free_nobody_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = ReceiveBudget(100, patience=5)
    budget.take(100)
    waits = []

    def wait_in_vain(predicate: Callable[[], bool], timeout: float) -> bool:
        waits.append(timeout)
        budget.give(10)
        return predicate()

    monkeypatch.setattr(budget._changed, "wait_for", wait_in_vain)
    budget.take(60)
    assert waits == [5] * 6, "longer than twice the patience in all"


def test_more_than_the_limit_is_granted_when_nothing_else_is_held() -> None:
    budget = ReceiveBudget(100, patience=0.01)
    budget.take(1000)
    with pytest.raises(StoreUnavailable):
        budget.take(1)


def test_a_flush_may_take_what_it_needs_over_the_limit() -> None:
    budget = ReceiveBudget(100, patience=0.01)
    budget.take(100)
    budget.take(20, may_wait=False)
    assert budget.used == 120


def test_a_large_part_does_not_count_as_memory() -> None:
    assert ReceiveBudget(128 * 2**20).largest_in_memory == 64 * 2**20
    assert ReceiveBudget(16 * 2**20).largest_in_memory == 8 * 2**20


def test_a_forked_process_has_a_budget_of_its_own() -> None:
    ours = shared_budget()
    assert shared_budget() is ours
    saved = buffers._shared, buffers._shared_lock
    try:
        buffers._forget_shared()
        assert shared_budget() is not ours
    finally:
        buffers._shared, buffers._shared_lock = saved


@pytest.fixture(params=["memory", "file"])
def make(request: pytest.FixtureRequest) -> object:
    budget = ReceiveBudget(1000, patience=0.01)

    class Holder:
        def flush(self) -> bool:
            return False

    def make(gap: int) -> PartBuffer:
        return MemoryBuffer(budget, Holder(), 12) if request.param == "memory" else FileBuffer(gap)

    make.budget = budget  # type: ignore[attr-defined]
    return make


def read(buffer: PartBuffer) -> bytes:
    body = buffer.body()
    return bytes(body.read()) if hasattr(body, "read") else bytes(body)


def test_a_part_is_gathered_and_what_was_missing_put_in_front(make: object) -> None:
    buffer: PartBuffer = make(5)  # type: ignore[operator]
    buffer.append(memoryview(b"fgh"))
    buffer.append(memoryview(b"ij"))
    assert (buffer.size, read(buffer), buffer.content()) == (5, b"fghij", b"fghij")
    buffer.prepend(iter([b"de"]), 2)
    assert (buffer.size, read(buffer)) == (7, b"defghij")
    buffer.prepend([b"a", b"bc"], 3)
    assert (read(buffer), buffer.content()) == (b"abcdefghij", b"abcdefghij")
    buffer.close()
    buffer.close()
    assert make.budget.used == 0  # type: ignore[attr-defined]


class Nobody:
    """A holder that is never flushed."""

    def flush(self) -> bool:
        return False


def resident() -> int:
    """Return how many bytes of this process lie in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_part_in_memory_takes_what_it_has_and_gives_all_of_it_back() -> None:
    size, piece = 48 * 2**20, memoryview(bytes(2**20))
    before = resident()
    buffer = MemoryBuffer(ReceiveBudget(), Nobody(), size)
    buffer.append(piece)
    assert resident() - before < 8 * 2**20, "what is not filled takes no memory"
    while buffer.size < size:
        buffer.append(piece)
    assert size - 4 * 2**20 < resident() - before < size + 8 * 2**20
    buffer.close()
    assert resident() - before < 8 * 2**20


def test_clients_get_a_part_in_pieces_however_much_they_ask_for() -> None:
    """Each thread that sends would keep the room of what it once got: botocore asks for a MiB."""
    buffer = MemoryBuffer(ReceiveBudget(), Nobody(), 2**20)
    content = os.urandom(2**20)
    buffer.append(memoryview(content))
    body = buffer.body()
    pieces = list(iter(lambda: body.read(2**20), b""))
    assert max(len(piece) for piece in pieces) == PIECE_BYTES
    assert b"".join(pieces) == content
    body.seek(0)
    assert body.readall() == content
    buffer.close()


def test_a_part_cannot_be_read_any_more_when_it_is_closed(make: object) -> None:
    buffer: PartBuffer = make(0)  # type: ignore[operator]
    buffer.append(memoryview(b"abc"))
    body = buffer.body()
    buffer.close()
    with pytest.raises((ValueError, OSError)):
        body.read(1)


def test_an_empty_part_has_an_empty_body(make: object) -> None:
    buffer: PartBuffer = make(0)  # type: ignore[operator]
    assert (read(buffer), buffer.content()) == (b"", b"")
    buffer.close()


def test_what_cannot_be_fetched_changes_nothing(make: object) -> None:
    buffer: PartBuffer = make(3)  # type: ignore[operator]
    buffer.append(memoryview(b"def"))

    def pieces() -> object:
        yield b"a"
        raise StoreUnavailable()

    with pytest.raises(StoreUnavailable):
        buffer.prepend(pieces(), 3)  # type: ignore[arg-type]
    assert read(buffer) == b"def"
    buffer.close()
    assert make.budget.used == 0  # type: ignore[attr-defined]


def test_a_part_can_be_read_again_from_its_first_byte(make: object) -> None:
    buffer: PartBuffer = make(4)  # type: ignore[operator]
    buffer.append(memoryview(b"efgh"))
    body = buffer.body()
    assert body.read(2) == b"ef"
    assert body.tell() == 2
    assert body.seek(0) == 0
    assert body.read() == b"efgh"
    assert (body.seek(0, os.SEEK_END), body.seek(-1, os.SEEK_CUR)) == (4, 3)
    assert body.read(10) == b"h"
    body.seek(1)
    filled = bytearray(2)
    assert (body.readinto(filled), filled) == (2, b"fg")
    assert body.seekable()
    assert body.readable()
    buffer.close()
