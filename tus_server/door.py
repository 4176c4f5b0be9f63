"""How many uploads begin or go on at the same time, so that whoever only asks something waits less behind them.

When a network or a server comes back, all its clients go on at once. Their admissions share a few threads anyway; begun
all together they fill memory, and a question about an upload (HEAD) waits until every one of them is through. What the
event loop does for each before its admission is a wait for the others, too: a few at a time come through the turnstile.
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
#: For how many seconds at most requests that come one after the other are kept before the first of them begins.
LISTENING_SECONDS: Final = 0.25


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


class Turnstile:
    """Lets a few begin in each turn of a loop: whoever need not come through waits for those few only.

    While somebody comes in every turn, nobody begins: a server that accepts one connection in each turn would hear the
    last of a thousand when all others are served. To be used in a loop's thread.

    Args:
        places: How many.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._has_come = False
        self._listens_until = 0.0

    async def come_through(self) -> None:
        """Wait for a turn of the loop, in the order in which all came."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._waiting = loop, deque()
            self._listens_until = loop.time() + LISTENING_SECONDS
            loop.call_soon(self._turn, loop)
        self._has_come = True
        waiting = loop.create_future()
        self._waiting.append(waiting)
        await waiting

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is not self._loop:
            return
        has_come, self._has_come = self._has_come, False
        if not has_come or loop.time() >= self._listens_until:
            for _ in range(min(self._places, len(self._waiting))):
                waiting = self._waiting.popleft()
                if not waiting.done():
                    waiting.set_result(None)
        if self._waiting:
            loop.call_soon(self._turn, loop)
        else:
            self._loop = None


class _Place:
    """One place inside, which is given up once."""

    def __init__(self, door: Door) -> None:
        self._door: Door | None = door

    def leave(self) -> None:
        """Make room for the next."""
        door, self._door = self._door, None
        if door is not None:
            door.let_in()
