"""A process that is told to end: running bodies end within a second, what came is stored, the next process goes on."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import pytest

from tests.servers import Kind, RunningServer
from tests.tus_server.collecting import Collected
from tests.tus_server.conformance.client import NoAnswer, TusClient, Wire, pattern
from tus_server import draining
from tus_server.bodies import SocketBody, StreamBody
from tus_server.effects import Receive

CONTENT = pattern(1_000_000)
KINDS: list[Kind] = ["gthread", "sync", "uvicorn", "uvicorn-2"]
#: Seconds after which a server that was told to end must have gone. It takes a second or two; where a body went on, or
#: a worker never heard of it, it would take what the server itself allows, which is ``GRACE``.
GONE_WITHIN = 25.0
GRACE = {
    "gthread": ("--graceful-timeout", "100"),
    "sync": ("--graceful-timeout", "100"),
    "uvicorn": ("--timeout-graceful-shutdown", "100"),
    "uvicorn-2": ("--timeout-graceful-shutdown", "100"),
}

Framing = Literal["length", "chunked"]


# --- handlers ----------------------------------------------------------------------------------------------------


@pytest.fixture
def handlers() -> Iterator[None]:
    """Put back what a test does to the handlers and to the state of this process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    draining._State.was_told = False


class Server:
    """What stands for a server's own handler."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def handle(self, number: int, frame: FrameType | None) -> None:
        self.seen.append(number)


class Listener:
    def __init__(self) -> None:
        self.told = 0

    def drain_soon(self) -> None:
        self.told += 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_servers_handler_is_called_after_ours(handlers: None, number: signal.Signals) -> None:
    server, listener = Server(), Listener()
    signal.signal(number, server.handle)
    draining.install()
    draining.install()
    draining.listen(listener)
    assert not draining.is_draining()
    signal.raise_signal(number)
    assert draining.is_draining()
    assert (server.seen, listener.told) == ([number], 1)


def test_a_handler_that_came_later_gets_ours_in_front_again(handlers: None) -> None:
    first, second = Server(), Server()
    signal.signal(signal.SIGTERM, first.handle)
    draining.install()
    signal.signal(signal.SIGTERM, second.handle)
    draining.install()
    signal.raise_signal(signal.SIGTERM)
    assert draining.is_draining()
    assert (first.seen, second.seen) == ([], [signal.SIGTERM])


def test_who_listens_too_late_is_told_at_once(handlers: None) -> None:
    signal.signal(signal.SIGTERM, Server().handle)
    draining.install()
    signal.raise_signal(signal.SIGTERM)
    listener = Listener()
    draining.listen(listener)
    assert listener.told == 1


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler])
def test_where_a_signal_ends_the_process_at_once_nothing_changes(handlers: None, handler: Any) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)
    draining.install()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == [handler, handler]


def test_another_thread_installs_nothing(handlers: None) -> None:
    server = Server()
    signal.signal(signal.SIGTERM, server.handle)
    thread = threading.Thread(target=draining.install)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) == server.handle


class GunicornWorker(Server):
    """As gunicorn's workers are, as far as we look."""

    __module__ = "gunicorn.workers.gthread"
    alive = True
    nr = 1
    max_requests = 10

    def handle(self, number: int, frame: FrameType | None) -> None:
        self.alive = False


@pytest.mark.parametrize("is_chained", [False, True])
def test_a_worker_of_gunicorn_is_looked_at(handlers: None, is_chained: bool) -> None:
    worker = GunicornWorker()
    signal.signal(signal.SIGTERM, worker.handle)
    if is_chained:
        draining.install()
    assert not draining.is_draining()
    worker.alive = False
    assert draining.is_draining()


def test_a_worker_that_has_served_its_requests_finishes_those_it_has(handlers: None) -> None:
    worker = GunicornWorker()
    signal.signal(signal.SIGTERM, worker.handle)
    worker.alive, worker.nr = False, 10
    assert not draining.is_draining()


# --- bodies ------------------------------------------------------------------------------------------------------


