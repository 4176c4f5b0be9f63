"""The extension Checksum (checklist section 8): verified first, then appended."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Iterator
from typing import Literal

import pytest

from tus_server.testing.conformance.client import OFFSET_STREAM, HeaderMap, NoAnswer, TusClient, pattern

checklist = pytest.mark.checklist

#: More than a server would keep in memory.
CONTENT = pattern(3_000_017)
DIGESTS: dict[str, Callable[[bytes], bytes]] = {
    "sha1": lambda data: hashlib.sha1(data).digest(),
    "sha256": lambda data: hashlib.sha256(data).digest(),
    "md5": lambda data: hashlib.md5(data).digest(),
    "crc32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
}
FRAMINGS = pytest.mark.parametrize("framing", ["length", "chunked"])


@pytest.fixture(autouse=True)
def announced(tus: TusClient) -> None:
    """Nothing to test where the extension is not announced (a peer)."""
    answer = tus.request("OPTIONS", tus.path, {"Tus-Resumable": None})
    if not tus.is_ours and "checksum" not in (answer.header("Tus-Extension") or ""):
        pytest.skip("the peer does not announce it")


def declare(data: bytes, algorithm: str = "sha1") -> dict[str, str]:
    return {"Upload-Checksum": f"{algorithm} {base64.b64encode(DIGESTS[algorithm](data)).decode()}"}


def framed(data: bytes, framing: str) -> bytes | Iterator[bytes]:
    return data if framing == "length" else iter([data[at : at + 400_000] for at in range(0, len(data), 400_000)])


@checklist("CHK-01")
def test_options_names_the_algorithms(tus: TusClient) -> None:
    answer = tus.request("OPTIONS", tus.path, {"Tus-Resumable": None})
    extensions = {name.strip() for name in (answer.header("Tus-Extension") or "").split(",")}
    algorithms = [name.strip() for name in (answer.header("Tus-Checksum-Algorithm") or "").split(",")]
    assert "checksum" in extensions
    assert "checksum-trailer" not in extensions
    assert "sha1" in algorithms
    assert all(name.isascii() and name == name.lower() and name for name in algorithms)
    if tus.is_ours:
        assert set(algorithms) == set(DIGESTS)


@checklist("CHK-02", "CHK-07")
@FRAMINGS
@pytest.mark.parametrize("algorithm", DIGESTS)
@pytest.mark.parametrize("size", [0, 1, 70_000, len(CONTENT)])
def test_a_right_chunk_is_appended(tus: TusClient, size: int, algorithm: str, framing: str) -> None:
    url = tus.create(len(CONTENT) + 10)
    answer = tus.patch(url, 0, framed(CONTENT[:size], framing), declare(CONTENT[:size], algorithm))
    assert (answer.status, answer.offset) == (204, size)
    tus.assert_unchanged(url, size, len(CONTENT) + 10, CONTENT[:size])


@checklist("CHK-02")
def test_right_chunks_finish_an_upload(tus: TusClient) -> None:
    url = tus.create(len(CONTENT))
    for start in range(0, len(CONTENT), 700_000):
        chunk = CONTENT[start : start + 700_000]
        assert tus.patch(url, start, chunk, declare(chunk)).offset == start + len(chunk)
    tus.assert_unchanged(url, len(CONTENT), len(CONTENT), CONTENT)
    assert tus.finishes(url) == 1


@checklist("CHK-03", "CHK-07")
@FRAMINGS
@pytest.mark.parametrize("algorithm", DIGESTS)
@pytest.mark.parametrize("size", [1, 70_000, len(CONTENT)])
def test_a_wrong_chunk_leaves_nothing(tus: TusClient, size: int, algorithm: str, framing: str) -> None:
    """Also where it would finish the upload; then the right one follows at the same offset."""
    content = CONTENT[:size]
    url = tus.create(10 + size)
    assert tus.patch(url, 0, b"0123456789").status == 204
    before = tus.stored_files(url)
    broken = content[:-1] + bytes([content[-1] ^ 1])
    answer = tus.patch(url, 10, framed(broken, framing), declare(content, algorithm))
    assert answer.status == 460
    tus.assert_unchanged(url, 10, 10 + size, b"0123456789")
    assert tus.stored_files(url) == before
    assert tus.finishes(url) == 0
    assert tus.patch(url, 10, framed(content, framing), declare(content, algorithm)).status == 204
    assert tus.stored_bytes(url) == b"0123456789" + content
    assert tus.finishes(url) == 1


@checklist("CHK-03", "DEF-09")
def test_a_wrong_chunk_fixes_no_deferred_length(tus: TusClient) -> None:
    url = tus.create(None)
    assert tus.patch(url, 0, b"abc", {**declare(b"abd"), "Upload-Length": "3"}).status == 460
    tus.assert_unchanged(url, 0, None, b"")
    assert tus.patch(url, 0, b"abc", {**declare(b"abc"), "Upload-Length": "3"}).status == 204
    assert tus.finishes(url) == 1


BAD_HEADERS = {
    "unknown algorithm": "unknown YWJj",
    "upper case": "SHA1 " + base64.b64encode(hashlib.sha1(b"abc").digest()).decode(),
    "no digest": "sha1",
    "no digest but a blank": "sha1 ",
    "empty": "",
    "no Base64": "sha1 !!!!",
    "hexadecimal": "sha1 " + hashlib.sha1(b"abc").hexdigest(),
    "too short a digest": "sha1 YWJj",
    "a digest of another algorithm": "md5 " + base64.b64encode(hashlib.sha1(b"abc").digest()).decode(),
    "the digest alone": base64.b64encode(hashlib.sha1(b"abc").digest()).decode(),
}


@checklist("CHK-04", "CHK-05")
@pytest.mark.parametrize("value", BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_a_bad_header_is_refused(tus: TusClient, value: str) -> None:
    url = tus.create(3)
    assert tus.patch(url, 0, b"abc", {"Upload-Checksum": value}).status == 400
    assert tus.patch(url, 0, iter([b"abc"]), {"Upload-Checksum": value}).status == 400
    tus.assert_unchanged(url, 0, 3, b"")
    before = tus.count_uploads()
    answer = tus.post(3, {"Upload-Checksum": value, "Content-Type": OFFSET_STREAM}, b"abc")
    assert answer.status == 400
    assert answer.header("Location") is None
    assert tus.count_uploads() == before


@checklist("CHK-05")
def test_two_checksums_are_refused(tus: TusClient) -> None:
    url = tus.create(3)
    header = declare(b"abc")["Upload-Checksum"]
    assert tus.patch(url, 0, b"abc", {"Upload-Checksum": [header, header]}).status == 400
    tus.assert_unchanged(url, 0, 3, b"")


@checklist("CHK-04", "CHK-05")
@pytest.mark.parametrize("value", ["unknown YWJj", "sha1 YWJj"])
def test_a_bad_header_is_refused_before_the_body_is_read(tus: TusClient, value: str) -> None:
    url = tus.create(10_000)
    patch = tus.patch_headers(0, {"Upload-Checksum": value, "Content-Length": "10000", "Expect": "100-continue"})
    post: HeaderMap = {
        "Content-Type": OFFSET_STREAM,
        "Upload-Length": "10000",
        "Content-Length": "10000",
        "Upload-Checksum": value,
        "Expect": "100-continue",
    }
    for method, path, headers in (("PATCH", url, patch), ("POST", tus.path, post)):
        with tus.open(method, path, headers) as wire:
            assert wire.is_answered()
            # gunicorn says "go on" by itself; we have sent nothing yet.
            assert wire.answer(method).status == 400
    tus.assert_unchanged(url, 0, 10_000, b"")


@checklist("CHK-06")
@FRAMINGS
@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("came", [0, 1, 70_000, 2_000_000, len(CONTENT) - 1])
def test_a_cut_chunk_keeps_nothing(tus: TusClient, came: int, how: Literal["fin", "rst"], framing: str) -> None:
    """Also where what came has the declared digest: its sender meant more."""
    url = tus.create(len(CONTENT))
    for declared in (CONTENT, CONTENT[:came]):
        wire = tus.open_patch(url, 0, None if framing == "chunked" else len(CONTENT), declare(declared))
        if framing == "chunked":
            wire.send_chunk(CONTENT[:came])
        else:
            wire.send(CONTENT[:came])
        wire.cut(how)
        tus.assert_unchanged(url, 0, len(CONTENT), b"")
    # The next request comes when the cut one has ended, so what that one did would show now.
    tus.resume(url, CONTENT)
    assert tus.finishes(url) == 1


@checklist("CHK-06")
@FRAMINGS
def test_a_half_closed_chunk_keeps_nothing(tus: TusClient, framing: str) -> None:
    url = tus.create(len(CONTENT))
    length = None if framing == "chunked" else len(CONTENT)
    with tus.open_patch(url, 0, length, declare(CONTENT)) as wire:
        if framing == "chunked":
            wire.send_chunk(CONTENT[:2_000_000])
        else:
            wire.send(CONTENT[:2_000_000])
        wire.half_close()
        assert wire.is_closed()
    tus.assert_unchanged(url, 0, len(CONTENT), b"")
    assert tus.patch(url, 0, CONTENT, declare(CONTENT)).status == 204


@checklist("CHK-06")
def test_a_stalled_chunk_keeps_nothing(impatient: TusClient) -> None:
    url = impatient.create(1000)
    with impatient.open_patch(url, 0, 1000, declare(b"a" * 1000)) as wire:
        wire.send(b"a" * 999)
        assert wire.answer("PATCH").status in (500, 503)
    impatient.assert_unchanged(url, 0, 1000, b"")


@checklist("CHK-06", "CONC-03")
def test_a_chunk_that_is_taken_over_keeps_nothing(tus: TusClient) -> None:
    url = tus.create(len(CONTENT))
    with tus.open_patch(url, 0, len(CONTENT), declare(CONTENT)) as old:
        old.send(CONTENT[:2_000_000])
        assert tus.offset(url) == 0
        tus.resume(url, CONTENT)
        old.send_until_answered(b"!" * 100_000)
    tus.assert_unchanged(url, len(CONTENT), len(CONTENT), CONTENT)
    assert tus.finishes(url) == 1


@checklist("CHK-03", "CHK-06")
@FRAMINGS
def test_head_never_counts_what_is_not_verified(tus: TusClient, framing: str) -> None:
    url = tus.create(len(CONTENT))
    with tus.open_patch(url, 0, None if framing == "chunked" else len(CONTENT), declare(CONTENT)) as wire:
        for start in range(0, len(CONTENT), 300_000):
            piece = CONTENT[start : start + 300_000]
            if framing == "chunked":
                wire.send_chunk(piece)
            else:
                wire.send(piece)
            if start + len(piece) < len(CONTENT):
                tus.assert_unchanged(url, 0, len(CONTENT), b"")
        if framing == "chunked":
            tus.assert_unchanged(url, 0, len(CONTENT), b"")
            wire.end_chunks()
        assert wire.answer("PATCH").offset == len(CONTENT)
    tus.assert_unchanged(url, len(CONTENT), len(CONTENT), CONTENT)


@checklist("CHK-07")
@FRAMINGS
@pytest.mark.parametrize("size", [0, 1, 70_000, len(CONTENT)])
def test_a_creation_with_a_right_body_keeps_it(tus: TusClient, size: int, framing: str) -> None:
    headers = {"Content-Type": OFFSET_STREAM, **declare(CONTENT[:size])}
    answer = tus.post(len(CONTENT), headers, framed(CONTENT[:size], framing))
    assert (answer.status, answer.offset) == (201, size)
    url = tus.path_of(answer.location)
    tus.assert_unchanged(url, size, len(CONTENT), CONTENT[:size])
    tus.resume(url, CONTENT)
    assert tus.finishes(url) == 1


@checklist("CHK-07", "CHK-03")
@FRAMINGS
@pytest.mark.parametrize("length", [3, 10, None])
def test_a_creation_with_a_wrong_body_creates_nothing(tus: TusClient, length: int | None, framing: str) -> None:
    before = tus.count_uploads()
    deferred = {"Upload-Defer-Length": "1"} if length is None else {}
    answer = tus.post(length, {"Content-Type": OFFSET_STREAM, **deferred, **declare(b"abd")}, framed(b"abc", framing))
    assert answer.status == 460
    assert answer.header("Location") is None
    assert tus.count_uploads() == before


@checklist("CHK-07", "CHK-06")
@FRAMINGS
@pytest.mark.parametrize("came", [0, 2_000_000, len(CONTENT) - 1])
def test_a_creation_that_is_cut_creates_nothing(tus: TusClient, came: int, framing: str) -> None:
    before = tus.count_uploads()
    framing_header: HeaderMap = (
        {"Content-Length": len(CONTENT)} if framing == "length" else {"Transfer-Encoding": "chunked"}
    )
    for declared in (CONTENT, CONTENT[:came]):
        headers: HeaderMap = {
            "Content-Type": OFFSET_STREAM,
            "Upload-Length": len(CONTENT),
            **framing_header,
            **declare(declared),
        }
        with tus.open("POST", tus.path, headers) as wire:
            if framing == "chunked":
                wire.send_chunk(CONTENT[:came])
            else:
                wire.send(CONTENT[:came])
            wire.half_close()
            try:
                assert wire.answer("POST").status >= 400
            except NoAnswer:
                assert wire.is_closed()
    assert tus.count_uploads() == before


@checklist("CHK-07", "CORE-22")
@pytest.mark.parametrize("too_many", [1, 2_000_000])
def test_too_long_a_chunk_keeps_nothing(tus: TusClient, too_many: int) -> None:
    content = CONTENT[: 500_000 + too_many]
    url = tus.create(500_000)
    before = tus.count_uploads()
    assert tus.patch(url, 0, content, declare(content)).status == 413
    assert tus.patch(url, 0, framed(content, "chunked"), declare(content)).status == 413
    tus.assert_unchanged(url, 0, 500_000, b"")
    headers = {"Content-Type": OFFSET_STREAM, **declare(content)}
    assert tus.post(500_000, headers, framed(content, "chunked")).status == 413
    assert tus.count_uploads() == before
    tus.resume(url, content[:500_000])


@checklist("CHK-08")
def test_a_checksum_in_a_trailer_is_no_checksum(tus: TusClient) -> None:
    """It is not announced. It must not be half honoured either: the chunk is an ordinary one, or refused."""
    url = tus.create(3)
    with tus.open_patch(url, 0, None, {"Trailer": "Upload-Checksum"}) as wire:
        wire.send_chunk(b"abc")
        wire.end_chunks(list(declare(b"abc").items()))
        answer = wire.answer("PATCH")
    assert answer.status == 204 or 400 <= answer.status < 500
    tus.assert_unchanged(url, *((3, 3, b"abc") if answer.status == 204 else (0, 3, b"")))


@checklist("CHK-02", "CHK-03")
def test_a_store_without_capabilities_can_verify_too(plain: TusClient) -> None:
    url = plain.create(3)
    assert plain.patch(url, 0, b"abc", declare(b"abd")).status == 460
    plain.assert_unchanged(url, 0, 3, b"")
    before = plain.count_uploads()
    assert plain.post(3, {"Content-Type": OFFSET_STREAM, **declare(b"abd")}, b"abc").status == 460
    assert plain.count_uploads() == before
    assert plain.patch(url, 0, b"abc", declare(b"abc")).status == 204
