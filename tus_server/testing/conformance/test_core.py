"""Core protocol: OPTIONS, HEAD, PATCH, versions, method override (checklist section 1)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Literal

import pytest

from tus_server.testing.conformance.client import (
    OFFSET_STREAM,
    Answer,
    HeaderMap,
    HeaderValue,
    NoAnswer,
    TusClient,
    pattern,
)

checklist = pytest.mark.checklist

UNKNOWN = "unknownunknownunknownunknown1234"

#: Numbers that are not ``[0-9]+``, which Python's ``int`` would partly take.
NOT_NUMBERS: dict[str, HeaderValue] = {
    "negative": "-1",
    "words": "abc",
    "fraction": "0.0",
    "hexadecimal": "0x0",
    "exponent": "1e1",
    "empty": "",
    "plus": "+0",
    "minus zero": "-0",
    "underscore": "0_0",
    "inner blank": "0 0",
    "list": "0,0",
    "quoted": '"0"',
    "Arabic digit": "\u0660",
    "fullwidth digit": "\uff10",
    "superscript": "\u00b2",
    "latin-1 byte": b"\xb2",
    "thousand digits then a letter": "0" * 1000 + "x",
}


# --- OPTIONS ---------------------------------------------------------------------------------------------


@checklist("CORE-01", "CORE-02")
def test_options_names_the_version(tus: TusClient) -> None:
    answer = tus.request("OPTIONS", tus.path, {"Tus-Resumable": None})
    assert answer.status in (200, 204)
    assert [version.strip() for version in (answer.header("Tus-Version") or "").split(",")] == ["1.0.0"]


@checklist("CORE-03")
def test_options_lists_the_extensions_that_work(tus: TusClient) -> None:
    answer = tus.request("OPTIONS", tus.path, {"Tus-Resumable": None})
    extensions = {name.strip() for name in (answer.header("Tus-Extension") or "").split(",")}
    if tus.is_ours:
        assert {"creation", "creation-with-upload", "creation-defer-length", "expiration", "termination"} <= extensions
    assert "creation" in extensions or not any(name.startswith("creation-") for name in extensions)
    assert "checksum-trailer" not in extensions


@checklist("CORE-03")
def test_options_lists_only_what_the_store_can_do(plain: TusClient) -> None:
    answer = plain.request("OPTIONS", plain.path, {"Tus-Resumable": None})
    extensions = {name.strip() for name in (answer.header("Tus-Extension") or "").split(",")}
    assert extensions == {"creation", "creation-with-upload", "checksum"}


@checklist("CORE-03", "TERM-05", "DEF-02")
def test_what_the_store_cannot_do_is_refused(plain: TusClient) -> None:
    url = plain.create(3)
    assert plain.delete(url).status == 405
    assert plain.post(headers={"Upload-Defer-Length": 1}).status == 400
    assert plain.patch(url, 0, b"abc").status == 204
    assert plain.stored_bytes(url) == b"abc"


@checklist("CORE-04")
def test_options_gives_the_largest_size_when_there_is_one(tus: TusClient, limited: TusClient) -> None:
    assert limited.request("OPTIONS", limited.path).header("Tus-Max-Size") == "1000"
    assert tus.request("OPTIONS", tus.path).header("Tus-Max-Size") is None


@checklist("CORE-05")
@pytest.mark.parametrize("version", ["1.0.0", "0.2.2", "9.9.9", "", "nonsense"])
def test_options_answers_whatever_the_version(tus: TusClient, version: str) -> None:
    answer = tus.request("OPTIONS", tus.path, {"Tus-Resumable": version})
    assert answer.status in (200, 204)
    assert answer.header("Tus-Version") == "1.0.0"


@checklist("CORE-05")
def test_options_answers_on_an_upload_and_without_the_slash(tus: TusClient) -> None:
    url = tus.create(3)
    for path in (url, f"{url.rstrip('/')}/", tus.path, tus.path.rstrip("/")):
        answer = tus.request("OPTIONS", path, {"Tus-Resumable": None})
        assert answer.status in (200, 204), path
        assert answer.header("Tus-Version") == "1.0.0"


# --- Tus-Resumable ---------------------------------------------------------------------------------------


@checklist("CORE-06")
def test_every_answer_carries_the_version(
    tus: TusClient, limited: TusClient, guarded: TusClient, clocked: TusClient, broken: TusClient
) -> None:
    url = tus.upload(b"abc")
    gone = clocked.create(3)
    clocked.travel(7200)
    unstable = broken.create(3)
    asked: list[tuple[int, Callable[[], Answer]]] = [
        (200, lambda: tus.head(url)),
        (400, lambda: tus.post()),
        (403, lambda: guarded.post(3, {"X-Refuse": "create"})),
        (404, lambda: tus.head(f"{tus.path}{UNKNOWN}")),
        (405, lambda: tus.request("PUT", url, body=b"")),
        (409, lambda: tus.patch(url, 1, b"")),
        (410, lambda: clocked.head(gone)),
        (412, lambda: tus.head(url, {"Tus-Resumable": "9.9.9"})),
        (413, lambda: limited.post(1001)),
        (415, lambda: tus.patch(url, 3, b"", {"Content-Type": "text/plain"})),
        (500, lambda: broken.request("HEAD", unstable, is_checked=False)),
    ]
    for status, ask in asked:
        answer = ask()
        assert (answer.status, answer.header("Tus-Resumable")) == (status, "1.0.0"), answer


@checklist("CORE-06")
def test_errors_say_why_in_json_with_a_stable_code(tus: TusClient) -> None:
    answer = tus.post(headers={"Upload-Length": "-1"})
    assert answer.status == 400
    if tus.is_ours:
        assert (answer.header("Content-Type") or "").startswith("application/json")
        assert b'"error":' in answer.body
        assert b'"code":' in answer.body


VERSIONS: dict[str, str | None] = {
    "missing": None,
    "older": "0.2.2",
    "newer": "9.9.9",
    "empty": "",
    "list": "1.0.0, 0.2.2",
    "longer": "1.0.0.0",
    "prefix": "1.0",
    "with a v": "v1.0.0",
    "Arabic digit": "\u0661.0.0",
}


@checklist("CORE-07", "CORE-08", "TERM-04")
@pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS)
def test_an_unknown_version_is_refused_and_changes_nothing(tus: TusClient, version: str | None) -> None:
    url = tus.create(10)
    assert tus.patch(url, 0, b"abc").status == 204
    before = tus.count_uploads()
    wrong: HeaderMap = {"Tus-Resumable": version}
    for answer in (
        tus.post(10, wrong),
        tus.post(3, {**wrong, "Content-Type": OFFSET_STREAM}, b"abc"),
        tus.head(url, wrong),
        tus.patch(url, 3, b"defg", wrong),
        tus.delete(url, wrong),
    ):
        assert answer.status == 412, answer
        assert answer.header("Tus-Version") == "1.0.0"
        assert answer.offset is None
        assert answer.header("Location") is None
    assert tus.count_uploads() == before
    tus.assert_unchanged(url, 3, 10, b"abc")


# --- HEAD ------------------------------------------------------------------------------------------------


@checklist("CORE-09", "CORE-10", "CORE-11")
@pytest.mark.parametrize(("sent", "length"), [(0, 10), (4, 10), (10, 10), (0, 0)])
def test_head_gives_offset_and_length_and_is_not_cached(tus: TusClient, sent: int, length: int) -> None:
    url = tus.create(length)
    if sent:
        tus.patch(url, 0, pattern(length)[:sent])
    answer = tus.head(url)
    assert answer.status in (200, 204)
    assert answer.offset == sent
    assert answer.header("Upload-Length") == str(length)
    assert answer.header("Cache-Control") == "no-store"
    assert answer.header("Location") is None


@checklist("CORE-12", "CORE-18")
def test_an_unknown_upload_is_not_found(tus: TusClient) -> None:
    url = f"{tus.path}{UNKNOWN}" if tus.is_ours else f"{tus.path}/{UNKNOWN}"
    for answer in (tus.head(url), tus.patch(url, 0, b"abc")):
        assert answer.status == 404
        assert answer.offset is None


@checklist("CORE-12")
def test_a_foreign_upload_answers_like_an_unknown_one(guarded: TusClient) -> None:
    url = guarded.create(3)
    unknown = f"{guarded.path}{UNKNOWN}"
    stranger: HeaderMap = {"X-Refuse": "access"}
    for method in ("HEAD", "PATCH", "DELETE"):
        headers = guarded.patch_headers(0, stranger) if method == "PATCH" else stranger
        body = b"abc" if method == "PATCH" else None
        foreign = guarded.request(method, url, headers, body)
        missing = guarded.request(method, unknown, headers, body)
        assert (foreign.status, foreign.body, foreign.offset) == (404, missing.body, None)
        assert {name for name, _ in foreign.headers} == {name for name, _ in missing.headers}
    guarded.assert_unchanged(url, 0, 3, b"")


@checklist("CORE-13")
def test_head_has_no_body_on_a_kept_connection(tus: TusClient) -> None:
    url = tus.upload(b"abc")
    with tus.connect() as wire:
        for path, status in ((url, 200), (f"{tus.path.rstrip('/')}/{UNKNOWN}", 404), (url, 200)):
            assert tus.request("HEAD", path, wire=wire).status == status
        assert not wire.is_answered(0.05)


# --- PATCH -----------------------------------------------------------------------------------------------


@checklist("CORE-14")
@pytest.mark.parametrize("size", [1, 1000, 65536, 1_000_003, 8 * 1024 * 1024])
def test_patch_appends_its_bytes(tus: TusClient, size: int) -> None:
    content = pattern(size + 7)
    url = tus.create(size + 7)
    for offset, end in ((0, 3), (3, size + 3), (size + 3, size + 7)):
        answer = tus.patch(url, offset, content[offset:end])
        assert (answer.status, answer.offset, answer.body) == (204, end, b"")
        assert tus.offset(url) == end
        assert tus.stored_bytes(url) == content[:end]
    assert tus.finishes(url) == 1


@checklist("CORE-14")
def test_patch_may_end_before_the_length(tus: TusClient) -> None:
    url = tus.create(10)
    assert tus.patch(url, 0, b"abc").offset == 3
    tus.assert_unchanged(url, 3, 10, b"abc")
    assert tus.finishes(url) == 0


MEDIA_TYPES: dict[str, str | None] = {
    "missing": None,
    "form": "application/x-www-form-urlencoded",
    "multipart": "multipart/form-data; boundary=x",
    "octets": "application/octet-stream",
    "empty": "",
    "two": f"{OFFSET_STREAM}, text/plain",
    "partial upload": "application/partial-upload",
    "longer": f"{OFFSET_STREAM}s",
}


@checklist("CORE-15")
@pytest.mark.parametrize("media_type", MEDIA_TYPES.values(), ids=MEDIA_TYPES)
def test_another_content_type_is_refused(tus: TusClient, media_type: str | None) -> None:
    url = tus.create(10)
    tus.patch(url, 0, b"abc")
    answer = tus.patch(url, 3, b"a=b&c=d", {"Content-Type": media_type})
    assert answer.status == 415
    tus.assert_unchanged(url, 3, 10, b"abc")


@checklist("CORE-15")
def test_the_content_type_is_compared_without_case(tus: TusClient) -> None:
    url = tus.create(3)
    assert tus.patch(url, 0, b"abc", {"Content-Type": "Application/Offset+Octet-Stream"}).status == 204
    assert tus.stored_bytes(url) == b"abc"


@checklist("CORE-16")
@pytest.mark.parametrize("offset", ["0", "4", "6", "10", "11", str(2**63), str(2**64), "9" * 60])
def test_another_offset_is_a_conflict(tus: TusClient, offset: str) -> None:
    url = tus.create(10)
    tus.patch(url, 0, b"abcde")
    answer = tus.patch(url, offset, b"xyz")
    assert answer.status == 409
    if tus.is_ours:
        assert answer.offset == 5
    tus.assert_unchanged(url, 5, 10, b"abcde")


@checklist("CORE-17")
@pytest.mark.parametrize("offset", NOT_NUMBERS.values(), ids=NOT_NUMBERS)
def test_a_malformed_offset_is_refused(tus: TusClient, offset: HeaderValue) -> None:
    url = tus.create(10)
    answer = tus.request("PATCH", url, {"Content-Type": OFFSET_STREAM, "Upload-Offset": offset}, b"abc")
    assert answer.status == 400
    tus.assert_unchanged(url, 0, 10, b"")


@checklist("CORE-17")
def test_a_missing_offset_is_refused(tus: TusClient) -> None:
    url = tus.create(10)
    assert tus.request("PATCH", url, {"Content-Type": OFFSET_STREAM}, b"abc").status == 400
    tus.assert_unchanged(url, 0, 10, b"")


# --- PATCH that is cut -----------------------------------------------------------------------------------

CUT_SIZE = 300_000
CUTS = {
    "nothing": 0,
    "one byte": 1,
    "few": 100,
    "64 KiB": 65536,
    "middle": CUT_SIZE // 2,
    "all but one": CUT_SIZE - 1,
}


@checklist("CORE-19", "CORE-20")
@pytest.mark.parametrize("count", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_cut_patch_keeps_what_arrived_and_can_be_resumed(
    tus: TusClient, count: int, how: Literal["fin", "rst"], framing: str
) -> None:
    content = pattern(CUT_SIZE + 5, count)
    url = tus.create(len(content))
    tus.patch(url, 0, content[:5])
    rest = content[5:]
    wire = tus.open_patch(url, 5, None if framing == "chunked" else len(rest))
    if framing == "chunked":
        for start in range(0, count, 40_000):
            wire.send_chunk(rest[start : min(start + 40_000, count)])
    else:
        wire.send(rest[:count])
    wire.cut(how)
    if how == "fin":
        assert tus.wait_for_offset(url, 5 + count) == 5 + count
    else:
        assert 5 <= tus.offset(url) <= 5 + count
    assert tus.finishes(url) == 0
    tus.resume(url, content)
    assert tus.finishes(url) == 1


@checklist("CORE-19", "CORE-21")
def test_a_chunked_body_cut_inside_a_chunk_keeps_what_arrived(tus: TusClient) -> None:
    content = pattern(1000)
    url = tus.create(1000)
    with tus.open_patch(url, 0, None) as wire:
        wire.send(b"3e8;part=1\r\n" + content[:600])
    # How much of an unfinished chunk a server below hands on is its own affair.
    offset = tus.wait_for_offset(url, 600, within=1.0)
    stored = tus.stored_bytes(url) or b""
    # What came later than that may be stored meanwhile.
    assert tus.is_blind or (0 <= offset <= len(stored) <= 600 and content.startswith(stored))
    tus.resume(url, content)


@checklist("CORE-19", "CORE-20")
def test_a_chunked_body_without_its_end_does_not_finish_the_upload(tus: TusClient) -> None:
    content = pattern(1000)
    url = tus.create(1000)
    with tus.open_patch(url, 0, None) as wire:
        wire.send_chunk(content[:400])
        wire.send_chunk(content[400:])
    # All but the last byte may count: it is the one that would finish the upload.
    assert 400 <= tus.wait_for_offset(url, 999) < 1000
    assert tus.finishes(url) == 0
    tus.resume(url, content)
    assert tus.finishes(url) == 1


@checklist("CORE-20")
def test_several_cuts_in_a_row_lose_nothing(tus: TusClient) -> None:
    content = pattern(100_000)
    url = tus.create(len(content))
    offset = 0
    for count in (10_000, 1, 0, 30_000, 7):
        with tus.open_patch(url, offset, len(content) - offset) as wire:
            wire.send(content[offset : offset + count])
        assert tus.wait_for_offset(url, offset + count) == offset + count
        offset += count
    tus.resume(url, content)
    assert tus.finishes(url) == 1


@checklist("CORE-20")
def test_a_half_closed_request_keeps_what_arrived(tus: TusClient) -> None:
    content = pattern(50_000)
    url = tus.create(len(content))
    with tus.open_patch(url, 0, len(content)) as wire:
        wire.send(content[:20_000])
        wire.half_close()
        try:
            answer = wire.answer("PATCH")
        except NoAnswer:
            answer = None
        assert answer is None or answer.status >= 400, answer
    assert tus.wait_for_offset(url, 20_000) == 20_000
    tus.resume(url, content)


# --- bodies of other kinds -------------------------------------------------------------------------------


@checklist("CORE-21")
@pytest.mark.parametrize("slices", [1, 2, 50])
def test_a_chunked_body_is_stored_without_its_framing(tus: TusClient, slices: int) -> None:
    content = pattern(100_000)
    url = tus.create(len(content))
    step = len(content) // slices
    answer = tus.patch(url, 0, (content[start : start + step] for start in range(0, len(content), step)))
    assert (answer.status, answer.offset) == (204, len(content))
    assert tus.stored_bytes(url) == content
    assert tus.finishes(url) == 1


@checklist("CORE-21")
def test_chunk_extensions_and_trailers_are_ignored(tus: TusClient) -> None:
    url = tus.create(20)
    with tus.open_patch(url, 0, None, {"Trailer": "X-Signature"}) as wire:
        wire.send_chunk(b"0123456789", ";signature=abc")
        wire.send_chunk(b"abcdefghij", ';name="quoted"')
        wire.end_chunks([("X-Signature", "99"), ("X-Other", "1")])
        answer = wire.answer("PATCH")
    assert (answer.status, answer.offset) == (204, 20)
    assert tus.stored_bytes(url) == b"0123456789abcdefghij"


@checklist("CORE-21")
@pytest.mark.parametrize("trailer", ["Upload-Offset", "Upload-Length", "Content-Length", "Tus-Resumable"])
def test_a_trailer_never_speaks_for_the_head(tus: TusClient, trailer: str) -> None:
    """uvicorn adds trailers that come early to the request's own headers: then two values, and a refusal."""
    url = tus.create(20)
    with tus.open_patch(url, 0, None) as wire:
        wire.send_chunk(b"0123456789")
        wire.end_chunks([(trailer, "7")])
        answer = wire.answer("PATCH")
    if answer.status == 204:
        assert answer.offset == 10
    else:
        assert 400 <= answer.status < 500
    offset = tus.wait_for_offset(url, 10, within=0.3)
    tus.assert_unchanged(url, offset, 20, b"0123456789"[:offset])


