"""How many requests with a body are admitted at the same time, so that those without one wait less behind them.

When a network or a server comes back, all its clients go on at once. Their admissions share a few threads anyway; begun
all together they fill memory, and a question about an upload (HEAD) waits until every one of them is through.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

#: After how many seconds a request that is still inside does not count any more: it waits for something of its own (a
#: lock, a slow hook), and nobody is to wait for that with it.
PATIENCE_SECONDS: Final = 0.25


class Door:
    """Lets a few in at a time, in the order in which they came. To be used in a loop's thread.

    Args:
        places: How many.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def passing(self) -> AsyncIterator[None]:
        """Be inside; whoever is there for longer than ``PATIENCE_SECONDS`` makes room for the next before it leaves."""
        await self._enter()
        place = _Place(self)
        timer = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, place.leave)
        try:
            yield
        finally:
            timer.cancel()
            place.leave()

    async def _enter(self) -> None:
        if self._free > 0:
            self._free -= 1
            return
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        try:
            await waiting
        except asyncio.CancelledError:
            if not waiting.cancelled():
                # Let in and cancelled in the same turn of the loop.
                self.let_in()
            raise

    def let_in(self) -> None:
        """Give a place that has become free to whoever waits longest."""
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(None)
                return
        self._free += 1


class _Place:
    """One place inside, which is given up once."""

    def __init__(self, door: Door) -> None:
        self._door: Door | None = door

    def leave(self) -> None:
        """Make room for the next."""
        door, self._door = self._door, None
        if door is not None:
            door.let_in()
