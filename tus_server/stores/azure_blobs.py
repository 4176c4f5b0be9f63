"""The calls that we make to Azure Blob Storage, with its errors turned into ours. No uploads here, only blobs.

Takes the ``ContainerClient`` of azure-storage-blob, or whatever has the few methods of ``Container`` and ``Blob``.

Rules for editors: a call that may have happened although its answer was lost is told apart by a *mark*, a line of the
blob's metadata that only we write. What Azurite or an old service cannot do is ``Unsupported``; callers have another
way.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from azure.core import MatchConditions
from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError
from azure.storage.blob import BlobBlock, BlobType, ContentSettings

from tus_server.errors import StorageFull, StoreUnavailable

logger = logging.getLogger("tus_server.azure")

#: Codes of "not in this way": Azurite's, and that the service may not read the source (a firewall).
_UNSUPPORTED = {"APINotImplemented", "UnsupportedHeader", "CannotVerifyCopySource"}
#: Of blobs that cannot be read for hours; whoever may write can put one there.
_ASLEEP = {"BlobArchived", "BlobBeingRehydrated"}
_EXISTS = {
    "BlobAlreadyExists",
    "ConditionNotMet",
    "TargetConditionNotMet",
    "PendingCopyOperation",
    "NoPendingCopyOperation",
}


class Blob(Protocol):
    """The calls of ``azure.storage.blob.BlobClient`` that are made, and no others."""

    @property
    def url(self) -> str: ...

    # Any: the SDK's own types, as loose as it gives them.
    def stage_block(self, block_id: str, data: Any, **kwargs: Any) -> Any: ...
    def stage_block_from_url(self, block_id: str, source_url: str, **kwargs: Any) -> Any: ...
    def get_block_list(self, block_list_type: str) -> Any: ...
    def commit_block_list(self, block_list: list[BlobBlock], **kwargs: Any) -> Any: ...
    def upload_blob(self, data: bytes, **kwargs: Any) -> Any: ...
    def upload_blob_from_url(self, source_url: str, **kwargs: Any) -> Any: ...
    def start_copy_from_url(self, source_url: str, **kwargs: Any) -> Any: ...
    def abort_copy(self, copy_id: str, **kwargs: Any) -> Any: ...
    def set_http_headers(self, content_settings: ContentSettings | None = None, **kwargs: Any) -> Any: ...
    def get_blob_properties(self, **kwargs: Any) -> Any: ...
    def download_blob(self, offset: int | None = None, length: int | None = None, **kwargs: Any) -> Any: ...
    def delete_blob(self, **kwargs: Any) -> Any: ...


class Container(Protocol):
    """What is asked of ``azure.storage.blob.ContainerClient``."""

    def get_blob_client(self, blob: str) -> Blob: ...


class BlobExists(Exception):
    """There is a blob of that name, or it is not the one that was meant; nothing was changed."""


class BlocksLost(Exception):
    """The service does not have all blocks of the list; nothing was changed."""


class Unsupported(Exception):
    """The service cannot do this; nothing was changed."""


class SourceChanged(Exception):
    """The blob that was to be copied is not the one that was meant any more; nothing was changed."""


@dataclass(frozen=True)
class Found:
    """A committed blob as the service describes it.

    Attributes:
        size: In bytes.
        etag: As the service gave it, in quotes.
        metadata: Its metadata.
        settings: Its content type and the other headers that it is served with.
        copy_id, copy_status, copy_reason: Of the last Copy Blob into it; empty for none.
        is_block_blob: Whether it is one; append and page blobs are other things.
    """

    size: int
    etag: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str | None] = field(default_factory=dict)
    copy_id: str = ""
    copy_status: str = ""
    copy_reason: str = ""
    is_block_blob: bool = True


#: The headers of a blob that a project can set.
SETTINGS = ("content_type", "cache_control", "content_encoding", "content_language", "content_disposition")


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn the SDK's errors into ours.

    Raises:
        FileNotFoundError: There is no such blob, or it is archived.
        EOFError: The range begins at the blob's end, or behind it.
        BlobExists, BlocksLost, Unsupported, SourceChanged: See there.
        StorageFull: The account is full.
        StoreUnavailable: All the rest, with the container missing or the key wrong among it.
    """
    try:
        yield
    except HttpResponseError as error:
        code = _code(error)
        if code in _UNSUPPORTED or error.status_code == 501:
            raise Unsupported(code) from error
        if code in _ASLEEP or (isinstance(error, ResourceNotFoundError) and code != "ContainerNotFound"):
            raise FileNotFoundError(f"There is no blob for {what}") from error
        if code == "SourceConditionNotMet":
            raise SourceChanged(code) from error
        if error.status_code == 416:
            raise EOFError(code) from error
        if code in _EXISTS or error.status_code == 412:
            raise BlobExists(code) from error
        if code == "InvalidBlockList":
            raise BlocksLost(code) from error
        if code == "AccountIsFull" or error.status_code == 507:
            raise StorageFull() from error
        raise _unavailable(what, error) from error
    except AzureError as error:
        raise _unavailable(what, error) from error