@checklist("CORE-21", "CORE-26")
def test_an_empty_chunked_body_changes_nothing(tus: TusClient) -> None:
    url = tus.create(3)
    answer = tus.patch(url, 0, iter([]))
    assert (answer.status, answer.offset) == (204, 0)
    tus.assert_unchanged(url, 0, 3, b"")


@checklist("CORE-22")
@pytest.mark.parametrize("too_many", [1, 10_000, 3_000_000])
def test_a_chunked_body_beyond_the_length_is_refused(tus: TusClient, too_many: int) -> None:
    content = pattern(200_000)
    url = tus.create(len(content))
    tus.patch(url, 0, content[:100])

    def body() -> Iterator[bytes]:
        sent = content[100:] + b"!" * too_many
        yield from (sent[start : start + 50_000] for start in range(0, len(sent), 50_000))

    try:
        assert tus.patch(url, 100, body()).status == 413
    except NoAnswer:
        assert not tus.is_ours
    offset = tus.wait_for_offset(url, lambda offset: True)
    assert 100 <= offset <= len(content)
    assert (tus.stored_bytes(url) or b"") == content[:offset]
    assert tus.finishes(url) == 0 or offset == len(content)
    tus.resume(url, content)
    assert tus.finishes(url) == 1


@checklist("CORE-23")
@pytest.mark.parametrize("length", [1001, 2**31, 2**63 - 1, 2**64])
def test_a_content_length_beyond_the_length_is_refused_unread(tus: TusClient, length: int) -> None:
    url = tus.create(1010)
    tus.patch(url, 0, pattern(10))
    with tus.open_patch(url, 10, length) as wire:
        answer = wire.answer("PATCH")
    assert answer.status in ((413,) if length < 2**63 else (400, 413))
    tus.assert_unchanged(url, 10, 1010, pattern(10))


