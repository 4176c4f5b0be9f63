"""What a failed read of ``wsgi.input`` leaves: all that came before it where that is known, never a gap."""

from __future__ import annotations

from collections.abc import Iterator

from gunicorn.http.body import Body, LengthReader
from gunicorn.http.unreader import IterUnreader

from tests.tus_server.collecting import Collected
from tests.tus_server.conformance.client import pattern
from tus_server.bodies import Readable, StreamBody
from tus_server.effects import Receive

CONTENT = pattern(10_000)


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
