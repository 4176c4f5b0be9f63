"""The budget of received bytes: who waits, who is flushed, who is refused; and where a part is gathered."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tus_server.errors import StoreUnavailable
from tus_server.stores import buffers
from tus_server.stores.buffers import FileBuffer, MemoryBuffer, PartBuffer, ReceiveBudget, shared_budget


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


def test_while_something_comes_free_nobody_is_refused() -> None:
    budget = ReceiveBudget(100, patience=0.05)
    budget.take(100)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(budget.take, 60)
        for _ in range(6):  # longer than twice the patience in all
            assert not waiting.done()
            threading.Event().wait(0.04)
            budget.give(10)
        waiting.result(10)


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


def test_a_part_in_memory_takes_no_more_than_its_size() -> None:
    class Holder:
        def flush(self) -> bool:
            return False

    for piece in (1000, 4096, 65536, 600_000):
        buffer = MemoryBuffer(ReceiveBudget(), Holder(), 1_000_000)
        while buffer.size < 1_000_000:
            buffer.append(memoryview(bytes(min(piece, 1_000_000 - buffer.size))))
        assert buffer.body().__alloc__() <= 1_000_001
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


def test_a_file_can_be_read_again_from_its_first_byte() -> None:
    buffer = FileBuffer(4)
    buffer.append(memoryview(b"efgh"))
    body = buffer.body()
    assert body.read(2) == b"ef"
    assert body.tell() == 2
    assert body.seek(0) == 0
    assert body.read() == b"efgh"
    assert (body.seek(0, os.SEEK_END), body.seek(-1, os.SEEK_CUR)) == (4, 3)
    assert body.read(10) == b"h"
    assert body.seekable()
    assert body.readable()
    buffer.close()