# --- method override -------------------------------------------------------------------------------------


@checklist("CORE-24")
@pytest.mark.parametrize("method", ["POST", "GET", "PUT"])
def test_the_method_can_be_overridden(tus: TusClient, method: str) -> None:
    url = tus.create(3)
    headers = tus.patch_headers(0, {"X-HTTP-Method-Override": "PATCH"})
    answer = tus.request(method, url, headers, b"abc")
    assert (answer.status, answer.offset) == (204, 3)
    assert tus.stored_bytes(url) == b"abc"
    assert tus.request(method, url, {"X-HTTP-Method-Override": "DELETE"}, b"").status == 204
    assert tus.head(url).status in (404, 410)


@checklist("CORE-24")
def test_an_overridden_method_creates_and_asks_too(tus: TusClient) -> None:
    answer = tus.request("PUT", tus.path, {"X-HTTP-Method-Override": "POST", "Upload-Length": "3"}, b"")
    assert answer.status == 201
    url = tus.path_of(answer.location)
    answer = tus.request("GET", url, {"X-HTTP-Method-Override": "HEAD"})
    assert (answer.status, answer.offset) == (200, 0)
    assert tus.request("POST", tus.path, {"X-HTTP-Method-Override": "OPTIONS"}, b"").status in (200, 204)