class LengthReader:
    """As gunicorn's, with nothing read ahead."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.unreader = self
        self.buf = self

    def getvalue(self) -> bytes:
        return b""


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_a_socket_body_takes_what_is_there_and_waits_for_nothing(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pair
    monkeypatch.setattr(draining._State, "was_told", True)
    theirs.sendall(b"abc")
    sink, body = Collected(), SocketBody(ours, LengthReader(10))
    received = body.receive(Receive(sink, 10, 60, 10))
    # Who had waited would have ended a slice.
    assert (received.count, received.end, sink.data) == (3, "draining", b"abc")
    assert body.receive(Receive(sink, 7, 60, 10)).end == "draining"
    theirs.sendall(b"defghij")
    assert body.receive(Receive(sink, 7, 60, 10)).count == 7


def test_a_body_that_is_there_whole_is_taken(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pair
    monkeypatch.setattr(draining._State, "was_told", True)
    theirs.sendall(b"abcdefghij")
    sink = Collected()
    assert SocketBody(ours, LengthReader(10)).receive(Receive(sink, 10, 60, 10)).end == "limit"
    assert sink.data == b"abcdefghij"


def test_a_stream_that_cannot_be_watched_is_not_read_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    class Untouched:
        def read(self, size: int, /) -> bytes:
            raise AssertionError("it was read")

    monkeypatch.setattr(draining._State, "was_told", True)
    assert StreamBody(Untouched(), 10).receive(Receive(Collected(), 10, 60, 10)).end == "draining"


# --- real servers ------------------------------------------------------------------------------------------------


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningServer]:
    with RunningServer(request.param, tmp_path, arguments=GRACE[request.param]) as server:
        yield server


@pytest.fixture
def tus(server: RunningServer) -> TusClient:
    return TusClient(server.address, server.directory)


def begin(tus: TusClient, url: str, framing: Framing, content: bytes, length: int = len(CONTENT)) -> Wire:
    """Send the head of a PATCH and a part of its body."""
    wire = tus.open_patch(url, 0, None if framing == "chunked" else length)
    send(wire, framing, content)
    return wire


def send(wire: Wire, framing: Framing, content: bytes) -> None:
    if framing == "chunked":
        wire.send_chunk(content)
    else:
        wire.send(content)


def assert_told(wire: Wire) -> None:
    """The answer says that the server is restarting, or the connection was closed."""
    with suppress(NoAnswer, ConnectionResetError):
        answer = wire.answer("PATCH")
        assert answer.status == 503, answer
        assert b'"draining"' in answer.body
        assert answer.header("Retry-After")
        assert answer.header("Tus-Resumable") == "1.0.0"


def assert_gone(server: RunningServer) -> None:
    """The server ends by itself, and none of its processes had to be killed."""
    process = server._process
    assert process is not None
    process.wait(GONE_WITHIN)
    assert "SIGKILL" not in server.log, server.log


@pytest.mark.e2e
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("client", ["silent", "slow"])
def test_a_running_body_is_ended_and_all_of_it_stored(
    server: RunningServer, tus: TusClient, client: str, framing: Framing
) -> None:
    url = tus.create(len(CONTENT))
    with begin(tus, url, framing, CONTENT[:300_000]) as wire:
        assert tus.wait_for_offset(url, lambda offset: offset > 0) > 0
        sent = 300_000
        started = time.monotonic()
        os.kill(server.pid, signal.SIGTERM)
        while client == "slow" and time.monotonic() < started + GONE_WITHIN and not wire.is_answered(0.1):
            with suppress(BrokenPipeError, ConnectionResetError):
                send(wire, framing, CONTENT[sent : sent + 1000])
                sent += 1000
        # A second for the look around, and what the machine needs.
        assert wire.is_answered(GONE_WITHIN)
        assert_told(wire)
        assert_gone(server)
    stored = tus.stored_bytes(url) or b""
    # A slow client's last pieces may have come after the look.
    assert 300_000 <= len(stored) <= sent
    assert CONTENT.startswith(stored)
    assert client == "slow" or len(stored) == sent
    server.restart()
    assert tus.offset(url) == len(stored)
    tus.resume(url, CONTENT)
    assert tus.finishes(url) == 1


@pytest.mark.e2e
def test_a_fast_client_is_ended_too(server: RunningServer, tus: TusClient) -> None:
    length = 3_000_000_000
    url = tus.create(length)
    block, sent = bytes(65536), 0
    with begin(tus, url, "length", block, length) as wire:
        tus.wait_for_offset(url, lambda offset: offset > 0)
        os.kill(server.pid, signal.SIGTERM)
        started = time.monotonic()
        wire.socket.settimeout(1)
        with suppress(OSError):
            while time.monotonic() < started + GONE_WITHIN and not wire.is_answered(0.01):
                wire.send(block)
                sent += len(block)
        assert time.monotonic() < started + GONE_WITHIN
        wire.socket.settimeout(GONE_WITHIN)
        assert_told(wire)
        assert_gone(server)
    assert len(tus.stored_bytes(url) or b"") <= sent + len(block)
    server.restart()
    assert tus.offset(url) == len(tus.stored_bytes(url) or b"")
    answer = tus.patch(url, tus.offset(url), b"more")
    assert answer.status == 204


@pytest.mark.e2e
def test_a_chunk_with_a_checksum_that_is_ended_leaves_nothing(server: RunningServer, tus: TusClient) -> None:
    url = tus.create(len(CONTENT))
    headers = {"Upload-Checksum": "crc32 AAAAAA=="}
    with tus.open_patch(url, 0, len(CONTENT), headers) as wire:
        wire.send(CONTENT[:300_000])
        time.sleep(0.2)  # time to take it; whether it was taken nobody sees, and the rest holds either way
        os.kill(server.pid, signal.SIGTERM)
        assert wire.is_answered(GONE_WITHIN)
        assert_told(wire)
        assert_gone(server)
    assert tus.stored_bytes(url) == b""
    server.restart()
    tus.resume(url, CONTENT)


@pytest.mark.e2e
def test_a_body_that_begins_too_late_is_ended_at_once(tmp_path: Path) -> None:
    """gunicorn serves kept connections for two more seconds."""
    with RunningServer("gthread", tmp_path, arguments=GRACE["gthread"]) as server:
        tus = TusClient(server.address, server.directory)
        url = tus.create(len(CONTENT))
        with tus.connect() as wire:
            assert tus.patch(url, 0, CONTENT[:1000], wire=wire).status == 204
            os.kill(server.pid, signal.SIGTERM)
            time.sleep(0.5)
            headers = tus.patch_headers(1000, {"Content-Length": len(CONTENT) - 1000})
            with suppress(BrokenPipeError, ConnectionResetError):
                wire.send_head("PATCH", url, tus.head_of(headers))
                wire.send(CONTENT[1000:2000])
            assert wire.is_answered(GONE_WITHIN)
            assert_told(wire)
        assert_gone(server)
        assert tus.stored_bytes(url) in (CONTENT[:1000], CONTENT[:2000])
        server.restart()
        tus.resume(url, CONTENT)


@pytest.mark.e2e
def test_a_server_without_uploads_ends_as_ever(server: RunningServer, tus: TusClient) -> None:
    assert tus.stored_bytes(tus.upload(b"abc")) == b"abc"
    os.kill(server.pid, signal.SIGTERM)
    assert_gone(server)


@pytest.mark.e2e
@pytest.mark.parametrize("kind", ["gthread", "sync"])
def test_an_application_that_was_loaded_before_the_fork_is_told_too(kind: Kind, tmp_path: Path) -> None:
    with RunningServer(kind, tmp_path, arguments=("--preload", *GRACE[kind])) as server:
        tus = TusClient(server.address, server.directory)
        url = tus.create(len(CONTENT))
        with begin(tus, url, "length", CONTENT[:300_000]) as wire:
            assert tus.wait_for_offset(url, 300_000) == 300_000
            os.kill(server.pid, signal.SIGTERM)
            assert wire.is_answered(GONE_WITHIN)
            assert_told(wire)
            assert_gone(server)
        assert len(tus.stored_bytes(url) or b"") == 300_000
