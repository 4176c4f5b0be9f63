"""The stand-in for object storage, as the suite sees it: what it received, and how slow it is to be."""

from __future__ import annotations

import http.client
import json
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any


class Sink:
    """See ``native/sink.c``.

    Args:
        port: Where it listens.
        program: The sink itself, which also computes sums.
        payload: The file of the payload's bytes.
    """

    def __init__(self, port: int, program: Path, payload: Path) -> None:
        self._port = port
        self._program = program
        self._payload = payload
        self.sum = lru_cache(maxsize=None)(self._sum)

    def state(self) -> dict[str, Any]:
        """Return its requests by operation and its objects, since the last reset."""
        state: dict[str, Any] = json.loads(self._ask("GET", "/_state"))
        return state

    def reset(self) -> None:
        """Forget every object, upload and count."""
        self._ask("POST", "/_reset")

    def set_latency(self, milliseconds: int) -> None:
        """Let every answer wait so long from now on."""
        self._ask("POST", f"/_latency/{milliseconds}")

    def verify(self, size: int, count: int) -> str | None:
        """Say what is wrong with the objects of a size, of which so many must be there; then forget everything."""
        sums = [each["sum"] for each in self.state()["objects"] if each["size"] == size]
        self.reset()
        if sums == [self.sum(size)] * count:
            return None
        return f"{len(sums)} objects of {size} bytes, sent were {count} like each other"

    def _ask(self, method: str, path: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request(method, path)
            return connection.getresponse().read()
        finally:
            connection.close()

    def _sum(self, size: int) -> int:
        """The CRC-32C of an upload of so many bytes."""
        command = [str(self._program), "sum", str(self._payload), str(size)]
        return int(subprocess.run(command, capture_output=True, check=True).stdout)
