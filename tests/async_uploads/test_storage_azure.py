"""Fields on Azure, against Azurite: from the browser's request to the permanent blob."""

from __future__ import annotations

import json
import pickle
from datetime import timedelta
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from azure.storage.blob import BlobServiceClient, CorsRule
from django.core.checks import Warning
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile
from django.db import transaction
from django.db.migrations.writer import MigrationWriter
from django.forms import ModelForm, modelform_factory
from django.test import Client
from django.utils import timezone
from PIL import Image

from async_uploads.checks import check_lifetime
from async_uploads.cleanup import reconcile
from async_uploads.journal import AsyncTempFile, rows
from async_uploads.storage.azure import AzureAsyncUploadStorage
from tests.async_uploads.azure_site import Copied, Direct, Portrait, SmallText, blobs, container, copying
from tests.async_uploads.tusclient import create, field_id, patch, request, upload
from tests.servers.azure import WatchedContainer, lost_answer
from tests.servers.azurite import AzuriteServer
from tus_server.headers import build_metadata
from tus_server.testing.faults import Faults, When

assert container

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("container")]

NAME = "Übersicht 2026.txt"


def sign(client: Client, model: Any, filename: str = NAME, name: str = "file") -> Any:
    """Ask for a signed URL, as the widget does."""
    question = {"fieldId": field_id(model, name), "filename": filename, "transport": "signed"}
    answer = client.post("/uploads/generate-upload-url/", json.dumps(question), content_type="application/json")
    assert answer.status_code == 201, answer.content
    return answer.json()


def put(answer: Any, content: bytes, media_type: str = "text/plain") -> requests.Response:
    """Send a file as the widget does: method and headers as told, the body bare."""
    target = answer["uploadUrl"]
    headers = {"Content-Type": media_type, **target["headers"]}
    return requests.request(target["method"], target["url"], data=content, headers=headers, timeout=60)


def submit(model: Any, key: str, name: str = "file") -> ModelForm[Any]:
    """Submit a form with an upload's key."""
    return modelform_factory(model, fields=[name])({name: json.dumps({"key": key, "name": NAME})})


def save(model: Any, key: str, name: str = "file") -> Any:
    """Submit and save."""
    form = submit(model, key, name)
    assert form.is_valid(), form.errors
    record = form.save()
    record.refresh_from_db()
    return record


# Signed uploads.


def test_a_signed_upload_is_sent_saved_and_downloaded(client: Client, container: WatchedContainer) -> None:
    answer = sign(client, Copied)
    assert answer["uploadUrl"]["provider"] == "azure"
    assert put(answer, b"hello").status_code == 201
    record = save(Copied, answer["key"])
    assert blobs(container)[f"media/{record.file.name}"] == b"hello"
    assert record.file.read() == b"hello"
    redirect = client.get(record.file.url)
    assert redirect.status_code == 302
    download = requests.get(redirect["Location"], timeout=60)
    assert download.content == b"hello"
    assert download.headers["Content-Disposition"] == "inline; filename*=utf-8''%C3%9Cbersicht%202026.txt"
    assert download.headers["Content-Type"] == "text/plain"


def test_a_signature_is_for_one_blob_and_for_writing_only(client: Client) -> None:
    answer = sign(client, Copied)
    put(answer, b"hello")
    url = answer["uploadUrl"]["url"]
    assert requests.get(url, timeout=60).status_code == 403
    assert requests.delete(url, timeout=60).status_code == 403
    other = {"uploadUrl": {**answer["uploadUrl"], "url": url.replace(".txt?", "2.txt?")}}
    assert put(other, b"hello").status_code == 403


def test_a_signature_expires_when_the_setting_says(client: Client, settings: Any) -> None:
    settings.ASYNC_UPLOADS = {"UPLOAD_URL_EXPIRY": 60}
    (expiry,) = parse_qs(urlsplit(sign(client, Copied)["uploadUrl"]["url"]).query)["se"]
    left = timezone.datetime.fromisoformat(expiry) - timezone.now()
    assert timedelta(seconds=50) < left <= timedelta(seconds=60)


