"""The extension Creation (checklist section 3)."""

from __future__ import annotations

import re

import pytest

from tus_server.testing.conformance.client import HeaderMap, HeaderValue, TusClient
from tus_server.testing.conformance.test_core import NOT_NUMBERS

checklist = pytest.mark.checklist


@checklist("CRE-01")
@pytest.mark.parametrize("length", [1, 1000, 2**31 + 1, 2**40, 2**63 - 1])
def test_a_creation_answers_the_address_of_an_empty_upload(tus: TusClient, length: int) -> None:
    answer = tus.post(length)
    assert answer.status == 201
    assert answer.body == b""
    assert answer.header("Content-Length") in (None, "0")
    tus.assert_unchanged(tus.path_of(answer.location), 0, length, b"")


@checklist("CRE-01")
def test_the_location_is_a_path_with_an_unguessable_end(tus: TusClient) -> None:
    host: HeaderMap = {} if tus.is_blind else {"Host": "localhost" if tus.is_ours else "other.example"}
    locations = [tus.post(3, host).location for _ in range(20)]
    assert len(set(locations)) == 20
    for location in locations:
        path = tus.path_of(location)
        assert not tus.is_ours or location == path, "an absolute URL breaks behind proxies"
        assert path.startswith(tus.path)
        assert re.fullmatch(r"[A-Za-z0-9_-]{22,64}", tus.id_of(path)), path


@checklist("CRE-02")
def test_a_creation_without_a_length_is_refused(tus: TusClient) -> None:
    before = tus.count_uploads()
    answer = tus.post()
    assert (answer.status, answer.header("Location")) == (400, None)
    assert tus.count_uploads() == before


LENGTHS: dict[str, HeaderValue] = {
    **NOT_NUMBERS,
    "2^63": str(2**63),
    "2^64": str(2**64),
    "a hundred digits": "1" * 100,
    "five thousand digits": "1" * 5000,
}


@checklist("CRE-03")
@pytest.mark.parametrize("length", LENGTHS.values(), ids=LENGTHS)
def test_a_malformed_length_is_refused(tus: TusClient, length: HeaderValue) -> None:
    before = tus.count_uploads()
    answer = tus.post(headers={"Upload-Length": length})
    assert answer.status in (400, 413)
    assert answer.header("Location") is None
    assert tus.count_uploads() == before


@checklist("CRE-04")
@pytest.mark.parametrize("length", ["10", "0", "-1"])
def test_a_length_that_is_given_and_deferred_is_refused(tus: TusClient, length: str) -> None:
    before = tus.count_uploads()
    answer = tus.post(headers={"Upload-Length": length, "Upload-Defer-Length": "1"})
    assert (answer.status, answer.header("Location")) == (400, None)
    assert tus.count_uploads() == before


@checklist("CRE-05")
def test_an_empty_upload_is_finished_at_once(tus: TusClient) -> None:
    url = tus.create(0)
    tus.assert_unchanged(url, 0, 0, b"")
    assert tus.finishes(url) == 1
    answer = tus.patch(url, 0, b"")
    assert (answer.status, answer.offset) == (204, 0)
    assert tus.finishes(url) == 1


@checklist("CRE-06")
@pytest.mark.parametrize(("length", "status"), [(999, 201), (1000, 201), (1001, 413), (2**62, 413)])
def test_a_length_beyond_the_limit_is_refused(limited: TusClient, length: int, status: int) -> None:
    before = limited.count_uploads()
    answer = limited.post(length)
    assert answer.status == status
    assert (answer.header("Location") is None) == (status == 413)
    assert (limited.count_uploads() == before) == (status == 413)


@checklist("CRE-07")
@pytest.mark.parametrize("media_type", ["application/json", "application/x-www-form-urlencoded", "text/plain", ""])
def test_a_content_type_without_a_body_does_not_matter(tus: TusClient, media_type: str) -> None:
    answer = tus.post(3, {"Content-Type": media_type})
    assert answer.status == 201
    tus.assert_unchanged(tus.path_of(answer.location), 0, 3, b"")


@checklist("CRE-07")
def test_the_endpoint_answers_with_and_without_the_slash(tus: TusClient) -> None:
    for path in (tus.path.rstrip("/"), f"{tus.path.rstrip('/')}/"):
        answer = tus.request("POST", path, {"Upload-Length": "3"})
        assert answer.status in (201, 308, 404), "a POST redirected with 301 or 302 is repeated as GET"
        if tus.is_ours:
            assert answer.status == 201
            url = tus.path_of(answer.location)
            assert url.startswith(tus.path)
            assert tus.offset(f"{url.rstrip('/')}/") == tus.offset(url.rstrip("/")) == 0


@checklist("CRE-07")
def test_a_post_to_an_upload_is_refused(tus: TusClient) -> None:
    url = tus.create(3)
    before = tus.count_uploads()
    answer = tus.request("POST", url, {"Upload-Length": "3"})
    assert 400 <= answer.status < 500
    assert tus.count_uploads() == before
    tus.assert_unchanged(url, 0, 3, b"")


@checklist("CORE-06")
def test_a_hook_can_refuse_a_creation(guarded: TusClient) -> None:
    before = guarded.count_uploads()
    answer = guarded.post(3, {"X-Refuse": "create"})
    assert (answer.status, answer.header("Location")) == (403, None)
    assert b"Not for you." in answer.body
    assert guarded.count_uploads() == before
