"""Models whose files go to Azurite, and what tests need to look at them."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import models

from async_uploads.models import AsyncFileField, AsyncImageField
from async_uploads.storage.azure import AzureAsyncUploadStorage
from tests.servers.azure import WatchedContainer, make_container
from tests.servers.azurite import AzuriteServer

OPEN: dict[str, Any] = {"perm_create": None, "perm_update": None, "perm_detail": None}

#: One by copies, one without; where they are is set by ``connect``.
copying = AzureAsyncUploadStorage(account_name="tests", azure_container="none", location="media", zero_copy=False)
direct = AzureAsyncUploadStorage(account_name="tests", azure_container="none", location="media", zero_copy=True)


class Copied(models.Model):
    file = AsyncFileField(storage=copying, upload_to="copied/", **OPEN)

    class Meta:
        app_label = "testapp"


class Direct(models.Model):
    file = AsyncFileField(storage=direct, upload_to="direct/", **OPEN)

    class Meta:
        app_label = "testapp"


class SmallText(models.Model):
    file = AsyncFileField(storage=copying, upload_to="text/", max_size=0.001, file_restrictions=["text/*"], **OPEN)

    class Meta:
        app_label = "testapp"


class Portrait(models.Model):
    image = AsyncImageField(storage=copying, upload_to="portraits/", **OPEN)

    class Meta:
        app_label = "testapp"


def connect(storage: AzureAsyncUploadStorage, server: AzuriteServer, container: WatchedContainer) -> None:
    """Let a storage use a container of Azurite, through a client that counts."""
    storage.connection_string = server.connection_string
    storage.account_key = server.account_key
    storage.azure_container = container.container.container_name
    storage._service_client = None
    storage._client = container
    storage._forget_connections()


@pytest.fixture
def container(azurite: AzuriteServer) -> WatchedContainer:
    """A container of the test's own, which all storages of this module use."""
    watched = WatchedContainer(make_container(azurite))
    for storage in (copying, direct):
        connect(storage, azurite, watched)
    return watched


def blobs(container: WatchedContainer) -> dict[str, bytes]:
    """Return every committed blob of the container."""
    found = container.container
    return {blob.name: found.download_blob(blob.name).readall() for blob in found.list_blobs()}
