"""The extension Creation Defer Length (checklist section 6)."""

from __future__ import annotations

import pytest

from tus_server.testing.conformance.client import OFFSET_STREAM, HeaderValue, TusClient, pattern
from tus_server.testing.conformance.test_core import NOT_NUMBERS

checklist = pytest.mark.checklist


def assert_deferred(tus: TusClient, url: str, offset: int, content: bytes) -> None:
    answer = tus.head(url)
    assert (answer.status, answer.offset) == (200, offset)
    assert answer.header("Upload-Defer-Length") == "1"
    assert answer.header("Upload-Length") is None
    assert tus.stored_bytes(url) == content


def assert_known(tus: TusClient, url: str, offset: int, length: int, content: bytes) -> None:
    assert tus.head(url).header("Upload-Defer-Length") is None
    tus.assert_unchanged(url, offset, length, content)


@checklist("DEF-01", "DEF-03")
def test_a_length_can_stay_unknown_while_bytes_come(tus: TusClient) -> None:
    url = tus.create(None)
    assert_deferred(tus, url, 0, b"")
    for offset, data in ((0, b"abc"), (3, b"de")):
        answer = tus.patch(url, offset, data)
        assert (answer.status, answer.offset) == (204, offset + len(data))
    assert_deferred(tus, url, 5, b"abcde")
    assert tus.finishes(url) == 0


@checklist("DEF-02")
@pytest.mark.parametrize(
    "value", ["0", "2", "true", "", "1.0", "+1", "01", "1,1", "-1", "\u0661"], ids=lambda value: value or "empty"
)
def test_another_value_is_refused(tus: TusClient, value: str) -> None:
    before = tus.count_uploads()
    answer = tus.post(headers={"Upload-Defer-Length": value})
    assert (answer.status, answer.header("Location")) == (400, None)
    assert tus.count_uploads() == before


@checklist("DEF-04")
def test_the_length_may_come_with_the_first_bytes(tus: TusClient) -> None:
    url = tus.create(None)
    answer = tus.patch(url, 0, b"abc", {"Upload-Length": "5"})
    assert (answer.status, answer.offset) == (204, 3)
    assert_known(tus, url, 3, 5, b"abc")
    assert tus.finishes(url) == 0
    tus.patch(url, 3, b"de")
    assert tus.finishes(url) == 1


@checklist("DEF-04")
def test_the_length_may_come_with_the_last_bytes(tus: TusClient) -> None:
    url = tus.create(None)
    tus.patch(url, 0, b"abc")
    answer = tus.patch(url, 3, b"de", {"Upload-Length": "5"})
    assert (answer.status, answer.offset) == (204, 5)
    assert_known(tus, url, 5, 5, b"abcde")
    assert tus.finishes(url) == 1


@checklist("DEF-04")
@pytest.mark.parametrize("content", [b"abcde", b""])
def test_the_length_may_come_alone_and_finish_the_upload(tus: TusClient, content: bytes) -> None:
    url = tus.create(None)
    if content:
        tus.patch(url, 0, content)
    answer = tus.patch(url, len(content), b"", {"Upload-Length": len(content)})
    assert (answer.status, answer.offset) == (204, len(content))
    assert_known(tus, url, len(content), len(content), content)
    assert tus.finishes(url) == 1


@checklist("DEF-04")
def test_the_length_may_come_with_a_chunked_body(tus: TusClient) -> None:
    content = pattern(50_000)
    url = tus.create(None)
    answer = tus.patch(url, 0, iter([content[:30_000], content[30_000:]]), {"Upload-Length": "50000"})
    assert (answer.status, answer.offset) == (204, 50_000)
    assert_known(tus, url, 50_000, 50_000, content)
    assert tus.finishes(url) == 1


@checklist("DEF-05")
@pytest.mark.parametrize("was_deferred", [True, False])
def test_a_fixed_length_cannot_change(tus: TusClient, was_deferred: bool) -> None:
    url = tus.create(None if was_deferred else 10)
    tus.patch(url, 0, b"abc", {"Upload-Length": "10"} if was_deferred else {})
    for length in ("9", "11", "3", "0"):
        assert tus.patch(url, 3, b"de", {"Upload-Length": length}).status == 400
        tus.assert_unchanged(url, 3, 10, b"abc")
    if tus.is_ours:
        assert tus.patch(url, 3, b"de", {"Upload-Length": "10"}).status == 204
        tus.assert_unchanged(url, 5, 10, b"abcde")


@checklist("DEF-06")
@pytest.mark.parametrize("length", NOT_NUMBERS.values(), ids=NOT_NUMBERS)
def test_a_malformed_length_is_refused(tus: TusClient, length: HeaderValue) -> None:
    url = tus.create(None)
    tus.patch(url, 0, b"abc")
    assert tus.patch(url, 3, b"de", {"Upload-Length": length}).status == 400
    assert_deferred(tus, url, 3, b"abc")