@checklist("CORE-24")
@pytest.mark.parametrize("override", ["PUT", "TRACE", "patch", "PATCH, DELETE", "", "\u00e4"])
def test_an_unknown_overriding_method_is_refused(tus: TusClient, override: str) -> None:
    url = tus.create(3)
    answer = tus.request("POST", url, tus.patch_headers(0, {"X-HTTP-Method-Override": override}), b"abc")
    assert answer.status in (400, 405, 501)
    tus.assert_unchanged(url, 0, 3, b"")


@checklist("CORE-24")
def test_the_real_method_does_not_count(tus: TusClient) -> None:
    url = tus.create(3)
    answer = tus.request("DELETE", url, tus.patch_headers(0, {"X-HTTP-Method-Override": "PATCH"}), b"abc")
    assert (answer.status, answer.offset) == (204, 3)
    assert tus.stored_bytes(url) == b"abc"


# --- finished uploads, empty and many bodies -------------------------------------------------------------


@checklist("CORE-25")
def test_patch_to_a_finished_upload_changes_nothing(tus: TusClient) -> None:
    url = tus.upload(b"abc")
    assert tus.patch(url, 0, b"abc").status == 409
    assert tus.patch(url, 3, b"d").status == 413
    assert tus.patch(url, 3, iter([b"d"])).status == 413
    answer = tus.patch(url, 3, b"")
    assert (answer.status, answer.offset) == (204, 3)
    tus.assert_unchanged(url, 3, 3, b"abc")
    assert tus.finishes(url) == 1


