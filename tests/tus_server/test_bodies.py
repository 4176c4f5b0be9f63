"""``wsgi.input``: what a failed read leaves, all that came before it where that is known, never a gap; and how much a
read takes from the socket below.
"""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from gunicorn.http.body import Body, ChunkedReader, LengthReader
from gunicorn.http.unreader import IterUnreader, SocketUnreader

from tests.tus_server.collecting import Collected
from tests.tus_server.conformance.client import pattern
from tus_server.bodies import Readable, StreamBody
from tus_server.effects import Receive

CONTENT = pattern(10_000)

#: Prints how many pages the kernel had to find for the second half of a body, in a process without a history.
COUNTING = """
import resource, socket, threading
from gunicorn.http.body import Body, LengthReader
from gunicorn.http.unreader import SocketUnreader
from tus_server.bodies import SLICE_BYTES, StreamBody
from tus_server.effects import Receive

class Nowhere:
    def write(self, data): ...

def count():
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt

def receive():
    length = 2 * SLICE_BYTES
    body = StreamBody(Body(LengthReader(SocketUnreader(ours), length)), length, ours)
    left = length
    while left:
        if left > SLICE_BYTES:
            before = count()
        left -= body.receive(Receive(Nowhere(), left, 60, length)).count
    print(count() - before)

ours, theirs = socket.socketpair()
block = bytes(2**20)
receiver = threading.Thread(target=receive)
receiver.start()
for _ in range(2 * SLICE_BYTES // 2**20):
    theirs.sendall(block)
receiver.join()
"""


class Gathering:
    """A middleware's input, which loses what it had gathered when the connection breaks."""

    def __init__(self, stream: Readable) -> None:
        self.stream = stream

    def read(self, size: int, /) -> bytes:
        pieces = [self.stream.read(min(1000, size))]
        while pieces[-1] and (left := size - sum(map(len, pieces))):
            pieces.append(self.stream.read(min(1000, left)))
        return b"".join(pieces)


def breaking() -> Body:
    """gunicorn's input over a connection that breaks after 7,500 bytes."""

    def received() -> Iterator[bytes]:
        yield from (CONTENT[start : start + 1500] for start in range(0, 7500, 1500))
        raise ConnectionResetError

    return Body(LengthReader(IterUnreader(received()), len(CONTENT)))


def receive(stream: Readable) -> bytes:
    sink = Collected()
    received = StreamBody(stream, len(CONTENT)).receive(Receive(sink, len(CONTENT), 60, len(CONTENT)))
    assert (received.count, received.end) == (len(sink.data), "vanished")
    return sink.data


def test_all_that_gunicorn_received_before_the_connection_broke_is_kept() -> None:
    assert receive(breaking()) == CONTENT[:7500]


def test_behind_what_a_middleware_lost_nothing_is_stored() -> None:
    kept = receive(Gathering(breaking()))
    assert 0 < len(kept) < 7500
    assert kept == CONTENT[: len(kept)]


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("ahead", [0, 1, 5000])
def test_a_read_takes_no_more_from_the_socket_than_it_asks_for(
    pair: tuple[socket.socket, socket.socket], ahead: int
) -> None:
    ours, theirs = pair
    content = pattern(90_000)
    theirs.sendall(content[ahead:])
    unreader = SocketUnreader(ours)
    unreader.buf.write(content[:ahead])
    body = StreamBody(Body(LengthReader(unreader, len(content))), len(content), ours)
    sink = Collected()
    assert body.receive(Receive(sink, 60_001, 60, len(content))).count == 60_001
    assert unreader.buf.getvalue() == b""
    assert ours.recv(len(content), socket.MSG_PEEK) == content[60_001:]
    assert body.receive(Receive(sink, 29_999, 60, len(content))).count == 29_999
    assert sink.data == content


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators keep what they like")
def test_memory_that_a_read_needed_is_there_for_the_next() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run([sys.executable, "-c", COUNTING], env=environment, capture_output=True, text=True, check=True)
    # 17,000 to 37,000 for 64 MiB without our doing.
    assert int(done.stdout) < 3000


@pytest.mark.parametrize("chunk", [1, 100, 8192, 700_000])
def test_chunks_of_any_size_arrive_whole(pair: tuple[socket.socket, socket.socket], chunk: int) -> None:
    ours, theirs = pair
    content = pattern(max(chunk * 5, 3000) + 1)
    pieces = [content[start : start + chunk] for start in range(0, len(content), chunk)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\nPATCH"
    sender = threading.Thread(target=theirs.sendall, args=[framed])
    sender.start()
    unreader = SocketUnreader(ours)
    request = SimpleNamespace(unreader=unreader)
    body = StreamBody(Body(ChunkedReader(request, unreader)), None, ours)
    sink = Collected()
    end = "slice"
    while end == "slice":
        end = body.receive(Receive(sink, None, 60)).end
    sender.join()
    assert (end, sink.data) == ("finished", content)
    # What follows is the next request's, whether the reader holds it or the socket does.
    ours.setblocking(False)
    held = unreader.buf.getvalue()
    assert held + (b"" if held == b"PATCH" else ours.recv(100)) == b"PATCH"
