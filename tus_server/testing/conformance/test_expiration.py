"""The extension Expiration (checklist section 7). The server's clock is moved by a file; nothing waits."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest

from tus_server.testing.conformance.client import OFFSET_STREAM, Answer, TusClient, pattern

checklist = pytest.mark.checklist

IMF_FIXDATE = re.compile(
    r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} \d\d:\d\d:\d\d GMT"
)


def expires(answer: Answer) -> datetime:
    """Return ``Upload-Expires``, which must be there and an IMF-fixdate (the site's language is Russian)."""
    value = answer.header("Upload-Expires")
    assert value is not None, answer
    assert IMF_FIXDATE.fullmatch(value), value
    return parsedate_to_datetime(value)


def in_an_hour(ahead: float = 0) -> tuple[datetime, datetime]:
    middle = datetime.now(UTC) + timedelta(seconds=3600 + ahead)
    return middle - timedelta(seconds=30), middle + timedelta(seconds=30)


@checklist("EXP-01", "EXP-02", "EXP-03")
def test_answers_say_when_the_upload_expires(clocked: TusClient) -> None:
    created = clocked.post(10)
    url = clocked.path_of(created.location)
    for answer in (created, clocked.head(url), clocked.patch(url, 0, b"abc"), clocked.patch(url, 3, b"")):
        low, high = in_an_hour()
        assert low <= expires(answer) <= high


@checklist("EXP-02")
def test_accepted_bytes_move_the_expiry(clocked: TusClient) -> None:
    url = clocked.create(10)
    clocked.travel(3000)
    low, high = in_an_hour(3000)
    assert low <= expires(clocked.patch(url, 0, b"abc")) <= high
    assert low <= expires(clocked.head(url)) <= high
    clocked.travel(6000)
    assert clocked.patch(url, 3, b"defghij").status == 204
    assert clocked.stored_bytes(url) == b"abcdefghij"


@checklist("EXP-02")
def test_a_refused_patch_does_not_move_the_expiry(clocked: TusClient) -> None:
    url = clocked.create(10)
    before = expires(clocked.head(url))
    clocked.travel(3000)
    assert clocked.patch(url, 5, b"abc").status == 409
    assert expires(clocked.head(url)) == before


@checklist("EXP-04")
def test_an_expired_upload_is_gone(clocked: TusClient) -> None:
    url = clocked.create(10)
    clocked.patch(url, 0, b"abc")
    clocked.travel(3500)
    assert clocked.head(url).status == 200
    clocked.travel(3700)
    for answer in (clocked.head(url), clocked.patch(url, 3, b"defghij"), clocked.patch(url, 3, b"")):
        assert answer.status in (404, 410)
        assert answer.offset is None
    assert clocked.delete(url).status in (204, 404, 410)
    assert clocked.stored_bytes(url) in (None, b"abc")
    assert clocked.finishes(url) == 0


@checklist("EXP-05")
def test_a_finished_upload_does_not_expire(clocked: TusClient) -> None:
    finished = clocked.post(3, {"Content-Type": OFFSET_STREAM}, b"abc")
    assert finished.header("Upload-Expires") is None
    url = clocked.path_of(finished.location)
    other = clocked.create(3)
    assert clocked.patch(other, 0, b"abc").header("Upload-Expires") is None
    empty = clocked.create(0)
    clocked.travel(10**7)
    for one in (url, other, empty):
        answer = clocked.head(one)
        assert (answer.status, answer.header("Upload-Expires")) == (200, None)
    assert clocked.stored_bytes(url) == b"abc"


@checklist("EXP-05")
def test_a_patch_that_runs_while_the_upload_expires_is_not_cut(clocked: TusClient) -> None:
    content = pattern(100_000)
    url = clocked.create(len(content))
    with clocked.open_patch(url, 0, len(content)) as wire:
        wire.send(content[:50_000])
        assert clocked.wait_for_offset(url, 50_000) == 50_000
        clocked.travel(7200)
        wire.send(content[50_000:])
        answer = wire.answer("PATCH")
    assert (answer.status, answer.offset) == (204, len(content))
    clocked.assert_unchanged(url, len(content), len(content), content)
    assert clocked.finishes(url) == 1


@checklist("EXP-01", "EXP-02")
def test_without_a_lifetime_there_is_no_expiry(eternal: TusClient) -> None:
    created = eternal.post(10)
    url = eternal.path_of(created.location)
    for answer in (created, eternal.head(url), eternal.patch(url, 0, b"abc")):
        assert answer.header("Upload-Expires") is None
