"""Bodies under WSGI: the portable stream that every server offers, and the socket that gunicorn lends.

From the socket we read straight into a reused buffer, or move bytes into the file inside the kernel (``splicing``), and
write at once what came, so a slow client's bytes are stored as they arrive and the request looks around every second.
The portable stream can only wait until a whole read is filled; its reads grow while the client is fast and shrink while
it is slow.

A process that is told to end (``draining``) takes what has come already and ends the body.
"""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import suppress
from functools import cache
from typing import Any, Protocol

from tus_server import served
from tus_server.draining import is_draining
from tus_server.effects import End, Receive, Received
from tus_server.errors import BadRequest
from tus_server.moving import Mover, Passage
from tus_server.watching import SLICE_SECONDS, WatchedSocket, watched

#: After how many bytes a slice is over.
SLICE_BYTES = 64 * 1024 * 1024
#: The most that one portable read asks for; gunicorn's reader holds it two to three times.
_LARGEST_READ = 512 * 1024
_SMALLEST_READ = 2 * 1024
#: How much of what was freed stays with each of glibc's arenas at most.
_KEPT_BYTES = 4 * 1024 * 1024
#: A portable read that takes longer than this, in seconds, makes the next one smaller.
_PATIENCE = 0.1


class Readable(Protocol):
    """What a WSGI input must offer."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, less only at the end or when the client is gone."""


