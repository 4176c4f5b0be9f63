"""The load: bytes in memory, and the client in C that sends them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks.contestants import Endpoint
from benchmarks.processes import Server

MIB = 1024 * 1024
GIB = 1024 * MIB
#: Larger uploads repeat this many random bytes: a prime, so that no server's block size hides a misplaced block.
PERIOD = 67_108_859
TIMEOUT = 900.0


class LoadFailed(RuntimeError):
    """A server answered something else than tus says, or hung up."""


class Payload:
    """Random bytes in a file that lies in memory.

    Args:
        directory: Below it the file is made; ``/dev/shm`` where there is one.
        period: How many bytes.
    """

    def __init__(self, directory: Path, period: int = PERIOD) -> None:
        shared = Path("/dev/shm")
        base = shared if os.access(shared, os.W_OK) else directory
        self.path = base / f"benchmark-payload-{os.getpid()}"
        self._bytes = os.urandom(period)
        self.path.write_bytes(self._bytes)
        self.sha256 = lru_cache(maxsize=None)(self._sha256)

    def close(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)

    def read(self, size: int) -> bytes:
        """Return the first bytes of every upload."""
        return (self._bytes * (size // len(self._bytes) + 1))[:size]

    def _sha256(self, size: int) -> str:
        digest = hashlib.sha256()
        while size > 0:
            digest.update(memoryview(self._bytes)[: min(size, len(self._bytes))])
            size -= len(self._bytes)
        return digest.hexdigest()


@dataclass(frozen=True)
class Load:
    """What the load client shall do; see ``native/load.c``. ``None`` leaves an option out.

    Attributes:
        mode: ``upload``, ``create``, ``head`` or ``slow``; an upload to an endpoint that takes PUT becomes ``put``.
        size: Bytes of each upload.
        chunk: Bytes of each PATCH; the whole upload without it.
    """

    mode: str
    size: int = 0
    chunk: int | None = None
    connections: int = 1
    requests: int | None = None
    rate: int | None = None
    probe: str | None = None
    path: str | None = None


#: Uploads are named, as browsers do; the field is the measured site's.
METADATA = ",".join(
    f"{name} {base64.b64encode(value.encode()).decode()}"
    for name, value in {
        "field_id": "archive.Item.file",
        "filename": "measured.bin",
        "filetype": "application/octet-stream",
    }.items()
)


def send(program: Path, server: Server, endpoint: Endpoint, payload: Payload, load: Load) -> dict[str, Any]:
    """Run the load client against an endpoint and return what it measured.

    Raises:
        LoadFailed: Not every answer was as tus says.
    """
    mode = "put" if endpoint.method == "put" and load.mode == "upload" else load.mode
    command = [program, mode, "--port", server.port, "--path", load.path or endpoint.path, "--payload", payload.path]
    command += ["--size", load.size, "--connections", load.connections, "--metadata", METADATA]
    for name in ("chunk", "requests", "rate", "probe"):
        if (value := getattr(load, name)) is not None:
            command += [f"--{name}", value]
    if endpoint.has_login:
        cookie = f"Cookie: {(server.directory / 'cookie').read_text()}"
        command += ["--header", cookie, "--header", f"Origin: http://127.0.0.1:{server.port}"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=TIMEOUT)
    if done.returncode not in (0, 1):
        raise LoadFailed(f"The load client failed: {done.stderr[-500:]}")
    measured: dict[str, Any] = json.loads(done.stdout)
    if measured["failures"]:
        raise LoadFailed(f"{measured['failures']} failed; the first: {measured['failure'][:600]}")
    return measured
