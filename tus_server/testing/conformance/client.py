"""A tus client that can be as rude as it likes: it writes its own HTTP/1.1, so nothing is corrected on the way.

``TusClient.request`` sends a whole request and checks what every answer must hold; ``TusClient.open`` sends a head
and hands out the ``Wire``, to send chunks, extensions, trailers or half of the body and then to cut it.
``TusClient.stored_bytes`` is the oracle: it reads the server's directory, not the server. ``ForeignClient`` has none,
and believes what it cannot see.
"""

from __future__ import annotations

import contextlib
import random
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

#: ``None`` as a value removes a header that would be sent by default; a list sends the header several times.
HeaderValue = str | bytes | int | None | list[str]
HeaderMap = Mapping[str, HeaderValue]

OFFSET_STREAM = "application/offset+octet-stream"
#: Seconds to wait for what a right server does at once, however busy the machine: far above what it takes, and below
#: the minute for which a request may be held up by a silent one.
TIMEOUT = 30.0


class NoAnswer(Exception):
    """The server closed the connection without a (whole) answer."""


@dataclass(frozen=True)
class Answer:
    """Status, headers as they came, body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    #: The interim answers (100) before this one.
    interim: tuple[int, ...] = field(default=(), compare=False)

    def header(self, name: str) -> str | None:
        """Return the one value of a header, ``None`` when it is absent; twice is an error."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) < 2, f"{name} came {len(values)} times"
        return values[0] if values else None

    @property
    def offset(self) -> int | None:
        """``Upload-Offset``, which must be canonical."""
        value = self.header("Upload-Offset")
        if value is None:
            return None
        assert re.fullmatch(r"0|[1-9][0-9]*", value), value
        return int(value)

    @property
    def location(self) -> str:
        """``Location``, which must be there."""
        value = self.header("Location")
        assert value, self
        return value


