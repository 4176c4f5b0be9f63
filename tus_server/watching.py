"""Waiting for a socket under gunicorn's own readers, with a look around every second.

A read that was given up cannot be repeated there: gunicorn's reader of chunks does not survive it. So the look around
happens below the reader. So does the choice of how much is received: gunicorn asks for up to 1 MiB whatever is left of
a read, and copies what came too much again with each read that follows.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tus_server.draining import is_draining

#: After how many seconds a slice of a body is over; nobody waits for longer without a look around.
SLICE_SECONDS = 1.0
#: How long one waits, in seconds, who only wants what is there.
_NO_TIME = 0.001
#: What is received for a reader that has as many bytes as were expected and wants more (framing), as gunicorn does.
_LITTLE = 8192


class WatchedSocket:
    """What gunicorn's ``SocketUnreader`` reads from: a socket, until the process is to end.

    Args:
        connection: The socket; its timeout is changed.
        idle_timeout: Seconds after which a read is given up.
        unreader: gunicorn's, whose buffer holds what was received and not yet read.
    """

    # Any: gunicorn's classes are not imported, so that it need not be installed.
    def __init__(self, connection: socket.socket, idle_timeout: float, unreader: Any) -> None:
        self._connection = connection
        self._idle_timeout = idle_timeout
        self._unreader = unreader
        self._expected = self._received = 0

    def expect(self, size: int) -> None:
        """Say how many bytes the next read of the body asks for, so that no more are received for it."""
        self._expected, self._received = size, 0

    def recv(self, size: int) -> bytes:
        """Return up to ``size`` bytes, none at the end.

        Raises:
            TimeoutError: Nothing came for the idle timeout, or nothing is there and the process is to end.
        """
        # Bodies of known length are gathered in the buffer; chunks pass it by.
        missing = self._expected - max(self._received, self._unreader.buf.tell())
        size = min(size, missing if missing > 0 else _LITTLE)
        until = time.monotonic() + self._idle_timeout
        while True:
            draining = is_draining()
            left = until - time.monotonic()
            self._connection.settimeout(_NO_TIME if draining else max(min(SLICE_SECONDS, left), _NO_TIME))
            try:
                data = self._connection.recv(size)
                self._received += len(data)
                return data
            except TimeoutError:
                if draining or left <= SLICE_SECONDS:
                    raise


@contextmanager
def watched(stream: object, connection: socket.socket, idle_timeout: float) -> Iterator[WatchedSocket | None]:
    """Put a ``WatchedSocket`` under the reader of a WSGI input, where that is gunicorn's as we know it.

    Yields:
        It, or ``None`` where the reader is another.
    """
    # Any: gunicorn's classes are not imported, so that it need not be installed.
    reader: Any = getattr(stream, "reader", None)
    unreader: Any = getattr(getattr(reader, "req", reader), "unreader", None)
    if getattr(unreader, "sock", None) is not connection or not hasattr(unreader, "buf"):
        yield None
        return
    unreader.sock = WatchedSocket(connection, idle_timeout, unreader)
    try:
        yield unreader.sock
    finally:
        unreader.sock = connection
