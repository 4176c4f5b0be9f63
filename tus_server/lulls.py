"""Slow bodies under uvicorn: what comes gathers in the server, and one clock for all of them looks at how much it is.

Taking each small message of a thousand slow clients costs an event loop more than all else that is done for them. Of a
body that nobody asks for uvicorn holds 64 KiB, and stops reading then. So a body that was slow for a second is left
alone until there is enough of it, until its end, or until whoever wants its bytes takes what there is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from tus_server.scopes import Listen

#: Every so many seconds the clock looks: so late a body's end may be noticed, so much younger its last byte may seem.
TICK_SECONDS: Final = 0.05
#: At how many bodies it looks in one turn of the loop: all that end at once would be a long one for everybody else.
_PORTION: Final = 16
#: How many bytes are enough: less than uvicorn's limit, behind which it stops reading.
ENOUGH_BYTES: Final = 48 * 1024
#: uvicorn holds more only of a body that is not slow any more.
HELD_BYTES: Final = 64 * 1024


class Lull:
    """The time in which a body is left alone.

    Args:
        listen: The server's ``receive``.
        note: Called when bytes have come.
        ripen: Called while there are enough of them.
    """

    def __init__(self, listen: Listen, note: Callable[[], object], ripen: Callable[[], object]) -> None:
        self._cycle = find_cycle(listen)
        self._note = note
        self._ripen = ripen
        self._known = 0
        #: Done when the body ends, or is to be listened to for other reasons.
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def look(self) -> bool:
        """Look at what the server holds, and say whether it is to be looked at again."""
        cycle = self._cycle
        if self.over.done():
            return False
        held = len(cycle.body)
        if held != self._known:
            self._known = held
            self._note()
        # A long message that came before the lull may have made uvicorn stop reading: only being asked lets it go on.
        if not cycle.more_body or cycle.disconnected or cycle.flow.read_paused:
            self.end()
            return False
        if held >= ENOUGH_BYTES:
            self._ripen()
        return True

    def take(self) -> tuple[bytes | bytearray, bool]:
        """Take what the server holds, and say whether more belongs to the body."""
        if len(self._cycle.body) != self._known:
            self._note()
        self._known = 0
        return take_held(self._cycle)

    def end(self) -> None:
        """Let the body be listened to again."""
        if not self.over.done():
            self.over.set_result(None)


class Clock:
    """Looks at every body that is left alone, a few in each turn of the loop. To be used in a loop's thread."""

    def __init__(self) -> None:
        self._lulls: deque[Lull] = deque()
        self._left = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    def watch(self, lull: Lull) -> None:
        """Look at a body from now on until its lull is over."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._lulls = loop, deque()
            loop.call_later(TICK_SECONDS, self._tick, loop)
        self._lulls.append(lull)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._left = len(self._lulls)
        self._look(loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is not self._loop:
            return
        portion = min(_PORTION, self._left)
        self._left -= portion
        for _ in range(portion):
            lull = self._lulls.popleft()
            if lull.look():
                self._lulls.append(lull)
        if self._left:
            loop.call_soon(self._look, loop)
        elif self._lulls:
            loop.call_later(TICK_SECONDS, self._tick, loop)
        else:
            self._loop = None


# Any: uvicorn is not imported, so that it need not be installed; whose method ``listen`` is depends on the server.
def find_cycle(listen: Listen) -> Any:
    """Return uvicorn's object behind its ``receive``, ``None`` where it does not look as we know it.

    Not of HTTP/2, where a client may only send what was asked for.
    """
    cycle = getattr(listen, "__self__", None)
    known = (("body", bytearray), ("more_body", bool), ("disconnected", bool), ("scope", dict))
    if not all(isinstance(getattr(cycle, name, None), kind) for name, kind in known):
        return None
    # Any: as above.
    found: Any = cycle
    has_flow = isinstance(getattr(getattr(found, "flow", None), "read_paused", None), bool)
    return found if has_flow and found.scope.get("http_version") in ("1.0", "1.1") else None


# Any: as above.
def take_held(cycle: Any) -> tuple[bytes | bytearray, bool]:
    """Take what a server holds of a body, and say whether more belongs to it; nothing, where it is not uvicorn's.

    uvicorn answers ``http.disconnect`` as soon as it knows that the client is gone, although it holds bytes that came
    before (up to 64 KiB and one read), even the body's end.
    """
    body = getattr(cycle, "body", None)
    has_more = getattr(cycle, "more_body", None)
    if not isinstance(body, bytearray) or not isinstance(has_more, bool):
        return b"", True
    cycle.body = bytearray()
    return body, has_more
