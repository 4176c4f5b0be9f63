"""The extension Termination (checklist section 9)."""

from __future__ import annotations

from functools import partial

import pytest

from tus_server.testing.conformance.client import TusClient, at_once
from tus_server.testing.conformance.test_core import UNKNOWN

checklist = pytest.mark.checklist


@checklist("TERM-01", "TERM-02")
@pytest.mark.parametrize("sent", [0, 3, 10], ids=["empty", "unfinished", "finished"])
def test_a_terminated_upload_is_gone_with_its_bytes(tus: TusClient, sent: int) -> None:
    url = tus.create(10)
    if sent:
        tus.patch(url, 0, b"0123456789"[:sent])
    answer = tus.delete(url)
    assert (answer.status, answer.body) == (204, b"")
    assert tus.stored_files(url) == []
    for answer in (
        tus.head(url),
        tus.patch(url, sent, b"x"),
        tus.patch(url, 0, b"x"),
        tus.delete(url),
        tus.request("GET", url, is_checked=False),
    ):
        assert answer.status in (404, 405, 410)
        assert answer.offset is None
        assert b"0123" not in answer.body
    assert tus.stored_files(url) == []


@checklist("TERM-01")
def test_an_upload_of_unknown_length_can_be_terminated(tus: TusClient) -> None:
    url = tus.create(None)
    tus.patch(url, 0, b"abc")
    assert tus.delete(url).status == 204
    assert tus.stored_files(url) == []


@checklist("TERM-05")
def test_of_deletes_at_once_all_end_well(tus: TusClient) -> None:
    for _ in range(3):
        url = tus.create(10)
        tus.patch(url, 0, b"abc")
        answers = at_once(*[partial(tus.delete, url)] * 4)
        assert {answer.status for answer in answers} <= {204, 404, 410, 423}
        assert 204 in {answer.status for answer in answers}
        assert tus.head(url).status in (404, 410)
        assert tus.stored_files(url) == []


@checklist("TERM-03")
def test_an_unknown_upload_cannot_be_terminated(tus: TusClient) -> None:
    answer = tus.delete(f"{tus.path}{UNKNOWN}" if tus.is_ours else f"{tus.path}/{UNKNOWN}")
    assert (answer.status, answer.offset) == (404, None)


@checklist("TERM-05")
def test_the_endpoint_itself_cannot_be_deleted(tus: TusClient) -> None:
    url = tus.upload(b"abc")
    assert tus.delete(tus.path).status in ((405,) if tus.is_ours else (400, 404, 405))
    assert tus.stored_bytes(url) == b"abc"


@checklist("TERM-05")
def test_a_hook_can_refuse_a_termination(guarded: TusClient) -> None:
    url = guarded.upload(b"abc")
    answer = guarded.delete(url, {"X-Refuse": "terminate"})
    assert answer.status == 403
    assert b"A record owns this file." in answer.body
    guarded.assert_unchanged(url, 3, 3, b"abc")
    assert guarded.delete(url).status == 204
