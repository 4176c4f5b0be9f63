"""The stand-ins for object storage, as the suite sees them: what they received, and how slow they are to be."""

from __future__ import annotations

import hashlib
import http.client
import json
import subprocess
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

#: Where the relays to Azure store.
AZURE_CONTAINER = "measured"


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


class Azurite:
    """Microsoft's stand-in for Azure Blob Storage, by its SDK.

    Args:
        connection: Its connection string.
        sha256: Returns what an upload of so many bytes must hash to.
    """

    def __init__(self, connection: str, sha256: Callable[[int], str]) -> None:
        self._connection = connection
        self._sha256 = sha256

    def verify(self, size: int, count: int) -> str | None:
        """See ``Sink.verify``."""
        from azure.storage.blob import ContainerClient

        found, wrong = 0, 0
        with ContainerClient.from_connection_string(self._connection, AZURE_CONTAINER) as container:
            for blob in list(container.list_blobs()):
                if blob.size == size:
                    digest = hashlib.sha256()
                    for piece in container.download_blob(blob.name).chunks():
                        digest.update(piece)
                    found += 1
                    wrong += digest.hexdigest() != self._sha256(size)
                container.delete_blob(blob.name)
        if (found, wrong) == (count, 0):
            return None
        return f"{found} blobs of {size} bytes, {wrong} of them wrong, sent were {count}"
