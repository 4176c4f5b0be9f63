"""Bytes that came and were not taken yet, in order, without joining what is large."""

from __future__ import annotations

from collections import deque

#: Messages below this are copied together, so that a dripping client costs neither objects nor writes.
_SMALL_BYTES = 16 * 1024


class Gathered:
    """A queue of bytes.

    Attributes:
        size: How many there are.
    """

    def __init__(self) -> None:
        self._pieces: deque[bytes | bytearray | memoryview] = deque()
        self.size = 0

    def put(self, data: bytes | bytearray) -> None:
        """Add bytes at the end."""
        self.size += len(data)
        last = self._pieces[-1] if self._pieces else None
        if len(data) >= _SMALL_BYTES:
            self._pieces.append(data)
        elif isinstance(last, bytearray) and len(last) < _SMALL_BYTES:
            last += data
        elif data:
            self._pieces.append(bytearray(data))

    def take(self, count: int) -> list[memoryview]:
        """Remove and return up to ``count`` bytes from the front; nobody changes them any more."""
        taken = []
        while count > 0 and self._pieces:
            piece = memoryview(self._pieces.popleft())
            if len(piece) > count:
                self._pieces.appendleft(piece[count:])
                piece = piece[:count]
            taken.append(piece)
            count -= len(piece)
            self.size -= len(piece)
        return taken
