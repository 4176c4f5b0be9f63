"""Waiting for a socket under gunicorn's own readers, with a look around every second.

A read that was given up cannot be repeated there: gunicorn's reader of chunks does not survive it. So the look around
happens below the reader.
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


class WatchedSocket:
    """What gunicorn's ``SocketUnreader`` reads from: a socket, until the process is to end.

    Args:
        connection: The socket; its timeout is changed.
        idle_timeout: Seconds after which a read is given up.
    """

    def __init__(self, connection: socket.socket, idle_timeout: float) -> None:
        self._connection = connection
        self._idle_timeout = idle_timeout

    def recv(self, size: int) -> bytes:
        """Return up to ``size`` bytes, none at the end.

        Raises:
            TimeoutError: Nothing came for the idle timeout, or nothing is there and the process is to end.
        """
        until = time.monotonic() + self._idle_timeout
        while True:
            draining = is_draining()
            left = until - time.monotonic()
            self._connection.settimeout(_NO_TIME if draining else max(min(SLICE_SECONDS, left), _NO_TIME))
            try:
                return self._connection.recv(size)
            except TimeoutError:
                if draining or left <= SLICE_SECONDS:
                    raise


@contextmanager
def watched(stream: object, connection: socket.socket, idle_timeout: float) -> Iterator[bool]:
    """Put a ``WatchedSocket`` under the reader of a WSGI input, where that is gunicorn's as we know it.

    Yields:
        Whether it is.
    """
    # Any: gunicorn's classes are not imported, so that it need not be installed.
    reader: Any = getattr(stream, "reader", None)
    unreader: Any = getattr(getattr(reader, "req", reader), "unreader", None)
    if getattr(unreader, "sock", None) is not connection:
        yield False
        return
    unreader.sock = WatchedSocket(connection, idle_timeout)
    try:
        yield True
    finally:
        unreader.sock = connection
