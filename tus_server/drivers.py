"""The only two loops: what provides the effects that a request's generator asks for.

Rules for both:

* A generator is always run to its end. Errors, cancellation included, are thrown into it; it is never closed.
* A vanished client is a normal way for a body to end, not an error.
* Cancellation becomes "the body ended"; the generator finishes (it stores what came and gives its lease back), and then
  the cancellation goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from tus_server.effects import Call, Effect, Pause, ReadBody, Receive, Received, Steps
from tus_server.errors import BodyIncomplete
from tus_server.messages import Response


class Body(Protocol):
    """A request's body where the server is synchronous."""

    def receive(self, effect: Receive) -> Received:
        """Serve ``Receive``; an error of its sink passes through."""

    def read(self, limit: int) -> bytes:
        """Return up to ``limit`` bytes of the body, less only at its end."""


class AsyncBody(Protocol):
    """A request's body where the server is asynchronous.

    Both methods treat cancellation as the end of the body: ``receive`` gives its sink what it has gathered and returns
    the end ``vanished``; ``read`` raises ``BodyIncomplete``.
    """

    async def receive(self, effect: Receive) -> Received:
        """Serve ``Receive``; an error of its sink passes through."""

    async def read(self, limit: int) -> bytes:
        """Return up to ``limit`` bytes of the body, less only at its end."""


def drive(steps: Steps[Response], body: Body) -> Response:
    """Run a request to its end in this thread."""
    answer: Any = None
    error: BaseException | None = None
    while True:
        try:
            effect = steps.send(answer) if error is None else steps.throw(error)
        except StopIteration as stop:
            response: Response = stop.value
            return response
        answer, error = None, None
        try:
            match effect:
                case Call():
                    answer = effect.run()
                case Receive():
                    answer = body.receive(effect)
                case ReadBody():
                    answer = body.read(effect.limit)
                case Pause():
                    time.sleep(effect.seconds)
        except BaseException as raised:
            error = raised


@dataclass(frozen=True)
class Suspended:
    """A request that was admitted and now waits for its body: ``effect`` is what it asked for."""

    steps: Steps[Response]
    effect: Effect


#: Runs a store or hook call somewhere it may wait. When its task is cancelled it has either not begun the call, or
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
    async def receive(self, effect: Receive) -> Received:
        return Received(0, "vanished")

    async def read(self, limit: int) -> bytes:
        raise BodyIncomplete()


class _Loop:
    def __init__(self, steps: Steps[Response], run: Runner, body: AsyncBody | None) -> None:
        self._steps = steps
        self._run = run
        self._body = body
        self._is_cancelled = False

    async def finish(self, effect: Effect | None = None) -> Response | Suspended:
        answer: Any = None
        error: BaseException | None = None
        while True:
            if effect is None:
                try:
                    effect = self._steps.send(answer) if error is None else self._steps.throw(error)
                except StopIteration as stop:
                    if self._is_cancelled:
                        raise asyncio.CancelledError from None
                    response: Response = stop.value
                    return response
            if self._body is None and isinstance(effect, Receive | ReadBody) and not self._is_cancelled:
                return Suspended(self._steps, effect)
            answer, error = None, None
            try:
                answer = await self._shielded(effect)
            except BaseException as raised:
                error = raised
            effect = None

    async def _shielded(self, effect: Effect) -> Any:
        """Provide an effect; a cancellation of this task ends waiting effects and lets calls come to their end."""
        if isinstance(effect, Call):
            return await run_to_end(self._run, effect, self._cancel)
        if self._is_cancelled and isinstance(effect, Pause):
            return None
        body = _NoBody() if self._is_cancelled or self._body is None else self._body
        task = asyncio.ensure_future(_wait(effect, body))
        while True:
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:
                self._cancel()
                if task.cancelled():
                    # It had not begun, or was a pause.
                    return await _wait(effect, _NoBody()) if not isinstance(effect, Pause) else None
                task.cancel()

    def _cancel(self) -> None:
        self._is_cancelled = True


async def _wait(effect: Receive | ReadBody | Pause, body: AsyncBody) -> Any:
    match effect:
        case Receive():
            return await body.receive(effect)
        case ReadBody():
            return await body.read(effect.limit)
        case Pause():
            await asyncio.sleep(effect.seconds)


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
