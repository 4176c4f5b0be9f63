"""The load client: random bytes in memory, sent by ``sendfile`` over one connection, so that it costs little."""

from __future__ import annotations

import hashlib
import http.client
import os
import socket
import time
from dataclasses import dataclass

#: Seconds without progress after which a server counts as dead.
TIMEOUT = 120.0


class Payload:
    """Random bytes in a file that lives in memory only.

    Args:
        size: How many bytes.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.descriptor = os.memfd_create("payload")
        digest = hashlib.sha256()
        left = size
        while left:
            block = os.urandom(min(left, 1024 * 1024))
            digest.update(block)
            os.write(self.descriptor, block)
            left -= len(block)
        self.sha256 = digest.hexdigest()


@dataclass(frozen=True)
class Sent:
    """One finished upload: where the server put it, and the wall-clock seconds from the POST to the last answer."""

    location: str
    seconds: float


class UploadFailed(RuntimeError):
    """The server answered something else than tus says, or the connection broke."""


def upload(port: int, path: str, payload: Payload, chunk: int) -> Sent:
    """Create an upload and send it in PATCHes of ``chunk`` bytes over the same connection.

    Raises:
        UploadFailed: An answer was not the expected one.
    """
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # sendfile wants a blocking socket; the timeout stays with the kernel.
        connection.settimeout(None)
        started = time.perf_counter()
        _send_head(connection, "POST", port, path, {"Upload-Length": payload.size, "Content-Length": 0})
        created = _read_answer(connection, 201)
        location = created.headers["Location"]
        address = location.removeprefix(f"http://127.0.0.1:{port}")
        offset = 0
        while offset < payload.size:
            count = min(chunk, payload.size - offset)
            headers = {
                "Upload-Offset": offset,
                "Content-Type": "application/offset+octet-stream",
                "Content-Length": count,
            }
            _send_head(connection, "PATCH", port, address, headers)
            _send_file(connection, payload.descriptor, offset, count)
            offset += count
            answer = _read_answer(connection, 204)
            if answer.headers["Upload-Offset"] != str(offset):
                raise UploadFailed(f"Upload-Offset is {answer.headers['Upload-Offset']}, sent were {offset} bytes.")
        return Sent(location, time.perf_counter() - started)


def _send_head(connection: socket.socket, method: str, port: int, path: str, headers: dict[str, object]) -> None:
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Tus-Resumable: 1.0.0"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    connection.sendall("\r\n".join([*lines, "", ""]).encode())


def _send_file(connection: socket.socket, descriptor: int, offset: int, count: int) -> None:
    end = offset + count
    try:
        while offset < end:
            offset += os.sendfile(connection.fileno(), descriptor, offset, end - offset)
    except OSError as error:
        raise UploadFailed(f"The server hung up after {offset} bytes.") from error


def _read_answer(connection: socket.socket, expected: int) -> http.client.HTTPResponse:
    answer = http.client.HTTPResponse(connection)
    try:
        answer.begin()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise UploadFailed("The server gave no answer.") from error
    if answer.status != expected:
        raise UploadFailed(f"Expected {expected}, got {answer.status}: {body[:500]!r}")
    return answer
