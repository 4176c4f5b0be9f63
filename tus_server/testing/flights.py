"""Requests that a test drives by hand, one effect at a time, so that several can be under way at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tus_server.effects import Call, Effect, Pause, ReadBody, Receive, Received
from tus_server.engine import Engine
from tus_server.headers import Headers
from tus_server.messages import Request, Response
from tus_server.protocol.verifying import VerifyingSink
from tus_server.stores.base import Sink
from tus_server.testing.bodies import ScriptedBody


class Killed(BaseException):
    """The process died here."""


class Flight:
    """A tus request under way. Pauses take no time.

    Args:
        engine: Who serves it.
        method, upload_id, headers: What is asked; ``Tus-Resumable`` is added.
        body: The body, and how it ends.
        offset: Where the body belongs, for whoever counts.
        quiet_for: How long its client is said to have sent nothing, in seconds, whenever a slice ends.

    Attributes:
        pending: What the request asks its driver for; ``None`` once it is answered or killed.
        response: The answer, once there is one.
        delivered: How many body bytes the engine was given.
    """

    def __init__(
        self,
        engine: Engine,
        method: str,
        upload_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: ScriptedBody | None = None,
        *,
        offset: int = 0,
        quiet_for: float = 0.0,
    ) -> None:
        items = {"Tus-Resumable": "1.0.0", **(headers or {})}
        self._body = body or ScriptedBody()
        self._quiet_for = quiet_for
        self._steps = engine.handle(Request(method, Headers(items.items()), upload_id, "/files/"))
        self.upload_id = upload_id
        self.method = method
        self.offset = offset
        self.pending: Effect | None = None
        self.response: Response | None = None
        self.delivered = 0
        self._asides: list[VerifyingSink] = []
        self._advance(None, None)

    def step(self) -> bool:
        """Provide one effect; says whether the request goes on."""
        if self.pending is None:
            return False
        answer: Any = None
        error: Exception | None = None
        try:
            match self.pending:
                case Call() as call:
                    answer = call.run()
                case Receive() as receive:
                    answer = self._receive(receive)
                case ReadBody(limit):
                    answer = self._body.read(limit)
                case Pause():
                    pass
        except Exception as raised:
            error = raised
        if isinstance(answer, VerifyingSink):
            self._asides.append(answer)
        self._advance(answer, error)
        return self.pending is not None

    def run(self) -> Response:
        """Provide effects until the request is answered."""
        while self.step():
            pass
        assert self.response is not None
        return self.response

    def kill(self) -> None:
        """Let the process die: nothing that the request still asks for is done, and its temporary files are gone."""
        while self.pending is not None:
            try:
                self.pending = self._steps.throw(Killed())
            except (Killed, StopIteration):
                self.pending = None
        for aside in self._asides:
            aside.settle()

    def _receive(self, effect: Receive) -> Received:
        received = self._body.receive(replace(effect, sink=_CountingSink(effect.sink, self)))
        return replace(received, quiet_for=self._quiet_for)

    def _advance(self, answer: Any, error: Exception | None) -> None:
        try:
            self.pending = self._steps.send(answer) if error is None else self._steps.throw(error)
        except StopIteration as stop:
            self.pending, self.response = None, stop.value


class _CountingSink(Sink):
    """Counts bytes before they are written: a write that fails may have kept them."""

    def __init__(self, sink: Sink, flight: Flight) -> None:
        self._sink = sink
        self._flight = flight

    def write(self, data: memoryview) -> None:
        self._flight.delivered += len(data)
        self._sink.write(data)

    def settle(self) -> int:
        return self._sink.settle()
