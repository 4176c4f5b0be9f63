"""A sink for tests of bodies: it keeps what it is given."""

from __future__ import annotations

from tus_server.stores.base import Sink


class Collected(Sink):
    """Keeps the bytes of a body."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: memoryview) -> None:
        self.data += data

    def settle(self) -> int:
        return len(self.data)
