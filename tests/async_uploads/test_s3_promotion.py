"""Promotion by copies in a bucket, when something goes wrong; and what is removed twice."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from async_uploads import promotion
from async_uploads.cleanup import reconcile
from async_uploads.journal import AsyncTempFile
from tests.async_uploads import s3
from tests.async_uploads.promoting import pass_turns, row_of
from tests.async_uploads.test_cloud_promotion import count
from tests.async_uploads.test_promotion import run_in_threads
from tests.async_uploads.tusclient import create, field_id, patch, request, upload

pytestmark = pytest.mark.django_db(transaction=True)

MIB = 2**20
HOUR = timedelta(hours=1)


@pytest.fixture(params=["moto", pytest.param("rgw", marks=pytest.mark.e2e)], autouse=True)
def bucket(request: pytest.FixtureRequest) -> Iterator[str]:
    """Let the models' storages be in a new bucket of each server; returns its name."""
    with s3.attached(request.getfixturevalue(request.param)) as name:
        yield name


def claimed(content: bytes = b"hello", is_dead: bool = True) -> str:
    """Upload a file and let the process die, or be slow, right after the commit of its save; returns its key."""
    key = upload(Client(), field_id(s3.Clip), "a.txt", content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(promotion, "promote", lambda row: False)
        s3.Clip.objects.create(file=key)
    if is_dead:
        pass_turns()
    return key


def full(*names: str) -> set[str]:
    return {s3.copying.full_key(name) for name in names}


def read() -> bytes:
    with s3.Clip.objects.get().file.open() as file:
        return bytes(file.read())


def test_promotions_at_once_make_one_file() -> None:
    key = claimed(is_dead=False)
    assert run_in_threads(lambda number: promotion.promote(row_of(key)), 3) == [True] * 3
    assert set(s3.keys(s3.copying)) == full(key, "clips/a.txt")
    assert read() == b"hello"


def test_a_copy_that_was_not_recorded_is_recorded_by_the_next_run() -> None:
    key = claimed()
    s3.copying.move_file(key, "clips/a.txt")
    assert read() == b"hello"
    assert reconcile().promoted == 1
    assert row_of(key).is_promoted
    assert set(s3.keys(s3.copying)) == full(key, "clips/a.txt")


def test_a_strangers_object_under_the_name_is_left_alone() -> None:
    key = claimed()
    s3.copying.client.put_object(
        Bucket=s3.copying.bucket_name, Key=s3.copying.full_key("clips/a.txt"), Body=b"stranger"
    )
    assert reconcile().promoted == 1
    name = s3.Clip.objects.get().file.name
    assert name == row_of(key).moved_to_location != "clips/a.txt"
    assert set(s3.keys(s3.copying)) == full(key, "clips/a.txt", name)
    assert read() == b"hello"


def test_a_large_file_is_read_at_its_upload_until_a_bucket_that_was_away_is_back(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.ASYNC_UPLOADS = {"COPY_IN_BACKGROUND_ABOVE": 4}
    key = upload(Client(), field_id(s3.Clip), "a.txt", b"hello")
    s3.Clip.objects.create(file=key)
    assert set(s3.keys(s3.copying)) == full(key)
    assert read() == b"hello"

    def fail(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("The bucket is away")

    with monkeypatch.context() as patch:
        patch.setattr(type(s3.copying), "move_file", fail)
        assert reconcile().failed == 1
    assert reconcile().promoted == 0  # it waits
    assert read() == b"hello"
    assert reconcile(now=timezone.now() + timedelta(minutes=2)).promoted == 1
    assert set(s3.keys(s3.copying)) == full(key, "clips/a.txt")
    assert read() == b"hello"


def test_a_claim_without_a_record_takes_its_copy_along() -> None:
    key = claimed()
    s3.copying.move_file(key, "clips/a.txt")
    s3.Clip.objects.all().delete()
    assert reconcile().returned == 1
    assert set(s3.keys(s3.copying)) == full(key)
    s3.Clip.objects.create(file=key)
    assert read() == b"hello"


@pytest.mark.parametrize("model", [s3.Clip, s3.Film])
@pytest.mark.parametrize("is_deleted", [False, True])
def test_the_multipart_of_a_removed_upload_is_aborted_twice(
    model: Any, is_deleted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, storage = Client(), model._meta.get_field("file").storage
    url = create(client, field_id(model), "a.bin", 24 * MIB)["Location"]
    assert patch(client, url, 0, bytes(8 * MIB)).status_code == 204
    assert len(s3.multiparts(storage)) == 1
    now = timezone.now() + timedelta(days=8)
    if is_deleted:
        assert request(client, "DELETE", url).status_code == 204
    else:
        assert reconcile(now=now).expired == 1
    assert s3.multiparts(storage) == []
    row = AsyncTempFile.objects.get()
    assert row.discarded_at is not None
    requests = s3.Requests(storage)
    assert reconcile(now=row.discarded_at + HOUR).expired == 0
    assert requests.take()["AbortMultipartUpload"] == 1
    assert not AsyncTempFile.objects.exists()
    assert s3.keys(storage) == {}


def test_each_request_of_an_upload_costs_the_statements_it_needs() -> None:
    client = Client()
    length = 20 * MIB
    url = create(client, field_id(s3.Film), "a.bin", length)["Location"]
    patch(client, url, 0, bytes(8 * MIB))  # makes the row of the state, and the multipart upload
    row = ["SELECT", "UPDATE", "SELECT"]  # row and state, the lease, the manifest under the lease
    end = ["UPDATE"]  # the lease; the last activity was written a moment ago
    # "Parts are on their way", then the part itself.
    assert count(lambda: patch(client, url, 8 * MIB, bytes(8 * MIB))) == [*row, "UPDATE", "UPDATE", "INSERT", *end]
    # A tail.
    assert count(lambda: patch(client, url, 16 * MIB, b"tail")) == [*row, "UPDATE", *end]
    assert count(lambda: request(client, "HEAD", url)) == ["SELECT"]


@pytest.mark.parametrize("model", [s3.Clip, s3.Film])
def test_pieces_that_a_dead_process_left_of_a_promoted_upload_go_with_its_source(model: Any) -> None:
    client, storage = Client(), model._meta.get_field("file").storage
    created = create(client, field_id(model), "a.bin", 12 * MIB)
    key, url = created["Async-Upload-Key"], created["Location"]
    assert patch(client, url, 0, bytes(6 * MIB)).status_code == 204
    assert patch(client, url, 6 * MIB, bytes(6 * MIB)).status_code == 204
    folder = storage.upload_store(None).segments_folder(row_of(key).upload_id)
    storage.client.put_object(Bucket=storage.bucket_name, Key=f"{folder}0-5-1", Body=b"piece")
    record = model.objects.create(file=key)
    assert reconcile().sources == 0
    assert reconcile(now=timezone.now() + HOUR).sources == 1
    assert set(s3.keys(storage)) == {storage.full_key(record.file.name)}


def test_an_upload_that_came_at_once_has_left_no_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    s3.Film.objects.create(file=upload(Client(), field_id(s3.Film), "a.txt", b"hello"))
    requests = s3.Requests(s3.direct)
    assert reconcile(now=timezone.now() + HOUR).sources == 1
    assert requests.take() == {}
