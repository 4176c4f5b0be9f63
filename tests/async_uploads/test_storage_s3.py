"""S3AsyncUploadStorage over moto and over Ceph's gateway: what it stores, signs, copies, and what that costs."""

from __future__ import annotations

import base64
import importlib
import json
import pickle
import sys
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import models
from django.db.migrations.writer import MigrationWriter
from django.test import Client
from django.utils import timezone

from async_uploads import cleanup, manifests, validation
from async_uploads.journal import AsyncTempFile
from async_uploads.storage import cloud, s3_copy, s3_post
from async_uploads.storage.base import VerifiedUpload
from async_uploads.storage.s3 import S3AsyncUploadStorage
from async_uploads.storage.s3_objects import describe
from async_uploads.values import AsyncFileInputData
from tests.async_uploads import s3
from tests.async_uploads.promoting import field_of, row_of
from tests.async_uploads.tusclient import create, field_id, patch, request, upload

pytestmark = pytest.mark.django_db

#: For what is promoted on commit, and for leases, which are kept by another thread.
commits = pytest.mark.django_db(transaction=True)

MIB = 2**20
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
KEY = "async-temp-files/2026/11/22/x-a.txt"


@pytest.fixture(params=["moto", pytest.param("rgw", marks=pytest.mark.e2e)])
def bucket(request: pytest.FixtureRequest) -> Iterator[str]:
    """Let the models' storages be in a new bucket of each server; returns its name."""
    with s3.attached(request.getfixturevalue(request.param)) as name:
        yield name


def put(storage: S3AsyncUploadStorage, name: str, content: bytes = b"hello", **parameters: Any) -> str:
    """Store an object as a client of the service would; returns its ETag."""
    key = storage.full_key(name)
    answer = storage.client.put_object(Bucket=storage.bucket_name, Key=key, Body=content, **parameters)
    return str(answer["ETag"])


def head(storage: S3AsyncUploadStorage, name: str) -> Any:
    return storage.client.head_object(Bucket=storage.bucket_name, Key=storage.full_key(name))


def content_of(storage: S3AsyncUploadStorage, name: str) -> bytes:
    answer = storage.client.get_object(Bucket=storage.bucket_name, Key=storage.full_key(name))
    content: bytes = answer["Body"].read()
    return content


def sign(client: Client, model: type[models.Model], name: str, size: int | None, **more: Any) -> Any:
    """Ask for a presigned POST as the widget does."""
    question = {"fieldId": field_id(model), "filename": name, "size": size, "transport": "signed", **more}
    answer = client.post("/uploads/generate-upload-url/", json.dumps(question), content_type="application/json")
    assert answer.status_code == 201, answer.content
    return answer.json()


def send(target: Any, content: bytes, **fields: str) -> requests.Response:
    """Send a file as a browser does: the form's fields, then the file."""
    url = target["uploadUrl"]
    form = {**url["fields"], **fields}
    return requests.post(url["url"], data=form, files={url["fileFieldName"]: ("name", content)}, timeout=60)


def policy_of(target: Any) -> list[Any]:
    conditions: list[Any] = json.loads(base64.b64decode(target["uploadUrl"]["fields"]["policy"]))["conditions"]
    return conditions


# tus.


@commits
def test_two_mib_in_one_patch_cost_one_request_in_all(bucket: str, client: Client) -> None:
    content = PNG + bytes(2 * MIB)
    sent = s3.Requests(s3.direct)
    created = create(client, field_id(s3.Film), "a.png", len(content))
    assert created.status_code == 201, created.content
    assert patch(client, created["Location"], 0, content).status_code == 204
    assert request(client, "HEAD", created["Location"])["Upload-Offset"] == str(len(content))
    assert sent.take() == {"PutObject": 1}
    film = s3.Film.objects.create(file=created["Async-Upload-Key"])
    assert sent.take() == {}, "saving is a matter of the database"
    assert film.file.name.startswith(timezone.now().strftime("films/%Y/"))
    assert film.file.name.endswith("/a.png")
    row = row_of(created["Async-Upload-Key"])
    assert row.is_promoted
    assert row.media_type == "image/png"
    assert film.file.read() == content
    assert list(s3.keys(s3.direct)) == [f"site/media/{film.file.name}"]


@commits
def test_twenty_mib_in_several_patches_are_a_multipart_upload(bucket: str, client: Client) -> None:
    content = bytes(range(256)) * (20 * 4096)
    url = create(client, field_id(s3.Film), "a.bin", len(content))["Location"]
    for start, end in ((0, 9 * MIB), (9 * MIB, 9 * MIB + 100), (9 * MIB + 100, len(content))):
        assert patch(client, url, start, content[start:end]).status_code == 204
    key = AsyncTempFile.objects.get().key
    film = s3.Film.objects.create(file=key)
    assert content_of(s3.direct, film.file.name) == content
    assert list(s3.keys(s3.direct)) == [f"site/media/{film.file.name}"], "no segment is left"
    assert s3.multiparts(s3.direct) == []


