"""Bytes from a socket to a file inside the kernel, and every reason not to."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tus_server import bodies, served, splicing
from tus_server.bodies import SocketBody, StreamBody, open_body
from tus_server.effects import Receive, Received
from tus_server.errors import StorageFull
from tus_server.protocol.receiving import HoldingSink
from tus_server.stores.base import Sink
from tus_server.stores.filesystem import FilesystemStore
from tus_server.stores.memory import MemoryStore
from tus_server.uploads import Upload, UploadRecord

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="splice is Linux's")

CONTENT = bytes(range(256)) * 4096


class Unreader:
    """What gunicorn read ahead of a body."""

    def __init__(self, sock: socket.socket, ahead: bytes) -> None:
        import io

        self.sock = sock
        self.buf = io.BytesIO(ahead)


class LengthReader:
    """gunicorn's reader of a body of known length, as far as we use it."""

    def __init__(self, unreader: Unreader, length: int) -> None:
        self.unreader = unreader
        self.length = length

    def read(self, size: int) -> bytes:
        held = self.unreader.buf.getvalue()
        data, rest = held[:size], held[size:]
        self.unreader.buf.seek(0)
        self.unreader.buf.truncate()
        self.unreader.buf.write(rest)
        self.length -= len(data)
        return data


class Input:
    def __init__(self, reader: LengthReader) -> None:
        self.reader = reader


def record(length: int) -> UploadRecord:
    return UploadRecord(
        id="upload-0000000000000000000000001",
        object_name="data",
        length=length,
        metadata="",
        created_at=datetime.now(UTC),
        expires_at=None,
    )


@pytest.fixture
def store(tmp_path: Path) -> FilesystemStore:
    return FilesystemStore(tmp_path, durability="none")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client's end and a server's, over TCP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    with client, server:
        yield client, server


@pytest.fixture
def serve(
    store: FilesystemStore, pair: tuple[socket.socket, socket.socket]
) -> Iterator[Callable[..., tuple[SocketBody, Sink, Upload]]]:
    sinks: list[Sink] = []

    def serve(length: int, ahead: bytes = b"") -> tuple[SocketBody, Sink, Upload]:
        upload = store.create(record(length))
        sinks.append(store.open_sink(upload, 0))
        return SocketBody(pair[1], LengthReader(Unreader(pair[1], ahead), length)), sinks[-1], upload

    yield serve
    for sink in sinks:
        try:
            sink.settle()
        except OSError:
            continue  # settled by the test


def send(client: socket.socket, data: bytes) -> None:
    threading.Thread(target=client.sendall, args=[data]).start()


def stored(store: FilesystemStore, upload: Upload) -> bytes:
    return store.path(upload.record).read_bytes()


Serve = Callable[..., tuple[SocketBody, Sink, Upload]]
Pair = tuple[socket.socket, socket.socket]


@pytest.mark.parametrize("ahead", [0, 1, 70_000])
@pytest.mark.parametrize("limit", [None, 300_001])
def test_a_body_is_moved_behind_what_was_read_ahead(
    store: FilesystemStore, pair: Pair, serve: Serve, ahead: int, limit: int | None
) -> None:
    body, sink, upload = serve(len(CONTENT), CONTENT[:ahead])
    before = served.BODIES.copy()
    send(pair[0], CONTENT[ahead:])
    count, received = 0, Received(0, "slice")
    while count < len(CONTENT):
        received = body.receive(Receive(sink, None if limit is None else min(limit, len(CONTENT) - count), 60.0))
        count += received.count
    assert count == len(CONTENT)
    assert received.end in ("finished", "limit")
    assert stored(store, upload) == CONTENT
    body.close()
    assert served.BODIES - before == {"splice": 1}
    assert pair[1].gettimeout() is None


def test_bytes_behind_the_body_stay_in_the_socket(store: FilesystemStore, pair: Pair, serve: Serve) -> None:
    body, sink, upload = serve(10)
    pair[0].sendall(b"0123456789PATCH / HTTP/1.1")
    assert body.receive(Receive(sink, None, 60.0)) == Received(10, "finished")
    assert stored(store, upload) == b"0123456789"
    assert pair[1].recv(100) == b"PATCH / HTTP/1.1"


def test_a_cut_keeps_what_came(store: FilesystemStore, pair: Pair, serve: Serve) -> None:
    body, sink, upload = serve(1000)
    pair[0].sendall(b"a" * 999)
    pair[0].close()
    assert body.receive(Receive(sink, None, 60.0)) == Received(999, "vanished")
    assert stored(store, upload) == b"a" * 999


def test_a_reset_keeps_what_was_moved(store: FilesystemStore, pair: Pair, serve: Serve) -> None:
    body, sink, _ = serve(1000)
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    pair[0].close()
    assert body.receive(Receive(sink, None, 60.0)) == Received(0, "vanished")


