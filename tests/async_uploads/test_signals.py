"""Signals are sent inside the transaction that records their event: once, or again when that was rolled back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.db import connection, transaction
from django.dispatch import Signal
from django.test import Client, TestCase
from django.utils import timezone

from async_uploads import signals
from async_uploads.cleanup import reconcile
from async_uploads.journal import AsyncTempFile
from async_uploads.signals import file_promoted, promotion_failed, upload_expired, upload_finished
from async_uploads.testing import upload_file
from tests.async_uploads.promoting import field_of, make_upload, media, row_of, tree
from tests.async_uploads.tusclient import create, field_id, patch, request, upload
from tests.docs.pages import codes_in, read_table
from tests.testapp.models import Document, Guarded

assert media

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("media")]


class Boom(Exception):
    """What a receiver raises."""


class Receiver:
    """Notes what it hears and writes a record about it; raises as often as it is told."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.failures = 0

    def __call__(self, sender: Any, **facts: Any) -> None:
        assert connection.in_atomic_block
        self.heard.append({"sender": sender, **facts})
        Guarded.objects.create(file=f"heard/{facts['upload'].pk}")
        if self.failures:
            self.failures -= 1
            raise Boom

    @property
    def written(self) -> int:
        return Guarded.objects.count()


@contextmanager
def listening(signal: Signal, sender: Any = None) -> Iterator[Receiver]:
    receiver = Receiver()
    signal.connect(receiver, sender=sender)
    try:
        yield receiver
    finally:
        signal.disconnect(receiver, sender=sender)


def fail(*args: Any) -> None:
    raise OSError("the disk is away")


def test_the_table_has_all_signals() -> None:
    documented = {codes_in(row[0])[0] for row in read_table("reference/signals", "| signal | when |")}
    assert documented == {name for name, value in vars(signals).items() if type(value) is Signal}


# upload_finished.


def test_a_finished_tus_upload_is_told_once(client: Client) -> None:
    with listening(upload_finished, Document) as receiver:
        key = upload(client, field_id(Document), "a.txt", b"hello")
    [heard] = receiver.heard
    assert heard["upload"] == row_of(key)
    assert heard["upload"].is_finished
    assert heard["field"] is field_of(Document)
    assert receiver.written == 1


def test_a_receiver_of_another_model_hears_nothing(client: Client) -> None:
    with listening(upload_finished, Guarded) as receiver:
        upload(client, field_id(Document), "a.txt", b"hello")
    assert receiver.heard == []


def test_a_receiver_that_raises_leaves_the_upload_unfinished_and_the_next_request_finishes_it(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with listening(upload_finished) as receiver:
        receiver.failures = 1
        url = create(client, field_id(Document), "a.txt", 5)["Location"]
        assert patch(client, url, 0, b"hello").status_code == 503
        row = AsyncTempFile.objects.get()
        assert not row.is_finished
        assert receiver.written == 0
        assert request(client, "HEAD", url)["Upload-Offset"] == "5"
    assert row_of(row.key).is_finished
    assert (len(receiver.heard), receiver.written) == (2, 1)
    assert "A receiver of upload_finished failed" in caplog.text


def test_an_upload_made_by_code_is_told() -> None:
    with listening(upload_finished) as receiver:
        key = upload_file(Document.file, b"hello", name="a.txt")
    assert [heard["upload"].key for heard in receiver.heard] == [key]


# file_promoted.


def test_a_promoted_file_is_told_once_with_its_record(media: Path) -> None:
    with listening(file_promoted, Document) as receiver:
        with transaction.atomic():
            document = Document.objects.create(file=make_upload(field_of(Document)))
            assert receiver.heard == []
        document.save()
        reconcile()
    [heard] = receiver.heard
    assert heard["instance"] == document
    assert heard["instance"].file.name == "docs/a.txt"
    assert heard["upload"].is_promoted
    assert receiver.written == 1


def test_a_rolled_back_save_is_not_told() -> None:
    with listening(file_promoted) as receiver, suppress(Boom), transaction.atomic():
        Document.objects.create(file=make_upload(field_of(Document)))
        raise Boom
    assert receiver.heard == []


def test_a_receiver_that_raises_does_not_disturb_the_save_and_hears_again(media: Path) -> None:
    key = make_upload(field_of(Document))
    with listening(file_promoted) as receiver:
        receiver.failures = 1
        document = Document.objects.create(file=key)
        assert not row_of(key).is_promoted
        assert "Boom" in row_of(key).error
        assert receiver.written == 0
        with document.file.open() as file:
            assert file.read() == b"content"
        reconcile(now=timezone.now() + timedelta(minutes=2))
    assert row_of(key).is_promoted
    assert (len(receiver.heard), receiver.written) == (2, 1)
    assert tree(media) == {"docs/a.txt": b"content"}


def test_a_receiver_may_save_the_instance() -> None:
    def retitle(sender: Any, instance: Document, **kwargs: Any) -> None:
        instance.title = "promoted"
        instance.save()

    file_promoted.connect(retitle, sender=Document)
    try:
        Document.objects.create(file=make_upload(field_of(Document)))
    finally:
        file_promoted.disconnect(retitle, sender=Document)
    document = Document.objects.get()
    assert (document.title, document.file.name) == ("promoted", "docs/a.txt")


@pytest.mark.django_db(transaction=False)
def test_in_a_test_case_it_is_told_by_the_callbacks_of_the_commit() -> None:
    with listening(file_promoted) as receiver, TestCase.captureOnCommitCallbacks(execute=True):
        Document.objects.create(file=make_upload(field_of(Document)))
        assert receiver.heard == []
    assert len(receiver.heard) == 1


# upload_expired.


def test_an_expired_upload_is_told_once() -> None:
    key = make_upload(field_of(Document), finished=False, expires_at=timezone.now() - timedelta(seconds=1))
    with listening(upload_expired, Document) as receiver:
        reconcile(dry_run=True)
        assert receiver.heard == []
        assert reconcile().expired == 1
        assert reconcile().expired == 0
    assert [heard["upload"].key for heard in receiver.heard] == [key]
    assert receiver.written == 1


def test_a_receiver_that_raises_keeps_the_row_of_an_expired_upload_for_the_next_run(media: Path) -> None:
    key = make_upload(field_of(Document), finished=False, expires_at=timezone.now() - timedelta(seconds=1))
    with listening(upload_expired) as receiver:
        receiver.failures = 1
        assert reconcile().failed == 1
        assert row_of(key).is_expiring
        assert receiver.written == 0
        assert reconcile().expired == 1
    assert receiver.written == 1
    assert not AsyncTempFile.objects.exists()
    assert tree(media) == {}


# promotion_failed.


def test_a_failed_promotion_is_told_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(default_storage.__class__, "move_file", fail)
    with listening(promotion_failed, Document) as receiver:
        Document.objects.create(file=make_upload(field_of(Document)))
        reconcile(now=timezone.now() + timedelta(minutes=2))
    assert [str(heard["error"]) for heard in receiver.heard] == ["the disk is away"] * 2
    assert [heard["upload"].attempts for heard in receiver.heard] == [1, 2]
    assert receiver.written == 2


def test_a_receiver_that_raises_does_not_hide_the_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(default_storage.__class__, "move_file", fail)
    key = make_upload(field_of(Document))
    with listening(promotion_failed) as receiver:
        receiver.failures = 1
        Document.objects.create(file=key)
    row = row_of(key)
    assert row.attempts == 1
    assert "the disk is away" in row.error
    assert row.retry_at is not None
    assert receiver.written == 0
