"""Moving a body into an upload: limits, cuts, overflow, and letting go when asked.

What arrived is kept however the body ends. A body whose length is not known in advance has its last piece held back
until its end is seen, so that too long a body never finishes an upload and a cut one neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tus_server.effects import Receive, Received, Steps, StoreCall
from tus_server.stores.base import Sink

#: As ``effects.End``, without the slices; ``overflow``: more came than the upload can take; ``released``: somebody else
#: was given the upload.
BodyEnd: TypeAlias = Literal["finished", "vanished", "idle", "draining", "overflow", "released"]


@dataclass(frozen=True)
class Body:
    """What is known of a body in advance: its length in bytes if declared, and the idle timeout in seconds."""

    content_length: int | None
    idle_timeout: float


class HoldingSink(Sink):
    """A sink in front of another that holds back the piece that reaches or passes ``room`` bytes.

    The piece is at most one write of the shell (1 MiB), because nothing is received after it.
    """

    def __init__(self, sink: Sink, room: int) -> None:
        self._sink = sink
        self._room = room
        self._held = bytearray()

    def write(self, data: memoryview) -> None:
        """Pass bytes on while they leave room; hold them once they do not."""
        if self._held or len(data) >= self._room:
            self._held += data
            return
        self._sink.write(data)
        self._room -= len(data)

    @property
    def is_overfull(self) -> bool:
        """Whether more has come than there is room for."""
        return len(self._held) > self._room

    def let_go(self, *, ended: bool) -> None:
        """Pass on what was held: all of it when the body's end was seen, else one byte less than fills the room."""
        if self.is_overfull:
            return
        room = self._room if ended else self._room - 1
        if self._held:
            self._sink.write(memoryview(bytes(self._held[: max(room, 0)])))

    def settle(self) -> int:
        """Settle the sink behind."""
        return self._sink.settle()


def receive(
    sink: Sink, body: Body, room: int | None, must_let_go: Callable[[Received], bool]
) -> Steps[tuple[BodyEnd, int]]:
    """Receive a body into a sink and settle it.

    Args:
        room: How many bytes the upload can still take; ``None`` if nothing limits it. A declared length was compared
            with it before.

    Returns:
        How the body ended, and the upload's new offset.
    """
    holding = HoldingSink(sink, room) if room is not None and body.content_length is None else None
    target = sink if holding is None else holding
    try:
        end = yield from _receive_all(target, body, room, must_let_go)
        if holding is not None:
            if holding.is_overfull:
                end = "overflow"
            yield StoreCall(lambda: holding.let_go(ended=end == "finished"))
    except BaseException:
        yield StoreCall(target.settle)
        raise
    offset: int = yield StoreCall(target.settle)
    return end, offset


def _receive_all(sink: Sink, body: Body, room: int | None, must_let_go: Callable[[Received], bool]) -> Steps[BodyEnd]:
    # One byte more than there is room for, so that too long a body is noticed.
    left = body.content_length if body.content_length is not None else (None if room is None else room + 1)
    while left is None or left > 0:
        received: Received = yield Receive(sink, left, body.idle_timeout, body.content_length)
        if left is not None:
            left -= received.count
        if received.end == "slice":
            if (yield StoreCall(must_let_go, received)):
                return "released"
        elif received.end == "limit":
            break
        elif received.end == "finished" and body.content_length is not None and left:
            return "vanished"
        else:
            return received.end
    return "finished"
