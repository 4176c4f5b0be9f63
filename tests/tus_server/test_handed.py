"""A body on a lent connection: the test is the client, the driver and the server that lends."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop
from pytest_django.fixtures import Settings

from async_uploads.tus import SettingsConfig
from tus_server import asgi, handed, served
from tus_server.config import TusConfig
from tus_server.effects import Call, End, Receive, Received
from tus_server.engine import Engine
from tus_server.errors import BodyIncomplete, Draining, StorageFull
from tus_server.handed import HandedBody
from tus_server.locks.memory import MemoryLocker
from tus_server.stores.base import Sink
from tus_server.stores.memory import MemoryStore
from tus_server.streams import StreamedBody
from tus_server.wsgi import TusView

Run = Callable[[Any], Any]
CONTENT = bytes(range(256)) * 8000


class Collected(Sink):
    def __init__(self) -> None:
        self.data = bytearray()
        self.threads: set[str] = set()

    def write(self, data: memoryview) -> None:
        self.threads.add(threading.current_thread().name)
        self.data += data

    def settle(self) -> int:
        return len(self.data)


class FullSink(Collected):
    def write(self, data: memoryview) -> None:
        raise StorageFull()


class LentPair:
    """As ``handover.Lent``: one end of a pair, and what was said when it was given back."""

    def __init__(self, ours: socket.socket, length: int, ahead: bytes) -> None:
        ours.settimeout(0)
        self.connection = ours
        self.ahead = ahead
        self.left = length - len(ahead)
        self.is_open = True
        self.returned: list[tuple[int, bytes]] = []

    def set_piece(self, count: int) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)

    def give_back(self, left: int, ahead: bytes = b"", *, is_awaited: bool = False) -> None:
        self.returned.append((left, ahead))


class Play:
    """One body, its client, and the messages that the server has for who asks in the ordinary way."""

    def __init__(
        self, pair: tuple[socket.socket, socket.socket], length: int, ahead: bytes = b"", *, may_wait: bool = True
    ) -> None:
        self.client = pair[1]
        self.lent = LentPair(pair[0], length, ahead)
        self.messages: deque[Mapping[str, Any]] = deque()
        self.sink = Collected()
        lent: Any = self.lent
        self.body = HandedBody(lent, self.listen, lambda: StreamedBody(self.listen, self.run), lambda: may_wait)

    async def listen(self) -> Mapping[str, Any]:
        while not self.messages:
            await asyncio.sleep(0.001)
        return self.messages.popleft()

    async def run(self, call: Call) -> Any:
        return await asyncio.to_thread(call.run)

    async def receive(self, limit: int | None = None, idle_timeout: float = 60.0, sink: Sink | None = None) -> Received:
        last = await self.body.receive(Receive(sink or self.sink, limit, idle_timeout))
        return await asyncio.to_thread(last)

    async def receive_all(self) -> End:
        while (received := await self.receive()).end == "slice":
            pass
        return received.end


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.SelectorEventLoop

    def run(coroutine: Any) -> Any:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(asyncio.wait_for(coroutine, 20))

    return run


def connect(kind: str) -> tuple[socket.socket, socket.socket]:
    if kind == "unix":
        return socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        return server.accept()[0], client


@pytest.fixture(params=["tcp", "unix"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = connect(request.param)
    with ours, theirs:
        yield ours, theirs


Pair = tuple[socket.socket, socket.socket]


@pytest.mark.parametrize("ahead", [0, 1, 300_000])
def test_a_body_is_received_and_nothing_behind_it(run: Run, pair: Pair, ahead: int) -> None:
    async def play() -> None:
        play = Play(pair, len(CONTENT), CONTENT[:ahead])
        sending = asyncio.to_thread(play.client.sendall, CONTENT[ahead:] + b"GET / HTTP/1.1")
        end, _ = await asyncio.gather(play.receive_all(), sending)
        assert (end, play.body.count) == ("finished", len(CONTENT))
        assert play.sink.data == CONTENT
        await play.body.close()
        assert play.lent.returned == [(0, b"")]
        assert pair[0].recv(100) == b"GET / HTTP/1.1"

    run(play())


def test_a_dripping_client_costs_a_visit_a_second(run: Run) -> None:
    """Over TCP the kernel counts for us."""

    async def play() -> None:
        play = Play(pair, 1000)
        receiving = asyncio.ensure_future(play.receive())
        for _ in range(20):
            play.client.sendall(b"x")
            await asyncio.sleep(0.002)
        assert not receiving.done()
        play.client.sendall(b"x" * 980)
        assert (await receiving).end == "finished"

    pair = connect("tcp")
    with pair[0], pair[1]:
        run(play())


def test_who_sends_nothing_is_looked_at_and_given_up(run: Run, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        play = Play(pair, 1000)
        play.client.sendall(b"abc")
        assert await play.receive() == Received(3, "slice", pytest.approx(0, abs=10))
        received = await play.receive()
        assert (received.count, received.end) == (0, "slice")
        received = await play.receive(idle_timeout=0.01)
        assert (received.count, received.end) == (0, "idle")
        assert received.quiet_for >= 0.01
        await play.body.close()
        assert play.lent.returned == [(997, b"")]

    monkeypatch.setattr(handed, "SLICE_SECONDS", 0.05)
    run(play())


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_cut_keeps_what_came_and_waits_until_the_server_knows(run: Run, how: str) -> None:
    async def play() -> None:
        play = Play(pair, 1000)
        play.client.sendall(b"abc")
        if how == "rst":
            assert (await play.receive(limit=3)).end == "limit"
            play.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        play.client.close()
        assert await play.receive_all() == "vanished"
        assert (play.sink.data, play.body.end, play.body.count) == (b"abc", "vanished", 3)
        closing = asyncio.ensure_future(play.body.close())
        await asyncio.sleep(0.01)
        assert not closing.done()
        play.messages += [{"type": "http.request"}, {"type": "http.disconnect"}]
        await closing

    pair = connect("tcp")
    with pair[0], pair[1]:
        run(play())


def test_limits_are_kept(run: Run, pair: Pair) -> None:
    async def play() -> None:
        play = Play(pair, 10, b"01")
        play.client.sendall(b"23456789")
        assert (await play.receive(limit=1)).end == "limit"
        assert (await play.receive(limit=3)).end == "limit"
        assert (play.sink.data, play.body.count) == (b"0123", 4)
        assert (await play.receive(limit=6)).end == "limit"
        assert (await play.receive()).end == "finished"

    run(play())


@pytest.mark.parametrize("end", ["draining", "vanished"])
def test_who_is_told_to_end_takes_what_is_there(run: Run, pair: Pair, end: str) -> None:
    async def play() -> None:
        play = Play(pair, 1000)
        receiving = asyncio.ensure_future(play.body.receive(Receive(play.sink, None, 60)))
        await asyncio.sleep(0.01)
        play.client.sendall(b"abc")
        if end == "draining":
            play.body.drain()
        else:
            receiving.cancel()
        received = (await receiving)()
        assert (received.count, received.end, play.body.end) == (3, end, end)
        assert (await play.receive()).end == end

    run(play())


def test_a_connection_that_the_server_has_closed_is_gone(run: Run, pair: Pair) -> None:
    async def play() -> None:
        play = Play(pair, 1000)
        play.lent.is_open = False
        play.client.sendall(b"abc")
        received = await play.receive()
        assert (received.count, received.end) == (3, "vanished")

    run(play())


def test_a_full_sink_leaves_the_count_right(run: Run, pair: Pair) -> None:
    async def play() -> None:
        play = Play(pair, 1000, b"ab")
        play.client.sendall(b"x" * 998)
        with pytest.raises(StorageFull):
            await play.receive(sink=FullSink())
        with pytest.raises(StorageFull):
            await play.receive(sink=FullSink())
        await play.body.close()
        assert play.lent.returned == [(0, b"")]

    run(play())


def test_a_body_that_is_wanted_in_memory_goes_on_in_the_ordinary_way(run: Run, pair: Pair) -> None:
    async def play() -> None:
        play = Play(pair, 10, b"012")
        play.client.sendall(b"34")
        assert (await play.receive(limit=2)).end == "limit"
        play.messages += [{"type": "http.request", "body": b"23456", "more_body": True}]
        assert await play.body.read(3) == b"234"
        assert play.lent.returned == [(7, b"2")]
        play.messages += [{"type": "http.request", "body": b"789", "more_body": False}]
        assert (await play.receive()).end == "finished"
        assert (play.sink.data, play.body.count, play.body.end) == (b"0156789", 10, "finished")
        await play.body.close()
        assert play.lent.returned == [(7, b"2")]

    run(play())


@pytest.mark.parametrize("end", ["draining", "vanished"])
def test_a_body_that_has_ended_does_not_go_on(run: Run, pair: Pair, end: str) -> None:
    async def play() -> None:
        play = Play(pair, 10)
        if end == "draining":
            play.body.drain()
        else:
            play.body.vanish()
        with pytest.raises(BodyIncomplete if end == "vanished" else Draining):
            await play.body.read(3)

    run(play())


def test_a_loop_that_cannot_watch_gets_messages(run: Run, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        def refuse(count: int) -> None:
            raise OSError("not such a socket")

        play = Play(pair, 5)
        monkeypatch.setattr(play.lent, "set_piece", refuse)
        play.messages += [{"type": "http.request", "body": b"abcde", "more_body": False}]
        assert await play.receive_all() == "finished"
        assert (play.sink.data, play.lent.returned) == (b"abcde", [(5, b"")])
        before = dict(served.BODIES)
        await play.body.close()
        assert served.BODIES["messages"] == before.get("messages", 0) + 1
        assert served.BODIES["handover"] == before.get("handover", 0)

    run(play())


def test_the_loop_only_watches(run: Run, pair: Pair) -> None:
    async def play() -> None:
        play = Play(pair, len(CONTENT))
        before = served.BODIES["handover"]
        await asyncio.gather(play.receive_all(), asyncio.to_thread(play.client.sendall, CONTENT))
        assert play.sink.data == CONTENT
        assert threading.current_thread().name not in play.sink.threads
        await play.body.close()
        assert served.BODIES["handover"] == before + 1

    run(play())


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("may_wait", [True, False])
def test_a_thread_waits_for_a_fast_client_only_where_there_are_enough(run: Run, kind: str, may_wait: bool) -> None:
    async def play() -> None:
        play = Play(pair, len(CONTENT), may_wait=may_wait)
        play.client.settimeout(0)
        sent = play.client.send(CONTENT[:300_000])
        started = threading.Event()

        def go_on() -> None:
            assert started.wait(10)
            play.client.settimeout(10)
            play.client.sendall(CONTENT[sent:])

        sending = asyncio.create_task(asyncio.to_thread(go_on))
        last = await play.body.receive(Receive(play.sink, None, 60))
        is_coming = play.body._is_coming

        def come(wanted: int) -> bool:
            started.set()
            return is_coming(wanted)

        play.body._is_coming = come  # type: ignore[method-assign]
        visits = [await asyncio.to_thread(last)]
        assert started.is_set()
        if not may_wait:
            assert visits[0].end == "slice"
        while visits[-1].end == "slice":
            visits.append(await play.receive())
        await sending
        assert play.sink.data == CONTENT

    pair = connect(kind)
    with pair[0], pair[1]:
        run(play())


@pytest.mark.parametrize(
    ("limits", "is_asked"),
    [
        ({}, False),
        ({"uvicorn_handover": True}, True),
        ({"uvicorn_handover": True, "fast_path": False}, False),
    ],
)
def test_a_connection_is_asked_for_only_where_the_endpoint_says_so(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, limits: dict[str, bool], is_asked: bool
) -> None:
    def ask(listen: object, scope: object) -> None:
        asked.append(scope)

    asked: list[object] = []
    monkeypatch.setattr(asgi, "borrow", ask)
    settings.MIDDLEWARE = []
    engine = Engine(MemoryStore(), MemoryLocker(), config=TusConfig(**limits))
    match: Any = SimpleNamespace(func=TusView(engine))
    request: Any = SimpleNamespace(match=match, listen=None, run_body=None, scope={})
    handler = asgi.UploadHandler()
    assert isinstance(handler._open_body(request), StreamedBody)
    handler.close()
    assert bool(asked) is is_asked


def test_the_setting_reaches_the_engine(settings: Settings) -> None:
    assert SettingsConfig().uvicorn_handover is False
    settings.ASYNC_UPLOADS = {"UVICORN_HANDOVER": True}
    assert SettingsConfig().uvicorn_handover is True
