"""uvicorn's connection, lent and given back, with uvicorn's own protocol on both event loops in this process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvicorn
import uvloop
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from tus_server import handover
from tus_server.handover import Lent, borrow

T = TypeVar("T")
Run = Callable[[Awaitable[T]], T]

BODY = bytes(range(256)) * 800
NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run[Any]:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.SelectorEventLoop

    def run(coroutine: Any) -> Any:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(asyncio.wait_for(coroutine, 20))

    return run


class Site:
    """An application that takes some bytes of each body past uvicorn, the rest in messages, and answers with all.

    Args:
        take: How many bytes it takes; all, if there are fewer.
    """

    protocol: type[asyncio.Protocol] = HttpToolsProtocol

    def __init__(self, take: int) -> None:
        self.take = take
        self.lent: list[bool] = []
        self.protocols: list[Any] = []
        self.ends: list[str] = []

    def build_protocol(self) -> asyncio.Protocol:
        config = uvicorn.Config(self, lifespan="off", ws="none", log_level="critical")
        config.load()
        made: Any = self.protocol
        self.protocols.append(made(config=config, server_state=ServerState(), app_state={}))
        protocol: asyncio.Protocol = self.protocols[-1]
        return protocol

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        body = b"" if scope["method"] == "GET" else await self.receive(scope, receive)
        answer = scope["path"].encode() + b" " + body
        headers = [(b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def receive(self, scope: dict[str, Any], receive: Any) -> bytes:
        lent = borrow(receive, scope)
        self.lent.append(lent is not None)
        body = b""
        if lent is not None:
            body = await self.take_from(lent)
            if len(body) == len(lent.ahead) + lent.left:
                return body
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.ends.append("disconnect")
                return body
            body += message["body"]
            if not message["more_body"]:
                self.ends.append("whole")
                return body

    async def take_from(self, lent: Lent) -> bytes:
        wanted = min(self.take, len(lent.ahead) + lent.left)
        body, ahead = lent.ahead[:wanted], lent.ahead[wanted:]
        left, loop = lent.left, asyncio.get_running_loop()
        while len(body) < wanted and (data := await loop.sock_recv(lent.connection, wanted - len(body))):
            body += data
            left -= len(data)
        lent.give_back(left, ahead)
        # As ``HandedBody`` does: the server reads before it is answered.
        for _ in range(2):
            await asyncio.sleep(0)
        return body


def head(*fields: str, version: str = "1.1") -> bytes:
    return "\r\n".join([f"PATCH /first HTTP/{version}", "Host: x", *fields, "", ""]).encode()


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    status = await reader.readuntil(b"\r\n\r\n")
    if status.startswith(b"HTTP/1.1 100"):
        status = await reader.readuntil(b"\r\n\r\n")
    assert status.startswith(b"HTTP/1.1 200"), status
    length = int(status.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return await reader.readexactly(length)


async def exchange(site: Site, *pieces: bytes, answers: int) -> tuple[list[bytes], bool]:
    """Send pieces so that each is read by itself; return the answers, and whether the connection then was closed."""
    server = await asyncio.get_running_loop().create_server(site.build_protocol, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)
        found = [await read_answer(reader) for _ in range(answers)]
        try:
            is_closed = await asyncio.wait_for(reader.read(1), 0.05) == b""
        except TimeoutError:
            is_closed = False
        writer.close()
        await writer.wait_closed()
        await until(lambda: all(not protocol.connections for protocol in site.protocols))
    return found, is_closed


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("connection", ["keep-alive", "close"])
@pytest.mark.parametrize("sent_first", [0, 1000])
@pytest.mark.parametrize("take", [0, 1, 1000, 1001, 100_000, len(BODY) - 1, len(BODY)])
def test_the_server_goes_on_wherever_it_is_given_back(
    run: Run[Any], take: int, sent_first: int, connection: str
) -> None:
    """The next request comes in one piece with the body's end."""
    site = Site(take)
    first = head(f"Content-Length: {len(BODY)}", f"Connection: {connection}") + BODY[:sent_first]
    is_kept = connection == "keep-alive"
    pieces = (first, BODY[sent_first:] + NEXT)
    answers, is_closed = run(exchange(site, *pieces, answers=2 if is_kept else 1))
    assert answers == [b"/first " + BODY, b"/next "][: len(answers)]
    assert is_closed is not is_kept
    assert site.lent == [True]
    assert site.ends == (["whole"] if take < len(BODY) else [])


