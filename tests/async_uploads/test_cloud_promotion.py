"""Promotion in the cloud: by a copy whose source stays for a while, or without one (zero copy)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from async_uploads import promotion
from async_uploads.cleanup import reconcile
from async_uploads.journal import EXPIRED, AsyncTempFile, UploadState
from async_uploads.models import AsyncFileInputData
from async_uploads.pending import PendingUpload
from tests.async_uploads.clouds import Cloud, Clouded, CloudStorage, storage
from tests.async_uploads.promoting import field_of, pass_turns, row_of
from tests.async_uploads.test_promotion import run_in_threads
from tests.async_uploads.tusclient import create, field_id, patch, request, upload

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)
OLD = timedelta(hours=49)


@pytest.fixture(autouse=True)
def cloud(monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """An empty cloud."""
    cloud = Cloud()
    monkeypatch.setattr(CloudStorage, "cloud", cloud)
    return cloud


@pytest.fixture
def zero_copy(cloud: Cloud) -> Cloud:
    cloud.takes_zero_copy = True
    return cloud


def put(content: bytes = b"hello", name: str = "a.txt") -> str:
    """Upload a file by tus; returns its key."""
    return upload(Client(), field_id(Clouded), name, content)


def claim(key: str, is_dead: bool = True) -> None:
    """Let a process die, or be slow, right after the commit of its save."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(promotion, "promote", lambda row: False)
        Clouded.objects.create(file=key)
    if is_dead:
        pass_turns()


def read(document: Clouded | None = None) -> bytes:
    with (document or Clouded.objects.get()).file.open() as file:
        return bytes(file.read())


# By a copy.


def test_a_copied_file_leaves_its_source_until_no_url_reaches_it(cloud: Cloud) -> None:
    key = put()
    Clouded.objects.create(file=key)
    assert cloud.objects == {key: b"hello", "cloud/a.txt": b"hello"}
    row = row_of(key)
    assert (row.is_promoted, row.source_removed_at) == (True, None)
    now = timezone.now()
    assert reconcile(now=now + HOUR - timedelta(minutes=1)).sources == 0
    assert reconcile(now=now + HOUR, dry_run=True).sources == 1
    assert key in cloud.objects
    assert reconcile(now=now + HOUR).sources == 1
    assert cloud.objects == {"cloud/a.txt": b"hello"}
    assert row_of(key).source_removed_at is not None
    cloud.calls.clear()
    assert reconcile(now=now + HOUR).sources == 0
    assert cloud.calls == []


def test_the_row_of_a_promoted_file_stays_until_its_source_is_gone(cloud: Cloud) -> None:
    key = put()
    Clouded.objects.create(file=key)
    cloud.is_away = True
    report = reconcile(now=timezone.now() + OLD)
    assert (report.failed, report.sources, report.removed) == (1, 0, 0)
    cloud.is_away = False
    report = reconcile(now=timezone.now() + OLD)
    assert (report.failed, report.sources, report.removed) == (0, 1, 1)
    assert cloud.objects == {"cloud/a.txt": b"hello"}
    assert not AsyncTempFile.objects.exists()


