"""A container of Azure Blob Storage in memory: what the service's documentation says where Azurite differs, and counts.

Put Blob and Put Block List drop what they do not name; blocks without bytes and ids of different lengths are refused;
Delete Blob does not see blobs that were never committed; the service copies by itself. ``refuses`` lets it be Azurite.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import requests
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.storage.blob import BlobProperties, ContentSettings

from tus_server.stores.azure import AzureStore
from tus_server.uploads import Upload

#: What the addresses of blobs begin with.
URL = "https://memory.example/"


def refusal(status: int, code: str) -> HttpResponseError:
    """Return the error that the SDK raises for an answer of the service."""
    response = requests.Response()
    response.status_code, response.reason = status, code
    kind = ResourceNotFoundError if status == 404 else HttpResponseError
    error = kind(message=code, response=response)  # type: ignore[arg-type]  # has what is read of it
    error.status_code = status
    error.error_code = code  # type: ignore[attr-defined]  # set by azure-storage-blob
    return error


@dataclass
class StoredBlob:
    """A committed blob."""

    data: bytes
    etag: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    settings: ContentSettings = field(default_factory=ContentSettings)
    copy_status: str | None = None


class MemoryAzure:
    """What ``azure_blobs.Container`` names, over dictionaries.

    Args:
        refuses: Methods that are answered with 501.
        around: Makes each call, given its name and what makes it; to let some fail.

    Attributes:
        blobs: The committed blobs.
        staged: The uncommitted blocks of each name, by id.
        calls: How often each method was called.
        copy_statuses: What Copy Blob goes through, look by look, the last one for ever; an error is raised instead.
    """

    def __init__(
        self,
        refuses: tuple[str, ...] = (),
        around: Callable[[str, Callable[[], Any]], Any] = lambda name, call: call(),
    ) -> None:
        self.refuses = refuses
        self.around = around
        self.blobs: dict[str, StoredBlob] = {}
        self.staged: dict[str, dict[str, bytes]] = {}
        self.calls: Counter[str] = Counter()
        self.copy_statuses: list[str | Exception] = ["success"]
        self.pending: dict[str, bytes] = {}
        self.lock = threading.Lock()
        self._etags = itertools.count(1)

    def behind(self, around: Callable[[str, Callable[[], Any]], Any]) -> MemoryAzure:
        """Return the same container with other calls around it, as another process has it."""
        other = MemoryAzure(self.refuses, around)
        other.blobs, other.staged, other.calls = self.blobs, self.staged, self.calls
        other.copy_statuses, other.pending, other.lock, other._etags = (
            self.copy_statuses,
            self.pending,
            self.lock,
            self._etags,
        )
        return other

    def get_blob_client(self, blob: str) -> Any:
        """See ``Container``."""
        return _Blob(self, blob)

    def put(self, name: str, data: bytes, metadata: Mapping[str, str] | None = None, settings: Any = None) -> str:
        """Store a blob past all conditions; returns its ETag."""
        etag = f'"0x{next(self._etags):X}"'
        self.blobs[name] = StoredBlob(data, etag, dict(metadata or {}), settings or ContentSettings())
        return etag


def read_memory(store: AzureStore, container: MemoryAzure, upload: Upload) -> bytes | None:
    """Return what lies in the container for an upload, past its store; ``None`` for lost bytes."""
    name, manifest = store.blob_name(upload.record), store.manifests.reload(upload.id)
    if manifest.finished is not None or name in container.blobs:
        found = container.blobs.get(name)
        return None if found is None else found.data
    staged = container.staged.get(name, {})
    ids = store.manifests.parts(upload.id)
    if any(block not in staged for block in ids):
        return None
    return b"".join([*(staged[block] for block in ids), *(segment.data for segment in manifest.tail)])


# Any: parameters and answers are those of the SDK.
class _Blob:
    def __init__(self, container: MemoryAzure, name: str) -> None:
        self._container, self._name = container, name

    @property
    def url(self) -> str:
        return URL + self._name

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(type(self), f"_{name}", None)
        if method is None:
            raise AttributeError(name)

        def call(*arguments: Any, **options: Any) -> Any:
            with self._container.lock:
                self._container.calls[name] += 1
            if name in self._container.refuses:
                raise refusal(501, "APINotImplemented")
            return self._container.around(name, lambda: self._alone(method, arguments, options))

        return call

    def _alone(self, method: Callable[..., Any], arguments: Any, options: Any) -> Any:
        with self._container.lock:
            return method(self, *arguments, **options)

    def _require(self, options: Mapping[str, Any]) -> None:
        """Check the conditions on the blob itself."""
        present = self._container.blobs.get(self._name)
        match options.get("match_condition"):
            case MatchConditions.IfMissing if present is not None:
                raise refusal(409, "BlobAlreadyExists")
            case MatchConditions.IfNotModified if present is None:
                raise refusal(404, "BlobNotFound")
            case MatchConditions.IfNotModified if present is not None and present.etag != options["etag"]:
                raise refusal(412, "ConditionNotMet")

    def _find(self) -> StoredBlob:
        found = self._container.blobs.get(self._name)
        if found is None:
            raise refusal(404, "BlobNotFound")
        return found

    def _source(self, url: str, etag: str | None) -> StoredBlob:
        found = self._container.blobs.get(unquote(url.removeprefix(URL).partition("?")[0]))
        if found is None or "?" not in url:
            raise refusal(404, "CannotVerifyCopySource")
        if etag is not None and found.etag != etag:
            raise refusal(412, "SourceConditionNotMet")
        return found

    def _stage_block(self, block_id: str, data: Any, **options: Any) -> None:
        self._stage(block_id, data.read() if hasattr(data, "read") else bytes(data))

    def _stage(self, block_id: str, data: bytes) -> None:
        known = self._container.staged.setdefault(self._name, {})
        if not data:
            raise refusal(400, "InvalidHeaderValue")
        if any(len(other) != len(block_id) for other in known) or len(block_id) > 64:
            raise refusal(400, "InvalidBlobOrBlock")
        known[block_id] = data

    def _stage_block_from_url(
        self, block_id: str, source_url: str, *, source_offset: int, source_length: int, **options: Any
    ) -> None:
        source = self._source(source_url, options.get("headers", {}).get("x-ms-source-if-match"))
        self._stage(block_id, source.data[source_offset : source_offset + source_length])

    def _get_block_list(self, block_list_type: str) -> Any:
        staged = self._container.staged.get(self._name, {})
        if not staged and self._name not in self._container.blobs:
            raise refusal(404, "BlobNotFound")
        # The order of uncommitted blocks is the service's own.
        return [], [SimpleNamespace(id=name, size=len(staged[name])) for name in sorted(staged, reverse=True)]

    def _commit_block_list(self, block_list: list[Any], **options: Any) -> Any:
        self._require(options)
        staged = self._container.staged.get(self._name, {})
        if any(block.id not in staged for block in block_list):
            raise refusal(400, "InvalidBlockList")
        return self._replace(b"".join(staged[block.id] for block in block_list), options)

    def _upload_blob(self, data: bytes, *, overwrite: bool = False, **options: Any) -> Any:
        assert isinstance(data, bytes)
        self._require(options if overwrite else {**options, "match_condition": MatchConditions.IfMissing})
        return self._replace(data, options)

    def _upload_blob_from_url(self, source_url: str, **options: Any) -> Any:
        source = self._source(source_url, options.get("source_etag"))
        self._require(options)
        return self._replace(source.data, options)

    def _replace(self, data: bytes, options: Mapping[str, Any]) -> Any:
        self._container.staged.pop(self._name, None)
        settings = options.get("content_settings")
        return {"etag": self._container.put(self._name, data, options.get("metadata"), settings)}

    def _start_copy_from_url(self, source_url: str, **options: Any) -> Any:
        source = self._source(source_url, options.get("source_etag"))
        self._require(options)
        self._container.pending[self._name] = source.data
        answer = self._replace(b"", {**options, "content_settings": source.settings})
        self._container.blobs[self._name].copy_status = "pending"
        return {**answer, "copy_status": self._go_on()}

    def _go_on(self) -> str:
        """Take a pending copy one step on."""
        statuses = self._container.copy_statuses
        status = statuses.pop(0) if len(statuses) > 1 else statuses[0]
        if isinstance(status, Exception):
            raise status
        blob = self._container.blobs[self._name]
        blob.copy_status = status
        if status == "success":
            blob.data = self._container.pending.pop(self._name)
        return status

    def _abort_copy(self, copy_id: str, **options: Any) -> None:
        if self._find().copy_status != "pending":
            raise refusal(409, "NoPendingCopyOperation")
        self._container.blobs[self._name].copy_status = "aborted"

    def _set_http_headers(self, content_settings: ContentSettings, **options: Any) -> Any:
        self._require(options)
        self._find().settings = content_settings
        return {"etag": self._find().etag}

    def _get_blob_properties(self, **options: Any) -> BlobProperties:
        if self._find().copy_status == "pending":
            self._go_on()
        return self._describe(self._find())

    def _describe(self, blob: StoredBlob) -> BlobProperties:
        found = BlobProperties(metadata=blob.metadata)
        found.size, found.etag, found.content_settings = len(blob.data), blob.etag, blob.settings
        found.copy.status, found.copy.id = blob.copy_status, "copy" if blob.copy_status else None
        return found

    def _download_blob(self, offset: int | None = None, length: int | None = None, **options: Any) -> Any:
        blob, start = self._find(), offset or 0
        self._require(options)
        if start >= len(blob.data):
            raise refusal(416, "InvalidRange")
        data = blob.data[start : None if length is None else start + length]
        properties = self._describe(blob)
        properties.content_range = f"bytes {start}-{start + len(data) - 1}/{len(blob.data)}"
        return SimpleNamespace(properties=properties, readall=lambda: data)

    def _delete_blob(self, **options: Any) -> None:
        self._require(options)
        self._find()
        if self._find().copy_status == "pending":
            raise refusal(409, "PendingCopyOperation")
        del self._container.blobs[self._name]