def test_bodies_follow_each_other_on_a_connection(run: Run[Any]) -> None:
    site = Site(70_000)
    pieces = [piece for _ in range(4) for piece in (head(f"Content-Length: {len(BODY)}"), BODY)]
    answers, is_closed = run(exchange(site, *pieces, answers=4))
    assert answers == [b"/first " + BODY] * 4
    assert (site.lent, is_closed) == ([True] * 4, False)


def test_who_waits_for_continue_is_told_to(run: Run[Any]) -> None:
    async def play() -> None:
        server = await asyncio.get_running_loop().create_server(site.build_protocol, "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(head("Content-Length: 3", "Expect: 100-continue"))
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"abc" + NEXT)
            assert [await read_answer(reader) for _ in range(2)] == [b"/first abc", b"/next "]
            writer.close()
            await writer.wait_closed()

    site = Site(2)
    run(play())
    assert site.lent == [True]


@pytest.mark.parametrize("taken", [0, 10, 1000])
@pytest.mark.parametrize("how", ["fin", "rst"])
def test_the_server_sees_the_end_that_we_have_seen(run: Run[Any], how: str, taken: int) -> None:
    async def play() -> None:
        server = await asyncio.get_running_loop().create_server(site.build_protocol, "127.0.0.1", 0)
        async with server:
            client = socket.create_connection(server.sockets[0].getsockname())
            client.sendall(head("Content-Length: 1000"))
            await until(lambda: site.lent)
            client.sendall(b"x" * 10)
            if how == "rst":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
            await until(lambda: site.ends)
            await until(lambda: not site.protocols[0].connections and not site.protocols[0].tasks)

    class Enduring(Site):
        async def take_from(self, lent: Lent) -> bytes:
            try:
                return await super().take_from(lent)
            except OSError:
                lent.give_back(lent.left)
                return b""

    site = Enduring(taken)
    run(play())
    assert site.ends == ["disconnect"]


def test_a_unix_socket_is_lent_too(run: Run[Any], tmp_path: Path) -> None:
    async def play() -> bytes:
        path = str(tmp_path / "socket")
        server = await asyncio.get_running_loop().create_unix_server(site.build_protocol, path)
        async with server:
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(head(f"Content-Length: {len(BODY)}"))
            await writer.drain()
            await until(lambda: site.lent)
            writer.write(BODY)
            answer = await read_answer(reader)
            writer.close()
            await writer.wait_closed()
            return answer

    site = Site(150_000)
    assert run(play()) == b"/first " + BODY
    assert site.lent == [True]


@pytest.mark.parametrize(
    ("pieces", "answer"),
    [
        ((head("Content-Length: 3") + b"abc",), b"/first abc"),
        ((head("Transfer-Encoding: chunked"), b"3\r\nabc\r\n0\r\n\r\n"), b"/first abc"),
        ((head("Content-Length: 3", "Connection: keep-alive", version="1.0"), b"abc"), b"/first abc"),
        # httptools takes the body for the other protocol's.
        ((head("Content-Length: 3", "Connection: upgrade", "Upgrade: h2c"), b"abc"), b"/first "),
        ((head("Content-Length: 0"),), b"/first "),
    ],
    ids=["here already", "chunked", "HTTP/1.0", "upgrade", "empty"],
)
def test_what_is_not_a_body_of_known_length_is_not_lent(
    run: Run[Any], pieces: tuple[bytes, ...], answer: bytes
) -> None:
    site = Site(2)
    answers, _ = run(exchange(site, *pieces, answers=1))
    assert answers == [answer]
    assert site.lent == [False]


