"""A cloud of dictionaries: a storage that copies and leaves sources behind, and a tus store whose offset is a manifest.

Every call that a service would be asked is counted in ``Cloud.calls``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import md5
from typing import Any

from django.core.files.base import ContentFile, File
from django.core.files.storage import Storage
from django.db import models

from async_uploads.journal import AsyncTempFile
from async_uploads.manifests import ModelManifests, find_manifest, find_multipart_id
from async_uploads.models import AsyncFileField
from async_uploads.storage.base import AsyncUploadStorage
from tus_server.stores.base import Records, Sink
from tus_server.stores.manifested import Fence, ManifestedStore
from tus_server.stores.manifests import Finished, Manifest, Segment
from tus_server.uploads import Upload, UploadRecord


def etag_of(content: bytes) -> str:
    return f'"{md5(content).hexdigest()}"'  # as S3 does


@dataclass
class Cloud:
    """What the service holds, and what it was asked."""

    objects: dict[str, bytes] = field(default_factory=dict)
    #: Whose copy an object is: name -> key.
    copies: dict[str, str] = field(default_factory=dict)
    multiparts: set[str] = field(default_factory=set)
    calls: list[str] = field(default_factory=list)
    stores: dict[Records, CloudStore] = field(default_factory=dict, repr=False)
    is_away: bool = False
    takes_zero_copy: bool = False

    def ask(self, call: str) -> None:
        """Count a request, or fail before it."""
        self.calls.append(call)
        if self.is_away:
            raise ConnectionError("The cloud is away")


class CloudSink(Sink):
    """Keeps what comes in one inline segment; no parts."""

    def __init__(self, store: CloudStore, fence: Fence, upload_id: str) -> None:
        self._store, self._fence, self._upload_id = store, fence, upload_id
        self._data = bytearray()

    def write(self, data: memoryview) -> None:
        self._data += data

    def settle(self) -> int:
        try:
            known, data = self._fence.known, bytes(self._data)
            if data:
                start, multipart = known.offset, next(iter(self._store.cloud.multiparts), None)
                tail = (*known.tail, Segment(start, len(data), data=data))
                self._fence.advance(replace(known, tail=tail, multipart_id=multipart))
                self._store.heads.extend(self._upload_id, start, data)
            return self._fence.known.offset
        finally:
            self._store.leave(self._upload_id)


class CloudStore(ManifestedStore):
    """Puts an upload's object when all of it is there."""

    def __init__(self, cloud: Cloud, records: Records) -> None:
        super().__init__(records, ModelManifests())
        self.cloud = cloud

    def _open(self, record: UploadRecord, fence: Fence, expected: int | None) -> Sink:
        return CloudSink(self, fence, record.id)

    def _recover(self, record: UploadRecord, fence: Fence) -> None:
        fence.advance(replace(fence.known, is_unsettled=False))

    def _complete(self, record: UploadRecord, fence: Fence) -> None:
        content = b"".join(segment.data for segment in fence.known.tail)
        self.cloud.ask("put")
        self.cloud.objects[record.object_name] = content
        fence.advance(replace(fence.known, finished=Finished(etag_of(content), len(content))))

    def _read(self, record: UploadRecord, start: int, count: int) -> bytes:
        self.cloud.ask("get")
        return self.cloud.objects[record.object_name][start : start + count]

    def _append(self, record: UploadRecord, fence: Fence, partials: Sequence[Upload]) -> None:
        raise NotImplementedError

    def _remove(self, record: UploadRecord, manifest: Manifest) -> None:
        self.cloud.ask("delete")
        self.cloud.objects.pop(record.object_name, None)


class CloudStorage(AsyncUploadStorage, Storage):
    """Copies on the service's side; the source stays until it is forgotten."""

    transport = "tus"
    cloud = Cloud()

    def generate_upload_url(self, key: str, field_id: str, *args: Any, **kwargs: Any) -> str:
        return f"https://bucket.example/{key}"

    def generate_download_url(self, key: str, field_id: str, **kwargs: Any) -> str:
        return f"https://bucket.example/{key}?download"

    def upload_store(self, records: Records) -> CloudStore:
        return self.cloud.stores.setdefault(records, CloudStore(self.cloud, records))

    def choose_object_name(self, field: Any, filename: str, key: str) -> str:
        return f"cloud/{etag_of(key.encode())[1:9]}/{filename}" if self.cloud.takes_zero_copy else key

    def move_file(self, from_key: str, to_key: str) -> None:
        self.cloud.ask("copy")
        if to_key in self.cloud.objects:
            if self.cloud.copies.get(to_key) == from_key:
                return
            raise FileExistsError(to_key)
        self.cloud.objects[to_key] = self.cloud.objects[from_key]
        self.cloud.copies[to_key] = from_key

    def return_file(self, key: str, name: str, length: int | None) -> None:
        self.cloud.ask("delete")
        if self.cloud.copies.get(name) == key:
            del self.cloud.objects[name], self.cloud.copies[name]

    def source_lifetime(self) -> timedelta:
        return timedelta(hours=1)

    def forget_source(self, row: AsyncTempFile) -> None:
        if row.place != row.moved_to_location:
            self.cloud.ask("delete")
            self.cloud.objects.pop(row.place, None)

    def discard_upload(self, row: AsyncTempFile) -> bool:
        self.cloud.ask("delete")
        self.cloud.multiparts.discard(find_multipart_id(row) or "")
        if row.moved_to_location:
            self.return_file(row.place, row.moved_to_location, row.length)
        finished, content = find_manifest(row).finished, self.cloud.objects.get(row.place)
        if content is not None and (not row.is_in_place or (finished and finished.etag == etag_of(content))):
            del self.cloud.objects[row.place]
        return True

    def stored_size(self, name: str) -> int | None:
        self.cloud.ask("head")
        return len(self.cloud.objects[name]) if name in self.cloud.objects else None

    def _open(self, name: str, mode: str = "rb") -> File[Any]:
        self.cloud.ask("get")
        if name not in self.cloud.objects:
            raise FileNotFoundError(name)
        return ContentFile(self.cloud.objects[name], name=name)

    def _save(self, name: str, content: File[Any]) -> str:
        self.cloud.ask("put")
        self.cloud.objects[name] = content.read()
        return name

    def size(self, name: str) -> int:
        with self.open(name) as file:
            return int(file.size)


class Exists(Storage):
    """What Django's storages answer."""

    cloud: Cloud

    def exists(self, name: str) -> bool:
        self.cloud.ask("head")
        return name in self.cloud.objects


class CloudFileStorage(CloudStorage, Exists):
    """All together, in the order in which a project's storage inherits."""


storage = CloudFileStorage()


class Clouded(models.Model):
    """A record with a file in the cloud."""

    file = AsyncFileField(storage=storage, upload_to="cloud/", perm_create=None, perm_update=None, perm_detail=None)

    class Meta:
        app_label = "testapp"