class Wire:
    """One connection, on which the caller decides about every byte."""

    #: Nothing but interim answers, or the beginning of one: no reason to stop sending.
    _INTERIM = re.compile(rb"(HTTP/1\.1 100[^\n]*\r\n\r\n)*", re.DOTALL)

    def __init__(self, address: tuple[str, int], timeout: float = TIMEOUT) -> None:
        self.socket = socket.create_connection(address, timeout)
        # A small body after the head must not wait for the head's acknowledgement.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_head(self, method: str, target: str, headers: Iterable[tuple[str, str | bytes]]) -> None:
        """Send request line and headers as they are given; text as UTF-8."""
        lines = [f"{method} {target} HTTP/1.1".encode()]
        for name, value in headers:
            lines.append(name.encode() + b": " + (value if isinstance(value, bytes) else value.encode()))
        self.send(b"\r\n".join([*lines, b"", b""]))

    def send_chunk(self, data: bytes, extension: str = "") -> None:
        """Send one chunk of a chunked body; an empty one would end it."""
        if data:
            self.send(f"{len(data):x}{extension}\r\n".encode() + data + b"\r\n")

    def end_chunks(self, trailers: Iterable[tuple[str, str]] = ()) -> None:
        self.send(b"0\r\n" + b"".join(f"{name}: {value}\r\n".encode() for name, value in trailers) + b"\r\n")

    def send_until_answered(self, data: bytes) -> bool:
        """Send a body but stop once the server answers or goes away; says whether everything was sent."""
        view = memoryview(data)
        self.socket.setblocking(False)
        try:
            while view:
                readable, writable, _ = select.select([self.socket], [self.socket], [], TIMEOUT)
                if readable and (not self._fill() or not self._INTERIM.fullmatch(self._received)):
                    return False
                assert readable or writable, "the server takes no more of the body and does not answer"
                if writable:
                    view = view[self.socket.send(view[:262144]) :]
        except (BrokenPipeError, ConnectionResetError):
            return False
        finally:
            self.socket.settimeout(TIMEOUT)
        return True

    def half_close(self) -> None:
        """Say that nothing more will be sent, but stay to listen."""
        self.socket.shutdown(socket.SHUT_WR)

    def fin(self) -> None:
        """Close orderly: everything sent before arrives."""
        self.socket.close()

    def rst(self) -> None:
        """Close by reset: linger on, for zero seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def cut(self, how: Literal["fin", "rst"]) -> None:
        self.fin() if how == "fin" else self.rst()

    def is_answered(self, within: float = TIMEOUT) -> bool:
        """Say whether the server sends or closes within so many seconds."""
        return bool(self._received) or bool(select.select([self.socket], [], [], within)[0])

    def is_closed(self, within: float = TIMEOUT) -> bool:
        """Say whether the server closes the connection within so many seconds, whatever it sends before."""
        deadline = time.monotonic() + within
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self.socket], [], [], left)[0]:
                return False
            try:
                if not self.socket.recv(65536):
                    return True
            except ConnectionResetError:
                return True
        return False

    def answer(self, method: str = "") -> Answer:
        """Read one answer; exactly what it says belongs to it, the rest is the next one's.

        Raises:
            NoAnswer: The connection ended before.
        """
        interim: list[int] = []
        while True:
            head = self._read_until(b"\r\n\r\n").decode("latin-1")
            first, *lines = head.split("\r\n")
            matched = re.fullmatch(r"HTTP/1\.[01] ([0-9]{3})(?: .*)?", first)
            assert matched, f"not a status line: {first!r}"
            status = int(matched[1])
            if status >= 200:
                break
            interim.append(status)
        pairs = [line.partition(":") for line in lines if line]
        assert all(colon and re.fullmatch(r"[!-9;-~]+", name) for name, colon, _ in pairs), lines
        headers = tuple((name, value.strip()) for name, _, value in pairs)
        values = {name.lower(): value for name, value in headers}
        if method == "HEAD" or status in (204, 304):
            body = b""
        elif values.get("transfer-encoding") == "chunked":
            body = self._read_chunks()
        elif "content-length" in values:
            body = self._read(int(values["content-length"]))
        else:
            body = self._read_all()
        return Answer(status, headers, body, tuple(interim))

    def _fill(self) -> bool:
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            data = b""
        self._received += data
        return bool(data)

    def _read_until(self, end: bytes) -> bytes:
        while end not in self._received:
            if not self._fill():
                raise NoAnswer(self._received[:200])
        head, _, self._received = self._received.partition(end)
        return head

    def _read(self, count: int) -> bytes:
        while len(self._received) < count:
            if not self._fill():
                raise NoAnswer(self._received[:200])
        body, self._received = self._received[:count], self._received[count:]
        return body

    def _read_all(self) -> bytes:
        while self._fill():
            pass
        body, self._received = self._received, b""
        return body

    def _read_chunks(self) -> bytes:
        body = b""
        while size := int(self._read_until(b"\r\n").partition(b";")[0], 16):
            body += self._read(size)
            self._read(2)
        self._read_until(b"\r\n")
        return body


@dataclass
class TusClient:
    """A client of one endpoint of one server.

    Attributes:
        address: Host and port.
        directory: Where the server keeps its files, for the oracle.
        endpoint: The name of the endpoint; its path is ``/<name>/``.
        is_ours: Whether to check what we promise beyond the specification on every answer.
    """

    address: tuple[str, int]
    directory: Path
    endpoint: str = "files"
    is_ours: bool = True
    #: Whether the oracle sees the server's files.
    is_blind: ClassVar[bool] = False

    @property
    def path(self) -> str:
        """The path of the creation endpoint."""
        return f"/{self.endpoint}/" if self.is_ours else f"/{self.endpoint}"

    def at(self, endpoint: str) -> TusClient:
        """Return a client of another endpoint of the same server."""
        return TusClient(self.address, self.directory, endpoint, self.is_ours)

    # --- requests ----------------------------------------------------------------------------------------

    def head_of(self, headers: HeaderMap | None = None) -> list[tuple[str, str | bytes]]:
        """Return the default headers with those of a test: replaced, added, removed (``None``) or repeated (list)."""
        values: dict[str, tuple[str, HeaderValue]] = {
            "host": ("Host", f"{self.address[0]}:{self.address[1]}"),
            "tus-resumable": ("Tus-Resumable", "1.0.0"),
        }
        for name, value in (headers or {}).items():
            values[name.lower()] = (name, value)
        pairs: list[tuple[str, str | bytes]] = []
        for name, value in values.values():
            if isinstance(value, list):
                pairs.extend((name, one) for one in value)
            elif value is not None:
                pairs.append((name, str(value) if isinstance(value, int) else value))
        return pairs

    def connect(self, timeout: float = TIMEOUT) -> Wire:
        return Wire(self.address, timeout)

    def open(self, method: str, path: str, headers: HeaderMap | None = None) -> Wire:
        """Send the head of a request and return the wire, on which the body may follow."""
        wire = self.connect()
        wire.send_head(method, path, self.head_of(headers))
        return wire

    def request(
        self,
        method: str,
        path: str,
        headers: HeaderMap | None = None,
        body: bytes | Iterator[bytes] | None = None,
        *,
        wire: Wire | None = None,
        is_checked: bool = True,
    ) -> Answer:
        """Send a whole request and return the answer.

        Bytes are sent with Content-Length, an iterator chunked. ``wire`` keeps a connection over several requests.
        Unless ``is_checked`` is off, the answer must hold what every answer must: see ``check``.
        """
        own = None if wire is not None else self.connect()
        used = wire or own
        assert used is not None
        given = {name.lower() for name in headers or {}}
        pairs = self.head_of(headers)
        if isinstance(body, bytes) and "content-length" not in given:
            pairs.append(("Content-Length", str(len(body))))
        elif body is None and method in ("POST", "PATCH", "PUT") and "content-length" not in given:
            pairs.append(("Content-Length", "0"))
        elif body is not None and not isinstance(body, bytes):
            pairs.append(("Transfer-Encoding", "chunked"))
        try:
            used.send_head(method, path, pairs)
            if isinstance(body, bytes):
                used.send_until_answered(body)
            elif body is not None:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    for data in body:
                        used.send_chunk(data)
                    used.end_chunks()
            answer = used.answer(method)
        finally:
            if own is not None:
                own.fin()
        if is_checked:
            self.check(method, answer)
        return answer

    def check(self, method: str, answer: Answer) -> None:
        """Check what holds for every answer: no 5xx but a deliberate one, ``Tus-Resumable`` (CORE-06)."""
        assert answer.status < 500 or answer.status in (501, 503), answer
        if self.is_ours and method != "OPTIONS":
            assert answer.header("Tus-Resumable") == "1.0.0", answer
        if answer.status == 204:
            assert answer.body == b""

    # --- the everyday requests ----------------------------------------------------------------------------

    def post(
        self, length: int | None = None, headers: HeaderMap | None = None, body: bytes | Iterator[bytes] | None = None
    ) -> Answer:
        """POST to the endpoint; a length sets ``Upload-Length``."""
        own: dict[str, HeaderValue] = {} if length is None else {"Upload-Length": length}
        return self.request("POST", self.path, {**own, **(headers or {})}, body)

    def create(self, length: int | None, headers: HeaderMap | None = None) -> str:
        """Create an upload and return its path; without a length it is deferred."""
        own: dict[str, HeaderValue] = {"Upload-Defer-Length": 1} if length is None else {}
        answer = self.post(length, {**own, **(headers or {})})
        assert answer.status == 201, answer
        return self.path_of(answer.location)

    def path_of(self, location: str) -> str:
        """Return the path of an absolute or relative Location."""
        if location.startswith("http"):
            return "/" + location.split("/", 3)[3]
        return location if location.startswith("/") else f"{self.path.rstrip('/')}/{location}"

    def head(self, url: str, headers: HeaderMap | None = None) -> Answer:
        return self.request("HEAD", url, headers)

    def offset(self, url: str) -> int:
        """Return the offset that HEAD gives, which must be there."""
        answer = self.head(url)
        assert answer.status in (200, 204), answer
        assert answer.offset is not None, answer
        return answer.offset

    def patch_headers(self, offset: int | str, headers: HeaderMap | None = None) -> dict[str, HeaderValue]:
        return {"Content-Type": OFFSET_STREAM, "Upload-Offset": str(offset), **(headers or {})}

    def patch(
        self,
        url: str,
        offset: int | str,
        body: bytes | Iterator[bytes] | None,
        headers: HeaderMap | None = None,
        *,
        wire: Wire | None = None,
    ) -> Answer:
        return self.request("PATCH", url, self.patch_headers(offset, headers), body, wire=wire)

    def delete(self, url: str, headers: HeaderMap | None = None) -> Answer:
        return self.request("DELETE", url, headers)

    def open_patch(self, url: str, offset: int, length: int | None, headers: HeaderMap | None = None) -> Wire:
        """Send the head of a PATCH, with Content-Length or (``None``) chunked."""
        framing: dict[str, HeaderValue] = (
            {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": length}
        )
        return self.open("PATCH", url, self.patch_headers(offset, {**framing, **(headers or {})}))

    def upload(self, content: bytes, headers: HeaderMap | None = None) -> str:
        """Create and send in one PATCH; returns the path of the finished upload."""
        url = self.create(len(content), headers)
        answer = self.patch(url, 0, content)
        assert (answer.status, answer.offset) == (204, len(content)), answer
        return url

    def resume(self, url: str, content: bytes, within: float = TIMEOUT) -> None:
        """Ask for the offset and send the rest, as often as a patient client would; then compare the bytes."""
        deadline = time.monotonic() + within
        while True:
            answer = self.head(url)
            if answer.offset is not None:
                answer = self.patch(url, answer.offset, content[answer.offset :])
            if answer.status == 204:
                break
            assert answer.status in (409, 423, 503), answer
            assert time.monotonic() < deadline, f"still {answer} after {within} s"
            time.sleep(0.1)
        assert answer.offset == len(content), answer
        assert self.offset(url) == len(content)
        assert self.stored_bytes(url) == content

    def wait_for_offset(self, url: str, wanted: Callable[[int], bool] | int, within: float = TIMEOUT) -> int:
        """Ask until the offset is as wanted; the last answer is returned even when it never was."""
        deadline = time.monotonic() + within
        while True:
            offset = self.offset(url)
            if (wanted(offset) if callable(wanted) else offset == wanted) or time.monotonic() > deadline:
                return offset
            time.sleep(0.02)

    # --- the oracle ---------------------------------------------------------------------------------------

    def id_of(self, url: str) -> str:
        return url.rstrip("/").rpartition("/")[2]

    def stored_files(self, url: str) -> list[Path]:
        """Return everything on disk that carries the upload's id."""
        return sorted((self.directory / "files" / self.endpoint).rglob(f"*{self.id_of(url)}*"))

    def stored_bytes(self, url: str) -> bytes | None:
        """Return the upload's bytes on disk, ``None`` when there is no such file."""
        data = [
            path
            for path in self.stored_files(url)
            if path.is_file() and not path.name.endswith((".json", ".info", ".lock"))
        ]
        assert len(data) < 2, data
        return data[0].read_bytes() if data else None

    def finishes(self, url: str) -> int:
        """Return how often the finish hook ran for an upload."""
        log = self.directory / "finished.log"
        return log.read_text().split().count(self.id_of(url)) if log.exists() else 0

    def count_uploads(self) -> int:
        """Return how many files the endpoint's directory holds, whatever they are."""
        directory = self.directory / "files" / self.endpoint
        return sum(1 for path in directory.rglob("*") if path.is_file()) if directory.exists() else 0

    def travel(self, seconds: float) -> None:
        """Set the clock of the endpoint ``clocked`` so many seconds ahead."""
        (self.directory / "clock").write_text(str(seconds))

    def assert_unchanged(self, url: str, offset: int, length: int | None, content: bytes) -> None:
        """Check that an upload stands as it stood: offset, length and bytes."""
        answer = self.head(url)
        assert (answer.status, answer.offset) == (200, offset), answer
        assert answer.header("Upload-Length") == (None if length is None else str(length)), answer
        assert self.stored_bytes(url) == content