def _code(error: HttpResponseError) -> str:
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code) or "")


def _unavailable(what: str, error: Exception) -> StoreUnavailable:
    # The first line only: what follows repeats the request.
    logger.error("Azure failed at %s: %s: %.300s", what, type(error).__name__, str(error).partition("\n")[0])
    return StoreUnavailable("The cloud storage cannot be used right now.")


class AzureBlobs:
    """The blobs of one container.

    Args:
        container: The client; shared by threads.
    """

    def __init__(self, container: Container) -> None:
        self._container = container

    def url(self, name: str) -> str:
        """Return a blob's address, without a signature."""
        return self._container.get_blob_client(name).url

    # Any: bytes, or a readable file that can be rewound.
    def stage(self, name: str, block_id: str, data: Any) -> None:
        """Put Block: 1 byte to 4000 MiB, kept for 7 days; the same id again replaces it."""
        with translated("Put Block"):
            self._container.get_blob_client(name).stage_block(block_id, data)

    def stage_from(self, name: str, block_id: str, source_url: str, start: int, count: int, etag: str = "") -> None:
        """Put Block From URL: ``count`` bytes of another blob from ``start``, read by the service itself."""
        # The generated client knows the condition although the SDK's method does not name it.
        condition = {"headers": {"x-ms-source-if-match": etag}} if etag else {}
        with translated("Put Block From URL"):
            self._container.get_blob_client(name).stage_block_from_url(
                block_id, source_url, source_offset=start, source_length=count, **condition
            )

    def uncommitted(self, name: str) -> dict[str, int]:
        """Return the ids and sizes, in bytes, of the blocks that were staged and not committed."""
        try:
            with translated("Get Block List"):
                _, blocks = self._container.get_blob_client(name).get_block_list("all")
        except FileNotFoundError:
            return {}
        return {block.id: int(block.size) for block in blocks}

    def commit(
        self, name: str, block_ids: Sequence[str], settings: Mapping[str, str | None], metadata: Mapping[str, str]
    ) -> str:
        """Put Block List under If-None-Match; returns the blob's ETag. Blocks that are not named are dropped.

        Raises:
            BlobExists, BlocksLost: See there.
        """
        with translated("Put Block List"):
            answer = self._container.get_blob_client(name).commit_block_list(
                [BlobBlock(block_id) for block_id in block_ids],
                content_settings=_build_settings(settings),
                metadata=dict(metadata),
                match_condition=MatchConditions.IfMissing,
            )
        return str(answer["etag"])

    def put(self, name: str, data: bytes, settings: Mapping[str, str | None], metadata: Mapping[str, str]) -> str:
        """Put Blob under If-None-Match, in one request up to 64 MiB; returns the blob's ETag.

        Raises:
            BlobExists: There is one.
        """
        with translated("Put Blob"):
            answer = self._container.get_blob_client(name).upload_blob(
                data, content_settings=_build_settings(settings), metadata=dict(metadata), overwrite=False
            )
        return str(answer["etag"])

    def put_from(
        self,
        name: str,
        source_url: str,
        etag: str,
        settings: Mapping[str, str | None],
        metadata: Mapping[str, str],
        replaced: str | None,
    ) -> str:
        """Put Blob From URL: a whole copy up to 5000 MiB, done when this returns; returns its ETag.

        Args:
            etag: The source's.
            replaced: The ETag of the blob that the copy replaces; ``None``: there must be none.
        """
        with translated("Put Blob From URL"):
            answer = self._container.get_blob_client(name).upload_blob_from_url(
                source_url,
                metadata=dict(metadata),
                content_settings=_build_settings(settings),
                include_source_blob_properties=False,
                source_etag=etag,
                source_match_condition=MatchConditions.IfNotModified,
                **_target(replaced),
            )
        return str(answer["etag"])

    def copy(self, name: str, source_url: str, etag: str, metadata: Mapping[str, str], replaced: str | None) -> str:
        """Copy Blob: asked for when this returns, done when ``look`` says so. Arguments as of ``put_from``.

        Returns:
            ``success`` or ``pending``.
        """
        with translated("Copy Blob"):
            answer = self._container.get_blob_client(name).start_copy_from_url(
                source_url,
                metadata=dict(metadata),
                source_etag=etag,
                source_match_condition=MatchConditions.IfNotModified,
                **_target(replaced),
            )
        return str(answer.get("copy_status") or "pending")

    def commit_over(
        self,
        name: str,
        block_ids: Sequence[str],
        settings: Mapping[str, str | None],
        metadata: Mapping[str, str],
        replaced: str | None,
    ) -> str:
        """Put Block List as ``commit`` does, or in place of the blob with the ETag ``replaced``."""
        if replaced is None:
            return self.commit(name, block_ids, settings, metadata)
        with translated("Put Block List"):
            answer = self._container.get_blob_client(name).commit_block_list(
                [BlobBlock(block_id) for block_id in block_ids],
                content_settings=_build_settings(settings),
                metadata=dict(metadata),
                **_target(replaced),
            )
        return str(answer["etag"])

    def set_headers(self, name: str, etag: str, settings: Mapping[str, str | None]) -> str:
        """Set Blob Properties: the headers that it is served with; returns the new ETag."""
        with translated("Set Blob Properties"):
            answer = self._container.get_blob_client(name).set_http_headers(_build_settings(settings), **_target(etag))
        return str(answer["etag"])

    def look(self, name: str) -> Found | None:
        """Get Blob Properties; ``None`` where there is no committed blob."""
        try:
            with translated("Get Blob Properties"):
                return _build_found(self._container.get_blob_client(name).get_blob_properties())
        except FileNotFoundError:
            return None

    def read(self, name: str, start: int, count: int) -> bytes:
        """Get Blob: up to ``count`` bytes from ``start``, fewer only at its end.

        Raises:
            FileNotFoundError: There is no such blob.
        """
        return self.open(name, start, count)[1]

    def open(self, name: str, start: int, count: int, etag: str = "") -> tuple[Found, bytes]:
        """As ``read``, with what the service says of the blob; one request, two where no bytes are there.

        Raises:
            BlobExists: It is not the one with this ETag any more.
        """
        condition = _target(etag) if etag else {}
        try:
            with translated("Get Blob"):
                stream = self._container.get_blob_client(name).download_blob(
                    offset=start, length=count, max_concurrency=1, **condition
                )
                data: bytes = stream.readall()
                found = _build_found(stream.properties)
        except EOFError:
            empty = self.look(name)
            if empty is None:
                raise FileNotFoundError(f"There is no blob {name}") from None
            return empty, b""
        # "bytes 0-4095/80000": the SDK takes the range's size for the blob's.
        total = str(stream.properties.content_range or "").rpartition("/")[2]
        return (replace(found, size=int(total)) if total.isdecimal() else found), data

    def abort_copy(self, name: str, copy_id: str) -> None:
        """Abort Copy Blob; one that has ended meanwhile is no error."""
        try:
            with translated("Abort Copy Blob"):
                self._container.get_blob_client(name).abort_copy(copy_id)
        except (FileNotFoundError, BlobExists):
            pass

    def delete(self, name: str, etag: str = "") -> None:
        """Delete Blob; one that is not there is no error.

        Raises:
            BlobExists: It is not the one with this ETag.
        """
        try:
            with translated("Delete Blob"):
                self._container.get_blob_client(name).delete_blob(**(_target(etag) if etag else {}))
        except FileNotFoundError:
            pass


def _build_settings(settings: Mapping[str, str | None]) -> ContentSettings:
    options: dict[str, Any] = dict(settings)
    return ContentSettings(**options)


def _target(etag: str | None) -> dict[str, Any]:
    """Return the SDK's arguments for "this very blob", or for "no blob"."""
    if etag is None:
        return {"match_condition": MatchConditions.IfMissing}
    return {"etag": etag, "match_condition": MatchConditions.IfNotModified}


def _build_found(properties: Any) -> Found:
    copy = properties.copy
    return Found(
        size=int(properties.size),
        etag=str(properties.etag),
        metadata={str(name).lower(): str(value) for name, value in (properties.metadata or {}).items()},
        settings={name: getattr(properties.content_settings, name) for name in SETTINGS},
        copy_id=str(copy.id or ""),
        copy_status=str(copy.status or ""),
        copy_reason=str(copy.status_description or ""),
        is_block_blob=properties.blob_type in (None, BlobType.BLOCKBLOB),
    )
