"""The extension Creation With Upload (checklist section 5)."""

from __future__ import annotations

import time

import pytest

from tus_server.testing.conformance.client import OFFSET_STREAM, NoAnswer, TusClient, pattern

checklist = pytest.mark.checklist

STREAM = {"Content-Type": OFFSET_STREAM}


@checklist("CWU-01")
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("sent", [0, 1, 70_000, 99_999, 100_000])
def test_a_creation_may_bring_bytes(tus: TusClient, sent: int, framing: str) -> None:
    content = pattern(100_000)
    slices = (content[start : min(start + 30_000, sent)] for start in range(0, sent, 30_000))
    answer = tus.post(len(content), STREAM, content[:sent] if framing == "length" else slices)
    assert answer.status == 201
    assert answer.offset == sent or (sent == 0 and answer.offset is None)
    url = tus.path_of(answer.location)
    tus.assert_unchanged(url, sent, len(content), content[:sent])
    assert tus.finishes(url) == (sent == len(content))
    if sent < len(content):
        answer = tus.patch(url, sent, content[sent:])
        assert (answer.status, answer.offset) == (204, len(content))
    assert tus.stored_bytes(url) == content
    assert tus.finishes(url) == 1


@checklist("CWU-02")
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("too_many", [1, 500_000])
def test_a_body_longer_than_the_length_is_refused(tus: TusClient, too_many: int, framing: str) -> None:
    content = pattern(1000 + too_many)
    before = tus.count_uploads()
    slices = (content[start : start + 300] for start in range(0, len(content), 300))
    answer = tus.post(1000, STREAM, content if framing == "length" else slices)
    assert answer.status == 413
    if answer.header("Location") is None:
        assert tus.count_uploads() == before, "half an upload stays, and nobody knows its address"
    else:
        url = tus.path_of(answer.location)
        assert tus.offset(url) <= 1000
        tus.resume(url, content[:1000])


@checklist("CWU-02")
def test_a_body_longer_than_the_limit_is_refused(limited: TusClient) -> None:
    before = limited.count_uploads()
    assert limited.post(1001, STREAM, b"a" * 1001).status == 413
    assert limited.count_uploads() == before
    assert limited.post(1000, STREAM, b"a" * 1000).offset == 1000


@checklist("CWU-03")
@pytest.mark.parametrize(
    "media_type", [None, "", "text/plain", "application/octet-stream", "application/x-www-form-urlencoded"]
)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_of_another_type_is_never_stored(tus: TusClient, media_type: str | None, framing: str) -> None:
    before = tus.count_uploads()
    body = b"a=b&c=d"
    answer = tus.post(7, {"Content-Type": media_type}, body if framing == "length" else iter([body]))
    if answer.status == 201:
        tus.assert_unchanged(tus.path_of(answer.location), 0, 7, b"")
    else:
        assert answer.status == 415
        assert tus.count_uploads() == before


@checklist("CWU-04", "HAZ-07")
def test_the_server_says_go_on_or_answers_when_it_is_asked(tus: TusClient) -> None:
    content = pattern(10_000)
    headers = {**STREAM, "Upload-Length": "10000", "Content-Length": "10000", "Expect": "100-continue"}
    with tus.open("POST", tus.path, headers) as wire:
        assert wire.is_answered(), "neither 100 nor a final answer"
        wire.send(content)
        answer = wire.answer("POST")
    assert (answer.status, answer.interim, answer.offset) == (201, (100,), 10_000)
    assert tus.stored_bytes(tus.path_of(answer.location)) == content


@checklist("CWU-04", "HAZ-07")
def test_bad_headers_are_refused_before_the_body(tus: TusClient) -> None:
    headers = {**STREAM, "Upload-Length": "-1", "Content-Length": "10000", "Expect": "100-continue"}
    with tus.open("POST", tus.path, headers) as wire:
        assert wire.is_answered()
        assert wire.answer("POST").status == 400
    url = tus.create(100)
    with tus.open("PATCH", url, tus.patch_headers(5, {"Content-Length": "10", "Expect": "100-continue"})) as wire:
        assert wire.is_answered()
        assert wire.answer("PATCH").status == 409
    tus.assert_unchanged(url, 0, 100, b"")


@checklist("CWU-05")
@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_creation_cut_in_its_body_leaves_the_server_healthy(clocked: TusClient, how: str) -> None:
    headers = {**STREAM, "Upload-Length": "100000", "Content-Length": "100000"}
    for _ in range(3):
        wire = clocked.open("POST", clocked.path, headers)
        wire.send(b"a" * 50_000)
        wire.rst() if how == "rst" else wire.fin()
    assert clocked.stored_bytes(clocked.upload(b"abc")) == b"abc"


@checklist("CWU-05")
def test_a_half_closed_creation_tells_where_it_stands_or_is_closed(tus: TusClient) -> None:
    content = pattern(1000)
    headers = {**STREAM, "Upload-Length": "1000", "Content-Length": "1000"}
    with tus.open("POST", tus.path, headers) as wire:
        wire.send(content[:400])
        wire.half_close()
        try:
            answer = wire.answer("POST")
        except NoAnswer:
            return
    assert answer.status >= 400 or (answer.status, answer.offset) == (201, 400), answer
    if location := answer.header("Location"):
        tus.resume(tus.path_of(location), content)


@checklist("CWU-06")
def test_an_empty_upload_with_that_type_is_finished_once(tus: TusClient) -> None:
    answer = tus.post(0, STREAM)
    assert answer.status == 201
    url = tus.path_of(answer.location)
    tus.assert_unchanged(url, 0, 0, b"")
    assert tus.finishes(url) == 1


@checklist("CWU-01", "CORE-28")
def test_a_large_creation_with_upload(tus: TusClient) -> None:
    content = pattern(24 * 1024 * 1024)
    started = time.monotonic()
    answer = tus.post(len(content), STREAM, content)
    assert answer.offset == len(content)
    assert time.monotonic() - started < 60
    assert tus.stored_bytes(tus.path_of(answer.location)) == content
