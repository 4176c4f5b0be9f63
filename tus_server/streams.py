"""The body of a request under ASGI: one task listens, bytes gather, the pool writes them.

* Bytes are written 256 KiB to 1 MiB at a time, or what there is once a second: never one thread hop per message, and a
  slow client's bytes are stored within a second.
* At most ``_AHEAD_BYTES`` (and one message) wait here while a write is under way; then nobody listens, and the server
  below makes the client wait. Where many bodies arrive at once, each gathers and waits for less (``BUDGET_BYTES``).
* A slow body under uvicorn gathers there instead (``lulls``), and its bytes are taken when there are enough.
* However a body ends, what came is written first. Cancellation is such an end.
* Nothing is received before the first effect asks for it: servers answer ``Expect: 100-continue`` at that moment.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from tus_server import served
from tus_server.bodies import SLICE_BYTES
from tus_server.drivers import Runner, run_to_end
from tus_server.effects import End, Receive, Received, StoreCall
from tus_server.errors import BodyIdle, BodyIncomplete, Draining
from tus_server.gathering import Gathered
from tus_server.lulls import HELD_BYTES, Clock, Lull, find_cycle, take_held
from tus_server.scopes import Listen
from tus_server.stores.base import Sink
from tus_server.watching import SLICE_SECONDS

logger = logging.getLogger(__name__)

_GATHER_BYTES = 256 * 1024
_WRITE_BYTES = 1024 * 1024
_AHEAD_BYTES = 1024 * 1024
#: What all bodies of a process may gather together before they write smaller pieces, down to the smallest.
BUDGET_BYTES = 32 * 1024 * 1024
_SMALLEST_SHARE = 32 * 1024
#: A body that brought less in a slice of a second is slow.
_SLOW_BYTES = 128 * 1024
#: Seconds of silence after which a body that is read into memory is given up.
_READ_TIMEOUT = 60.0


class StreamedBody:
    """A body that arrives in ASGI messages; see ``drivers.AsyncBody``.

    Args:
        listen: The server's ``receive``.
        run: Where sinks may wait.
        share: Says how many bytes this body may gather at this moment.
        clock: Looks at this body while it is slow; without it every message is taken when it comes.
    """

    def __init__(
        self,
        listen: Listen,
        run: Runner,
        share: Callable[[], int] = lambda: BUDGET_BYTES,
        clock: Clock | None = None,
    ) -> None:
        self._listen = listen
        self._run = run
        self._share = share
        self._clock = clock if find_cycle(listen) is not None else None
        self._lull: Lull | None = None
        self._is_slow = False
        self._gathered = Gathered()
        self._listener: asyncio.Task[None] | None = None
        self._wanted = 0
        self._has_enough = asyncio.Event()
        self._has_room = asyncio.Event()
        self._heard_at = 0.0
        #: How the body ended, as far as the listener knows; bytes may still be gathered.
        self.end: End | None = None
        #: How many bytes have come.
        self.count = 0

    async def receive(self, effect: Receive) -> Callable[[], Received]:
        """Serve ``Receive``."""
        self._start()
        clock = asyncio.get_running_loop().time
        count, slice_ends = 0, clock() + SLICE_SECONDS
        while True:
            room = SLICE_BYTES if effect.limit is None else effect.limit - count
            wanted = min(_GATHER_BYTES, room, max(self._share(), _SMALLEST_SHARE))
            await self._gather(wanted, min(slice_ends, self._heard_at + effect.idle_timeout))
            self._take_held()
            pieces = self._gathered.take(min(_WRITE_BYTES, room))
            count += sum(len(piece) for piece in pieces)
            received = self._judge(effect, count, clock(), slice_ends)
            if received is not None:
                self._has_room.set()
                if self._lull is None:
                    self._is_slow = received.end == "slice" and count < _SLOW_BYTES
                return partial(_write_last, effect.sink, pieces, received)
            if pieces:
                await self._write(effect.sink, pieces)

    def _judge(self, effect: Receive, count: int, now: float, slice_ends: float) -> Received | None:
        """Say whether a ``Receive`` is over when what was gathered has been written."""
        if count == effect.limit:
            return Received(count, "limit")
        quiet_for = now - self._heard_at
        if not self._gathered.size:
            if self.end is not None:
                return Received(count, self.end, quiet_for)
            if quiet_for >= effect.idle_timeout:
                return Received(count, "idle", quiet_for)
        if self.end is None and (count >= SLICE_BYTES or now >= slice_ends or (count and self._lull is not None)):
            return Received(count, "slice", quiet_for)
        return None

    async def read(self, limit: int) -> bytes:
        """Serve ``ReadBody``."""
        self._start()
        self._wake()
        clock = asyncio.get_running_loop().time
        while self._gathered.size < limit and self.end is None:
            if clock() - self._heard_at >= _READ_TIMEOUT:
                raise BodyIdle()
            await self._gather(limit, self._heard_at + _READ_TIMEOUT)
        if self._gathered.size < limit and self.end != "finished":
            raise Draining() if self.end == "draining" else BodyIncomplete()
        return b"".join(self._gathered.take(limit))

    def vanish(self) -> None:
        """End the body with what has come, including what the server holds already: nobody waits any more."""
        if self.end is None and self._listener is not None and not self._listener.done():
            self._put_held()
        self._stop("vanished")

    def drain(self) -> None:
        """End the body because the server is going down; to be called in the loop's thread. What came is stored."""
        if self._listener is not None and not self._listener.done():
            self._put_held()
        self._stop("draining")

    async def close(self) -> None:
        """Stop listening. What is gathered and was not taken is forgotten."""
        if self.count:
            served.count("messages")
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.wait([self._listener])

    def _start(self) -> None:
        if self._listener is None:
            self._heard_at = asyncio.get_running_loop().time()
            self._listener = asyncio.create_task(self._gather_messages())

    def _stop(self, end: End) -> None:
        if self.end is None:
            self.end = end
        self._has_enough.set()
        self._has_room.set()

    async def _gather_messages(self) -> None:
        clock = asyncio.get_running_loop().time
        while self.end is None:
            if self._is_slow and self._clock is not None:
                await self._rest(self._clock)
            try:
                message = await self._listen()
            except Exception:
                # Each server has errors of its own for a client that is gone or a broken framing.
                logger.debug("A body ended with an error of the server's.", exc_info=True)
                self._stop("vanished")
                return
            if message["type"] == "http.disconnect":
                self._put_held()
                self._stop("vanished")
                return
            self._heard_at = clock()
            self._put(message.get("body") or b"", has_more=message.get("more_body", False))
            ahead = min(_AHEAD_BYTES, max(self._share(), _SMALLEST_SHARE))
            if self._gathered.size >= max(ahead, self._wanted) and self.end is None:
                self._has_room.clear()
                await self._has_room.wait()
                self._heard_at = clock()

    async def _rest(self, clock: Clock) -> None:
        """Leave the body alone until it ends or is slow no longer."""
        self._lull = Lull(self._listen, self._hear, self._has_enough.set)
        clock.watch(self._lull)
        try:
            await self._lull.over
        finally:
            self._lull = None

    def _hear(self) -> None:
        self._heard_at = asyncio.get_running_loop().time()

    def _wake(self) -> None:
        self._is_slow = False
        if self._lull is not None:
            self._lull.end()

    def _take_held(self) -> None:
        """Take what the server holds of a body that is left alone."""
        if self._lull is None or self.end is not None:
            return
        data, has_more = self._lull.take()
        self._put(data, has_more)
        if len(data) > HELD_BYTES:
            self._wake()

    def _put_held(self) -> None:
        """Take what the server holds already, at the body's end."""
        self._put(*take_held(getattr(self._listen, "__self__", None)))

    def _put(self, data: bytes | bytearray, has_more: bool) -> None:
        self._gathered.put(data)
        self.count += len(data)
        if not has_more:
            self._stop("finished")
        elif self._gathered.size >= self._wanted:
            self._has_enough.set()

    async def _gather(self, wanted: int, until: float) -> None:
        """Wait until so many bytes are gathered, until the body's end, or until a time of the loop's clock."""
        if self._gathered.size >= wanted or self.end is not None:
            return
        self._wanted = wanted
        self._has_enough.clear()
        self._has_room.set()
        try:
            async with asyncio.timeout_at(until):
                await self._has_enough.wait()
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            await self._rescue()

    async def _rescue(self) -> None:
        """Cancelled: end the body with what has come, including what the listener or the server holds already."""
        self._stop("vanished")
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            logger.debug("A body was cancelled twice.")
        if self._listener is not None and not self._listener.done():
            self._put_held()

    async def _write(self, sink: Sink, pieces: list[memoryview]) -> None:
        """Give bytes to a sink, whatever happens to this task meanwhile."""
        self._has_room.set()
        await run_to_end(self._run, StoreCall(sink.write_all, pieces), self.vanish)


def _write_last(sink: Sink, pieces: list[memoryview], received: Received) -> Received:
    if pieces:
        sink.write_all(pieces)
    return received
