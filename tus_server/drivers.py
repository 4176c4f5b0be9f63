"""The only two loops: what provides the effects that a request's generator asks for.

Rules for both:

* A generator is always run to its end. Errors, cancellation included, are thrown into it; it is never closed.
* Calls that follow each other run together, in one thread; the order of steps exists once (``advance``).
* A vanished client is a normal way for a body to end, not an error.
* Cancellation becomes "the body ended"; the generator finishes (it stores what came and gives its lease back), and then
  the cancellation goes on.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from tus_server.effects import Call, Effect, Pause, ReadBody, Receive, Received, Steps
from tus_server.errors import BodyIncomplete, StoreUnavailable
from tus_server.messages import Response

#: After how many seconds calls that follow each other let others have their thread.
JOB_SECONDS = 0.5


class Body(Protocol):
    """A request's body where the server is synchronous."""

    def receive(self, effect: Receive) -> Received:
        """Serve ``Receive``; an error of its sink passes through."""

    def read(self, limit: int) -> bytes:
        """Return up to ``limit`` bytes of the body, less only at its end."""


class AsyncBody(Protocol):
    """A request's body where the server is asynchronous.

    Cancellation is the end of the body: ``receive`` gives what it has gathered, with the end ``vanished``; ``read``
    raises ``BodyIncomplete``.
    """

    async def receive(self, effect: Receive) -> Callable[[], Received]:
        """Wait for what ``Receive`` asks for. What is returned gives the last of it to the sink, and is the answer.

        It is to be called once, where sinks may wait; an error of the sink passes through.
        """

    async def read(self, limit: int) -> bytes:
        """Return up to ``limit`` bytes of the body, less only at its end."""

    def vanish(self) -> None:
        """Wait for nothing any more: ``receive`` gives what has come already, and the body ends with it."""


def advance(steps: Steps[Response], provide: Callable[[], Any], seconds: float = math.inf) -> Effect | Response:
    """Run a request in this thread until it asks for something that is no call, or to its end.

    Args:
        steps: The request.
        provide: Gives the answer to what it asked for last; what this raises is thrown into it.
        seconds: After how many it stops before the next call too, so that a thread is not held for long.
    """
    until = time.monotonic() + seconds
    while True:
        answer: Any = None
        error: BaseException | None = None
        try:
            answer = provide()
        except asyncio.CancelledError as raised:
            # A hook that waits for a loop which closes; the request goes on.
            error = StoreUnavailable(f"A call was cancelled: {raised}")
        except BaseException as raised:
            error = raised
        try:
            effect = steps.send(answer) if error is None else steps.throw(error)
        except StopIteration as stop:
            response: Response = stop.value
            return response
        if not isinstance(effect, Call) or time.monotonic() > until:
            return effect
        provide = effect.run


def drive(steps: Steps[Response], body: Body) -> Response:
    """Run a request to its end in this thread."""
    provide: Callable[[], Any] = _begin
    while True:
        match advance(steps, provide):
            case Response() as response:
                return response
            case Receive() as effect:
                provide = partial(body.receive, effect)
            case ReadBody(limit):
                provide = partial(body.read, limit)
            case Pause(seconds):
                provide = partial(time.sleep, seconds)


def _begin() -> None:
    """What a request is given that has not asked for anything yet."""


@dataclass(frozen=True)
class Suspended:
    """A request that was admitted and now waits for its body: ``effect`` is what it asked for."""

    steps: Steps[Response]
    effect: Effect


#: Runs a call somewhere it may wait. When its task is cancelled it has either not begun the call, or
#: finishes it and returns.
Runner = Callable[[Call], Awaitable[Any]]


async def admit(steps: Steps[Response], run: Runner) -> Response | Suspended:
    """Run a request up to the first effect that needs its body, or to its end."""
    loop = _Loop(steps, run, None)
    return await loop.finish()


async def drive_async(suspended: Suspended, run: Runner, body: AsyncBody) -> Response:
    """Run an admitted request to its end.

    Raises:
        asyncio.CancelledError: The task was cancelled meanwhile; everything that came is stored.
    """
    loop = _Loop(suspended.steps, run, body)
    response = await loop.finish(suspended.effect)
    assert isinstance(response, Response)
    return response


async def abandon(suspended: Suspended, run: Runner) -> None:
    """End an admitted request whose body will not be received: its client counts as vanished."""
    await _Loop(suspended.steps, run, _NoBody()).finish(suspended.effect)


class _NoBody:
    async def receive(self, effect: Receive) -> Callable[[], Received]:
        return partial(Received, 0, "vanished")

    async def read(self, limit: int) -> bytes:
        raise BodyIncomplete()

    def vanish(self) -> None: ...


class _Job(Call):
    """As many steps of a request as need neither its body nor a pause: each change of threads costs."""

    def __init__(self, steps: Steps[Response], provide: Callable[[], Any]) -> None:
        super().__init__(advance, steps, provide, JOB_SECONDS)

    def refuse(self, error: Exception) -> Any:
        steps, _, seconds = self.args
        return advance(steps, partial(_raise, error), seconds)


class _Loop:
    def __init__(self, steps: Steps[Response], run: Runner, body: AsyncBody | None) -> None:
        self._steps = steps
        self._run = run
        self._body = body
        self._is_cancelled = False

    async def finish(self, effect: Effect | None = None) -> Response | Suspended:
        provide = _begin if effect is None else await self._provide(effect)
        while True:
            outcome: Effect | Response = await run_to_end(self._run, _Job(self._steps, provide), self._cancel)
            if isinstance(outcome, Response):
                if self._is_cancelled:
                    raise asyncio.CancelledError
                return outcome
            if self._body is None and isinstance(outcome, Receive | ReadBody) and not self._is_cancelled:
                return Suspended(self._steps, outcome)
            provide = await self._provide(outcome)

    async def _provide(self, effect: Effect) -> Callable[[], Any]:
        """Wait for an effect, and return what gives its answer."""
        if isinstance(effect, Call):
            return effect.run
        try:
            return await self._shielded(effect)
        except BaseException as raised:
            return partial(_raise, raised)

    async def _shielded(self, effect: Receive | ReadBody | Pause) -> Callable[[], Any]:
        """Wait for an effect; a cancellation of this task ends the waiting."""
        if self._is_cancelled and isinstance(effect, Pause):
            return _begin
        body = self._body or _NoBody()
        task = asyncio.ensure_future(_wait(effect, body))
        while True:
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                self._cancel()
                if task.cancelled():
                    # It had not begun, or was a pause.
                    return _begin if isinstance(effect, Pause) else await _wait(effect, body)
                task.cancel()

    def _cancel(self) -> None:
        self._is_cancelled = True
        if self._body is not None:
            self._body.vanish()


def _raise(error: BaseException) -> None:
    raise error


async def _wait(effect: Receive | ReadBody | Pause, body: AsyncBody) -> Callable[[], Any]:
    match effect:
        case Receive():
            return await body.receive(effect)
        case ReadBody(limit):
            data = await body.read(limit)
            return lambda: data
        case Pause(seconds):
            await asyncio.sleep(seconds)
            return _begin


async def run_to_end(run: Runner, call: Call, on_cancel: Callable[[], object]) -> Any:
    """Run a call to its end whatever happens to this task; ``on_cancel`` is told of cancellations meanwhile.

    A loop that closes cancels every task, also the one that runs the call: see ``Runner``.
    """
    while True:
        task = asyncio.ensure_future(run(call))
        while not task.cancelled():
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                on_cancel()