@checklist("CORE-26")
def test_an_empty_body_changes_nothing(tus: TusClient) -> None:
    url = tus.create(10)
    tus.patch(url, 0, b"abc")
    answer = tus.patch(url, 3, b"")
    assert (answer.status, answer.offset) == (204, 3)
    assert tus.patch(url, 2, b"").status == 409
    tus.assert_unchanged(url, 3, 10, b"abc")


@checklist("CORE-27")
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_that_stalls_is_ended_and_kept(impatient: TusClient, framing: str) -> None:
    content = pattern(50_000)
    url = impatient.create(len(content))
    with impatient.open_patch(url, 0, None if framing == "chunked" else len(content)) as wire:
        if framing == "chunked":
            wire.send_chunk(content[:20_000])
        else:
            wire.send(content[:20_000])
        assert wire.is_answered()
        with contextlib.suppress(NoAnswer):
            # A 4xx would make tus-js-client give the upload up for good (AMB-21).
            assert wire.answer("PATCH").status >= 500
        assert wire.is_closed()
        assert impatient.offset(url) == 20_000
        impatient.resume(url, content)


@checklist("CORE-28")
def test_many_small_patches_on_one_connection(tus: TusClient) -> None:
    content = pattern(200)
    url = tus.create(len(content))
    with tus.connect() as wire:
        for offset in range(len(content)):
            answer = tus.patch(url, offset, content[offset : offset + 1], wire=wire)
            assert (answer.status, answer.offset) == (204, offset + 1)
    assert tus.stored_bytes(url) == content
    assert tus.finishes(url) == 1


@checklist("CORE-28")
def test_a_body_that_comes_byte_by_byte(tus: TusClient) -> None:
    content = pattern(500)
    url = tus.create(len(content))
    with tus.open_patch(url, 0, len(content)) as wire:
        for offset in range(len(content)):
            wire.send(content[offset : offset + 1])
        assert wire.answer("PATCH").offset == len(content)
    assert tus.stored_bytes(url) == content


@checklist("CORE-28")
def test_a_large_body(tus: TusClient) -> None:
    content = pattern(48 * 1024 * 1024)
    url = tus.upload(content)
    assert tus.stored_bytes(url) == content
