"""The check that tries what a storage needs of its container, against Azurite."""

from __future__ import annotations

from typing import Any

import pytest
from azure.storage.blob import BlobServiceClient, CorsRule, LinearRetry

from async_uploads.checks import check_buckets
from async_uploads.storage.azure import AzureAsyncUploadStorage
from tests.async_uploads.azure_site import Copied, connect
from tests.servers.azure import WatchedContainer, make_container
from tests.servers.azurite import AzuriteServer, generate_key

assert Copied

pytestmark = pytest.mark.django_db


@pytest.fixture
def watched(azurite: AzuriteServer) -> WatchedContainer:
    """A container of the test's own, in an account without CORS rules."""
    service = BlobServiceClient.from_connection_string(azurite.connection_string)
    service.set_service_properties(cors=[])
    return WatchedContainer(make_container(azurite))


@pytest.fixture
def storage(azurite: AzuriteServer, watched: WatchedContainer) -> AzureAsyncUploadStorage:
    """A storage on it that works."""
    made = AzureAsyncUploadStorage(account_name="tests", azure_container="none", location="media")
    connect(made, azurite, watched)
    return made


def ids(storage: AzureAsyncUploadStorage) -> list[str]:
    return [message.id.removeprefix("async_uploads.") for message in storage.probe()]  # type: ignore[union-attr]


def test_a_container_that_works_is_left_as_it_was(storage: AzureAsyncUploadStorage, watched: WatchedContainer) -> None:
    assert storage.probe() == []
    assert list(watched.container.list_blobs(include=["uncommittedblobs"])) == []
    assert watched.calls["delete_blob"] == 2


def test_a_container_that_is_not_there_is_reported(azurite: AzuriteServer, storage: AzureAsyncUploadStorage) -> None:
    storage.azure_container, storage._client = "nowhere", None
    assert ids(storage) in (["E201"], ["E202", "E205"])  # a HEAD of the service may not tell the two apart


def test_a_wrong_key_is_reported(azurite: AzuriteServer, storage: AzureAsyncUploadStorage) -> None:
    storage.connection_string = azurite.connection_string.replace(azurite.account_key, generate_key())
    storage._client = None
    assert ids(storage) == ["E201"]


def test_signatures_that_are_not_taken_are_reported(storage: AzureAsyncUploadStorage) -> None:
    storage.account_key = generate_key()
    assert ids(storage) == ["E203"]  # without them a copy goes through this process


def test_a_storage_that_cannot_sign_is_told_so(storage: AzureAsyncUploadStorage) -> None:
    storage.account_key = ""
    found = storage.probe()
    assert found[0].id == "async_uploads.E203"
    assert "account_key" in found[0].msg


def test_a_public_container_is_warned_of(storage: AzureAsyncUploadStorage, watched: WatchedContainer) -> None:
    watched.container.set_container_access_policy({}, public_access="blob")
    assert ids(storage) == ["W201"]
    storage.custom_domain = "files.example.org"
    assert ids(storage) == []


@pytest.mark.parametrize("name", ["stage_block", "commit_block_list", "delete_blob", "start_copy_from_url"])
def test_what_is_refused_is_named(storage: AzureAsyncUploadStorage, watched: WatchedContainer, name: str) -> None:
    watched.arm("before", name)
    wanted = {"delete_blob": ["E205"], "start_copy_from_url": ["E204"]}
    assert ids(storage) == wanted.get(name, ["E202"])


@pytest.mark.parametrize(
    ("headers", "methods", "expected"),
    [
        (["content-type", "x-ms-blob-type"], ["PUT"], []),
        (["*"], ["GET", "PUT"], []),
        (["Content-Type", "x-ms-*"], ["PUT"], []),
        (["content-type"], ["PUT"], ["W202"]),
        (["*"], ["GET"], ["W202"]),
        (None, None, ["W202"]),
    ],
)
def test_signed_uploads_need_a_cors_rule(
    azurite: AzuriteServer,
    storage: AzureAsyncUploadStorage,
    headers: list[str] | None,
    methods: list[str] | None,
    expected: list[str],
) -> None:
    storage.transport = "signed"
    options: dict[str, Any] = {"retry_policy": LinearRetry(retry_total=0)}
    service = BlobServiceClient.from_connection_string(azurite.connection_string, **options)
    rules = [CorsRule(["https://a.example"], methods or [], allowed_headers=headers)] if headers else []
    service.set_service_properties(cors=rules)
    assert ids(storage) == expected


def test_the_check_asks_only_when_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[AzureAsyncUploadStorage] = []
    monkeypatch.setattr(AzureAsyncUploadStorage, "probe", lambda storage: asked.append(storage) or [])
    assert check_buckets() == []
    assert not asked
    check_buckets(databases=["default"])
    assert asked
