"""A body on the connection that uvicorn lends (``handover``): the loop watches, the pool moves.

* The loop waits until the kernel holds a good piece (``_GATHER_BYTES``, or what is left), and in any case looks around
  every second. What it returns to the driver then moves the bytes in the pool: inside the kernel, or through the one
  buffer of its thread. So a slow client costs no buffer of ours, and a thread only while its bytes are moved.
* A body that is fast stays in its thread for ``_VISIT_SECONDS`` or ``SLICE_BYTES``; where few bodies are under way, its
  thread also waits a moment for the next piece.
* However a body ends, what the kernel holds of it was stored first, and the server goes on from there.
* What is not our business (a body that is wanted in memory) is left to ``StreamedBody``, at whatever byte that happens.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import select
import socket
import sys
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from tus_server import served
from tus_server.bodies import SLICE_BYTES
from tus_server.effects import End, Receive, Received
from tus_server.handover import Lent
from tus_server.moving import Mover, Passage
from tus_server.scopes import Listen
from tus_server.streams import StreamedBody
from tus_server.watching import SLICE_SECONDS

logger = logging.getLogger(__name__)

#: How many bytes make a piece that is worth a change of threads; a Unix socket holds no more than some 200 KiB.
_GATHER_BYTES: Final = 256 * 1024
_UNIX_GATHER_BYTES: Final = 64 * 1024
#: For how long, in seconds, a thread waits for the next piece of a body, where there are threads enough.
_PATIENCE: Final = 0.01
#: For how long, in seconds, a body may have a thread of the pool.
_VISIT_SECONDS: Final = 0.5
#: How many rounds of the loop it takes until what is readable was read.
_ROUNDS: Final = 2
#: For how long, in seconds, the server may take to notice the end of a connection that we have seen.
_NOTICE_SECONDS: Final = 2.0


class HandedBody:
    """A body on a lent connection; see ``drivers.AsyncBody``.

    Args:
        lent: The connection.
        listen: The server's ``receive``.
        build_ordinary: Makes the body that goes on where this one cannot.
        may_wait: Says whether there are threads enough for this body to wait in one for a moment.
    """

    def __init__(
        self,
        lent: Lent,
        listen: Listen,
        build_ordinary: Callable[[], StreamedBody],
        may_wait: Callable[[], bool] = lambda: True,
    ) -> None:
        self._lent = lent
        self._listen = listen
        self._build_ordinary = build_ordinary
        self._may_wait = may_wait
        self._piece = _UNIX_GATHER_BYTES if lent.connection.family == socket.AF_UNIX else _GATHER_BYTES
        self._ordinary: StreamedBody | None = None
        self._mover = Mover()
        self._ahead = lent.ahead
        self._left = lent.left
        self._length = len(lent.ahead) + lent.left
        self._heard_at = time.monotonic()
        self._woken = asyncio.Event()
        self._end: End | None = None
        self._is_cut = False

    @property
    def end(self) -> End | None:
        """How the body ended before it was whole."""
        return self._end if self._ordinary is None else self._ordinary.end

    @property
    def count(self) -> int:
        """How many bytes have come."""
        count = self._length - self._left
        return count if self._ordinary is None else count - len(self._ahead) + self._ordinary.count

    async def receive(self, effect: Receive) -> Callable[[], Received]:
        """Serve ``Receive``."""
        if self._ordinary is None:
            room = self._room(effect)
            try:
                await self._await_bytes(min(self._piece, room), effect.idle_timeout)
            except asyncio.CancelledError:
                self.vanish()
            except (OSError, RuntimeError, ValueError, NotImplementedError):
                logger.debug("A connection cannot be watched.", exc_info=True)
                self._return()
        if self._ordinary is not None:
            return await self._ordinary.receive(effect)
        return partial(self._take, effect)

    async def read(self, limit: int) -> bytes:
        """Serve ``ReadBody``."""
        return await self._return().read(limit)

    def vanish(self) -> None:
        """See ``drivers.AsyncBody``."""
        self._stop("vanished")
        if self._ordinary is not None:
            self._ordinary.vanish()

    def drain(self) -> None:
        """End the body because the server is going down; to be called in the loop's thread. What came is stored."""
        self._stop("draining")
        if self._ordinary is not None:
            self._ordinary.drain()

    async def close(self) -> None:
        """Give the connection back. Where its end was seen, the server has noticed it, too, when this returns."""
        if self._ordinary is not None:
            if self._left < self._lent.left and not self._ordinary.count:
                served.count("handover")
            await self._ordinary.close()
            return
        if self.count:
            served.count("handover")
        self._lent.give_back(self._left, self._ahead)
        if self._is_cut:
            await self._await_notice()
        # The server reads what lies behind the body before we answer: a close that leaves bytes unread is a reset.
        for _ in range(_ROUNDS):
            await asyncio.sleep(0)

    def _return(self) -> StreamedBody:
        """Go on in the ordinary way."""
        if self._ordinary is None:
            self._lent.give_back(self._left, self._ahead, is_awaited=True)
            self._ordinary = self._build_ordinary()
            if self._end == "draining":
                self._ordinary.drain()
            elif self._end is not None:
                self._ordinary.vanish()
        return self._ordinary

    def _stop(self, end: End) -> None:
        self._end = self._end or end
        self._woken.set()

    def _room(self, effect: Receive) -> int:
        room = len(self._ahead) + self._left
        return room if effect.limit is None else min(room, effect.limit)

    async def _await_bytes(self, wanted: int, idle_timeout: float) -> None:
        """Wait until so many bytes are there, nothing will come any more, or it is time to look around."""
        if not self._lent.is_open:
            self._stop("vanished")
        wanted -= len(self._ahead)
        if wanted <= 0 or self._end is not None:
            return
        seconds = min(SLICE_SECONDS, idle_timeout - (time.monotonic() - self._heard_at))
        with suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0)):
                while self._held() < wanted and await self._await_event(wanted):
                    held = self._held()
                    if held < wanted:
                        # The connection has ended, or its kind wakes us for any byte: then a little more is waited for.
                        await asyncio.sleep(_PATIENCE)
                        if self._held() == held:
                            return

    async def _await_event(self, wanted: int) -> bool:
        """Wait for the kernel to say that so many bytes are there, or the end; not where the body is to end anyway."""
        if self._end is not None:
            return False
        loop, connection = asyncio.get_running_loop(), self._lent.connection
        self._lent.set_piece(wanted)
        self._woken.clear()
        loop.add_reader(connection.fileno(), self._woken.set)
        try:
            await self._woken.wait()
        finally:
            loop.remove_reader(connection.fileno())
        return True

    def _held(self) -> int:
        """Return how many bytes the kernel holds for us."""
        answer = fcntl.ioctl(self._lent.connection.fileno(), termios.FIONREAD, bytes(4))
        return int.from_bytes(answer, sys.byteorder)

    def _take(self, effect: Receive) -> Received:
        """Give a sink what is there, in the pool."""
        room, started = self._room(effect), time.monotonic()
        count = self._take_ahead(effect, room)
        while count < room:
            try:
                moved = self._mover.move(self._lent.connection, effect.sink, room - count, self._note)
            except BlockingIOError:
                if count < self._piece or not self._is_coming(min(self._piece, room - count)):
                    break
                continue
            except OSError:
                moved = 0
            if not moved:
                self._is_cut = True
                self._end = self._end or "vanished"
                break
            count += moved
            if count >= SLICE_BYTES or self._heard_at - started >= _VISIT_SECONDS:
                break
        return self._judge(effect, count)

    def _take_ahead(self, effect: Receive, room: int) -> int:
        data, self._ahead = self._ahead[:room], self._ahead[room:]
        if data:
            effect.sink.write(memoryview(data))
        return len(data)

    def _note(self, moved: int, way: Passage) -> None:
        if moved:
            self._left -= moved
            self._heard_at = time.monotonic()

    def _is_coming(self, wanted: int) -> bool:
        """Wait for a moment, and say whether so many bytes are there now."""
        if self._end is not None or not self._may_wait():
            return False
        self._lent.set_piece(wanted)
        poll = select.poll()
        poll.register(self._lent.connection, select.POLLIN)
        poll.poll(_PATIENCE * 1000)
        return self._held() >= wanted

    def _judge(self, effect: Receive, count: int) -> Received:
        """Say why a visit is over."""
        quiet_for = time.monotonic() - self._heard_at
        if count == effect.limit:
            return Received(count, "limit", quiet_for)
        if not self._left and not self._ahead:
            return Received(count, "finished", quiet_for)
        if self._end is not None:
            return Received(count, self._end, quiet_for)
        return Received(count, "idle" if quiet_for >= effect.idle_timeout else "slice", quiet_for)

    async def _await_notice(self) -> None:
        """Wait until the server has seen the connection's end: it then sends no answer, and says so nowhere."""
        try:
            async with asyncio.timeout(_NOTICE_SECONDS):
                while (await self._listen())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            logger.debug("The server has not noticed that a client is gone.")