class OwnProtocol(HttpToolsProtocol):
    """Somebody's changes to uvicorn's."""


@pytest.mark.parametrize("protocol", [H11Protocol, OwnProtocol])
def test_another_protocol_is_left_alone(run: Run[Any], protocol: type[asyncio.Protocol]) -> None:
    site = Site(2)
    site.protocol = protocol
    answers, _ = run(exchange(site, head("Content-Length: 3"), b"abc", answers=1))
    assert (answers, site.lent) == ([b"/first abc"], [False])


def test_a_receive_that_somebody_wrapped_is_left_alone(run: Run[Any]) -> None:
    class Wrapping(Site):
        async def receive(self, scope: dict[str, Any], receive: Any) -> bytes:
            async def wrapped() -> Any:
                return await receive()

            return await super().receive(scope, wrapped)

    site = Wrapping(2)
    answers, _ = run(exchange(site, head("Content-Length: 3"), b"abc", answers=1))
    assert (answers, site.lent) == ([b"/first abc"], [False])


def change_version(monkeypatch: pytest.MonkeyPatch, cycle: Any) -> None:
    monkeypatch.setattr(uvicorn, "__version__", "0.99.0")


def change_version_oddly(monkeypatch: pytest.MonkeyPatch, cycle: Any) -> None:
    monkeypatch.setattr(uvicorn, "__version__", "1.x.y")


def change_transports(monkeypatch: pytest.MonkeyPatch, cycle: Any) -> None:
    monkeypatch.setattr(handover, "_TRANSPORTS", frozenset())


def run_out_of_descriptors(monkeypatch: pytest.MonkeyPatch, cycle: Any) -> None:
    def fail(theirs: object) -> None:
        raise OSError("Too many open files")

    monkeypatch.setattr(handover, "_duplicate", fail)


def lose_an_attribute(monkeypatch: pytest.MonkeyPatch, cycle: Any) -> None:
    monkeypatch.delattr(cycle, "message_event")


def queue_another(monkeypatch: pytest.MonkeyPatch, cycle: Any) -> None:
    monkeypatch.setattr(cycle.transport.get_protocol(), "pipeline", [object()])


def change_the_cycle(monkeypatch: pytest.MonkeyPatch, cycle: Any) -> None:
    monkeypatch.setattr(cycle.transport.get_protocol(), "cycle", object())


def have_listened(monkeypatch: pytest.MonkeyPatch, cycle: Any) -> None:
    monkeypatch.setattr(cycle, "body", bytearray())


@pytest.mark.parametrize(
    "change",
    [
        change_version,
        change_version_oddly,
        change_transports,
        run_out_of_descriptors,
        lose_an_attribute,
        queue_another,
        change_the_cycle,
        have_listened,
    ],
)
def test_anything_unexpected_is_left_as_it_is(
    run: Run[Any], monkeypatch: pytest.MonkeyPatch, change: Callable[[pytest.MonkeyPatch, Any], None]
) -> None:
    class Looking(Site):
        async def receive(self, scope: dict[str, Any], receive: Any) -> bytes:
            cycle = receive.__self__
            with monkeypatch.context() as patch:
                change(patch, cycle)
                before = {name: getattr(cycle, name, None) for name in vars(cycle)}
                assert borrow(receive, scope) is None
                assert {name: getattr(cycle, name, None) for name in vars(cycle)} == before
                assert cycle.flow.read_paused is False
            return await super().receive(scope, receive)

    site = Looking(3)
    answers, _ = run(exchange(site, head("Content-Length: 6") + b"ab", b"cdef", answers=1))
    assert (answers, site.lent) == ([b"/first abcdef"], [True])