def test_the_rule_of_the_documentation_lets_a_page_send_what_the_widget_sends(
    client: Client, container: WatchedContainer, azurite: AzuriteServer
) -> None:
    rule = CorsRule(
        ["https://www.example.com"],
        ["PUT"],
        allowed_headers=["content-type", "x-ms-blob-type"],
        max_age_in_seconds=3600,
    )
    service = BlobServiceClient.from_connection_string(azurite.connection_string)
    service.set_service_properties(cors=[rule])
    headers = {
        "Origin": "https://www.example.com",
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "content-type,x-ms-blob-type",
    }
    url = sign(client, Copied)["uploadUrl"]["url"]
    answer = requests.options(url, headers=headers, timeout=60)
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, "https://www.example.com")
    assert requests.options(url, headers={**headers, "Origin": "https://evil.example"}, timeout=60).status_code == 403


def test_a_form_is_refused_before_the_upload_is_there(client: Client) -> None:
    form = submit(Copied, sign(client, Copied)["key"])
    assert form.errors == {"file": ["The upload is not finished"]}


def test_a_signed_upload_that_is_too_large_is_refused_at_validation(client: Client) -> None:
    answer = sign(client, SmallText)
    put(answer, b"x" * 2000)
    assert "too large" in submit(SmallText, answer["key"]).errors["file"][0]


def test_a_signed_upload_of_another_type_than_it_says_is_refused_at_validation(client: Client) -> None:
    answer = sign(client, SmallText)
    put(answer, b"%PDF-1.4 hello", "text/plain")
    assert "not accepted" in submit(SmallText, answer["key"]).errors["file"][0]


def test_looking_at_a_signed_upload_costs_one_request(client: Client, container: WatchedContainer) -> None:
    answer = sign(client, Copied)
    put(answer, b"x" * 100_000)
    container.calls.clear()
    assert submit(Copied, answer["key"]).is_valid()
    assert dict(container.calls) == {"download_blob": 1}


def test_a_signed_upload_that_is_changed_after_validation_is_not_promoted(
    client: Client, container: WatchedContainer
) -> None:
    answer = sign(client, Copied)
    put(answer, b"looked at")
    form = submit(Copied, answer["key"])
    assert form.is_valid()
    put(answer, b"<script>slipped in</script>", "text/html")
    record = form.save()
    row = AsyncTempFile.objects.get()
    assert not row.is_promoted
    assert "SourceChanged" in row.error
    assert f"media/{record.file.name}" not in blobs(container)


def test_a_blob_of_another_kind_is_no_upload(client: Client, container: WatchedContainer) -> None:
    answer = sign(client, Copied)
    headers = {"x-ms-blob-type": "AppendBlob", "Content-Length": "0"}
    assert requests.put(answer["uploadUrl"]["url"], headers=headers, timeout=60).status_code == 201
    assert submit(Copied, answer["key"]).errors == {"file": ["The upload is not finished"]}


def test_a_saved_file_has_the_type_that_was_verified_not_the_one_that_was_sent(
    client: Client, container: WatchedContainer
) -> None:
    answer = sign(client, Copied)
    put(answer, b"just text", "text/html")
    record = save(Copied, answer["key"])
    found = container.container.get_blob_client(f"media/{record.file.name}").get_blob_properties()
    assert found.content_settings.content_type == "text/plain"


def test_an_image_is_measured_without_fetching_all_of_it(client: Client, container: WatchedContainer) -> None:
    image = BytesIO()
    Image.new("RGB", (30, 20)).save(image, "PNG")
    answer = sign(client, Portrait, "a.png", "image")
    put(answer, image.getvalue() + b"\0" * 8_000_000, "image/png")
    record = save(Portrait, answer["key"], "image")
    with record.image.open() as file:
        container.calls.clear()
        assert file.read(8)[1:4] == b"PNG"
        assert not container.calls
        file.seek(8_000_000)
        assert file.read(5) == b"\0" * 5
    assert (record.image.width, record.image.height) == (30, 20)
    assert dict(container.calls) == {"download_blob": 2}


# Resumable uploads.


def test_a_tus_upload_is_saved_by_a_copy_and_its_source_goes_later(client: Client, container: WatchedContainer) -> None:
    key = upload(client, field_id(Copied), NAME, b"hello")
    record = save(Copied, key)
    assert record.file.name == "copied/Übersicht_2026.txt"
    assert blobs(container) == {f"media/{key}": b"hello", f"media/{record.file.name}": b"hello"}
    now = timezone.now()
    reconcile(now=now + timedelta(minutes=1))
    assert len(blobs(container)) == 2
    AsyncTempFile.objects.update(promoted_at=now - timedelta(hours=3))
    reconcile(now=now + timedelta(hours=3))
    assert blobs(container) == {f"media/{record.file.name}": b"hello"}