@commits
def test_an_object_tells_its_type_and_its_true_name(bucket: str, client: Client) -> None:
    for name, kind, disposition in (
        ("pic.png", "image/png", 'inline; filename="pic.png"'),
        ("мой отчёт.html", "text/html", "attachment; filename*=utf-8''"),
    ):
        film = s3.Film.objects.create(file=upload(client, field_id(s3.Film), name, PNG))
        clip = s3.Clip.objects.create(file=upload(client, field_id(s3.Clip), name, PNG))
        stored = head(s3.direct, film.file.name)
        assert stored["ContentDisposition"].startswith(disposition)
        assert stored["ContentType"] == kind
        copied = head(s3.copying, clip.file.name)
        assert copied["ContentType"] == "image/png", "by then its content was looked at"


@commits
def test_the_storages_options_count_for_permanent_objects_only(bucket: str, client: Client) -> None:
    storage = s3.copying
    storage.object_parameters = {
        "CacheControl": "max-age=60",
        "Metadata": {"made-by": "us"},
        "ChecksumAlgorithm": "SHA256",
    }
    storage.default_acl = "public-read"
    try:
        key = upload(client, field_id(s3.Clip), "a.txt", b"text")
        assert "CacheControl" not in head(storage, key)
        clip = s3.Clip.objects.create(file=key)
        stored = head(storage, clip.file.name)
        keys = [storage.full_key(name) for name in (key, clip.file.name)]
        acls = [storage.client.get_object_acl(Bucket=bucket, Key=each) for each in keys]
    finally:
        storage.object_parameters, storage.default_acl = {}, None
    assert stored["CacheControl"] == "max-age=60"
    assert stored["Metadata"]["made-by"] == "us"
    assert [sum("AllUsers" in grant["Grantee"].get("URI", "") for grant in acl["Grants"]) for acl in acls] == [0, 1]


def test_a_copy_has_the_storages_tags(moto: s3.Server) -> None:  # Ceph 16 takes none with CopyObject
    storage = s3.build_storage(object_parameters={"Tagging": "kind=clip"})
    with s3.attached(moto, storage) as bucket:
        put(storage, KEY)
        storage.move_file(KEY, "docs/a.txt")
        assert storage.client.get_object_tagging(Bucket=bucket, Key="docs/a.txt")["TagSet"] == [
            {"Key": "kind", "Value": "clip"}
        ]


def test_what_only_single_objects_have_is_left_out_where_there_are_parts() -> None:
    storage = s3.build_storage(object_parameters={"ChecksumAlgorithm": "SHA256", "StorageClass": "STANDARD_IA"})
    facts = {"key": KEY, "filename": "a.txt", "media_type": "text/plain"}
    assert "ChecksumAlgorithm" not in storage.upload_parameters("films/x/a.txt", facts)
    assert storage.upload_parameters("films/x/a.txt", facts)["StorageClass"] == "STANDARD_IA"
    assert "StorageClass" not in storage.upload_parameters(KEY, facts)


def test_a_forked_process_makes_a_client_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = s3.build_storage(region_name="us-east-1")
    before = storage.client
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert storage.client is not before
    assert storage.client is storage.client


def test_asking_for_the_store_makes_no_client() -> None:
    storage = s3.build_storage()
    assert storage.upload_store(None) is storage.upload_store(None)  # type: ignore[arg-type]  # as the app asks
    assert storage._client is None


# Zero copy.


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, True),
        ({"zero_copy": False}, False),
        ({"file_overwrite": True}, False),
        ({"querystring_auth": False}, False),
        ({"custom_domain": "files.example.com"}, False),
        ({"default_acl": "public-read"}, False),
        ({"default_acl": "private"}, True),
        ({"object_parameters": {"ACL": "public-read"}}, False),
        ({"querystring_auth": False, "zero_copy": True}, True),
    ],
)
def test_permanent_names_are_given_at_creation_where_nobody_could_read_them(
    options: dict[str, Any], expected: bool
) -> None:
    storage = s3.build_storage(**options)
    name = storage.choose_object_name(field_of(s3.Film), "a.txt", KEY)
    assert (name != KEY) is expected


def test_names_that_depend_on_the_record_are_given_when_there_is_one() -> None:
    assert s3.direct.choose_object_name(field_of(s3.Scene), "a.txt", KEY) == KEY


def test_two_uploads_of_one_name_get_two_permanent_names_with_65_random_bits() -> None:
    names = {s3.direct.choose_object_name(field_of(s3.Film), "мой a.txt", KEY) for _ in range(50)}
    assert len(names) == 50
    for name in names:
        films, year, token, last = name.split("/")
        assert (films, year, last) == ("films", timezone.now().strftime("%Y"), "мой_a.txt")
        assert len(token) == 13
        assert set(token) <= set(cloud._ALPHABET)
    assert len(cloud._ALPHABET) ** 13 >= 2**64


def test_a_permanent_name_fits_its_column() -> None:
    field = field_of(s3.Film)
    name = s3.direct.choose_object_name(field, "n" * 600 + ".pdf", KEY)
    assert len(name) == field.max_length
    assert name.endswith("n.pdf")
    narrow = models.FileField(upload_to="x" * 90, max_length=100)
    assert s3.direct.choose_object_name(narrow, "a.pdf", KEY) == KEY


# Signed POST.


