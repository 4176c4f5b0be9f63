"""Files in the cloud that are read piece by piece: looking at the head of 5 GB does not fetch 5 GB."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

#: How many bytes are asked for at once: first enough for a picture's header, then twice as many as before while they
#: are read in a row, so that a large file takes few requests.
BLOCK = 256 * 1024
LARGEST_BLOCK = 8 * 1024 * 1024


class RangedFile(io.RawIOBase):
    """A remote object as a seekable file.

    Args:
        size: Of the object, in bytes.
        fetch: Returns ``count`` bytes from ``start``, both inside of the object. May raise ``FileNotFoundError``.
        head: Its first bytes, if they came along already.
    """

    def __init__(self, size: int, fetch: Callable[[int, int], bytes], head: bytes = b"") -> None:
        self.size = size
        self._fetch = fetch
        self._start = 0
        self._data = head
        self._position = 0
        self._block = BLOCK

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    # Any: what may be filled is typed differently by each version of the type stubs.
    def readinto(self, buffer: Any) -> int:
        """See ``io.RawIOBase``; fills the buffer unless the object ends, so that ``read`` is never short."""
        wanted = max(0, min(len(buffer), self.size - self._position))
        filled = 0
        while filled < wanted:
            piece = self._take(wanted - filled)
            buffer[filled : filled + len(piece)] = piece
            filled += len(piece)
        return filled

    def _take(self, wanted: int) -> bytes:
        """Return between 1 and ``wanted`` bytes and go on behind them."""
        offset = self._position - self._start
        if not 0 <= offset < len(self._data):
            is_next = offset == len(self._data)
            self._block = min(2 * self._block, LARGEST_BLOCK) if is_next else BLOCK
            count = min(max(wanted, self._block), self.size - self._position)
            self._start, self._data, offset = self._position, self._fetch(self._position, count), 0
        piece = self._data[offset : offset + wanted]
        if not piece:
            raise OSError(f"The object ends at {self._position} bytes instead of {self.size}")
        self._position += len(piece)
        return piece

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """See ``io.IOBase``."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def tell(self) -> int:
        """See ``io.IOBase``."""
        return self._position