def test_a_tus_upload_without_a_copy_costs_one_request(client: Client, container: WatchedContainer) -> None:
    key = upload(client, field_id(Direct), NAME, b"x" * 2 * 1024 * 1024)
    assert dict(container.calls) == {"upload_blob": 1}
    record = save(Direct, key)
    assert dict(container.calls) == {"upload_blob": 1}
    (name,) = blobs(container)
    assert name == f"media/{record.file.name}"
    assert AsyncTempFile.objects.get().is_promoted


def test_asking_where_an_upload_stands_costs_nothing(client: Client, container: WatchedContainer) -> None:
    url = create(client, field_id(Copied), NAME, 300_000)["Location"]
    patch(client, url, 0, b"x" * 100_000)
    container.calls.clear()
    assert request(client, "HEAD", url)["Upload-Offset"] == "100000"
    assert not container.calls


def test_an_upload_in_pieces_of_every_size_arrives_whole(client: Client, container: WatchedContainer) -> None:
    content = bytes(range(256)) * 2000
    url = create(client, field_id(Copied), NAME, len(content))["Location"]
    offset = 0
    for count in (1, 70_000, 1000, 200_000, 65_536, 10, len(content)):
        offset = int(patch(client, url, offset, content[offset : offset + count])["Upload-Offset"])
    assert offset == len(content)
    record = save(Copied, AsyncTempFile.objects.get().key)
    assert record.file.read() == content


def test_an_empty_upload_is_saved(client: Client, container: WatchedContainer) -> None:
    created = create(client, field_id(Copied), NAME, 0)
    assert request(client, "HEAD", created["Location"])["Upload-Offset"] == "0"
    record = Copied.objects.create(file=created["Async-Upload-Key"])
    assert Copied.objects.get(pk=record.pk).file.read() == b""
    assert b"" in blobs(container).values()


def test_a_terminated_upload_leaves_no_blocks(client: Client, container: WatchedContainer) -> None:
    created = create(client, field_id(Copied), NAME, 300_000)
    patch(client, created["Location"], 0, b"x" * 100_000)
    assert request(client, "DELETE", created["Location"]).status_code == 204
    found = list(container.container.list_blobs(include=["uncommittedblobs"]))
    assert found == []


def test_a_rollback_leaves_the_upload_and_no_copy(client: Client, container: WatchedContainer) -> None:
    key = upload(client, field_id(Copied), NAME, b"hello")

    def fail() -> None:
        with transaction.atomic():
            save(Copied, key)
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert blobs(container) == {f"media/{key}": b"hello"}
    assert save(Copied, key).file.read() == b"hello"


def test_before_its_promotion_a_file_is_read_at_its_upload(client: Client, container: WatchedContainer) -> None:
    key = upload(client, field_id(Copied), NAME, b"hello")
    with transaction.atomic():
        record = save(Copied, key)
        assert record.file.name != key
        assert (record.file.read(), record.file.size) == (b"hello", 5)
        redirect = client.get(record.file.url)["Location"]
    assert requests.get(redirect, timeout=60).content == b"hello"


def test_two_files_of_one_name_get_two_names(client: Client, container: WatchedContainer) -> None:
    first, second = (save(Copied, upload(client, field_id(Copied), NAME, data)) for data in (b"1", b"2"))
    assert (first.file.read(), second.file.read()) == (b"1", b"2")
    assert first.file.name != second.file.name


