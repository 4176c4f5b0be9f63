"""Slow bodies are left with uvicorn, and every byte of them is kept however they end."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from tests.tus_server.collecting import Collected
from tests.tus_server.wires import run_timeless
from tus_server.effects import Call, Receive, Received
from tus_server.errors import BodyIncomplete
from tus_server.lulls import HELD_BYTES, TICK_SECONDS, Clock, find_cycle
from tus_server.streams import StreamedBody

KIB = 1024
PIECE = bytes(range(256)) * 32


class Cycle:
    """What stands behind uvicorn's ``receive``; ``feed`` is its connection."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.more_body = True
        self.disconnected = False
        self.scope = {"http_version": "1.1"}
        self.flow = SimpleNamespace(read_paused=False)
        self.asked = 0
        self._event = asyncio.Event()

    def feed(self, data: bytes = b"", *, more: bool = True) -> None:
        """Bytes came."""
        assert not self.flow.read_paused
        self.body += data
        self.flow.read_paused = len(self.body) > HELD_BYTES
        self.more_body = more
        self._event.set()

    async def wait_until_it_reads(self) -> None:
        """Wait as TCP does; a server that never reads again fails the test."""
        for _ in range(20):
            if not self.flow.read_paused:
                return
            await asyncio.sleep(TICK_SECONDS)
        raise AssertionError("The server reads no more.")

    def hang_up(self) -> None:
        """The client is gone."""
        self.disconnected = True
        self._event.set()

    async def receive(self) -> dict[str, Any]:
        self.asked += 1
        self.flow.read_paused = False
        if not self.disconnected:
            await self._event.wait()
            self._event.clear()
        if self.disconnected:
            return {"type": "http.disconnect"}
        body, self.body = bytes(self.body), bytearray()
        return {"type": "http.request", "body": body, "more_body": self.more_body}


class Upload:
    """A body that is received as a driver does it, for as long as it comes."""

    def __init__(self, idle_timeout: float = 60.0) -> None:
        self.cycle = Cycle()
        self.body = StreamedBody(self.cycle.receive, self._run, clock=Clock())
        self.sink = Collected()
        self.slices: list[Received] = []
        self._effect = Receive(self.sink, None, idle_timeout)
        self.task = asyncio.ensure_future(self._receive())

    async def _run(self, call: Call) -> object:
        return call.run()

    async def _receive(self) -> None:
        while not self.slices or self.slices[-1].end == "slice":
            self.slices.append((await self.body.receive(self._effect))())

    async def drip(self, seconds: int) -> bytes:
        """Send 64 KiB a second, in eight messages each."""
        for _ in range(8 * seconds):
            self.cycle.feed(PIECE)
            await asyncio.sleep(0.125)
        return PIECE * 8 * seconds

    async def close(self) -> Received:
        """Wait for the body's end."""
        await self.task
        await self.body.close()
        return self.slices[-1]


def test_a_slow_body_is_not_asked_for_each_message_and_its_end_is_noticed_at_once() -> None:
    async def scenario() -> None:
        upload = Upload()
        sent = await upload.drip(3)
        asked = upload.cycle.asked
        sent += await upload.drip(10)
        # What came more than a second ago is stored.
        assert len(upload.sink.data) >= len(sent) - len(PIECE) * 9
        assert upload.cycle.asked == asked
        assert len(upload.slices) <= 16
        ended = asyncio.get_running_loop().time()
        upload.cycle.feed(b"the end", more=False)
        received = await upload.close()
        assert received.end == "finished"
        assert asyncio.get_running_loop().time() - ended < 2 * TICK_SECONDS
        assert upload.sink.data == sent + b"the end"
        assert upload.body.count == len(upload.sink.data)

    run_timeless(scenario())


@pytest.mark.parametrize("how", ["hangs up", "is cancelled", "drains"])
def test_what_uvicorn_holds_of_a_slow_body_is_kept_however_it_ends(how: str) -> None:
    async def scenario() -> None:
        upload = Upload()
        sent = await upload.drip(3)
        upload.cycle.feed(b"the last")
        {"hangs up": upload.cycle.hang_up, "is cancelled": upload.body.vanish, "drains": upload.body.drain}[how]()
        received = await upload.close()
        assert received.end == ("draining" if how == "drains" else "vanished")
        assert upload.sink.data == sent + b"the last"

    run_timeless(scenario())


def test_a_body_that_becomes_fast_is_listened_to_again() -> None:
    async def scenario() -> None:
        upload = Upload()
        sent = await upload.drip(3)
        asked = upload.cycle.asked
        for _ in range(100):
            await upload.cycle.wait_until_it_reads()
            upload.cycle.feed(PIECE * 9)
            sent += PIECE * 9
            await asyncio.sleep(0.01)
        assert len(PIECE * 9) > HELD_BYTES
        assert upload.cycle.asked > asked + 80
        await upload.cycle.wait_until_it_reads()
        upload.cycle.feed(more=False)
        assert (await upload.close()).end == "finished"
        assert upload.sink.data == sent

    run_timeless(scenario())


def test_a_slow_body_goes_on_when_one_message_was_so_long_that_uvicorn_stopped_reading() -> None:
    async def scenario() -> None:
        upload = Upload()
        sent = b""
        for _ in range(4):
            # Long, but too seldom to be fast; at some time it comes just before the body is left alone.
            await upload.cycle.wait_until_it_reads()
            upload.cycle.feed(PIECE * 9)
            sent += PIECE * 9
            await asyncio.sleep(0.99)
        await upload.cycle.wait_until_it_reads()
        upload.cycle.feed(b"the end", more=False)
        assert (await upload.close()).end == "finished"
        assert upload.sink.data == sent + b"the end"

    run_timeless(scenario())


@pytest.mark.parametrize("change", ["http/2", "another server"])
def test_bodies_of_others_are_not_left_alone(change: str) -> None:
    async def scenario() -> None:
        cycle = Cycle()
        assert find_cycle(cycle.receive) is cycle
        if change == "http/2":
            cycle.scope["http_version"] = "2"
        else:
            cycle.flow = SimpleNamespace()
        assert find_cycle(cycle.receive) is None

    run_timeless(scenario())


def test_the_silence_of_a_slow_body_is_measured_from_its_last_byte() -> None:
    async def scenario() -> None:
        upload = Upload(idle_timeout=5.0)
        sent = await upload.drip(3)
        upload.cycle.feed(b"the last")
        fell_silent = asyncio.get_running_loop().time()
        received = await upload.close()
        assert received.end == "idle"
        assert 5.0 <= asyncio.get_running_loop().time() - fell_silent < 5.0 + 3 * TICK_SECONDS
        assert all(one.quiet_for <= 5.0 + TICK_SECONDS for one in upload.slices)
        assert upload.sink.data == sent + b"the last"

    run_timeless(scenario())


def test_a_slow_body_can_be_read_into_memory() -> None:
    async def scenario() -> None:
        upload = Upload()
        await upload.drip(3)
        upload.task.cancel()
        await asyncio.wait([upload.task])
        with pytest.raises(BodyIncomplete):
            await upload.body.read(64 * KIB)
        await upload.body.close()

    run_timeless(scenario())
