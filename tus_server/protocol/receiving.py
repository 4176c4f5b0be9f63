"""Moving a body into a sink: limits, cuts, overflow, and letting go when asked.

What arrived is kept however the body ends, unless it has a checksum (``protocol.verifying``). A body whose length is
not known in advance has its last piece held back until its end is seen, so that too long a body never finishes an
upload and a cut one neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tus_server.checksums import Checksum
from tus_server.effects import Receive, Received, Steps, StoreCall
from tus_server.errors import BodyIdle, BodyIncomplete, Draining, OffsetConflict, TooLarge, TusError
from tus_server.stores.base import Sink

#: As ``effects.End``, without the slices; ``overflow``: more came than the upload can take; ``released``: somebody else
#: was given the upload.
BodyEnd: TypeAlias = Literal["finished", "vanished", "idle", "draining", "overflow", "released"]


@dataclass(frozen=True)
class Body:
    """What is known of a body in advance.

    Attributes:
        content_length: Its length in bytes, if declared.
        idle_timeout: After how many seconds without a byte it is given up.
        checksum: The digest that it must have, if declared.
    """

    content_length: int | None
    idle_timeout: float
    checksum: Checksum | None = None


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

    def let_go(self, end: BodyEnd) -> None:
        """Pass on what was held: all of it when the body's end was seen, none when there was too much of it, else one
        byte less than fills the room."""
        room = {"finished": self._room, "overflow": 0}.get(end, self._room - 1)
        if self._held and room > 0:
            self._sink.write(memoryview(bytes(self._held[:room])))

    def settle(self) -> int:
        """Settle the sink behind."""
        return self._sink.settle()


def receive(
    sink: Sink, body: Body, room: int | None, must_let_go: Callable[[Received], bool]
) -> Steps[tuple[BodyEnd, int]]:
    """Receive a body into an upload's sink and settle it.

    Args:
        room: How many bytes the upload can still take; ``None`` if nothing limits it. A declared length was compared
            with it before.

    Returns:
        How the body ended, and the upload's new offset.
    """
    try:
        if room is None or body.content_length is not None:
            end = yield from receive_into(sink, body, room, must_let_go)
        else:
            holding = HoldingSink(sink, room)
            end = yield from receive_into(holding, body, room, must_let_go)
            yield StoreCall(holding.let_go, end)
    except BaseException:
        yield StoreCall(sink.settle)
        raise
    offset: int = yield StoreCall(sink.settle)
    return end, offset


def receive_into(sink: Sink, body: Body, room: int | None, must_let_go: Callable[[Received], bool]) -> Steps[BodyEnd]:
    """Receive a body into any sink, which is not settled; returns how the body ended. Arguments as of ``receive``."""
    # One byte more than there is room for, so that too long a body is noticed.
    left = body.content_length if body.content_length is not None else (None if room is None else room + 1)
    while left is None or left > 0:
        received: Received = yield Receive(sink, left, body.idle_timeout, body.content_length)
        if left is not None:
            left -= received.count
        if received.end == "slice":
            if (yield StoreCall(must_let_go, received)):
                return "released"
        elif received.end != "limit" and left != 0:
            is_short = received.end == "finished" and body.content_length is not None
            return "vanished" if is_short else received.end
    return "finished" if body.content_length is not None else "overflow"


def build_cut(end: BodyEnd, offset: int, limit: int | None, *, is_kept: bool) -> TusError:
    """Build the error for a body that did not come to its end.

    Args:
        offset: Where the upload stands now.
        limit: Where it ends at the latest, in bytes.
        is_kept: Whether what arrived is kept.
    """
    # The errors' own messages say that what arrived is kept.
    fate = "" if is_kept else "None of it was kept, because its checksum was not compared."
    match end:
        case "overflow":
            return TooLarge(limit or 0, f"More came than the upload can take, which is {limit} bytes.")
        case "released":
            return OffsetConflict(offset, "Another request took this upload over.", code="taken_over")
        case "idle":
            return BodyIdle(fate and f"No data came for too long. {fate}")
        case "draining":
            return Draining(fate and f"The server is restarting. {fate}")
        case _:
            return BodyIncomplete(fate and f"The request's body ended early. {fate}")
