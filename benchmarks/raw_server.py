"""Two servers that know just enough HTTP for the load client: how fast a body can get in at all.

``discard`` receives into one reused buffer and forgets: if it is not far ahead of everything else, the load client is
the bottleneck. ``write`` also writes the buffer into the file: the ceiling for a server in Python that stores.

    python raw_server.py discard|write PORT DIRECTORY
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

BUFFER_BYTES = 1024 * 1024


def serve(connection: socket.socket, directory: Path | None) -> None:
    """Serve the requests of one connection: every POST makes a new upload, every PATCH appends to it."""
    buffer = memoryview(bytearray(BUFFER_BYTES))
    reader = connection.makefile("rb", buffering=0)
    file, offset, number = -1, 0, 0
    while request_line := _read_line(reader):
        headers = {}
        while line := _read_line(reader):
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if request_line.startswith("POST"):
            number, offset = number + 1, 0
            name = f"{connection.getpeername()[1]}-{number}"
            if directory is not None:
                file = os.open(directory / name, os.O_CREAT | os.O_WRONLY, 0o600)
            connection.sendall(f"HTTP/1.1 201 Created\r\nLocation: /{name}\r\nContent-Length: 0\r\n\r\n".encode())
            continue
        left = int(headers.get("content-length", "0"))
        while left:
            count = connection.recv_into(buffer, min(left, BUFFER_BYTES))
            if not count:
                return
            if directory is not None:
                os.pwrite(file, buffer[:count], offset)
            offset += count
            left -= count
        answer = f"HTTP/1.1 204 No Content\r\nUpload-Offset: {offset}\r\nTus-Resumable: 1.0.0\r\n\r\n"
        connection.sendall(answer.encode())


def _read_line(reader: socket.SocketIO) -> str:
    """Read one line byte by byte, so that nothing of the body is taken."""
    line = bytearray()
    while (byte := reader.read(1)) and byte != b"\n":
        line += byte
    return line.decode().rstrip("\r")


def main() -> None:
    kind, port, directory = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    directory.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", port)) as listener:
        while True:
            # One connection at a time, in this thread: the CPU time of a thread that has ended cannot be asked for.
            connection, _ = listener.accept()
            with connection:
                serve(connection, directory if kind == "write" else None)


if __name__ == "__main__":
    main()
