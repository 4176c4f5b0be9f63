"""A cable between a client and a server that can be cut or held after a number of body bytes.

A foreign client can't be told to break its own connection; the cable does it. It is a TCP proxy that carries one
request per connection (it adds ``Connection: close``) and counts the bytes of the body, framing included.

    with Cable(server.address) as cable:
        cable.cut_after(1_000_000)            # the next body; with FIN, or how="rst"
        client.upload(cable.url + "/files/")
"""

from __future__ import annotations

import contextlib
import fcntl
import select
import socket
import struct
import sys
import termios
import threading
import time
from dataclasses import dataclass
from typing import Literal

End = Literal["fin", "rst", "hold"]

_SLICE = 256 * 1024
_HEAD_LIMIT = 256 * 1024
#: Seconds between looks at an order to cut everything.
_POLL = 0.05


@dataclass
class _Plan:
    """What shall happen to the next body of at least ``after`` bytes."""

    after: int
    how: End


class Cable:
    """A proxy to ``target``; ``url`` is where clients go. Bodies pass unharmed unless a cut was ordered."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._plan: _Plan | None = None
        self._lock = threading.Lock()
        self._stops: set[threading.Event] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._closed = False
        #: Set when an ordered cut or hold has happened.
        self.happened = threading.Event()
        #: How many connections the cable has carried.
        self.connections = 0
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def __enter__(self) -> Cable:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Scheme, host and port of this end, without a slash at the end."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut_after(self, count: int, how: End = "fin") -> None:
        """Cut the next request body after ``count`` bytes: orderly, by reset, or only hold it from then on."""
        self.happened.clear()
        with self._lock:
            self._plan = _Plan(count, how)

    def cut_all(self) -> None:
        """Reset every connection that is open now, on both sides."""
        with self._lock:
            for stop in self._stops:
                stop.set()

    def close(self) -> None:
        """Cut everything and stop listening."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut_all()
        self._accepting.join(60)
        for thread in self._threads:
            thread.join(60)

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._carry, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _carry(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target, timeout=60)
        except OSError:
            _reset(client)
            return
        stop = threading.Event()
        with self._lock:
            self._stops.add(stop)
        try:
            with contextlib.suppress(OSError):
                self._relay(client, server, stop)
        finally:
            with self._lock:
                self._stops.discard(stop)
            if stop.is_set():
                _reset(client)
                _reset(server)
            client.close()
            server.close()

    def _relay(self, client: socket.socket, server: socket.socket, stop: threading.Event) -> None:
        head = b""
        while b"\r\n\r\n" not in head and len(head) < _HEAD_LIMIT:
            data = client.recv(65536)
            if not data:
                return
            head += data
        head, _, body = head.partition(b"\r\n\r\n")
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
        server.sendall(b"\r\n".join([*lines, b"Connection: close", b"", b""]))
        has_body = any(
            line.lower().startswith((b"content-length:", b"transfer-encoding:"))
            and line.partition(b":")[2].strip() != b"0"
            for line in lines[1:]
        )
        passed = 0
        while True:
            with self._lock:
                plan = self._plan if has_body else None
            if plan is not None and passed + len(body) >= plan.after:
                with self._lock:
                    self._plan = None
                server.sendall(body[: plan.after - passed])
                self._end(client, server, plan.how, stop)
                return
            if body:
                server.sendall(body)
                passed += len(body)
                body = b""
            readable, _, _ = select.select([client, server], [], [], _POLL)
            if stop.is_set():
                return
            if server in readable:
                data = server.recv(_SLICE)
                if not data:
                    return
                client.sendall(data)
            if client in readable:
                body = client.recv(_SLICE)
                if not body:
                    return

    def _end(self, client: socket.socket, server: socket.socket, how: End, stop: threading.Event) -> None:
        if how == "hold":
            self.happened.set()
            # Nothing passes any more; ends when the server goes or everything is cut.
            while not stop.is_set() and not select.select([server], [], [], _POLL)[0]:
                pass
            return
        if how == "fin":
            server.shutdown(socket.SHUT_WR)
            server.close()
        else:
            # A reset throws away what this end has not delivered yet; all that was ordered shall arrive first.
            while _undelivered(server) and not stop.is_set():
                time.sleep(0.001)
            _reset(server)
        self.happened.set()
        _reset(client)


def _undelivered(one: socket.socket) -> int:
    """Return how many bytes the kernel still has to send, or to see acknowledged."""
    answer = fcntl.ioctl(one, termios.TIOCOUTQ, b"\0" * 4)
    return int.from_bytes(answer, sys.byteorder)


def _reset(one: socket.socket) -> None:
    """Close with RST instead of FIN: linger on, for zero seconds."""
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()
