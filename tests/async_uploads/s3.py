"""What the tests on S3 share: models whose storages are in a bucket of a stand-in, and the requests that reach it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from django.db import models

from async_uploads.models import AsyncFileField, AsyncImageField
from async_uploads.storage.s3 import S3AsyncUploadStorage
from tus_server.uploads import generate_upload_id


class Server(Protocol):
    """moto or RGW."""

    url: str
    access_key: str
    secret_key: str
    region: str

    def client(self) -> Any: ...


def build_storage(**options: Any) -> S3AsyncUploadStorage:
    """Return a storage that belongs nowhere yet; see ``attach``."""
    return S3AsyncUploadStorage(bucket_name="nowhere", endpoint_url="http://127.0.0.1:9", **options)


#: With zero copy, as private storages have it by default.
direct = build_storage(location="site/media")
#: Promoted by a copy.
copying = build_storage(location="site/media", zero_copy=False)
STORAGES = (direct, copying)


def name_by_title(instance: models.Model, filename: str) -> str:
    return f"scenes/{instance.pk}/{filename}"


OPEN: dict[str, Any] = {"perm_create": None, "perm_update": None, "perm_detail": None}


class Film(models.Model):
    file = AsyncFileField(storage=direct, upload_to="films/%Y/", **OPEN)

    class Meta:
        app_label = "testapp"


class Clip(models.Model):
    file = AsyncFileField(storage=copying, upload_to="clips/", max_size=300, **OPEN)
    image = AsyncImageField(storage=copying, upload_to="clips/", blank=True, **OPEN)

    class Meta:
        app_label = "testapp"


class Scene(models.Model):
    file = AsyncFileField(storage=direct, upload_to=name_by_title, **OPEN)

    class Meta:
        app_label = "testapp"


class Still(models.Model):
    file = AsyncFileField(storage=direct, upload_to="stills/", file_restrictions=["image/*"], **OPEN)

    class Meta:
        app_label = "testapp"


#: The clients of this process by endpoint: to make one costs more than most tests.
_clients: dict[str, Any] = {}


def attach(storage: S3AsyncUploadStorage, server: Server, bucket: str) -> None:
    """Let a storage be in a bucket of a server."""
    storage.endpoint_url, storage.bucket_name = server.url, bucket
    storage.access_key, storage.secret_key, storage.region_name = server.access_key, server.secret_key, server.region
    storage._bucket = None
    storage.__setstate__(storage.__getstate__())
    storage._client = connect(server)


def connect(server: Server) -> Any:
    """Return a client as storages make them."""
    if server.url not in _clients:
        keys = {"access_key": server.access_key, "secret_key": server.secret_key, "region_name": server.region}
        _clients[server.url] = S3AsyncUploadStorage(bucket_name="any", endpoint_url=server.url, **keys).client
    return _clients[server.url]


def make_bucket(server: Server) -> str:
    """Create a bucket with a name of its own."""
    name = "b" + generate_upload_id().lower().replace("_", "").replace("-", "")[:20]
    connect(server).create_bucket(Bucket=name)
    return name


@contextmanager
def attached(server: Server, *storages: S3AsyncUploadStorage) -> Iterator[str]:
    """Let storages (those of the models, by default) be in a new bucket; yields its name."""
    bucket = make_bucket(server)
    for storage in storages or STORAGES:
        attach(storage, server, bucket)
    yield bucket


class Requests:
    """The requests that a storage's client sends, counted by the name of their operation."""

    def __init__(self, storage: S3AsyncUploadStorage) -> None:
        self.counts: Counter[str] = Counter()
        self._bucket = storage.bucket_name
        storage.client.meta.events.register("before-send.s3", self._count)

    def _count(self, event_name: str, request: Any, **_: Any) -> None:
        if f"/{self._bucket}" in request.url:  # all tests share a client
            self.counts[event_name.rpartition(".")[2]] += 1

    def take(self) -> dict[str, int]:
        """Return what was sent since the last time."""
        taken, self.counts = dict(self.counts), Counter()
        return taken


def keys(storage: S3AsyncUploadStorage) -> dict[str, int]:
    """Return the keys and sizes of everything in a storage's bucket."""
    answer = storage.client.list_objects_v2(Bucket=storage.bucket_name)
    return {each["Key"]: each["Size"] for each in answer.get("Contents", ())}


def multiparts(storage: S3AsyncUploadStorage) -> list[str]:
    """Return the keys of the multipart uploads under way in a storage's bucket."""
    answer = storage.client.list_multipart_uploads(Bucket=storage.bucket_name)
    return [each["Key"] for each in answer.get("Uploads", ())]