def test_a_stranger_under_the_name_is_not_overwritten(client: Client, container: WatchedContainer) -> None:
    key = upload(client, field_id(Copied), NAME, b"hello")
    with transaction.atomic():
        record = save(Copied, key)
        stranger = record.file.name
        container.container.upload_blob(f"media/{stranger}", b"stranger")
    record.refresh_from_db()
    assert record.file.name != stranger
    assert record.file.read() == b"hello"
    assert blobs(container)[f"media/{stranger}"] == b"stranger"


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_promotion_whose_requests_fail_is_finished_by_the_cleanup(
    client: Client, container: WatchedContainer, when: When
) -> None:
    for skip in range(10):
        key = upload(client, field_id(Copied), NAME, b"hello %d" % skip)
        with transaction.atomic():
            record = Copied.objects.create(file=key)
            faults = Faults()
            faults.arm(skip, when, lost_answer)
            container.around = faults.call
        row = AsyncTempFile.objects.get(key=key)
        has_failed = bool(faults.fired)
        assert row.is_promoted or has_failed
        assert blobs(container)[f"media/{key}"] == b"hello %d" % skip
        reconcile(now=timezone.now() + timedelta(minutes=30))
        record.refresh_from_db()
        assert AsyncTempFile.objects.get(key=key).is_promoted
        assert blobs(container)[f"media/{record.file.name}"] == b"hello %d" % skip
        if not has_failed:
            assert skip > 3
            return
    raise AssertionError("the promotion does not come to its end")


@pytest.mark.parametrize("model", [Copied, Direct])
def test_a_file_that_came_in_parallel_parts_is_saved(client: Client, container: WatchedContainer, model: Any) -> None:
    contents = [bytes([65 + number]) * 70_000 for number in range(3)]
    urls = []
    for content in contents:
        created = create(client, field_id(model), None, len(content), headers={"Upload-Concat": "partial"})
        patch(client, created["Location"], 0, content)
        urls.append(created["Location"])
    headers = {"Upload-Concat": "final;" + " ".join(urls)}
    final = client.generic(
        "POST",
        "/uploads/tus/",
        headers={
            "Tus-Resumable": "1.0.0",
            "Upload-Metadata": build_metadata({"field_id": field_id(model), "filename": NAME}),
            **headers,
        },
    )
    assert final.status_code == 201, final.content
    record = save(model, final["Async-Upload-Key"])
    assert record.file.read() == b"".join(contents)


# Cleanup.


@pytest.mark.parametrize("model", [Copied, Direct])
def test_the_cleanup_removes_what_our_rows_name_and_nothing_else(
    client: Client, container: WatchedContainer, model: Any
) -> None:
    beside = "media/async-temp-files/2026/11/22/not-ours.txt"
    container.container.upload_blob(beside, b"somebody else's")
    upload(client, field_id(model), NAME, b"finished and never saved")
    patch(client, create(client, field_id(model), NAME, 300_000)["Location"], 0, b"x" * 100_000)
    put(sign(client, Copied), b"signed and never saved")
    kept = save(model, upload(client, field_id(model), NAME, b"kept"))
    rows().filter(promoted_at=None).update(
        last_activity=timezone.now() - timedelta(days=9), expires_at=timezone.now() - timedelta(days=1)
    )
    report = reconcile()
    assert (report.expired, report.failed, report.problems) == (3, 0, [])
    names = {blob.name for blob in container.container.list_blobs(include=["uncommittedblobs"])}
    source = {f"media/{row.key}" for row in rows()} if model is Copied else set()
    assert names == {beside, f"media/{kept.file.name}"} | source


def test_the_cleanup_keeps_a_blob_that_is_not_the_one_that_was_recorded(
    client: Client, container: WatchedContainer
) -> None:
    upload(client, field_id(Direct), NAME, b"finished and never saved")
    (name,) = blobs(container)
    container.container.upload_blob(name, b"somebody else's", overwrite=True)
    rows().update(last_activity=timezone.now() - timedelta(days=9))
    assert reconcile().expired == 1
    assert blobs(container) == {name: b"somebody else's"}


# The storage by itself.


def test_a_file_can_be_saved_and_read_as_with_django_storages(container: WatchedContainer) -> None:
    name = copying.save("plain/a.txt", ContentFile(b"hello"))
    assert (copying.exists(name), copying.size(name), copying.open(name).read()) == (True, 5, b"hello")
    copying.delete(name)
    assert not copying.exists(name)
    with pytest.raises(FileNotFoundError):
        copying.open(name)
    with pytest.raises(FileNotFoundError):
        copying.size(name)


def test_an_archive_is_not_sent_as_if_it_were_compressed_on_the_way(
    client: Client, container: WatchedContainer
) -> None:
    record = save(Copied, upload(client, field_id(Copied), "a.tar.gz", b"\x1f\x8b\x08 packed"))
    found = container.container.get_blob_client(f"media/{record.file.name}").get_blob_properties().content_settings
    assert (found.content_encoding, found.content_type) == (None, "application/gzip")