def test_a_presigned_post_fixes_key_size_and_type(bucket: str, client: Client) -> None:
    target = sign(client, s3.Clip, "a.png", len(PNG))
    url = target["uploadUrl"]
    assert (url["method"], url["provider"], url["fileFieldName"]) == ("POST", "s3", "file")
    assert url["fields"]["key"] == f"site/media/{target['key']}"
    policy = policy_of(target)
    assert ["content-length-range", len(PNG), len(PNG)] in policy
    assert {"Content-Type": "image/png"} in policy
    assert ["starts-with", "$Content-Type", ""] not in policy
    covered = {name for each in policy if isinstance(each, dict) for name in each}
    assert set(url["fields"]) - {"policy", "x-amz-signature"} <= covered
    assert send(target, PNG).status_code in (201, 204)
    assert content_of(s3.copying, target["key"]) == PNG


def test_where_the_size_is_not_known_the_fields_limit_is_the_policys(bucket: str, client: Client) -> None:
    query = {"fieldId": field_id(s3.Clip), "filename": "a.unheard-of"}
    target = client.get("/uploads/generate-upload-url/", query).json()
    assert ["content-length-range", 0, 300 * MIB] in policy_of(target)
    assert {"Content-Type": "application/octet-stream"} in policy_of(target)


def test_clients_cannot_make_their_upload_public_or_send_its_sender_elsewhere(bucket: str, client: Client) -> None:
    params = {
        "acl": "public-read",
        "ACL": "public-read",
        "success_action_redirect": "https://evil.example",
        "x-amz-storage-class": "GLACIER",
        "Content-Disposition": "inline",
        "key": "films/owned.html",
        "x-amz-meta-note": "mine",
        "success_action_status": "201",
    }
    target = sign(client, s3.Clip, "a.txt", 5, params=params)
    fields = target["uploadUrl"]["fields"]
    assert not {"acl", "ACL", "success_action_redirect", "x-amz-storage-class"} & set(fields)
    assert fields["Content-Disposition"].startswith("inline; filename=")
    assert fields["key"] == f"site/media/{target['key']}"
    assert (fields["x-amz-meta-note"], fields["success_action_status"]) == ("mine", "201")
    assert send(target, b"hello").status_code == 201


def test_a_projects_conditions_let_its_fields_through() -> None:
    form, policy = s3_post.build_form(
        {"Content-Type": "text/plain"},
        {"acl": "private", "x-amz-tagging": "a", "content-type": "text/html"},
        [{"acl": "private"}, ["starts-with", "$x-amz-tagging", "a"], ["content-length-range", 1, 2]],
    )
    assert form == {"Content-Type": "text/plain", "acl": "private", "x-amz-tagging": "a"}
    assert policy == [
        {"Content-Type": "text/plain"},
        {"acl": "private"},
        {"x-amz-tagging": "a"},
        ["starts-with", "$x-amz-tagging", "a"],
        ["content-length-range", 1, 2],
    ]


def test_the_form_carries_the_encryption_that_the_storage_asks_for() -> None:
    parameters = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "key", "BucketKeyEnabled": True, "ACL": "private"}
    storage = s3.build_storage(object_parameters=parameters, access_key="a", secret_key="b")
    fields = storage.generate_upload_url(KEY, "field", fields={"x-amz-server-side-encryption": "none"})["fields"]
    assert fields["x-amz-server-side-encryption"] == "aws:kms"
    assert fields["x-amz-server-side-encryption-aws-kms-key-id"] == "key"
    assert fields["x-amz-server-side-encryption-bucket-key-enabled"] == "true"
    assert "acl" not in fields


@commits
def test_a_signed_upload_is_looked_at_by_one_request_and_copied_when_saved(bucket: str, client: Client) -> None:
    target = sign(client, s3.Clip, "a.png", len(PNG))
    send(target, PNG)
    sent = s3.Requests(s3.copying)
    field = field_of(s3.Clip)
    pending = validation.check(field, AsyncFileInputData(key=target["key"], name="a.png"))
    assert pending is not None
    assert sent.take() == {"GetObject": 1}
    row = row_of(target["key"])
    assert (row.length, row.media_type) == (len(PNG), "image/png")
    assert row.digest == head(s3.copying, target["key"])["ETag"]
    clip = s3.Clip.objects.create(file=pending)
    assert row_of(target["key"]).is_promoted
    assert content_of(s3.copying, clip.file.name) == PNG


@pytest.mark.parametrize(("content", "code"), [(b"<html>", "type_not_allowed"), (None, "incomplete")])
def test_what_a_signed_upload_is_in_truth_decides(
    bucket: str, client: Client, content: bytes | None, code: str
) -> None:
    target = sign(client, s3.Still, "a.png", None)
    if content is not None:
        put(s3.direct, target["key"], content, ContentType="image/png")
    with pytest.raises(validation.ValidationError) as caught:
        validation.check(field_of(s3.Still), AsyncFileInputData(key=target["key"], name="a.png"))
    assert caught.value.code == code