def test_silence_is_a_slice_and_then_idle(
    monkeypatch: pytest.MonkeyPatch, store: FilesystemStore, pair: Pair, serve: Serve
) -> None:
    monkeypatch.setattr(bodies, "SLICE_SECONDS", 0.02)
    body, sink, _ = serve(1000)
    pair[0].sendall(b"abc")
    assert body.receive(Receive(sink, None, 60.0)).count == 3
    assert body.receive(Receive(sink, None, 60.0)).end == "slice"
    assert body.receive(Receive(sink, None, 0.01)).end == "idle"


def test_a_process_that_ends_takes_what_is_there(
    monkeypatch: pytest.MonkeyPatch, store: FilesystemStore, pair: Pair, serve: Serve
) -> None:
    monkeypatch.setattr(bodies, "is_draining", lambda: True)
    body, sink, upload = serve(1000)
    pair[0].sendall(b"abc")
    assert body.receive(Receive(sink, None, 60.0)) == Received(3, "draining")
    assert stored(store, upload) == b"abc"


@pytest.mark.parametrize("stage", ["out of the socket", "into the file"])
def test_a_kernel_that_cannot_is_gone_around(
    monkeypatch: pytest.MonkeyPatch, store: FilesystemStore, pair: Pair, serve: Serve, stage: str
) -> None:
    splice, calls = os.splice, 0

    def refusing(source: int, *args: Any, offset_dst: int | None = None, **kwargs: Any) -> int:
        nonlocal calls
        calls += 1
        if (offset_dst is None) == (stage == "out of the socket"):
            raise OSError(errno.EINVAL, "Invalid argument")
        return splice(source, *args, **kwargs)

    monkeypatch.setattr(os, "splice", refusing)
    body, sink, upload = serve(len(CONTENT))
    send(pair[0], CONTENT)
    count = 0
    while count < len(CONTENT):
        count += body.receive(Receive(sink, None, 60.0)).count
    assert stored(store, upload) == CONTENT
    # It is not asked again and again.
    assert calls <= (1 if stage == "out of the socket" else 3)


def test_without_descriptors_a_body_is_read(
    monkeypatch: pytest.MonkeyPatch, store: FilesystemStore, pair: Pair, serve: Serve
) -> None:
    def no_pipe(flags: int) -> tuple[int, int]:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pipe2", no_pipe)
    monkeypatch.setattr(splicing, "_own", splicing._Own())
    body, sink, upload = serve(3)
    pair[0].sendall(b"abc")
    assert body.receive(Receive(sink, None, 60.0)) == Received(3, "finished")
    assert stored(store, upload) == b"abc"


def test_what_a_full_disk_left_in_the_pipe_never_reaches_another_file(
    monkeypatch: pytest.MonkeyPatch, store: FilesystemStore, pair: Pair, serve: Serve
) -> None:
    splice = os.splice

    def full(*args: Any, offset_dst: int | None = None, **kwargs: Any) -> int:
        if offset_dst is None:
            return splice(*args, **kwargs)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "splice", full)
        body, sink, upload = serve(3)
        pair[0].sendall(b"abc")
        with pytest.raises(StorageFull):
            body.receive(Receive(sink, None, 60.0))
        assert sink.settle() == 0
    other = SocketBody(pair[1], LengthReader(Unreader(pair[1], b""), 3))
    pair[0].sendall(b"def")
    sink = store.open_sink(upload, 0)
    assert other.receive(Receive(sink, None, 60.0)) == Received(3, "finished")
    assert sink.settle() == 3
    assert stored(store, upload) == b"def"


def test_only_a_file_is_spliced_into(store: FilesystemStore, serve: Serve) -> None:
    _, sink, _ = serve(3)
    assert splicing.is_possible(sink)
    assert not splicing.is_possible(HoldingSink(sink, 3))
    memory = MemoryStore()
    assert not splicing.is_possible(memory.open_sink(memory.create(record(3)), 0))


def test_the_socket_is_used_only_where_nothing_stands_between(pair: Pair) -> None:
    _, server = pair
    reader = LengthReader(Unreader(server, b""), 3)
    environ: dict[str, Any] = {"wsgi.input": Input(reader), "gunicorn.socket": server}
    assert isinstance(open_body(environ, 3), SocketBody)
    assert isinstance(open_body(environ, 3, fast_path=False), StreamBody)
    assert isinstance(open_body(environ, None), StreamBody)
    assert isinstance(open_body(environ, 4), StreamBody)
    assert isinstance(open_body({"wsgi.input": Input(reader)}, 3), StreamBody)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    encrypted = context.wrap_socket(server.dup(), server_side=True, do_handshake_on_connect=False)
    with encrypted:
        behind_tls = {
            "wsgi.input": Input(LengthReader(Unreader(encrypted, b""), 3)),
            "gunicorn.socket": encrypted,
        }
        assert isinstance(open_body(behind_tls, 3), StreamBody)
