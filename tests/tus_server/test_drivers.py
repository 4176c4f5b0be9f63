"""The two loops, played with small generators: everything a generator may ask for, and everything that may go wrong."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from tus_server.drivers import Suspended, abandon, admit, drive, drive_async, run_to_end
from tus_server.effects import Call, Effect, HookCall, Pause, ReadBody, Receive, Received, Steps, StoreCall
from tus_server.errors import BodyIncomplete, StorageFull
from tus_server.messages import Response
from tus_server.stores.base import Sink


class NoSink(Sink):
    def write(self, data: memoryview) -> None:
        raise AssertionError("nothing is written here")

    def settle(self) -> int:
        return 0


RECEIVE = Receive(NoSink(), None, 60.0)


class FakeBody:
    """Answers at once, and counts."""

    def __init__(self) -> None:
        self.asked: list[Effect] = []

    def receive(self, effect: Receive) -> Received:
        self.asked.append(effect)
        return Received(7, "finished")

    def read(self, limit: int) -> bytes:
        return b"x" * limit


class FakeAsyncBody(FakeBody):
    async def receive(self, effect: Receive) -> Callable[[], Received]:  # type: ignore[override]
        return partial(super().receive, effect)

    async def read(self, limit: int) -> bytes:  # type: ignore[override]
        return super().read(limit)

    def vanish(self) -> None:
        raise AssertionError("nobody cancels here")


class SilentBody:
    """A body of which nothing comes; cancellation is its end."""

    def __init__(self) -> None:
        self.is_asked = asyncio.Event()
        self.has_vanished = asyncio.Event()

    async def receive(self, effect: Receive) -> Callable[[], Received]:
        count = 0 if self.has_vanished.is_set() else 5
        await self._wait()
        return partial(Received, count, "vanished")

    async def read(self, limit: int) -> bytes:
        await self._wait()
        raise BodyIncomplete

    def vanish(self) -> None:
        self.has_vanished.set()

    async def _wait(self) -> None:
        self.is_asked.set()
        with suppress(asyncio.CancelledError):
            await self.has_vanished.wait()


async def run_here(call: Call) -> Any:
    await asyncio.sleep(0)
    return call.run()


async def _drive_all(steps: Steps[Response]) -> Response:
    outcome = await admit(steps, run_here)
    return outcome if isinstance(outcome, Response) else await drive_async(outcome, run_here, FakeAsyncBody())


DRIVERS: dict[str, Callable[[Steps[Response]], Response]] = {
    "drive": lambda steps: drive(steps, FakeBody()),
    "drive_async": lambda steps: asyncio.run(_drive_all(steps)),
}


@pytest.fixture(params=DRIVERS.values(), ids=DRIVERS.keys())
def run(request: pytest.FixtureRequest) -> Callable[[Steps[Response]], Response]:
    driver: Callable[[Steps[Response]], Response] = request.param
    return driver


def _asking(effect: Effect, answers: list[object]) -> Steps[Response]:
    """A request that asks for one thing and notes what comes back."""
    try:
        answers.append((yield effect))
    except Exception as error:
        answers.append(error)
    return Response(204)


def _fail(error: Exception) -> None:
    raise error


FULL, ODD = StorageFull(), ValueError("odd")


@pytest.mark.parametrize(
    ("effect", "answer"),
    [
        (StoreCall(len, "abc"), 3),
        (HookCall(str.upper, "abc"), "ABC"),
        (RECEIVE, Received(7, "finished")),
        (ReadBody(3), b"xxx"),
        (Pause(0.001), None),
        (StoreCall(_fail, FULL), FULL),
        (HookCall(_fail, ODD), ODD),
    ],
    ids=repr,
)
def test_an_effect_is_answered_or_its_error_thrown_in(
    run: Callable[[Steps[Response]], Response], effect: Effect, answer: object
) -> None:
    answers: list[object] = []
    assert run(_asking(effect, answers)).status == 204
    assert answers == [answer]


def test_effects_come_in_order_and_the_return_value_is_the_answer(run: Callable[[Steps[Response]], Response]) -> None:
    seen: list[int] = []

    def steps() -> Steps[Response]:
        yield StoreCall(seen.append, 1)
        received = yield RECEIVE
        yield StoreCall(seen.append, received.count)
        body = yield ReadBody(2)
        yield HookCall(seen.append, len(body))
        return Response(200)

    assert run(steps()).status == 200
    assert seen == [1, 7, 2]


def test_what_a_generator_does_in_finally_is_provided_after_an_error(
    run: Callable[[Steps[Response]], Response],
) -> None:
    seen: list[str] = []

    def steps() -> Steps[Response]:
        try:
            yield StoreCall(_fail, FULL)
        finally:
            yield StoreCall(seen.append, "released")
        return Response(204)

    with pytest.raises(StorageFull):
        run(steps())
    assert seen == ["released"]


def test_admission_stops_before_the_body() -> None:
    seen: list[str] = []

    def steps() -> Steps[Response]:
        yield StoreCall(seen.append, "opened")
        yield Pause(0)
        yield RECEIVE
        return Response(204)

    outcome = asyncio.run(admit(steps(), run_here))
    assert isinstance(outcome, Suspended)
    assert (outcome.effect, seen) == (RECEIVE, ["opened"])


def test_admission_answers_what_needs_no_body() -> None:
    assert asyncio.run(admit(_asking(StoreCall(len, ""), []), run_here)) == Response(204)


@pytest.mark.parametrize("effect", [RECEIVE, ReadBody(1)])
def test_an_abandoned_request_sees_its_client_vanish_and_ends(effect: Effect) -> None:
    answers: list[object] = []
    released: list[str] = []

    def steps() -> Steps[Response]:
        yield from _asking(effect, answers)
        yield StoreCall(released.append, "released")
        return Response(400)

    async def play() -> None:
        outcome = await admit(steps(), run_here)
        assert isinstance(outcome, Suspended)
        await abandon(outcome, run_here)

    asyncio.run(play())
    (answer,) = answers
    assert answer == Received(0, "vanished") or isinstance(answer, BodyIncomplete)
    assert released == ["released"]


@pytest.mark.parametrize("effect", [RECEIVE, ReadBody(9)])
def test_a_cancellation_ends_the_body_and_then_goes_on(effect: Effect) -> None:
    answers: list[object] = []
    body: list[SilentBody] = []

    def steps() -> Steps[Response]:
        yield from _asking(effect, answers)
        answers.append((yield StoreCall(len, "settled")))
        yield Pause(3600)
        answers.append((yield RECEIVE))
        return Response(204)

    async def start() -> None:
        outcome = await admit(steps(), run_here)
        assert isinstance(outcome, Suspended)
        await drive_async(outcome, run_here, body[0])

    async def play() -> None:
        body.append(SilentBody())
        task = asyncio.create_task(start())
        await body[0].is_asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(play())
    assert answers[0] == Received(5, "vanished") or isinstance(answers[0], BodyIncomplete)
    assert answers[1:] == [7, Received(0, "vanished")]


@pytest.mark.parametrize("times", [1, 3])
def test_a_cancelled_call_comes_to_its_end_and_its_result_is_used(times: int) -> None:
    answers: list[object] = []
    may_end = threading.Event()

    def steps() -> Steps[Response]:
        answers.append((yield StoreCall(may_end.wait, 10)))
        answers.append((yield StoreCall(len, "released")))
        return Response(204)

    async def play() -> None:
        begun = asyncio.Event()

        async def run(call: Call) -> Any:
            begun.set()
            return await asyncio.get_running_loop().run_in_executor(None, call.run)

        task = asyncio.create_task(admit(steps(), run))
        await begun.wait()
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(play())
    assert answers == [True, 8]


def test_a_cancellation_during_admission_needs_no_body() -> None:
    answers: list[object] = []

    def steps() -> Steps[Response]:
        yield Pause(3600)
        answers.append((yield RECEIVE))
        return Response(204)

    async def play() -> None:
        task = asyncio.create_task(admit(steps(), run_here))
        await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(play())
    assert answers == [Received(0, "vanished")]


def test_an_error_of_a_cancelled_generator_is_not_hidden() -> None:
    def steps() -> Steps[Response]:
        yield Pause(3600)
        yield StoreCall(_fail, ODD)
        return Response(204)

    async def play() -> None:
        task = asyncio.create_task(admit(steps(), run_here))
        await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(ValueError, match="odd"):
            await task

    asyncio.run(play())


def test_a_call_whose_task_was_cancelled_before_it_began_begins_again() -> None:
    runs: list[int] = []

    async def play() -> object:
        tasks: list[asyncio.Task[Any]] = []

        async def work(call: Call) -> Any:
            return call.run()

        def run(call: Call) -> asyncio.Task[Any]:
            tasks.append(asyncio.ensure_future(work(call)))
            if len(tasks) == 1:
                tasks[0].cancel()
            return tasks[-1]

        return await run_to_end(run, StoreCall(lambda: runs.append(1) or "done"), lambda: None)

    assert asyncio.run(play()) == "done"
    assert runs == [1]


def test_a_loop_that_closes_lets_a_body_be_settled() -> None:
    """``asyncio.run`` cancels all tasks at once, also those that drivers started."""
    answers: list[object] = []

    def steps() -> Steps[Response]:
        yield from _asking(RECEIVE, answers)
        answers.append((yield StoreCall(len, "settled")))
        return Response(204)

    async def play() -> None:
        body = SilentBody()

        async def start() -> None:
            outcome = await admit(steps(), run_here)
            assert isinstance(outcome, Suspended)
            await drive_async(outcome, run_here, body)

        task = asyncio.create_task(start())
        await body.is_asked.wait()
        assert not task.done()

    asyncio.run(play())
    assert answers == [Received(5, "vanished"), 7]
