"""Bytes from a socket into a sink: inside the kernel where that is possible, else through one buffer per thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from tus_server import splicing
from tus_server.stores.base import Sink

#: How bytes left a socket: moved by the kernel, or read.
Passage: TypeAlias = Literal["splice", "socket"]

_BUFFER_BYTES: Final = 1024 * 1024

_buffers = threading.local()


class Mover:
    """Moves the bytes of one body."""

    def __init__(self) -> None:
        self._may_splice = True

    def move(self, connection: socket.socket, sink: Sink, wanted: int, note: Callable[[int, Passage], object]) -> int:
        """Wait for bytes as long as the socket's timeout says, give them to the sink and return how many; 0 at the end.

        Args:
            note: Told how many bytes have left the socket, and how, before the sink can refuse them.

        Raises:
            OSError: The socket's; the sink's errors are others.
        """
        if self._may_splice and splicing.is_possible(sink):
            spliced = splicing.fill(connection, wanted)
            if spliced is not None:
                note(spliced, "splice")
                self._may_splice = not spliced or splicing.pour(sink, spliced)
                return spliced
            self._may_splice = False
        buffer = _buffer()
        received = connection.recv_into(buffer, min(len(buffer), wanted))
        note(received, "socket")
        if received:
            sink.write(buffer[:received])
        return received


def _buffer() -> memoryview:
    buffer: memoryview | None = getattr(_buffers, "view", None)
    if buffer is None:
        buffer = _buffers.view = memoryview(bytearray(_BUFFER_BYTES))
    return buffer