def test_a_name_cannot_inject_headers_into_a_download(client: Client) -> None:
    key = upload(client, field_id(Copied), 'a".html', b"<script>alert(1)</script>")
    url = client.get(save(Copied, key).file.url)["Location"]
    answer = requests.get(url, timeout=60)
    assert answer.headers["Content-Disposition"] == 'attachment; filename="a\\".html"'


def test_a_project_may_choose_the_headers_of_a_download(client: Client) -> None:
    name = save(Copied, upload(client, field_id(Copied), NAME, b"hello")).file.name
    parameters = {"content_type": "text/x-own", "cache_control": "private, max-age=5"}
    url = copying.generate_download_url(name, field_id(Copied), expire=30, parameters=parameters)
    answer = requests.get(url, timeout=60)
    assert (answer.headers["Content-Type"], answer.headers["Cache-Control"]) == ("text/x-own", "private, max-age=5")


def test_a_domain_of_its_own_serves_downloads_and_takes_no_uploads(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "custom_domain", "files.example.org")
    assert urlsplit(copying.generate_download_url("a.txt", "x")).netloc == "files.example.org"
    assert urlsplit(sign(client, Copied)["uploadUrl"]["url"]).netloc.startswith("127.0.0.1")


def test_without_a_key_nothing_can_be_signed() -> None:
    storage = AzureAsyncUploadStorage(account_name="tests", azure_container="c", sas_token="sv=1&sig=x")
    with pytest.raises(ImproperlyConfigured, match="account_key"):
        storage.generate_upload_url("a", "b")
    assert storage._sign_source("a") == "https://tests.blob.core.windows.net/c/a?sv=1&sig=x"


def test_the_question_whether_tus_is_there_makes_no_client() -> None:
    storage = AzureAsyncUploadStorage(account_name="tests", azure_container="c")
    assert storage.upload_store(None) is storage.upload_store(None)
    assert storage._client is None


def test_a_storage_can_be_pickled_and_written_into_a_migration(container: WatchedContainer) -> None:
    storage = AzureAsyncUploadStorage(account_name="tests", account_key="a2V5", azure_container="c", zero_copy=True)
    storage.upload_store(None)
    copy = pickle.loads(pickle.dumps(storage))
    assert (copy.identity(), copy.zero_copy, copy.upload_store(None).records) == (storage.identity(), True, None)
    assert "async_uploads.storage.azure.AzureAsyncUploadStorage(" in MigrationWriter.serialize(storage)[0]


@pytest.mark.parametrize(
    ("options", "private"),
    [({}, True), ({"custom_domain": "x.example"}, False), ({"custom_domain": "x.example", "expiration_secs": 9}, True)],
)
def test_zero_copy_is_on_by_default_where_reading_needs_a_signature(options: dict[str, Any], private: bool) -> None:
    storage = AzureAsyncUploadStorage(account_name="tests", azure_container="c", **options)
    assert storage.takes_zero_copy(Direct._meta.get_field("file")) is private


def test_other_accounts_containers_and_locations_are_other_storages() -> None:
    base = {"account_name": "a", "azure_container": "c", "location": "l"}
    changed = [base, {**base, "account_name": "b"}, {**base, "azure_container": "d"}, {**base, "location": ""}]
    assert len({AzureAsyncUploadStorage(**each).identity() for each in changed}) == 4


def test_a_lifetime_longer_than_the_service_keeps_blocks_is_warned_of(settings: Any) -> None:
    settings.ASYNC_UPLOADS = {"UPLOAD_LIFETIME": timedelta(days=7)}
    (found,) = check_lifetime()
    assert isinstance(found, Warning)
    assert (found.id, "not for 7 days" in found.msg) == ("async_uploads.W005", True)
    settings.ASYNC_UPLOADS = {"UPLOAD_LIFETIME": 6 * 24 * 3600}
    assert check_lifetime() == []
    settings.ASYNC_UPLOADS = {}
    assert check_lifetime() == []


def test_an_upload_expires_after_six_days_at_most(client: Client) -> None:
    url = create(client, field_id(Copied), NAME, 300_000)["Location"]
    patch(client, url, 0, b"x" * 100_000)
    left = AsyncTempFile.objects.get().expires_at - timezone.now()
    assert timedelta(days=5, hours=23) < left <= timedelta(days=6)
