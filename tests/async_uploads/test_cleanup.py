"""What the cleanup finishes, adopts, expires and forgets, and what it never touches."""

from __future__ import annotations

import fcntl
import json
import threading
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from async_uploads import promotion
from async_uploads.cleanup import MANY_ATTEMPTS, reconcile
from async_uploads.journal import EXPIRED, AsyncTempFile, UploadState
from tests.async_uploads.promoting import field_of, make_upload, media, pass_turns, row_of, tree
from tests.async_uploads.test_promotion import run_in_threads
from tests.async_uploads.test_saving import other
from tests.testapp.models import Document

assert media
assert other

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("media")]

OLD = timedelta(hours=49)


def make_old(key: str, by: timedelta = OLD) -> None:
    """Let an upload's times lie in the past."""
    past = timezone.now() - by
    AsyncTempFile.objects.filter(key=key).update(created_at=past, last_activity=past)


def claimed(content: bytes = b"hello") -> str:
    """Let a process die right after the commit of its save."""
    key = make_upload(field_of(Document), content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(promotion, "promote", lambda row: False)
        Document.objects.create(file=key)
    pass_turns()
    return key


def test_claimed_files_are_promoted(media: Path) -> None:
    key = claimed()
    assert reconcile().promoted == 1
    assert tree(media) == {"docs/a.txt": b"hello"}
    assert row_of(key).is_promoted


def test_two_runs_at_once_share_the_work(media: Path) -> None:
    for number in range(8):
        claimed(str(number).encode())
    reports = run_in_threads(lambda number: reconcile(), 2)
    assert sum(report.promoted for report in reports) == 8
    assert sorted(tree(media).values()) == [str(number).encode() for number in range(8)]


def test_failed_promotions_wait_for_their_time(media: Path) -> None:
    claimed()
    AsyncTempFile.objects.update(retry_at=timezone.now() + timedelta(minutes=1))
    assert reconcile().promoted == 0
    assert reconcile(now=timezone.now() + timedelta(minutes=2)).promoted == 1


def test_a_promotion_that_fails_again_is_counted(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = claimed()

    def fail(*args: Any) -> None:
        raise OSError("away")

    monkeypatch.setattr(default_storage.__class__, "move_file", fail)
    assert reconcile().failed == 1
    assert row_of(key).attempts == 1


def test_a_claim_whose_record_is_gone_is_given_back(media: Path) -> None:
    key = claimed()
    Document.objects.all().delete()
    assert reconcile().returned == 1
    assert not row_of(key).is_claimed
    Document.objects.create(file=key)
    assert tree(media) == {"docs/a.txt": b"hello"}


@pytest.mark.parametrize("is_after", [False, True])
def test_an_interrupted_move_is_undone_when_its_record_is_gone(media: Path, is_after: bool) -> None:
    key = claimed()
    (media / "docs").mkdir()
    (media / "docs/a.txt").hardlink_to(media / key)
    if is_after:
        (media / key).unlink()
    Document.objects.all().delete()
    assert reconcile().returned == 1
    assert tree(media) == {key: b"hello"}


def test_a_foreign_file_with_the_promised_name_stays_when_the_record_is_gone(media: Path) -> None:
    key = claimed()
    (media / "docs").mkdir()
    (media / "docs/a.txt").write_bytes(b"foreign")
    Document.objects.all().delete()
    assert reconcile().returned == 1
    assert tree(media) == {key: b"hello", "docs/a.txt": b"foreign"}


def test_a_claim_that_another_database_may_still_commit_is_not_counted_as_returned(media: Path, other: str) -> None:
    key = make_upload(field_of(Document))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(promotion, "promote", lambda row: False)
        Document(file=key).save(using=other)
    pass_turns()
    Document.objects.using(other).all().delete()
    report = reconcile()
    assert (report.returned, report.failed, report.promoted) == (0, 0, 0)
    assert row_of(key).is_claimed
    AsyncTempFile.objects.update(last_activity=timezone.now() - promotion.COMMIT_GRACE)
    assert reconcile(now=timezone.now() + timedelta(hours=1)).returned == 1
    assert not row_of(key).is_claimed


def test_keys_that_stand_in_columns_are_adopted(media: Path) -> None:
    inserted, updated = make_upload(field_of(Document), b"one"), make_upload(field_of(Document), b"two", "b.txt")
    Document(file=inserted).save_base(raw=True)
    Document.objects.create()
    Document.objects.filter(file="").update(file=updated)
    assert reconcile().adopted == 2
    assert tree(media) == {"docs/a.txt": b"one", "docs/b.txt": b"two"}
    assert {each.file.name for each in Document.objects.all()} == {"docs/a.txt", "docs/b.txt"}


def test_a_referenced_upload_is_adopted_however_old_it_is(media: Path) -> None:
    key = make_upload(field_of(Document), b"hello")
    Document(file=key).save_base(raw=True)
    make_old(key, timedelta(days=400))
    report = reconcile()
    assert (report.adopted, report.expired) == (1, 0)
    assert tree(media) == {"docs/a.txt": b"hello"}


def test_an_incomplete_upload_in_a_column_is_kept_and_reported(media: Path) -> None:
    key = make_upload(field_of(Document), finished=False, expires_at=timezone.now() - timedelta(days=1))
    Document(file=key).save_base(raw=True)
    report = reconcile()
    assert list(tree(media)) == [key]
    assert report.expired == 0
    assert any(key in problem for problem in report.problems)
    assert row_of(key).claim is None


def test_a_key_without_an_upload_is_reported(media: Path) -> None:
    Document(file="async-temp-files/2026/01/01/gone.txt").save_base(raw=True)
    assert len(reconcile().problems) == 1


def test_finished_uploads_expire_some_hours_after_their_last_activity(media: Path) -> None:
    old, young = make_upload(field_of(Document)), make_upload(field_of(Document))
    make_old(old)
    make_old(young, timedelta(hours=47))
    assert reconcile().expired == 1
    assert list(tree(media)) == [young]
    assert AsyncTempFile.objects.get().key == young


def test_unfinished_uploads_expire_at_their_own_time(media: Path) -> None:
    over = make_upload(field_of(Document), finished=False, expires_at=timezone.now() - timedelta(seconds=1))
    running = make_upload(field_of(Document), finished=False)
    make_old(running)
    assert reconcile().expired == 1
    assert list(tree(media)) == [running]
    assert not AsyncTempFile.objects.filter(key=over).exists()


def test_an_upload_with_a_living_lease_is_never_removed(media: Path) -> None:
    key = make_upload(field_of(Document), finished=False, expires_at=timezone.now() - timedelta(days=1))
    UploadState.objects.create(upload=row_of(key), lease_token="a", lease_expires_at=timezone.now() + timedelta(days=1))
    assert reconcile().expired == 0
    UploadState.objects.update(lease_expires_at=Now())
    assert reconcile().expired == 1


def test_an_upload_whose_file_is_locked_is_never_removed(media: Path) -> None:
    key = make_upload(field_of(Document), finished=False, expires_at=timezone.now() - timedelta(days=1))
    with (media / key).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert reconcile().expired == 0
    assert row_of(key).claim is None
    assert reconcile().expired == 1


def test_claimed_uploads_never_expire(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = claimed()
    make_old(key, timedelta(days=400))
    monkeypatch.setattr(promotion, "promote", lambda row: False)
    assert reconcile().expired == 0
    assert list(tree(media)) == [key]


def test_an_upload_that_is_claimed_while_it_would_expire_is_kept(media: Path) -> None:
    key = make_upload(field_of(Document), b"hello")
    make_old(key)
    is_claimed = threading.Event()

    def save_slowly() -> None:
        try:
            with transaction.atomic():
                Document.objects.create(file=key)
                is_claimed.set()
                threading.Event().wait(0.3)  # the cleanup meets the lock meanwhile
        finally:
            connection.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(promotion, "promote", lambda row: False)  # the process dies after its commit
        thread = threading.Thread(target=save_slowly)
        thread.start()
        assert is_claimed.wait(60)
        assert reconcile().expired == 0
        thread.join()
    pass_turns()
    assert reconcile().promoted == 1
    assert tree(media) == {"docs/a.txt": b"hello"}


def test_an_expiry_that_was_interrupted_is_finished(media: Path) -> None:
    key = make_upload(field_of(Document), claim=EXPIRED)
    (media / key).unlink()
    assert reconcile().expired == 1
    assert not AsyncTempFile.objects.exists()


def test_files_that_no_row_names_are_left_alone(media: Path) -> None:
    foreign = media / "async-temp-files/2020/01/01/foreign.txt"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"foreign")
    reconcile()
    assert foreign.exists()


def test_rows_of_promoted_files_are_kept_for_some_hours(media: Path) -> None:
    Document.objects.create(file=make_upload(field_of(Document)))
    assert reconcile().removed == 0
    AsyncTempFile.objects.update(promoted_at=timezone.now() - OLD)
    assert reconcile().removed == 1
    assert tree(media) == {"docs/a.txt": b"content"}
    assert Document.objects.get().file.size == 7


def test_uploads_of_a_field_that_is_gone_are_reported(media: Path) -> None:
    key = make_upload(field_of(Document))
    make_old(key)
    AsyncTempFile.objects.update(field_label="testapp.Gone.file")
    assert len(reconcile().problems) == 1
    assert list(tree(media)) == [key]


def test_uploads_in_a_storage_that_their_field_has_left_are_reported(media: Path) -> None:
    left, over = make_upload(field_of(Document)), make_upload(field_of(Document))
    AsyncTempFile.objects.filter(key=left).update(storage="filesystem:/old")
    make_old(left)
    make_old(over)
    report = reconcile()
    assert report.expired == 1
    assert len(report.problems) == 1
    assert left in report.problems[0]
    assert list(tree(media)) == [left]
    assert row_of(left).claim is None


def test_a_dry_run_changes_nothing(media: Path) -> None:
    claimed()
    old = make_upload(field_of(Document), name="b.txt")
    make_old(old)
    inserted = make_upload(field_of(Document), name="c.txt")
    Document(file=inserted).save_base(raw=True)
    before = tree(media), list(AsyncTempFile.objects.order_by("pk").values())
    report = reconcile(dry_run=True)
    assert (report.promoted, report.adopted, report.expired) == (1, 1, 1)
    assert (tree(media), list(AsyncTempFile.objects.order_by("pk").values())) == before


def run(*arguments: str) -> str:
    output = StringIO()
    call_command("cleanup_async_temp_files", *arguments, stdout=output)
    return output.getvalue()


def test_the_command_reports_counts(media: Path) -> None:
    make_old(make_upload(field_of(Document)))
    assert run("--dry-run") == "1 would be: abandoned uploads removed\n"
    assert run() == "1 abandoned uploads removed\n"
    assert run() == "Nothing to do.\n"
    assert run("--quiet") == ""


def test_the_command_reports_json(media: Path) -> None:
    make_old(make_upload(field_of(Document)))
    report = json.loads(run("--json"))
    assert report["expired"] == 1
    assert report["problems"] == []
    assert report["dry_run"] is False


def test_the_age_can_be_given_in_hours(media: Path) -> None:
    make_old(make_upload(field_of(Document)), timedelta(hours=2))
    run("--age", "3")
    assert AsyncTempFile.objects.exists()
    run("--age", "1.5")
    assert not AsyncTempFile.objects.exists()


def test_a_negative_age_is_refused() -> None:
    with pytest.raises(CommandError):
        run("--age=-1")


def test_the_command_fails_when_something_needs_a_person(media: Path) -> None:
    claimed()
    later = timezone.now() + timedelta(days=1)
    AsyncTempFile.objects.update(attempts=MANY_ATTEMPTS, error="OSError: away", retry_at=later)
    with pytest.raises(CommandError, match="OSError: away") as caught:
        run("--quiet")
    assert caught.value.returncode == 3
