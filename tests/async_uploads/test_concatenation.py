"""Parts of one file at the tus endpoint of a registry: permission, field, forms, cleanup."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import default_storage
from django.db import transaction
from django.test import Client
from django.utils import timezone

from async_uploads import signals
from async_uploads.claims import InvalidUpload
from async_uploads.cleanup import reconcile
from async_uploads.forms import AsyncFileField
from async_uploads.journal import AsyncTempFile
from async_uploads.models import AsyncFileInputData
from tests.async_uploads.tusclient import ENDPOINT, create, field_id, patch, request
from tests.servers.endpoints import PlainStore
from tests.testapp.models import Document, Guarded, Limited, Picture
from tus_server.headers import build_metadata

pytestmark = pytest.mark.django_db

PARTIAL = {"Upload-Concat": "partial"}


def id_of(model: Any) -> str:
    return field_id(model, "image" if model is Picture else "file")


def create_partial(client: Client, content: bytes, model: Any = Document, **metadata: Any) -> str:
    """Upload a part of a file and return its URL."""
    created = create(client, id_of(model), metadata.pop("filename", None), len(content), headers=PARTIAL, **metadata)
    assert created.status_code == 201, created.content
    if content:
        assert patch(client, created["Location"], 0, content).status_code == 204
    return str(created["Location"])


def post_final(client: Client, urls: list[str], filename: str | None = "a.txt", model: Any = Document) -> Any:
    metadata = {"field_id": id_of(model), "filename": filename}
    headers = {
        "Tus-Resumable": "1.0.0",
        "Upload-Concat": f"final;{' '.join(urls)}",
        "Upload-Metadata": build_metadata({name: value for name, value in metadata.items() if value is not None}),
    }
    return client.generic("POST", ENDPOINT, b"", content_type="", headers=headers)


def row_of(url: str) -> AsyncTempFile:
    return AsyncTempFile.objects.get(upload_id=url.rsplit("/", 1)[1])


def test_a_file_in_parts_becomes_one_upload_that_a_record_can_take(client: Client) -> None:
    urls = [create_partial(client, piece) for piece in (b"hel", b"", b"lo")]
    answer = post_final(client, urls, "Отпуск.txt")
    assert answer.status_code == 201, answer.content
    row = AsyncTempFile.objects.get(key=answer["Async-Upload-Key"])
    assert (row.is_finished, row.length, row.media_type) == (True, 5, "text/plain")
    assert (row.is_partial, row.partials) == (False, [url.rsplit("/", 1)[1] for url in urls])
    head = request(client, "HEAD", answer["Location"])
    assert (head["Upload-Offset"], head["Upload-Concat"]) == ("5", f"final;{' '.join(urls)}")
    assert request(client, "HEAD", urls[0])["Upload-Concat"] == "partial"
    document = Document.objects.create(file=AsyncFileInputData(key=row.key))
    with document.file.open() as file:
        assert file.read() == b"hello"


def test_the_final_upload_may_be_created_first(client: Client) -> None:
    first = create(client, field_id(Document), None, 3, headers=PARTIAL)["Location"]
    second = create(client, field_id(Document), None, None, headers=PARTIAL)["Location"]
    final = post_final(client, [first, second])["Location"]
    patch(client, first, 0, b"hel")
    head = request(client, "HEAD", final)
    assert (head.status_code, head.get("Upload-Offset"), head.get("Upload-Length")) == (200, None, None)
    patch(client, second, 0, b"lo", **{"Upload-Length": "2"})
    head = request(client, "HEAD", final)
    assert (head["Upload-Offset"], head["Upload-Length"]) == ("5", "5")
    assert row_of(final).is_finished


def test_a_part_without_field_id_is_told_how_to_bring_it(client: Client) -> None:
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "3", **PARTIAL}
    for metadata in ({}, {"Upload-Metadata": "filename YS50eHQ="}):
        answer = client.generic("POST", ENDPOINT, b"", content_type="", headers={**headers, **metadata})
        assert (answer.status_code, answer.json()["code"]) == (400, "field_id_missing")
        assert "metadataForPartialUploads" in answer.json()["error"]
    assert not AsyncTempFile.objects.exists()


def test_a_part_needs_the_permission_of_its_field(client: Client) -> None:
    refused = create(client, field_id(Guarded), None, 3, headers=PARTIAL)
    assert refused.status_code == 403
    client.force_login(User.objects.create_superuser("root"))
    assert create(client, field_id(Guarded), None, 3, headers=PARTIAL).status_code == 201


def test_a_final_upload_needs_a_permission_and_a_name_of_its_own(client: Client) -> None:
    url = create_partial(client, b"abc")
    assert post_final(client, [url], None).json()["code"] == "filename_missing"
    client.force_login(User.objects.create_superuser("root"))
    guarded = create_partial(client, b"abc", Guarded)
    client.logout()
    assert post_final(client, [guarded], model=Guarded).status_code in (403, 404)
    assert AsyncTempFile.objects.filter(is_partial=False).count() == 0


def test_parts_of_another_field_are_refused(client: Client) -> None:
    url = create_partial(client, b"abc")
    answer = post_final(client, [url], "a.png", model=Picture)
    assert (answer.status_code, answer.json()["code"]) == (400, "other_field")
    assert AsyncTempFile.objects.count() == 1


def test_parts_of_somebody_else_look_as_if_there_were_none(client: Client) -> None:
    client.force_login(User.objects.create_user("ann"))
    url = create_partial(client, b"abc")
    client.force_login(User.objects.create_user("bob"))
    answers = [post_final(client, [each]) for each in (url, f"{ENDPOINT}{'x' * 32}")]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].content == answers[1].content
    assert AsyncTempFile.objects.count() == 1


def test_name_and_type_count_for_the_final_upload_only(client: Client) -> None:
    head, rest = b"\x89PNG\r\n\x1a\n", b"<html><script>alert(1)</script>"
    first, second = create_partial(client, head, Limited), create_partial(client, rest, Limited, filename="a.html")
    assert post_final(client, [first, second], "a.html", Limited).status_code == 415
    assert post_final(client, [first, second], "a.png", Limited).status_code == 201
    assert post_final(client, [second, first], "a.png", Limited).status_code == 415
    assert AsyncTempFile.objects.filter(is_partial=False).count() == 1


def test_parts_that_are_too_large_together_are_refused(client: Client) -> None:
    limit = int(Limited._meta.get_field("file").max_size * 1024 * 1024)  # type: ignore[union-attr]  # our own field
    url = create_partial(client, b"%PDF-".ljust(limit // 2 + 1, b"a"), Limited)
    name = "a.pdf"
    assert post_final(client, [url], name, Limited).status_code == 201
    answer = post_final(client, [url, url], name, Limited)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_the_key_of_a_part_is_refused(client: Client) -> None:
    url = create_partial(client, b"abc")
    row = row_of(url)
    assert row.is_finished
    field = AsyncFileField(async_field=Document._meta.get_field("file"), required=False)
    for value in (row.key, row.upload_id, url):
        with pytest.raises(Exception, match="Invalid upload received"):
            field.clean(AsyncFileInputData(key=value))
    with pytest.raises(InvalidUpload), transaction.atomic():
        Document.objects.create(file=AsyncFileInputData(key=row.key))
    document = Document.objects.create()
    Document.objects.filter(pk=document.pk).update(file=row.key)
    assert reconcile().problems
    row.refresh_from_db()
    assert not row.is_claimed
    assert not row.is_promoted


@pytest.mark.parametrize("concat", ["partial", "final"])
def test_a_storage_that_cannot_concatenate_refuses(
    client: Client, monkeypatch: pytest.MonkeyPatch, concat: str
) -> None:
    url = create_partial(client, b"abc")
    storage = Document._meta.get_field("file").storage  # type: ignore[union-attr]  # our own field
    store = storage.upload_store
    monkeypatch.setattr(storage.__class__, "upload_store", lambda self, records: PlainStore(store(records)))
    if concat == "partial":
        answer = create(client, field_id(Document), None, 3, headers=PARTIAL)
    else:
        answer = post_final(client, [url])
    assert (answer.status_code, answer.json()["code"]) == (400, "unsupported_extension")
    assert AsyncTempFile.objects.count() == 1


def test_nobody_is_told_of_parts(client: Client) -> None:
    told: list[str] = []

    def hear(upload: AsyncTempFile, **facts: object) -> None:
        told.append(upload.upload_id)

    signals.upload_finished.connect(hear)
    signals.upload_expired.connect(hear)
    try:
        urls = [create_partial(client, b"abc"), create_partial(client, b"")]
        final = post_final(client, urls)["Location"]
        assert told == [row_of(final).upload_id]
        AsyncTempFile.objects.filter(is_partial=True).update(expires_at=timezone.now())
        assert reconcile().expired == 2
        assert len(told) == 1
    finally:
        signals.upload_finished.disconnect(hear)
        signals.upload_expired.disconnect(hear)


def test_finished_parts_go_at_their_own_time_and_the_final_upload_stays(client: Client) -> None:
    urls = [create_partial(client, b"abc"), create_partial(client, b"def")]
    final = post_final(client, urls)["Location"]
    keys = [row_of(url).key for url in urls]
    now = timezone.now()
    AsyncTempFile.objects.filter(is_partial=True).update(last_activity=now - timedelta(days=3))
    assert reconcile(timedelta(hours=48)).expired == 0
    AsyncTempFile.objects.filter(is_partial=True).update(expires_at=now)
    assert request(client, "HEAD", urls[0]).status_code == 410
    assert reconcile(timedelta(hours=48)).expired == 2
    assert not any(default_storage.exists(key) for key in keys)
    with default_storage.open(row_of(final).key) as file:
        assert file.read() == b"abcdef"


def test_parts_can_be_deleted_and_the_final_upload_stays(client: Client) -> None:
    url = create_partial(client, b"abc")
    final = post_final(client, [url])["Location"]
    assert request(client, "DELETE", url).status_code == 204
    assert request(client, "HEAD", final)["Upload-Offset"] == "3"
    assert post_final(client, [url]).status_code == 404
    assert request(client, "DELETE", final).status_code == 204