class _Unseen:
    """Equal to whatever it is compared with."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]  # it equals everything, so it has no hash

    def __repr__(self) -> str:
        return "<unseen>"


class ForeignClient(TusClient):
    """A client of any server, known by the URL of its creation endpoint; what lies in its store nobody sees.

    Args:
        url: ``http://host:port/path``.
        directory: An empty one.

    Raises:
        ValueError: The URL is no such one.
    """

    is_blind = True

    def __init__(self, url: str, directory: Path) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{url!r} is not http://host[:port]/path")
        super().__init__((parts.hostname, parts.port or 80), directory, is_ours=False)
        self._path = parts.path or "/"

    @property
    def path(self) -> str:
        return self._path

    def extensions(self) -> frozenset[str]:
        """Return the extensions that the server announces."""
        answer = self.request("OPTIONS", self.path, {"Tus-Resumable": None})
        return frozenset(name.strip() for name in (answer.header("Tus-Extension") or "").split(",") if name.strip())

    def is_there(self, within: float = 0.0) -> bool:
        """Say whether the server takes a connection, now or within so many seconds, in which it may be restarted."""
        deadline = time.monotonic() + within
        while True:
            try:
                with self.connect():
                    return True
            except OSError:
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.05)

    # Any: what is not seen stands for any value.
    def stored_files(self, url: str) -> Any:
        return _Unseen()

    def stored_bytes(self, url: str) -> Any:
        return _Unseen()

    def finishes(self, url: str) -> Any:
        return _Unseen()

    def count_uploads(self) -> Any:
        return _Unseen()


def at_once(*calls: Callable[[], Answer]) -> list[Answer]:
    """Run requests in threads that start together, and return their answers in order."""
    barrier = threading.Barrier(len(calls))
    answers: dict[int, Answer] = {}

    def run(number: int, call: Callable[[], Answer]) -> None:
        barrier.wait(TIMEOUT)
        answers[number] = call()

    threads = [threading.Thread(target=run, args=item) for item in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(4 * TIMEOUT)
    return [answers[number] for number in range(len(calls))]


def pattern(length: int, seed: int = 0) -> bytes:
    """Return bytes without repetition, the same each time: a shift by any amount shows."""
    return random.Random(seed).randbytes(length)
