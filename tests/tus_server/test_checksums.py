"""Checksums: the header, the digests, and that nothing unverified ever reaches a store."""

from __future__ import annotations

import errno
import hashlib
import json
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.tus_server.conformance.client import pattern
from tus_server.checksums import ALGORITHMS, Checksum, build_checksum, new_digest, parse_checksum
from tus_server.config import TusConfig
from tus_server.drivers import drive
from tus_server.effects import Call, End, Receive, Received
from tus_server.engine import Engine
from tus_server.errors import BadRequest, StorageFull, StoreUnavailable
from tus_server.headers import Headers
from tus_server.locks.memory import MemoryLocker
from tus_server.messages import Request, Response
from tus_server.protocol import append, appending, create, receiving, verifying
from tus_server.stores.base import Sink
from tus_server.stores.filesystem import FilesystemStore
from tus_server.stores.memory import MemoryStore
from tus_server.testing.bodies import ScriptedBody, send
from tus_server.uploads import Upload

# --- the header --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "digest"),
    [
        ("sha1", hashlib.sha1(b"abc").digest()),
        ("sha256", hashlib.sha256(b"abc").digest()),
        ("md5", hashlib.md5(b"abc").digest()),
        ("crc32", zlib.crc32(b"abc").to_bytes(4, "big")),
    ],
)
def test_a_checksum_is_built_and_parsed(algorithm: str, digest: bytes) -> None:
    header = build_checksum(algorithm, b"abc")
    assert header == f"{algorithm} {b64encode(digest).decode()}"
    assert parse_checksum(header) == Checksum(algorithm, digest)


def test_sha1_is_there_and_names_have_no_upper_case() -> None:
    assert set(ALGORITHMS) == {"sha1", "sha256", "md5", "crc32"}
    assert all(name.isascii() and name == name.lower() for name in ALGORITHMS)


def test_the_example_of_the_specification() -> None:
    assert build_checksum("sha1", b"hello world") == "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0="


def test_crc32_has_the_most_significant_byte_first() -> None:
    assert build_checksum("crc32", b"123456789") == "crc32 " + b64encode(bytes.fromhex("cbf43926")).decode()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_digest_grows(algorithm: str) -> None:
    whole, pieces = new_digest(algorithm), new_digest(algorithm)
    whole.update(b"abcdef")
    for piece in (b"ab", memoryview(b"cde"), b"", b"f"):
        pieces.update(piece)
    assert whole.digest() == pieces.digest()


MALFORMED = [
    "sha1",
    "sha1 ",
    "sha1 !!!",
    "sha1 YWJj",
    "sha1  Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
    "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0",
    "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=,sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
    "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0= x",
    "sha1 Kq5sNclPz7QV2-lfQIuc6R7oRu0=",
    "sha256 Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
    "crc32 AAAAAAA=",
    "md5 \u0430\u0431\u0432",
    "sha1 2aae6c35c94fcfb415dbe95f408b9ce91ee846ed",
]
UNKNOWN = ["", " ", "sha512 YWJj", "SHA1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=", "sha1\tKq5sNclPz7QV2+lfQIuc6R7oRu0=", "\0 YQ=="]


