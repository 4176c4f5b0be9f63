"""An ASGI server of one request, played by a test: it says what comes and when, and notes what is sent.

async def play() -> None:
    wire = Wire(app, "PATCH", "/files/abc", {"Upload-Offset": "0"})
    wire.feed(b"some")
    wire.feed(b"thing", more=False)
    answer = await wire.answer()

run_timeless(play())    # seconds of the event loop pass only when nothing else can happen
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from unittest import mock

T = TypeVar("T")

Application = Callable[[dict[str, Any], Any, Any], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Answer:
    """What a client saw."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """All values of a header, joined; ``None`` without any."""
        return ", ".join(value for key, value in self.headers if key.lower() == name.lower()) or None


class Wire:
    """A request that is being served."""

    def __init__(
        self, app: Application, method: str, path: str, headers: Mapping[str, str] | None = None, **scope: Any
    ) -> None:
        self.sent: list[Mapping[str, Any]] = []
        #: How many messages the application asked for.
        self.asked = 0
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        fields = {"Host": "testserver", **(headers or {})}
        self.scope: dict[str, Any] = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "query_string": b"",
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in fields.items()],
            **scope,
        }
        self.task = asyncio.create_task(app(self.scope, self.receive, self.send))

    async def receive(self) -> dict[str, Any]:
        self.asked += 1
        return await self._messages.get()

    async def send(self, message: Mapping[str, Any]) -> None:
        self.sent.append(message)

    def feed(self, data: bytes = b"", *, more: bool = True) -> None:
        """The client sent a piece of its body."""
        self._messages.put_nowait({"type": "http.request", "body": data, "more_body": more})

    def vanish(self) -> None:
        """The client closed its connection."""
        self._messages.put_nowait({"type": "http.disconnect"})

    @property
    def is_empty(self) -> bool:
        """Whether the application has taken everything that was fed and asks for more."""
        return self._messages.empty() and self.asked > self._messages.qsize()

    async def end(self) -> None:
        """Wait until the application has returned."""
        await asyncio.wait([self.task])
        self.task.result()

    async def answer(self) -> Answer:
        """Wait for the whole answer."""
        await self.end()
        start, *bodies = self.sent
        assert [message.get("more_body", False) for message in bodies] == [True] * (len(bodies) - 1) + [False]
        headers = [(name.decode(), value.decode("latin1")) for name, value in start["headers"]]
        return Answer(start["status"], headers, b"".join(message.get("body", b"") for message in bodies))


async def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Let everything else run until a condition holds; the loop's time stands still meanwhile."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0)


class TimelessLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer when neither a task nor a thread has anything to do."""

    _jumped = 0.0
    #: Threads that will come back to this loop, as far as it knows.
    threads = 0
    _is_closing = False

    def time(self) -> float:
        return self._jumped

    def count(self, future: Any) -> Any:
        """Wait for a thread's future before time jumps."""

        def back(_: object) -> None:
            self.threads -= 1

        self.threads += 1
        future.add_done_callback(back)
        return future

    def run_in_executor(self, *args: Any) -> Any:
        return self.count(super().run_in_executor(*args))

    async def shutdown_default_executor(self, *args: Any) -> None:
        self._is_closing = True
        await super().shutdown_default_executor(*args)

    def _run_once(self) -> None:
        loop: Any = self
        timers = [timer.when() for timer in loop._scheduled if not timer.cancelled()]
        # A thread may itself wait for a task here: it has a moment to come back.
        if not loop._ready and timers and not self._is_closing and not (self.threads and loop._selector.select(1.0)):
            self._jumped = max(self._jumped, min(timers))
        super()._run_once()  # type: ignore[misc]


def run_timeless(coroutine: Coroutine[Any, Any, T]) -> T:
    """Like ``asyncio.run``, on a loop whose time costs none."""
    wrap = asyncio.wrap_future
    with asyncio.Runner(loop_factory=TimelessLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, TimelessLoop)
        # asgiref ends the thread of a request in a thread of its own, which no executor knows.
        with mock.patch("asyncio.wrap_future", lambda future: loop.count(wrap(future))):
            return runner.run(coroutine)