@pytest.mark.parametrize(
    "error", [ClientError({"Error": {"Code": "503"}}, "GetObject"), EndpointConnectionError(endpoint_url="x")]
)
def test_while_the_bucket_is_away_the_form_says_so(
    bucket: str, client: Client, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    target = sign(client, s3.Still, "a.png", None)
    put(s3.direct, target["key"], PNG, ContentType="image/png")
    value = AsyncFileInputData(key=target["key"], name="a.png")

    def fail(**parameters: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(s3.direct.client, "get_object", fail)
        with pytest.raises(validation.ValidationError) as caught:
            validation.check(field_of(s3.Still), value)
    assert caught.value.code == "unavailable"
    assert validation.check(field_of(s3.Still), value) is not None


def test_verifying_tells_size_type_and_etag(bucket: str) -> None:
    assert s3.copying.verify_upload(KEY, 5) is None
    etag = put(s3.copying, KEY, b"")
    assert s3.copying.verify_upload(KEY, 5) == VerifiedUpload(0, "text/plain", etag)
    etag = put(s3.copying, KEY, PNG * 100)
    assert s3.copying.verify_upload(KEY, 5) == VerifiedUpload(len(PNG) * 100, "image/png", etag)


@commits
def test_a_file_that_is_swapped_after_it_was_validated_is_not_taken(bucket: str, client: Client) -> None:
    target = sign(client, s3.Clip, "a.png", len(PNG))
    send(target, PNG)
    pending = validation.check(field_of(s3.Clip), AsyncFileInputData(key=target["key"], name="a.png"))
    evil = b"<script>" + PNG[8:]
    assert send(target, evil).status_code in (201, 204), "the URL is still good"
    clip = s3.Clip.objects.create(file=pending)
    row = row_of(target["key"])
    assert not row.is_promoted
    assert "was changed" in row.error
    assert s3.copying.stored_size(clip.file.name) is None


# Downloads.


def download(storage: S3AsyncUploadStorage, name: str, **options: Any) -> requests.Response:
    return requests.get(storage.generate_download_url(name, "field", **options), timeout=60)


@commits
def test_a_download_bears_the_true_name_and_nothing_that_a_browser_would_run(bucket: str, client: Client) -> None:
    film = s3.Film.objects.create(file=upload(client, field_id(s3.Film), "мой.html", b"<html>hello"))
    answer = client.get("/uploads/download-file/", {"field_id": field_id(s3.Film), "instance_id": film.pk})
    assert answer.status_code == 302
    got = requests.get(answer["Location"], timeout=60)
    assert got.content == b"<html>hello"
    assert got.headers["Content-Disposition"] == "attachment; filename*=utf-8''%D0%BC%D0%BE%D0%B9.html"
    AsyncTempFile.objects.all().delete()  # as the cleanup does, days later
    assert download(s3.direct, film.file.name).headers["Content-Disposition"] == got.headers["Content-Disposition"]


def test_download_params_are_those_of_s3(bucket: str) -> None:
    put(s3.copying, "docs/a.png", PNG)
    url = s3.copying.generate_download_url(
        "docs/a.png", "field", expire=7, parameters={"ResponseContentDisposition": "attachment", "content_type": "a/b"}
    )
    assert parse_qs(urlsplit(url).query)["X-Amz-Expires"] == ["7"]
    got = requests.get(url, timeout=60)
    assert got.headers["Content-Disposition"] == "attachment"
    assert got.headers["Content-Type"] == "a/b"
    plain = download(s3.copying, "docs/a.png")
    assert plain.headers["Content-Disposition"] == 'inline; filename="a.png"'
    assert plain.headers["Content-Type"] == "image/png"


def test_a_name_cannot_add_headers(bucket: str, client: Client) -> None:
    row = AsyncTempFile.create_for_field(field_of(s3.Clip), 'a"\r\nX-Evil: 1\u2028.txt')
    put(s3.copying, row.key)
    got = download(s3.copying, row.key)
    assert "X-Evil" not in got.headers
    assert got.headers["Content-Disposition"] == 'inline; filename="a\\"X-Evil: 1.txt"'
    assert "\n" not in describe("", 'a"\r\nb.txt')["ContentDisposition"]


@commits
def test_before_promotion_a_download_is_that_of_the_upload(bucket: str, client: Client, settings: Any) -> None:
    settings.ASYNC_UPLOADS = {"COPY_IN_BACKGROUND_ABOVE": 1}
    clip = s3.Clip.objects.create(file=upload(client, field_id(s3.Clip), "a.txt", b"text"))
    assert not AsyncTempFile.objects.get().is_promoted
    answer = client.get("/uploads/download-file/", {"field_id": field_id(s3.Clip), "instance_id": clip.pk})
    assert requests.get(answer["Location"], timeout=60).content == b"text"


@pytest.mark.parametrize(
    ("options", "start"),
    [
        ({"custom_domain": "files.example.com"}, "https://files.example.com/media/docs/a.txt"),
        ({"custom_domain": "files.example.com", "url_protocol": "http:"}, "http://files.example.com/media/docs/a.txt"),
        ({"querystring_auth": False}, "http://127.0.0.1:9/nowhere/media/docs/a.txt"),
    ],
)
def test_where_urls_are_not_signed_they_are_those_of_django_storages(options: dict[str, Any], start: str) -> None:
    storage = s3.build_storage(location="media", region_name="us-east-1", access_key="a", secret_key="b", **options)
    assert storage.generate_download_url("docs/a.txt", "field") == start


# Moving.


def make_upload(storage: S3AsyncUploadStorage, content: bytes = b"hello", **facts: Any) -> AsyncTempFile:
    """Store a finished upload of the ``Clip`` model whose manifest nobody wrote."""
    columns = {"length": len(content), "finished_at": timezone.now(), **facts}
    row = AsyncTempFile.create_for_field(field_of(s3.Clip), "a.txt", **columns)
    put(storage, row.key, content)
    return row


def test_a_move_copies_and_leaves_the_source(bucket: str) -> None:
    row = make_upload(s3.copying)
    sent = s3.Requests(s3.copying)
    s3.copying.move_file(row.key, "docs/b.txt")
    assert sent.take() == {"HeadObject": 3, "CopyObject": 1}
    assert content_of(s3.copying, "docs/b.txt") == content_of(s3.copying, row.key) == b"hello"
    sent.take()
    s3.copying.move_file(row.key, "docs/b.txt")
    assert sent.take() == {"HeadObject": 1}, "a repeat sees that it is done"
    s3.copying._remove_object(row.key)
    s3.copying.move_file(row.key, "docs/b.txt")


def test_a_strangers_file_stays(bucket: str) -> None:
    row = make_upload(s3.copying)
    put(s3.copying, "docs/b.txt", b"hello")
    with pytest.raises(FileExistsError):
        s3.copying.move_file(row.key, "docs/b.txt")
    s3.copying.return_file(row.key, "docs/b.txt", 5)
    assert content_of(s3.copying, "docs/b.txt") == b"hello"


def test_a_storage_that_overwrites_does(bucket: str) -> None:
    row = make_upload(s3.copying)
    put(s3.copying, "docs/b.txt", b"old")
    s3.copying.overwrites = True
    try:
        s3.copying.move_file(row.key, "docs/b.txt")
        assert content_of(s3.copying, "docs/b.txt") == b"hello"
    finally:
        s3.copying.overwrites = False


def test_a_move_of_nothing_says_so(bucket: str) -> None:
    with pytest.raises(FileNotFoundError):
        s3.copying.move_file(KEY, "docs/b.txt")
    s3.copying.move_file(KEY, KEY)
    assert not s3.copying.copies_on_move(KEY, KEY)


def test_a_copy_is_taken_back_when_no_record_wants_it(bucket: str) -> None:
    row = make_upload(s3.copying)
    s3.copying.move_file(row.key, "docs/b.txt")
    s3.copying.return_file(row.key, "docs/b.txt", 5)
    s3.copying.return_file(row.key, "docs/b.txt", 5)
    assert list(s3.keys(s3.copying)) == [f"site/media/{row.key}"]


@pytest.mark.parametrize(
    ("size", "count", "largest"),
    [
        (256 * MIB + 1, 3, 128 * MIB),
        (1024 * MIB, 8, 128 * MIB),
        (2 * 1024**4, 1000, -(-2 * 1024**4 // 1000)),
        (5 * 1024**4, 1024, 5 * 1024 * MIB),
        (48 * 1024**4, 9831, 5 * 1024 * MIB),
    ],
)
def test_pieces_are_few_and_allowed(size: int, count: int, largest: int) -> None:
    pieces = s3_copy.plan_pieces(size)
    assert len(pieces) == count <= 10_000
    assert max(last - first + 1 for first, last in pieces) == largest <= 5 * 2**30
    assert pieces[0][0] == 0
    assert pieces[-1][1] == size - 1
    assert all(before[1] + 1 == after[0] for before, after in pairwise(pieces))


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Let everything above 6 MiB be copied in pieces of 5 MiB; returns a content of three pieces."""
    monkeypatch.setattr(s3_copy, "SINGLE_LIMIT", 6 * MIB)
    monkeypatch.setattr(s3_copy, "SMALLEST_PIECE", 5 * MIB)
    return b"abcdefghijklmnop" * (11 * MIB // 16)


def test_a_large_file_is_copied_in_pieces(bucket: str, small_pieces: bytes) -> None:
    row = make_upload(s3.copying, small_pieces)
    sent = s3.Requests(s3.copying)
    s3.copying.move_file(row.key, "docs/b.txt")
    taken = sent.take()
    assert taken.pop("HeadObject") == 3
    assert taken == {"CreateMultipartUpload": 1, "UploadPartCopy": 3, "CompleteMultipartUpload": 1}
    assert content_of(s3.copying, "docs/b.txt") == small_pieces
    assert head(s3.copying, "docs/b.txt")["ContentType"] == "text/plain"
    assert row_of(row.key).copy_id == ""
    sent.take()
    s3.copying.move_file(row.key, "docs/b.txt")
    assert sent.take() == {"HeadObject": 1}


class Killed(BaseException):
    """The process is gone; nothing that it would do next happens."""


class Mortal:
    """A client whose process dies at one call, before or after its effect; then all calls raise.

    Attributes:
        died_in: The call at which it died; empty as long as it lives.
    """

    def __init__(self, client: Any, calls: int, when: str) -> None:
        self.client, self.calls, self.when = client, calls, when
        self.died_in = ""

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)

        def call(**parameters: Any) -> Any:
            self.calls -= 1
            if self.died_in or (self.calls < 0 and self.when == "before"):
                self.died_in = self.died_in or name
                raise Killed
            answer = method(**parameters)
            if self.calls < 0:
                self.died_in = self.died_in or name
                raise Killed
            return answer

        return call if callable(method) else method


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("is_large", [False, True])
def test_a_move_can_be_repeated_after_a_death_at_any_call(
    bucket: str, small_pieces: bytes, is_large: bool, when: str
) -> None:
    content = small_pieces if is_large else b"hello"
    real, deaths = s3.copying.client, []
    for k in range(20):
        row, name = make_upload(s3.copying, content), f"docs/{k}.txt"
        s3.copying._client = mortal = Mortal(real, k, when)
        try:
            s3.copying.move_file(row.key, name)
        except Killed:
            deaths.append(mortal.died_in)
        else:
            break
        finally:
            s3.copying._client = real
        s3.copying.move_file(row.key, name)
        assert content_of(s3.copying, name) == content_of(s3.copying, row.key) == content
        if (mortal.died_in, when) != ("create_multipart_upload", "after"):  # nobody knows of it: a lifecycle rule's
            assert s3.multiparts(s3.copying) == []
        for key in s3.multiparts(s3.copying):
            assert key.endswith(name)
            abort_all(s3.copying)
    copied = ["create_multipart_upload", *["upload_part_copy"] * 3, "complete_multipart_upload"]
    assert deaths == ["head_object"] * 2 + (copied if is_large else ["copy_object"]) + ["head_object"]


def abort_all(storage: S3AsyncUploadStorage) -> None:
    for each in storage.client.list_multipart_uploads(Bucket=storage.bucket_name)["Uploads"]:
        storage.client.abort_multipart_upload(Bucket=storage.bucket_name, Key=each["Key"], UploadId=each["UploadId"])


def test_an_interrupted_copy_goes_on_where_it_was(bucket: str, small_pieces: bytes, monkeypatch: Any) -> None:
    row = make_upload(s3.copying, small_pieces)
    real = s3.copying.client
    monkeypatch.setattr(s3_copy, "WIDTH", 1)
    s3.copying._client = Mortal(real, 4, "after")  # HeadObject, Create, 3 pieces: dead after the second piece
    try:
        with pytest.raises(Killed):
            s3.copying.move_file(row.key, "docs/b.txt")
    finally:
        s3.copying._client = real
    assert row_of(row.key).copy_id
    sent = s3.Requests(s3.copying)
    s3.copying.move_file(row.key, "docs/b.txt")
    taken = sent.take()
    assert taken["UploadPartCopy"] < 3
    assert "CreateMultipartUpload" not in taken
    assert content_of(s3.copying, "docs/b.txt") == small_pieces
    assert s3.multiparts(s3.copying) == []


def test_a_copy_that_was_aborted_meanwhile_begins_anew(bucket: str, small_pieces: bytes) -> None:
    row = make_upload(s3.copying, small_pieces)
    full = s3.copying.full_key("docs/b.txt")
    gone = s3.copying.client.create_multipart_upload(Bucket=bucket, Key=full)["UploadId"]
    s3.copying.client.abort_multipart_upload(Bucket=bucket, Key=full, UploadId=gone)
    AsyncTempFile.objects.filter(pk=row.pk).update(copy_id=gone)
    s3.copying.move_file(row.key, "docs/b.txt")
    assert content_of(s3.copying, "docs/b.txt") == small_pieces


def test_a_half_copy_is_aborted_when_no_record_wants_it(bucket: str, small_pieces: bytes) -> None:
    row = make_upload(s3.copying, small_pieces)
    real = s3.copying.client
    s3.copying._client = Mortal(real, 3, "after")
    try:
        with pytest.raises(Killed):
            s3.copying.move_file(row.key, "docs/b.txt")
    finally:
        s3.copying._client = real
    assert s3.multiparts(s3.copying) == ["site/media/docs/b.txt"]
    s3.copying.return_file(row.key, "docs/b.txt", len(small_pieces))
    assert s3.multiparts(s3.copying) == []
    assert row_of(row.key).copy_id == ""


def test_a_service_without_conditions_is_asked_again_without_them() -> None:
    seen = []

    def method(**parameters: Any) -> str:
        seen.append(parameters)
        if "IfNoneMatch" in parameters:
            raise ClientError({"Error": {"Code": "NotImplemented"}}, "CopyObject")
        return "done"

    copy = s3_copy.Copy("bucket", "a", "b", 1, '"etag"')
    assert s3_copy._call(method, copy, IfNoneMatch="*") == "done"
    assert [("IfNoneMatch" in each) for each in seen] == [True, False]


# Reading before promotion, through the cleanup.


@commits
def test_a_file_can_be_read_between_its_save_and_its_promotion(bucket: str, client: Client, settings: Any) -> None:
    settings.ASYNC_UPLOADS = {"COPY_IN_BACKGROUND_ABOVE": 1}
    clip = s3.Clip.objects.create(file=upload(client, field_id(s3.Clip), "a.txt", b"0123456789"))
    name = s3.Clip.objects.get().file.name
    row = AsyncTempFile.objects.get()
    assert not row.is_promoted
    for each in (clip, s3.Clip.objects.get()):
        assert each.file.size == 10
        with each.file.open() as file:
            file.seek(4)
            assert file.read(3) == b"456"
    assert s3.copying.exists(name)
    assert s3.copying.size(name) == 10
    assert row.key in s3.copying.url(name)
    cleanup.reconcile()
    assert row_of(row.key).is_promoted
    assert s3.copying.url(name).partition("?")[0].endswith(f"/site/media/{name}")
    assert s3.Clip.objects.get().file.read() == b"0123456789"


@commits
def test_the_source_goes_when_no_url_can_work_any_more(bucket: str, client: Client) -> None:
    key = upload(client, field_id(s3.Clip), "a.txt", b"text")
    clip = s3.Clip.objects.create(file=key)
    cleanup.reconcile()
    assert s3.copying.stored_size(key) == 4
    cleanup.reconcile(now=timezone.now() + timedelta(hours=2))
    assert s3.copying.stored_size(key) is None
    assert content_of(s3.copying, clip.file.name) == b"text"


@commits
@pytest.mark.parametrize("model", [s3.Film, s3.Clip])
def test_segments_that_a_dead_process_left_go_with_the_source(bucket: str, client: Client, model: Any) -> None:
    url = create(client, field_id(model), "a.bin", 300_000)["Location"]
    for start in (0, 150_000):
        patch(client, url, start, bytes(150_000))
    row = AsyncTempFile.objects.get()
    record = model.objects.create(file=row.key)
    put(s3.direct, f"async-temp-files/{row.upload_id}/tail/0-150000-1-left")
    cleanup.reconcile(now=timezone.now() + timedelta(hours=2))
    assert list(s3.keys(s3.direct)) == [f"site/media/{record.file.name}"]


@commits
def test_what_nobody_submits_is_removed_and_nothing_else(bucket: str, client: Client) -> None:
    put(s3.copying, "docs/other.txt")
    put(s3.copying, "async-temp-files/2026/11/22/not-ours.txt")
    before = s3.keys(s3.copying)
    half = create(client, field_id(s3.Clip), "half.bin", 20 * MIB)["Location"]
    patch(client, half, 0, bytes(9 * MIB))
    tail = create(client, field_id(s3.Film), "tail.bin", 20 * MIB)["Location"]
    patch(client, tail, 0, bytes(100_000))
    upload(client, field_id(s3.Film), "whole.bin", bytes(100))
    send(sign(client, s3.Clip, "signed.txt", 5), b"hello")
    assert len(s3.keys(s3.copying)) > len(before) + 2
    assert s3.multiparts(s3.copying)
    cleanup.reconcile(now=timezone.now() + timedelta(days=30))
    assert s3.keys(s3.copying) == before
    assert s3.multiparts(s3.copying) == []
    cleanup.reconcile(now=timezone.now() + timedelta(days=31))
    assert AsyncTempFile.objects.count() == 0


@commits
def test_an_object_under_a_permanent_name_is_removed_only_if_it_is_the_uploads(bucket: str, client: Client) -> None:
    key = upload(client, field_id(s3.Film), "a.bin", b"ours")
    row = AsyncTempFile.objects.select_related("state").get(key=key)
    put(s3.direct, row.place, b"theirs")
    assert s3.direct.discard_upload(row)
    assert content_of(s3.direct, row.place) == b"theirs"


@commits
def test_a_file_from_a_form_without_javascript_is_stored_as_it_is(bucket: str) -> None:
    s3.copying.gzip = True
    content = b"body { color: red }" * 100
    try:
        field = field_of(s3.Clip)
        pending = validation.receive(field, SimpleUploadedFile("a.css", content, "text/css"))
        assert s3.copying.stored_size(pending.row.key) == len(content)
        clip = s3.Clip.objects.create(file=pending)
        assert row_of(pending.row.key).is_promoted
        assert content_of(s3.copying, clip.file.name) == content
        packed = s3.copying.save("docs/b.css", ContentFile(content))
        assert head(s3.copying, packed)["ContentEncoding"] == "gzip", "as django-storages does"
        with s3.copying.open(packed) as file:
            assert file.read() == content
    finally:
        s3.copying.gzip = False


@commits
def test_an_archive_is_a_file_not_an_encoding(bucket: str, client: Client) -> None:
    clip = s3.Clip.objects.create(file=upload(client, field_id(s3.Clip), "a.tar.gz", b"\x1f\x8b" + bytes(100)))
    assert "ContentEncoding" not in head(s3.copying, clip.file.name)


@commits
def test_a_picture_assigned_by_code_is_measured_by_its_head(bucket: str, client: Client) -> None:
    picture = Path(__file__).parent / "picture.png"
    content = picture.read_bytes() if picture.exists() else make_picture()
    key = upload(client, field_id(s3.Clip, "image"), "a.png", content)
    clip = s3.Clip(file=upload(client, field_id(s3.Clip), "a.txt", b"text"), image=key)
    clip.save()
    assert (clip.image.width, clip.image.height) == (31, 17)


def make_picture() -> bytes:
    from io import BytesIO

    from PIL import Image

    buffer = BytesIO()
    Image.new("RGB", (31, 17)).save(buffer, "PNG")
    return buffer.getvalue()


# The storage itself.


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "storages.backends.s3", None)
    monkeypatch.delitem(sys.modules, "async_uploads.storage.s3")
    with pytest.raises(ImproperlyConfigured, match=r"django-async-uploads\[s3\]"):
        importlib.import_module("async_uploads.storage.s3")


def test_files_are_not_overwritten_unless_that_is_asked_for(settings: Any) -> None:
    assert not s3.build_storage().overwrites
    assert s3.build_storage(file_overwrite=True).overwrites
    settings.AWS_S3_FILE_OVERWRITE = True
    assert s3.build_storage().overwrites


def test_all_options_of_django_storages_are_taken_and_ours_too() -> None:
    storage = s3.build_storage(transport="signed", zero_copy=True, conditional_writes=True, querystring_expire=5)
    assert (storage.transport, storage.zero_copy, storage.conditional_writes) == ("signed", True, True)
    assert s3.build_storage().transport == "tus"
    with pytest.raises(Exception, match="Invalid setting 'colour'"):
        s3.build_storage(colour="red")


@commits
def test_a_service_that_takes_few_parts_gets_larger_ones(bucket: str, client: Client) -> None:
    s3.direct.max_parts = 4
    try:
        url = create(client, field_id(s3.Film), "a.bin", 30 * MIB)["Location"]
        patch(client, url, 0, bytes(11 * MIB))
    finally:
        s3.direct.max_parts = 10_000
    row = AsyncTempFile.objects.select_related("state").get()
    assert 4 * (manifests.find_manifest(row).part_size or 0) >= 30 * MIB


def test_the_identity_tells_endpoints_buckets_and_locations_apart() -> None:
    build = S3AsyncUploadStorage
    storages = [
        build(bucket_name="a"),
        build(bucket_name="b"),
        build(bucket_name="a", location="x"),
        build(bucket_name="a", endpoint_url="https://s3.example"),
        build(bucket_name="a" * 300, location="y" * 300),
    ]
    identities = [each.identity() for each in storages]
    assert len(set(identities)) == 5
    assert all(len(identity) <= 255 for identity in identities)


def test_a_storage_can_be_pickled_and_written_into_a_migration(bucket: str) -> None:
    put(s3.copying, "docs/a.txt")
    again = pickle.loads(pickle.dumps(s3.copying))
    assert again.identity() == s3.copying.identity()
    assert again.stored_size("docs/a.txt") == 5
    text, imports = MigrationWriter.serialize(S3AsyncUploadStorage(bucket_name="a", zero_copy=False))
    assert text == "async_uploads.storage.s3.S3AsyncUploadStorage(bucket_name='a', zero_copy=False)"
    assert imports == {"import async_uploads.storage.s3"}


@pytest.mark.parametrize(
    ("endpoint", "is_amazon"),
    [
        (None, True),
        ("https://s3.eu-west-1.amazonaws.com", True),
        ("https://bucket.vpce-1.s3.us-east-1.vpce.amazonaws.com", True),
        ("https://account.r2.cloudflarestorage.com", False),
        ("https://amazonaws.com.evil.example", False),
    ],
)
def test_checksums_and_conditions_are_left_out_where_the_service_may_not_know_them(
    endpoint: str | None, is_amazon: bool
) -> None:
    storage = S3AsyncUploadStorage(bucket_name="a", endpoint_url=endpoint, region_name="us-east-1")
    wanted = "when_supported" if is_amazon else "when_required"
    assert storage.client.meta.config.request_checksum_calculation == wanted
    assert storage.client.meta.config.response_checksum_validation == wanted
    assert storage.takes_conditions() is is_amazon
    assert storage.client.meta.config.max_pool_connections >= 32
    assert storage.client is storage.client


def test_a_projects_own_client_options_stay() -> None:
    config = Config(signature_version="s3", max_pool_connections=99, request_checksum_calculation="when_supported")
    storage = S3AsyncUploadStorage(bucket_name="a", endpoint_url="https://s3.example", client_config=config)
    assert storage.client_config.signature_version == "s3"
    assert storage.client_config.max_pool_connections == 99
    assert storage.client_config.request_checksum_calculation == "when_supported"
    assert storage.client_config.response_checksum_validation == "when_required"


@commits
def test_what_saving_costs_is_as_the_reference_says(bucket: str, client: Client, small_pieces: bytes) -> None:
    sent = s3.Requests(s3.copying)
    for name, content, copied in (
        ("a.txt", b"small", {"CopyObject": 1}),
        ("b.txt", small_pieces, {"CreateMultipartUpload": 1, "UploadPartCopy": 3, "CompleteMultipartUpload": 1}),
    ):
        key = upload(client, field_id(s3.Clip), name, content)
        sent.take()
        s3.Clip.objects.create(file=key)
        assert sent.take() == {"HeadObject": 4, **copied}


@commits
def test_an_etag_of_a_finished_upload_names_the_source_of_its_copy(bucket: str, client: Client) -> None:
    key = upload(client, field_id(s3.Clip), "a.txt", b"text")
    row = AsyncTempFile.objects.select_related("state").get(key=key)
    assert manifests.find_manifest(row).finished is not None
    sent = s3.Requests(s3.copying)
    s3.copying.move_file(key, "docs/b.txt")
    assert sent.take() == {"HeadObject": 1, "CopyObject": 1}