@pytest.mark.parametrize("text", MALFORMED)
def test_a_malformed_digest_is_refused(text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_checksum(text)
    assert caught.value.code == "invalid_checksum"


@pytest.mark.parametrize("text", UNKNOWN)
def test_an_unknown_algorithm_is_refused(text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_checksum(text)
    assert caught.value.code == "unsupported_checksum"


# --- the engine, over each store ---------------------------------------------------------------------------------

#: More than waits in memory, so that the file is used too.
LARGE = pattern(3 * 1024 * 1024 + 17)
ENDS: list[End] = ["vanished", "idle", "draining", "finished"]


class Endpoint:
    """An engine, and what lies in its store."""

    def __init__(self, store: MemoryStore | FilesystemStore) -> None:
        self.store = store
        self.engine = Engine(store, MemoryLocker(), config=TusConfig(max_size=2 * len(LARGE)))

    def create(self, length: int | None) -> str:
        declared = {"Upload-Defer-Length": "1"} if length is None else {"Upload-Length": str(length)}
        return self.id_of(send(self.engine, "POST", headers=declared))

    def id_of(self, response: Response) -> str:
        assert response.status == 201, response
        location = response.header("Location")
        assert location is not None
        return location.removeprefix("/files/")

    def patch(self, upload_id: str, body: ScriptedBody | bytes, checksum: str, **headers: str) -> Response:
        return send(
            self.engine, "PATCH", upload_id, {"Upload-Offset": "0", "Upload-Checksum": checksum, **headers}, body
        )

    def post(self, body: ScriptedBody | bytes, checksum: str, length: int = 100, **headers: str) -> Response:
        own = {"Upload-Length": str(length), "Content-Type": "application/offset+octet-stream"}
        return send(self.engine, "POST", headers={**own, "Upload-Checksum": checksum, **headers}, body=body)

    def stored(self, upload_id: str) -> bytes:
        if isinstance(self.store, MemoryStore):
            return self.store.content(upload_id)
        return (self.store.directory / upload_id).read_bytes()

    def count(self) -> int:
        """Return how many uploads and other things there are."""
        if isinstance(self.store, MemoryStore):
            return len(self.store._data)
        return sum(1 for _ in self.store.directory.rglob("*")) if self.store.directory.exists() else 0

    def assert_empty(self, upload_id: str, length: int | None) -> None:
        response = send(self.engine, "HEAD", upload_id)
        assert response.header("Upload-Offset") == "0"
        assert response.header("Upload-Length") == (None if length is None else str(length))
        assert self.stored(upload_id) == b""


@pytest.fixture(params=["memory", "filesystem"])
def endpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Endpoint:
    return Endpoint(MemoryStore() if request.param == "memory" else FilesystemStore(tmp_path / "files"))


def code(response: Response) -> str:
    found = json.loads(response.body)["code"]
    assert isinstance(found, str)
    return found


def pieces(content: bytes, size: int = 500_000) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("content", [b"", b"a", LARGE], ids=["nothing", "small", "large"])
def test_a_right_body_is_appended(endpoint: Endpoint, content: bytes, algorithm: str) -> None:
    upload_id = endpoint.create(len(LARGE) + 1)
    response = endpoint.patch(upload_id, content, build_checksum(algorithm, content))
    assert (response.status, response.header("Upload-Offset")) == (204, str(len(content)))
    assert endpoint.stored(upload_id) == content


def test_a_right_body_of_unknown_length_finishes_the_upload(endpoint: Endpoint) -> None:
    upload_id = endpoint.create(len(LARGE))
    response = endpoint.patch(upload_id, ScriptedBody(pieces(LARGE)), build_checksum("sha1", LARGE))
    assert response.status == 204
    assert endpoint.store.get(upload_id).is_finished
    assert endpoint.stored(upload_id) == LARGE


def test_a_right_body_creates_the_upload_with_its_bytes(endpoint: Endpoint) -> None:
    for body in (LARGE, ScriptedBody(pieces(LARGE))):
        response = endpoint.post(body, build_checksum("crc32", LARGE), len(LARGE))
        assert response.header("Upload-Offset") == str(len(LARGE))
        upload_id = endpoint.id_of(response)
        assert endpoint.stored(upload_id) == LARGE
        assert endpoint.store.get(upload_id).is_finished


@pytest.mark.parametrize("content", [b"", b"a", LARGE], ids=["nothing", "small", "large"])
def test_another_body_leaves_nothing(endpoint: Endpoint, content: bytes) -> None:
    upload_id = endpoint.create(len(content))
    for body in (content, ScriptedBody(pieces(content))):
        response = endpoint.patch(upload_id, body, build_checksum("sha1", b"another"))
        assert response.status == 460
        assert code(response) == "checksum_mismatch"
    if content:
        endpoint.assert_empty(upload_id, len(content))
        assert not endpoint.store.get(upload_id).is_finished
        assert endpoint.patch(upload_id, content, build_checksum("sha1", content)).status == 204


def test_another_body_creates_no_upload(endpoint: Endpoint) -> None:
    before = endpoint.count()
    for body in (b"abc", ScriptedBody([b"ab", b"c"])):
        assert endpoint.post(body, build_checksum("md5", b"abd")).status == 460
        assert endpoint.post(body, build_checksum("md5", b"abd"), 3).status == 460
    assert endpoint.count() == before


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("came", [0, 1, 2_000_000, len(LARGE) - 1])
def test_a_cut_body_leaves_nothing(endpoint: Endpoint, end: End, came: int) -> None:
    upload_id = endpoint.create(len(LARGE))
    before = endpoint.count()
    declared = {"Content-Length": str(len(LARGE))}
    # Even the digest of what came says nothing about what was meant.
    for content in (LARGE, LARGE[:came]):
        checksum = build_checksum("sha1", content)
        response = endpoint.patch(upload_id, ScriptedBody(pieces(LARGE[:came]), end), checksum, **declared)
        assert response.status == 503
        assert "None of it was kept" in json.loads(response.body)["error"]
        post = endpoint.post(ScriptedBody(pieces(LARGE[:came]), end), checksum, len(LARGE), **declared)
        assert post.status == 503
    endpoint.assert_empty(upload_id, len(LARGE))
    assert endpoint.count() == before
    assert endpoint.patch(upload_id, LARGE, build_checksum("sha1", LARGE)).status == 204


@pytest.mark.parametrize("end", ["vanished", "idle", "draining"])
def test_a_cut_body_of_unknown_length_leaves_nothing(endpoint: Endpoint, end: End) -> None:
    upload_id = endpoint.create(len(LARGE))
    response = endpoint.patch(upload_id, ScriptedBody(pieces(LARGE[:-1]), end), build_checksum("sha1", LARGE[:-1]))
    assert response.status == 503
    endpoint.assert_empty(upload_id, len(LARGE))


def test_too_long_a_body_leaves_nothing(endpoint: Endpoint) -> None:
    upload_id = endpoint.create(10)
    before = endpoint.count()
    for content in (b"a" * 11, LARGE):
        checksum = build_checksum("sha1", content)
        for body in (content, ScriptedBody(pieces(content, 7))):
            assert endpoint.patch(upload_id, body, checksum).status == 413
        assert endpoint.post(ScriptedBody(pieces(content, 7)), checksum, 10).status == 413
    endpoint.assert_empty(upload_id, 10)
    assert endpoint.count() == before


def test_a_body_that_is_not_verified_fixes_no_length(endpoint: Endpoint) -> None:
    upload_id = endpoint.create(None)
    assert endpoint.patch(upload_id, b"abc", build_checksum("sha1", b"abd"), **{"Upload-Length": "3"}).status == 460
    endpoint.assert_empty(upload_id, None)
    assert endpoint.patch(upload_id, b"abc", build_checksum("sha1", b"abc"), **{"Upload-Length": "2"}).status == 413
    over = ScriptedBody([b"ab", b"c"])
    assert endpoint.patch(upload_id, over, build_checksum("sha1", b"abc"), **{"Upload-Length": "2"}).status == 413
    endpoint.assert_empty(upload_id, None)
    assert endpoint.patch(upload_id, b"abc", build_checksum("sha1", b"abc"), **{"Upload-Length": "3"}).status == 204
    assert endpoint.store.get(upload_id).is_finished


@pytest.mark.parametrize("text", [*MALFORMED[:5], *UNKNOWN[:4]])
def test_a_bad_header_is_refused_before_the_body_is_read(endpoint: Endpoint, text: str) -> None:
    upload_id = endpoint.create(3)
    before = endpoint.count()
    assert endpoint.patch(upload_id, Unread(), text).status == 400
    assert endpoint.post(Unread(), text, 3).status == 400
    endpoint.assert_empty(upload_id, 3)
    assert endpoint.count() == before


class Unread(ScriptedBody):
    """A body that nobody may touch."""

    def receive(self, effect: Receive) -> Received:
        raise AssertionError("the body was read")

    def read(self, limit: int) -> bytes:
        raise AssertionError("the body was read")


def test_a_finished_upload_verifies_an_empty_body_too(endpoint: Endpoint) -> None:
    upload_id = endpoint.create(0)
    assert endpoint.patch(upload_id, b"", build_checksum("sha1", b"")).status == 204
    assert endpoint.patch(upload_id, b"", build_checksum("sha1", b"a")).status == 460


def test_a_creation_without_bytes_verifies_that_there_are_none(endpoint: Endpoint) -> None:
    before = endpoint.count()
    assert endpoint.post(b"", build_checksum("sha1", b"a"), 0).status == 460
    assert endpoint.count() == before
    assert endpoint.store.get(endpoint.id_of(endpoint.post(b"", build_checksum("sha1", b""), 0))).is_finished


# --- where the bytes wait ----------------------------------------------------------------------------------------


def drive_looking(engine: Engine, request: Request, body: ScriptedBody, look: Any) -> Response:
    """Drive a request and look around after every piece of the body."""

    class Looking(ScriptedBody):
        def receive(self, effect: Receive) -> Received:
            received = body.receive(effect)
            look(effect)
            return received

    return drive(engine.handle(request), Looking())


def request_for(method: str, upload_id: str | None, **headers: str) -> Request:
    own = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
    return Request(method, Headers({**own, **headers}.items()), upload_id, "/files/")


def test_nothing_is_in_the_store_while_the_body_arrives(endpoint: Endpoint) -> None:
    upload_id = endpoint.create(len(LARGE))
    before, looks = endpoint.count(), []

    def look(effect: Receive) -> None:
        endpoint.assert_empty(upload_id, len(LARGE))
        assert endpoint.count() == before
        looks.append(effect)

    headers = {"Upload-Checksum": build_checksum("sha1", LARGE), "Content-Length": str(len(LARGE))}
    patch = request_for("PATCH", upload_id, **headers, **{"Upload-Offset": "0"})
    assert drive_looking(endpoint.engine, patch, ScriptedBody(pieces(LARGE)), look).status == 204
    assert len(looks) > 5


def test_a_large_body_waits_in_a_file_without_a_name_in_the_stores_directory(tmp_path: Path) -> None:
    endpoint = Endpoint(FilesystemStore(tmp_path / "files"))
    links: list[str] = []

    def look(_: object) -> None:
        for path in Path("/proc/self/fd").iterdir():
            try:
                links.append(str(path.readlink()))
            except FileNotFoundError:
                continue

    headers = {"Upload-Checksum": build_checksum("sha1", LARGE), "Upload-Length": str(len(LARGE))}
    post = request_for("POST", None, **headers, **{"Content-Length": str(len(LARGE))})
    assert drive_looking(endpoint.engine, post, ScriptedBody(pieces(LARGE)), look).status == 201
    ours = {link for link in links if link.startswith(str(tmp_path))}
    assert ours
    assert all(link.endswith("(deleted)") for link in ours)
    links.clear()
    look(None)
    assert not [link for link in links if link.startswith(str(tmp_path))]


class FullDisk:
    """A temporary file on a disk that is full, or broken."""

    def __init__(self, number: int) -> None:
        self._error = OSError(number, "no")

    def write(self, data: object) -> int:
        raise self._error

    def close(self) -> None:
        return None


@pytest.mark.parametrize(
    ("number", "status"), [(errno.ENOSPC, StorageFull.status), (errno.EIO, StoreUnavailable.status)]
)
def test_no_room_for_the_waiting_body_is_our_trouble(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, number: int, status: int
) -> None:
    upload_id = endpoint.create(3)
    monkeypatch.setattr(verifying, "SpooledTemporaryFile", lambda *args, **kwargs: FullDisk(number))
    response = endpoint.patch(upload_id, b"abc", build_checksum("sha1", b"abc"))
    assert response.status == status
    monkeypatch.undo()
    endpoint.assert_empty(upload_id, 3)
    assert endpoint.patch(upload_id, b"abc", build_checksum("sha1", b"abc")).status == 204


def test_a_store_without_files_leaves_the_directory_to_the_system() -> None:
    endpoint = Endpoint(MemoryStore())
    record = endpoint.store.get(endpoint.create(1)).record
    assert endpoint.store.scratch_directory(record) is None


def test_the_copy_is_made_in_bounded_calls(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifying, "_POUR_BYTES", 1024 * 1024)
    upload_id = endpoint.create(len(LARGE))
    headers = {
        "Upload-Checksum": build_checksum("sha1", LARGE),
        "Content-Length": str(len(LARGE)),
        "Upload-Offset": "0",
    }
    steps, calls, answer = endpoint.engine.handle(request_for("PATCH", upload_id, **headers)), 0, None
    body = ScriptedBody(pieces(LARGE))
    with suppress(StopIteration):
        while True:
            effect = steps.send(answer)
            if isinstance(effect, Receive):
                answer = body.receive(effect)
            else:
                assert isinstance(effect, Call)
                calls += "VerifyingSink.pour" in repr(effect)
                answer = effect.run()
    assert calls >= 4
    assert endpoint.stored(upload_id) == LARGE


class FailingStore(MemoryStore):
    """A store whose sink fails after the first megabyte."""

    def open_sink(self, upload: Upload, offset: int, expected: int | None = None) -> Sink:
        sink = super().open_sink(upload, offset, expected)
        write, written = sink.write, [0]

        def fail_later(data: memoryview) -> None:
            if written[0] >= 1024 * 1024:
                raise StorageFull()
            written[0] += len(data)
            write(data)

        sink.write = fail_later  # type: ignore[method-assign]  # the point of the test
        return sink


def test_a_store_that_fails_in_the_copy_keeps_verified_bytes_only() -> None:
    endpoint = Endpoint(FailingStore())
    upload_id = endpoint.create(len(LARGE))
    assert endpoint.patch(upload_id, LARGE, build_checksum("sha1", LARGE)).status == 507
    assert endpoint.stored(upload_id) == LARGE[: 1024 * 1024]
    # The sink was settled, and the lease given back.
    rest = {"Upload-Offset": str(1024 * 1024)}
    assert send(endpoint.engine, "PATCH", upload_id, rest, b"abc").status == 204


# --- the tests tell right from wrong -----------------------------------------------------------------------------


@contextmanager
def broken_engine(monkeypatch: pytest.MonkeyPatch, variant: str) -> Iterator[None]:
    """An engine that breaks one promise."""
    with monkeypatch.context() as patched:
        if variant == "never compares":
            patched.setattr(verifying.VerifyingSink, "verify", lambda self: self._file.seek(0))
        elif variant == "verifies what came of a cut body":
            original = receiving.receive_into

            def lenient(*args: Any) -> Any:
                yield from original(*args)
                return "finished"

            patched.setattr(verifying, "receive_into", lenient)
        elif variant == "appends and compares afterwards":
            patched.setattr(append, "_verify_and_append", append._append)
        elif variant == "ignores the header":
            patched.setattr(append, "declared_body", without_checksum)
            patched.setattr(create, "declared_body", without_checksum)
        yield


def without_checksum(request: Request, context: Any) -> Any:
    headers = Headers((name, value) for name, value in request.headers if name != "upload-checksum")
    return appending.declared_body(SimpleNamespace(headers=headers, knows_end=True), context)  # type: ignore[arg-type]


PROMISES: list[Callable[[Endpoint], None]] = [
    lambda endpoint: test_another_body_leaves_nothing(endpoint, b"a"),
    test_another_body_creates_no_upload,
    lambda endpoint: test_a_cut_body_leaves_nothing(endpoint, "vanished", 2_000_000),
]


@pytest.mark.parametrize(
    "variant",
    ["never compares", "verifies what came of a cut body", "appends and compares afterwards", "ignores the header"],
)
def test_a_broken_engine_is_rejected(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, variant: str) -> None:
    rejections = 0
    with broken_engine(monkeypatch, variant):
        for promise in PROMISES:
            try:
                promise(endpoint)
            except AssertionError:
                rejections += 1
    assert rejections
    for promise in PROMISES:
        promise(endpoint)
