"""Calls on their way: how many at once, in which order they count, what a failure leaves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tus_server.stores import pipeline as module
from tus_server.stores.pipeline import Pipeline, shared_pool


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


class Gate:
    """Calls that end when they are told to."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.events: dict[int, threading.Event] = {}
        self._lock = threading.Lock()

    def call(self, number: int, error: Exception | None = None) -> Callable[[], int]:
        self.events[number] = threading.Event()

        def run() -> int:
            with self._lock:
                self.running += 1
                self.most = max(self.most, self.running)
            assert self.events[number].wait(60)
            with self._lock:
                self.running -= 1
            if error is not None:
                raise error
            return number

        return run

    def open(self, *numbers: int) -> None:
        for number in numbers:
            self.events[number].set()


def test_results_come_in_order_whatever_ends_first(pool: ThreadPoolExecutor) -> None:
    gate, pipeline = Gate(), Pipeline[int](3, pool)
    for number in (1, 2, 3):
        pipeline.submit(gate.call(number))
    gate.open(2, 3)
    assert pipeline.take() == []
    gate.open(1)
    assert pipeline.drain() == [1, 2, 3]
    assert pipeline.take() == []
    assert pipeline.is_empty


def test_no_more_than_the_depth_are_on_their_way(pool: ThreadPoolExecutor) -> None:
    gate, pipeline = Gate(), Pipeline[int](2, pool)
    calls = [gate.call(number) for number in range(6)]
    with ThreadPoolExecutor(1) as sender:
        sent = [sender.submit(pipeline.submit, call) for call in calls]
        sent[1].result(10)
        assert not sent[2].done()
        gate.open(*range(6))
        for each in sent:
            each.result(10)
    assert pipeline.drain() == [0, 1, 2, 3, 4, 5]
    assert gate.most <= 2


def test_a_failure_keeps_what_came_before_it_and_forgets_the_rest(pool: ThreadPoolExecutor) -> None:
    gate, pipeline = Gate(), Pipeline[int](4, pool)
    pipeline.submit(gate.call(1))
    pipeline.submit(gate.call(2, OSError("lost")))
    pipeline.submit(gate.call(3))
    gate.open(1, 2, 3)
    assert pipeline.drain() == [1]
    assert isinstance(pipeline.error, OSError)
    with pytest.raises(OSError, match="lost"):
        pipeline.submit(gate.call(4))
    assert pipeline.drain() == []


def test_a_failure_is_noticed_while_others_are_awaited(pool: ThreadPoolExecutor) -> None:
    gate, pipeline = Gate(), Pipeline[int](1, pool)
    pipeline.submit(gate.call(1, OSError("lost")))
    gate.open(1)
    with pytest.raises(OSError, match="lost"):
        pipeline.submit(gate.call(2))


def test_the_pool_is_shared_and_a_forked_process_has_its_own() -> None:
    ours = shared_pool()
    assert shared_pool() is ours
    saved = module._pool, module._pool_lock
    try:
        module._forget_pool()
        assert shared_pool() is not ours
    finally:
        module._pool, module._pool_lock = saved