def test_a_source_in_a_storage_that_the_field_has_left_is_reported(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = put()
    Clouded.objects.create(file=key)
    monkeypatch.setattr(CloudStorage, "identity", lambda self: "another")
    cloud.calls.clear()
    report = reconcile(now=timezone.now() + OLD)
    assert (report.sources, report.removed) == (0, 0)
    assert key in report.problems[0]
    assert cloud.calls == []


def test_a_large_copy_is_left_to_the_cleanup_and_read_meanwhile(cloud: Cloud, settings: Any) -> None:
    settings.ASYNC_UPLOADS = {"COPY_IN_BACKGROUND_ABOVE": 4}
    key = put()
    document = Clouded.objects.create(file=key)
    assert list(cloud.objects) == [key]
    assert document.file.name == "cloud/a.txt"
    assert read() == read(document) == b"hello"
    assert reconcile().promoted == 1
    assert set(cloud.objects) == {key, "cloud/a.txt"}
    assert read() == read(document) == b"hello"


def test_a_cloud_that_is_away_is_asked_again_later_and_later(cloud: Cloud) -> None:
    key = put()
    claim(key)
    cloud.is_away = True
    waits, now = [], timezone.now()
    for _ in range(4):
        assert reconcile(now=now).failed == 1
        retry_at = row_of(key).retry_at
        assert retry_at is not None
        waits.append(round((retry_at - timezone.now()) / timedelta(minutes=1)))
        assert reconcile(now=retry_at - timedelta(seconds=1)).failed == 0
        now = retry_at
    assert waits == [1, 2, 4, 8]
    assert row_of(key).attempts == 4
    cloud.is_away = False
    assert read() == b"hello"
    assert reconcile(now=now).promoted == 1
    assert cloud.objects["cloud/a.txt"] == b"hello"


def test_a_run_that_copies_for_long_is_left_alone(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = put(), put()
    claim(first)
    claim(second)
    AsyncTempFile.objects.filter(key=first).update(length=36 * 1024**3)
    monkeypatch.setattr(CloudStorage, "stored_size", lambda storage, name: None)
    copy = CloudStorage.move_file

    def copy_meanwhile(self: CloudStorage, *names: str) -> None:
        monkeypatch.setattr(CloudStorage, "move_file", copy)
        others = reconcile(now=timezone.now() + HOUR)
        assert (others.promoted, others.failed) == (1, 0)
        assert row_of(second).is_promoted
        copy(self, *names)

    monkeypatch.setattr(CloudStorage, "move_file", copy_meanwhile)
    assert reconcile().promoted == 1
    assert row_of(first).is_promoted


def test_a_copy_that_was_not_recorded_is_recorded_by_the_next_run(cloud: Cloud) -> None:
    key = put()
    claim(key)
    storage.move_file(key, "cloud/a.txt")
    assert reconcile().promoted == 1
    assert row_of(key).is_promoted
    assert set(cloud.objects) == {key, "cloud/a.txt"}


def test_two_promotions_at_once_make_one_file(cloud: Cloud) -> None:
    key = put()
    claim(key, is_dead=False)
    assert run_in_threads(lambda number: promotion.promote(row_of(key)), 4) == [True] * 4
    assert set(cloud.objects) == {key, "cloud/a.txt"}
    assert Clouded.objects.get().file.name == "cloud/a.txt"


def test_a_strangers_object_under_the_name_is_left_alone(cloud: Cloud) -> None:
    key = put()
    claim(key)
    cloud.objects["cloud/a.txt"] = b"stranger"
    assert reconcile().promoted == 1
    name = Clouded.objects.get().file.name
    assert name == row_of(key).moved_to_location != "cloud/a.txt"
    assert cloud.objects == {key: b"hello", "cloud/a.txt": b"stranger", name: b"hello"}


@pytest.mark.parametrize("is_copied", [False, True])
def test_a_claim_without_a_record_is_given_back_with_its_source(cloud: Cloud, is_copied: bool) -> None:
    key = put()
    claim(key)
    if is_copied:
        storage.move_file(key, "cloud/a.txt")
    Clouded.objects.all().delete()
    assert reconcile().returned == 1
    assert cloud.objects == {key: b"hello"}
    Clouded.objects.create(file=key)
    assert read() == b"hello"


class Killed(BaseException):
    """The process ends here; nothing of ours catches it."""


@pytest.mark.parametrize("is_late", [False, True])
def test_a_process_that_copies_a_deleted_records_file_and_dies_leaves_nothing_that_no_row_names(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, is_late: bool
) -> None:
    key = put()
    copy = CloudStorage.move_file

    def copy_meanwhile(self: CloudStorage, *names: str) -> None:
        Clouded.objects.all().delete()
        if is_late:  # frozen, for longer than the others wait
            pass_turns()
        assert reconcile().returned == int(is_late)
        copy(self, *names)
        raise Killed

    monkeypatch.setattr(CloudStorage, "move_file", copy_meanwhile)
    with pytest.raises(Killed):
        Clouded.objects.create(file=key)
    monkeypatch.setattr(CloudStorage, "move_file", copy)
    assert set(cloud.objects) == {key, "cloud/a.txt"}
    assert row_of(key).moved_to_location == "cloud/a.txt"  # whoever is late leaves it where a row names it
    assert reconcile(now=timezone.now() + HOUR).returned == int(not is_late)
    assert set(cloud.objects) == ({key, "cloud/a.txt"} if is_late else {key})
    assert reconcile(now=timezone.now() + OLD).expired == 1
    assert cloud.objects == {}
    assert not AsyncTempFile.objects.exists()


# Without a copy.


def test_an_upload_goes_to_its_permanent_name_at_once(zero_copy: Cloud) -> None:
    key = put()
    row = row_of(key)
    assert row.is_in_place
    assert row.object_name == row.place != key
    assert zero_copy.objects == {row.object_name: b"hello"}
    zero_copy.calls.clear()
    document = Clouded.objects.create(file=key)
    assert zero_copy.calls == []
    row = row_of(key)
    assert row.is_promoted
    assert document.file.name == Clouded.objects.get().file.name == row.moved_to_location == row.object_name
    assert read() == b"hello"
    assert zero_copy.calls == ["get"]
    report = reconcile(now=timezone.now() + OLD)
    assert (report.sources, report.removed) == (1, 1)
    assert zero_copy.objects == {row.object_name: b"hello"}
    assert zero_copy.calls == ["get"]


def test_a_form_reads_an_upload_at_its_permanent_name(zero_copy: Cloud) -> None:
    row = row_of(put())
    zero_copy.calls.clear()
    value = PendingUpload(row, AsyncFileInputData(key=row.key, name="a.txt"), storage)
    assert value.read() == b"hello"
    assert zero_copy.calls == ["get"]
    assert storage.open(row.key).read() == b"hello"  # by the handle, too


def test_large_uploads_in_place_are_not_left_to_the_background(zero_copy: Cloud, settings: Any) -> None:
    settings.ASYNC_UPLOADS = {"COPY_IN_BACKGROUND_ABOVE": 4}
    key = put()
    Clouded.objects.create(file=key)
    assert row_of(key).is_promoted


def test_a_rollback_leaves_an_upload_in_place_to_be_sent_again(zero_copy: Cloud) -> None:
    key = put()
    document = Clouded(file=key)
    with transaction.atomic():
        document.save()
        transaction.set_rollback(True)
    assert not row_of(key).is_claimed
    document.pk = None
    document.save(force_insert=True)
    assert row_of(key).is_promoted
    assert read() == b"hello"


def test_a_claim_in_place_is_given_back_without_a_call(zero_copy: Cloud) -> None:
    key = put()
    claim(key)
    Clouded.objects.all().delete()
    zero_copy.calls.clear()
    assert reconcile().returned == 1
    assert zero_copy.calls == []
    assert not row_of(key).is_claimed
    Clouded.objects.create(file=key)
    assert read() == b"hello"


@pytest.mark.parametrize("is_ours", [False, True])
def test_an_abandoned_object_is_deleted_if_it_is_the_one_that_was_recorded(zero_copy: Cloud, is_ours: bool) -> None:
    row = row_of(put())
    if not is_ours:
        zero_copy.objects[row.object_name] = b"stranger"
    assert reconcile(now=timezone.now() + OLD).expired == 1
    assert zero_copy.objects == ({} if is_ours else {row.object_name: b"stranger"})
    assert not AsyncTempFile.objects.exists()


def test_partial_uploads_and_signed_ones_never_go_to_a_permanent_name(zero_copy: Cloud) -> None:
    create(Client(), field_id(Clouded), "a.txt", 5, headers={"Upload-Concat": "partial"})
    AsyncTempFile.create_for_field(field_of(Clouded), "b.txt")
    assert [row.is_in_place for row in AsyncTempFile.objects.all()] == [False, False]
    assert all(row.object_name == row.key for row in AsyncTempFile.objects.all())


def test_a_direct_upload_url_leads_to_the_key(zero_copy: Cloud) -> None:
    answer = Client().post(
        "/uploads/generate-upload-url/",
        {"field_id": field_id(Clouded), "filename": "a.txt", "transport": "signed"},
        content_type="application/json",
    )
    assert answer.status_code == 201, answer.content
    row = row_of(answer.json()["key"])
    assert row.object_name == row.key


# What is removed twice.


def begun(client: Client, cloud: Cloud) -> Any:
    """Begin an upload with a multipart; returns its URL."""
    cloud.multiparts.add("m1")
    url = create(client, field_id(Clouded), "a.txt", 10)["Location"]
    assert patch(client, url, 0, b"hello").status_code == 204
    return url


def test_the_multipart_of_an_expired_upload_is_aborted_again_an_hour_later(cloud: Cloud) -> None:
    begun(Client(), cloud)
    now = timezone.now() + timedelta(days=8)
    assert reconcile(now=now).expired == 1
    assert cloud.multiparts == set()
    row = AsyncTempFile.objects.get()
    assert row.claim == EXPIRED
    assert row.discarded_at is not None
    cloud.multiparts.add("m1")  # a part that was under way
    cloud.calls.clear()
    assert reconcile(now=row.discarded_at + timedelta(minutes=59)).expired == 0
    assert cloud.calls == []
    assert reconcile(now=row.discarded_at + HOUR).expired == 0
    assert cloud.multiparts == set()
    assert not AsyncTempFile.objects.exists()
    assert not UploadState.objects.exists()


def test_the_multipart_of_a_deleted_upload_is_aborted_again_an_hour_later(cloud: Cloud) -> None:
    client = Client()
    url = begun(client, cloud)
    assert request(client, "DELETE", url).status_code == 204
    assert request(client, "HEAD", url).status_code == 410
    row = AsyncTempFile.objects.get()
    assert (row.claim, row.discarded_at is None) == (EXPIRED, False)
    assert reconcile().expired == 0
    assert AsyncTempFile.objects.exists()
    assert reconcile(now=timezone.now() + HOUR).expired == 0
    assert cloud.multiparts == set()
    assert not AsyncTempFile.objects.exists()


def test_a_deleted_upload_without_a_multipart_is_gone_at_once(cloud: Cloud) -> None:
    client = Client()
    url = create(client, field_id(Clouded), "a.txt", 10)["Location"]
    assert patch(client, url, 0, b"hello").status_code == 204
    assert request(client, "DELETE", url).status_code == 204
    assert not AsyncTempFile.objects.exists()


# What it costs.


def count(operation: Any) -> list[str]:
    with CaptureQueriesContext(connection) as captured:
        operation()
    verbs = [str(query["sql"]).split(" ", 1)[0] for query in captured.captured_queries]
    return [verb for verb in verbs if verb in ("SELECT", "INSERT", "UPDATE", "DELETE")]


def test_each_request_of_a_cloud_upload_costs_the_statements_it_needs(cloud: Cloud) -> None:
    client = Client()
    url = create(client, field_id(Clouded), "a.txt", 12)["Location"]
    patch(client, url, 0, b"text")  # makes the row of the upload's state
    # Row and state in one; the lease taken, the manifest as it stands under the lease, the manifest, the lease given
    # back. The activity was written a moment ago.
    assert count(lambda: patch(client, url, 4, b"text")) == ["SELECT", "UPDATE", "SELECT", "UPDATE", "UPDATE"]
    assert count(lambda: request(client, "HEAD", url)) == ["SELECT"]
    assert cloud.calls == []
    last = count(lambda: patch(client, url, 8, b"text"))
    assert cloud.calls == ["put"]
    assert count(lambda: request(client, "HEAD", url)) == ["SELECT"]
    # As above to the manifest; then the manifest and its end, the file's end, the lease.
    assert last == [
        *("SELECT", "UPDATE", "SELECT", "UPDATE"),
        *("SELECT", "UPDATE", "UPDATE", "UPDATE"),
    ]


def test_saving_an_upload_in_place_costs_no_more_statements_than_a_copy(cloud: Cloud) -> None:
    copied = put()
    cost = count(lambda: Clouded.objects.create(file=copied))
    cloud.takes_zero_copy = True
    in_place = put()
    assert len(count(lambda: Clouded.objects.create(file=in_place))) <= len(cost)