@checklist("DEF-06")
@pytest.mark.parametrize("length", ["0", "2", "4"])
@pytest.mark.parametrize("body", [b"", b"de"])
def test_a_length_below_what_is_there_is_refused(tus: TusClient, length: str, body: bytes) -> None:
    url = tus.create(None)
    tus.patch(url, 0, b"abc")
    if length == "4" and not body:
        body = b"defg"
    assert tus.patch(url, 3, body, {"Upload-Length": length}).status in (400, 413)
    assert_deferred(tus, url, 3, b"abc")
    tus.patch(url, 3, b"de", {"Upload-Length": "5"})
    assert_known(tus, url, 5, 5, b"abcde")
    assert tus.finishes(url) == 1


@checklist("DEF-06")
def test_a_chunked_body_beyond_its_own_length_is_refused(tus: TusClient) -> None:
    url = tus.create(None)
    answer = tus.patch(url, 0, iter([b"abc", b"defg"]), {"Upload-Length": "5"})
    assert answer.status == 413
    offset = tus.offset(url)
    assert offset <= 5
    assert tus.stored_bytes(url) == b"abcde"[:offset]
    assert tus.finishes(url) == 0


@checklist("DEF-05", "DEF-06")
def test_a_length_with_a_wrong_offset_is_not_kept(tus: TusClient) -> None:
    url = tus.create(None)
    tus.patch(url, 0, b"abc")
    assert tus.patch(url, 2, b"de", {"Upload-Length": "10"}).status == 409
    assert_deferred(tus, url, 3, b"abc")


@checklist("DEF-07")
def test_a_length_beyond_the_limit_is_refused(limited: TusClient) -> None:
    url = limited.create(None)
    limited.patch(url, 0, b"abc")
    assert limited.patch(url, 3, b"de", {"Upload-Length": "1001"}).status == 413
    assert_deferred(limited, url, 3, b"abc")
    assert limited.patch(url, 3, b"", {"Upload-Length": "1000"}).status == 204


@checklist("DEF-07")
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_data_beyond_the_limit_is_refused_before_the_length_is_known(limited: TusClient, framing: str) -> None:
    url = limited.create(None)
    limited.patch(url, 0, b"a" * 600)
    body = b"b" * 401
    assert limited.patch(url, 600, body if framing == "length" else iter([body[:200], body[200:]])).status == 413
    offset = limited.offset(url)
    assert 600 <= offset <= 1000
    assert_deferred(limited, url, offset, (b"a" * 600 + body)[:offset])
    answer = limited.patch(url, offset, b"b" * (1000 - offset), {"Upload-Length": "1000"})
    assert (answer.status, answer.offset) == (204, 1000)


@checklist("DEF-08")
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_creation_may_bring_bytes_and_defer_the_length(tus: TusClient, framing: str) -> None:
    body = pattern(50_000)
    headers = {"Upload-Defer-Length": "1", "Content-Type": OFFSET_STREAM}
    answer = tus.post(None, headers, body if framing == "length" else iter([body[:20_000], body[20_000:]]))
    assert (answer.status, answer.offset) == (201, 50_000)
    url = tus.path_of(answer.location)
    assert_deferred(tus, url, 50_000, body)
    assert tus.patch(url, 50_000, b"", {"Upload-Length": "50000"}).status == 204
    assert_known(tus, url, 50_000, 50_000, body)
    assert tus.finishes(url) == 1


@checklist("DEF-09")
@pytest.mark.parametrize("sent", [0, 1, 20_000, 49_999])
def test_a_cut_patch_that_brought_the_length_can_be_resumed(tus: TusClient, sent: int) -> None:
    content = pattern(50_000)
    url = tus.create(None)
    with tus.open_patch(url, 0, 50_000, {"Upload-Length": "50000"}) as wire:
        wire.send(content[:sent])
    offset = tus.wait_for_offset(url, sent)
    assert offset == sent
    answer = tus.head(url)
    length, deferred = answer.header("Upload-Length"), answer.header("Upload-Defer-Length")
    assert (length, deferred) in (("50000", None), (None, "1")), "never a mixture"
    answer = tus.patch(url, offset, content[offset:], {"Upload-Length": "50000"} if deferred else {})
    while answer.status in (409, 423):
        offset = tus.offset(url)
        answer = tus.patch(url, offset, content[offset:], {"Upload-Length": "50000"} if deferred else {})
    assert answer.status == 204
    assert_known(tus, url, 50_000, 50_000, content)
    assert tus.finishes(url) == 1