class StreamBody:
    """A body over ``wsgi.input``. It can look around only between two reads.

    Args:
        stream: The server's input.
        length: The body's length in bytes, ``None`` where the stream itself ends with the body.
        connection: The socket that ``stream`` reads from, if the server lends it; without it a read waits for as long
            as the server lets it, and there is no idle timeout.
    """

    def __init__(self, stream: Readable, length: int | None, connection: socket.socket | None = None) -> None:
        self._stream = stream
        self._left = length
        self._connection = connection
        self._size = _SMALLEST_READ
        self._is_cut = False
        self._is_malformed = False
        self._count = 0

    def receive(self, effect: Receive) -> Received:
        """Serve ``Receive``."""
        _keep_freed_memory()
        self._is_cut = True
        if self._connection is None:
            received = self._receive(effect, None)
        else:
            timeout = self._connection.gettimeout()
            self._connection.settimeout(effect.idle_timeout)
            try:
                with watched(self._stream, self._connection, effect.idle_timeout) as below:
                    received = self._receive(effect, below)
            finally:
                self._connection.settimeout(timeout)
        self._is_cut = received.end != "finished" and self._left != 0
        return received

    def close(self) -> None:
        """See ``SocketBody.close``."""
        if self._count:
            served.count("stream")
        if self._is_cut and self._connection is not None:
            _stop_reading(self._connection)

    def _receive(self, effect: Receive, below: WatchedSocket | None) -> Received:
        count, started = 0, time.monotonic()
        draining = is_draining()
        if draining and below is None:
            # Any read might wait for long.
            return Received(0, "draining")
        while effect.limit is None or count < effect.limit:
            wanted = self._size if effect.limit is None else min(self._size, effect.limit - count)
            if below is not None:
                below.expect(wanted)
            before = time.monotonic()
            data, end = self._read(wanted)
            self._count += len(data)
            after = time.monotonic()
            if data:
                effect.sink.write(memoryview(data))
                count += len(data)
            if end is not None:
                return Received(count, end)
            self._adapt(after - before)
            if count >= SLICE_BYTES or after - started >= SLICE_SECONDS:
                return Received(count, "draining" if draining else "slice")
        return Received(count, "limit")

    def _adapt(self, seconds: float) -> None:
        if seconds > _PATIENCE:
            self._size = max(self._size // 2, _SMALLEST_READ)
        else:
            self._size = min(self._size * 2, _LARGEST_READ)

    def _read(self, size: int) -> tuple[bytes, End | None]:
        """Read once. A short read is a cut where the length is known, and nothing but a cut.

        Raises:
            BadRequest: The read before found the framing malformed.
        """
        if self._is_malformed:
            raise BadRequest("The body's framing is malformed.", code="bad_framing")
        if self._left is not None:
            size = min(size, self._left)
            if size == 0:
                return b"", "finished"
        try:
            data = self._stream.read(size)
        except TimeoutError:
            return self._rest(size), "draining" if is_draining() else "idle"
        except Exception as error:
            # Every server has errors of its own for a client that is gone. gunicorn keeps what it had decoded before;
            # one more read fetches it.
            self._is_malformed = _tells_of_framing(error)
            return self._rest(size), None if self._is_malformed else "vanished"
        if self._left is not None:
            self._left -= len(data)
            return data, "vanished" if len(data) < size else None
        return data, None if data else "finished"

    def _rest(self, size: int) -> bytes:
        """Return what gunicorn's own input still holds after an error.

        Nobody else's: a wrapper may have lost what it had gathered, and what it reads next lies behind a gap.
        """
        if not type(self._stream).__module__.startswith("gunicorn."):
            return b""
        try:
            data = self._stream.read(size)
        except Exception:
            return b""
        if self._left is not None:
            self._left -= len(data)
        return data

    def read(self, limit: int) -> bytes:
        """Serve ``ReadBody``."""
        pieces, count = [], 0
        while count < limit:
            data, end = self._read(limit - count)
            pieces.append(data)
            count += len(data)
            if end is not None:
                break
        return b"".join(pieces)


class SocketBody:
    """A body of known length on the socket that gunicorn lends (``gunicorn.socket``).

    What gunicorn has read ahead is taken first; its reader is told what we took, so that it finds the next request.

    Args:
        connection: The socket.
        reader: gunicorn's ``LengthReader`` of this request.
    """

    # Any: gunicorn's classes are not imported, so that it need not be installed; ``open_body`` has looked at them.
    def __init__(self, connection: socket.socket, reader: Any) -> None:
        self._connection = connection
        self._reader = reader
        self._quiet_since = time.monotonic()
        self._has_begun = False
        self._way: served.Way | None = None
        self._mover = Mover()

    def close(self) -> None:
        """Say that the rest of a body which was begun will not be read.

        gunicorn then finds its end at once, and closes the connection instead of waiting for what is missing. The rest
        of a body that was never begun is left to gunicorn: it is drained for a while, so that the refusal arrives.
        """
        if self._way is not None:
            served.count(self._way)
        if self._has_begun and self._reader.length:
            _stop_reading(self._connection)

    def receive(self, effect: Receive) -> Received:
        """Serve ``Receive``."""
        self._has_begun = True
        count, started = 0, time.monotonic()
        limit = self._reader.length if effect.limit is None else min(effect.limit, self._reader.length)
        ahead = self._take_ahead(limit)
        if ahead:
            self._way = self._way or "socket"
            effect.sink.write(memoryview(ahead))
            count += len(ahead)
        timeout = self._connection.gettimeout()
        # Then it takes what the kernel holds, for a second at most, and waits for nothing.
        draining = is_draining()
        try:
            self._connection.settimeout(0 if draining else SLICE_SECONDS)
            while count < limit:
                try:
                    received = self._mover.move(self._connection, effect.sink, limit - count, self._note)
                except BlockingIOError:
                    return Received(count, "draining")
                except TimeoutError:
                    quiet_for = time.monotonic() - self._quiet_since
                    if quiet_for >= effect.idle_timeout:
                        return Received(count, "idle", quiet_for)
                    return Received(count, "slice", quiet_for)
                except OSError:
                    return Received(count, "vanished")
                if received == 0:
                    return Received(count, "vanished")
                count += received
                if count >= SLICE_BYTES or self._quiet_since - started >= SLICE_SECONDS:
                    return Received(count, "draining" if draining else "slice")
        finally:
            self._connection.settimeout(timeout)
        return Received(count, "limit" if effect.limit is not None and count == effect.limit else "finished")

    def _note(self, received: int, way: Passage) -> None:
        """Tell gunicorn's reader what was taken from the socket."""
        if received:
            self._way = way
            self._reader.length -= received
            self._quiet_since = time.monotonic()

    def _take_ahead(self, limit: int) -> bytes:
        """Return what gunicorn holds of this body already, without touching the socket."""
        held = len(self._reader.unreader.buf.getvalue())
        if not held or not limit:
            return b""
        self._quiet_since = time.monotonic()
        data: bytes = self._reader.read(min(held, limit))
        return data

    def read(self, limit: int) -> bytes:
        """Serve ``ReadBody``."""
        data: bytes = self._reader.read(limit)
        return data


@cache
def _keep_freed_memory() -> None:
    """Let glibc keep the few large blocks that every portable read needs, instead of giving them back each time.

    It keeps up to twice as much as the largest block of the kernel's that was ever freed (mallopt(3), "dynamic mmap
    threshold"); the process's history would decide otherwise. This one is never touched, so it costs no memory.
    """
    bytes(_KEPT_BYTES // 2)


def _tells_of_framing(error: Exception) -> bool:
    """Say whether gunicorn refuses a body as malformed. A cut is ``NoMoreData`` there, everything else is framing."""
    return type(error).__module__ == "gunicorn.http.errors" and type(error).__name__ != "NoMoreData"


def _stop_reading(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RD)


# Any: a WSGI environment holds whatever its server puts in.
def open_body(environ: dict[str, Any], length: int | None, *, fast_path: bool = True) -> StreamBody | SocketBody:
    """Return the best way to read the body of a WSGI request.

    Args:
        environ: The request's environment.
        length: The body's length in bytes, ``None`` where ``wsgi.input`` ends with the body.
        fast_path: Whether the socket that the server lends may be read past ``wsgi.input``.
    """
    stream = environ["wsgi.input"]
    connection, reader = environ.get("gunicorn.socket"), getattr(stream, "reader", None)
    if not isinstance(connection, socket.socket):
        return StreamBody(stream, length)
    if fast_path and _lends(connection, reader, length):
        return SocketBody(connection, reader)
    return StreamBody(stream, length, connection)


def _lends(connection: socket.socket, reader: object, length: int | None) -> bool:
    """Say whether a reader is gunicorn's for a body of known length, over a plain socket, as we know it."""
    unreader = getattr(reader, "unreader", None)
    return (
        length is not None
        and not isinstance(connection, ssl.SSLSocket)
        and type(reader).__name__ == "LengthReader"
        and getattr(reader, "length", None) == length
        and getattr(unreader, "sock", None) is connection
        and hasattr(unreader, "buf")
    )
