"""What a cloud backend has acknowledged of an upload, and nothing else; the offset follows from it.

A manifest is replaced whole, and only by a writer that knows its present revision: that is the fence. A writer whose
lease was taken over fails at its next ``advance`` (``Stale``) and stops: no answer, no deletion.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from tus_server.uploads import UploadRecord


class Stale(Exception):
    """Somebody else has advanced the manifest; nothing was changed. Never leaves a store."""


@dataclass(frozen=True)
class Segment:
    """A piece of the tail: received bytes too few for a part.

    Attributes:
        start: Where in the upload it begins, in bytes.
        size: In bytes, at least 1.
        name: The object that holds it; empty when ``data`` does.
        data: The bytes themselves, when they are kept in the manifest.
    """

    start: int
    size: int
    name: str = ""
    data: bytes = field(default=b"", repr=False)

    @property
    def end(self) -> int:
        """Where the next byte belongs."""
        return self.start + self.size


@dataclass(frozen=True)
class Finished:
    """The finished object: its entity tag as the backend gave it, and its size in bytes."""

    etag: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """What a backend has acknowledged of one upload.

    Attributes:
        upload_id: Whose it is.
        revision: How often it was replaced; 0 for an upload of which nothing was stored yet.
        part_size: The grid in bytes: part ``n`` (from 1) begins at ``(n - 1) * part_size``. ``None`` until it is known.
        multipart_id: The backend's id of the multipart upload (S3 only).
        part_count: How many parts (S3) or blocks (Azure) count; what the backend has beyond them does not.
        parts_end: Where the parts that count end, in bytes; the tail begins there.
        tail: Contiguous segments.
        is_unsettled: A writer sends parts, or died while it did: the backend may have more than is recorded here.
        is_terminated: The upload is being removed; nobody may write any more.
        finished: The finished object, once it is there.
    """

    upload_id: str
    revision: int = 0
    part_size: int | None = None
    multipart_id: str | None = None
    part_count: int = 0
    parts_end: int = 0
    tail: tuple[Segment, ...] = ()
    is_unsettled: bool = False
    is_terminated: bool = False
    finished: Finished | None = None

    @property
    def offset(self) -> int:
        """How many bytes are with the backend."""
        if self.finished is not None:
            return self.finished.size
        return self.tail[-1].end if self.tail else self.parts_end


class Manifests(Protocol):
    """Where manifests are kept. Each method is atomic and has happened when it returns.

    All may raise ``StoreUnavailable``.
    """

    def load(self, record: UploadRecord) -> Manifest:
        """Return an upload's manifest, as old as the record at most; one of revision 0 when there is none."""

    def reload(self, upload_id: str) -> Manifest:
        """Return an upload's manifest as it stands at this moment."""

    def parts(self, upload_id: str) -> tuple[str, ...]:
        """Return what the backend gave for each part that counts, in order: ETags (S3), block ids (Azure)."""

    def advance(self, known: Manifest, wanted: Manifest, new_parts: Sequence[str] = ()) -> Manifest:
        """Replace a manifest and record new parts.

        Args:
            known: The manifest as the writer knows it.
            wanted: What it shall be; its revision is ignored.
            new_parts: What the backend gave for the last parts of ``wanted``: they end with part ``wanted.part_count``,
                and replace what was recorded for those numbers.

        Returns:
            ``wanted`` with its revision.

        Raises:
            Stale: The stored revision is not that of ``known``; nothing was changed.
        """

    def delete(self, upload_id: str) -> None:
        """Forget a manifest and its parts; one that is not there is no error."""


class MemoryManifests:
    """Manifests in a dictionary; gone with the process."""

    def __init__(self) -> None:
        self._manifests: dict[str, Manifest] = {}
        self._parts: dict[str, list[str]] = {}
        self._lock = threading.Lock()

    def load(self, record: UploadRecord) -> Manifest:
        """See ``Manifests``."""
        return self.reload(record.id)

    def reload(self, upload_id: str) -> Manifest:
        """See ``Manifests``."""
        return self._manifests.get(upload_id) or Manifest(upload_id)

    def parts(self, upload_id: str) -> tuple[str, ...]:
        """See ``Manifests``."""
        with self._lock:
            return tuple(self._parts.get(upload_id, ())[: self.reload(upload_id).part_count])

    def advance(self, known: Manifest, wanted: Manifest, new_parts: Sequence[str] = ()) -> Manifest:
        """See ``Manifests``."""
        with self._lock:
            stored = self.reload(known.upload_id)
            if stored.revision != known.revision:
                raise Stale(f"The manifest of {known.upload_id} has revision {stored.revision}, not {known.revision}.")
            first = wanted.part_count - len(new_parts)
            self._parts[known.upload_id] = [*self._parts.get(known.upload_id, ())[:first], *new_parts]
            advanced = replace(wanted, revision=stored.revision + 1)
            self._manifests[known.upload_id] = advanced
            return advanced

    def delete(self, upload_id: str) -> None:
        """See ``Manifests``."""
        with self._lock:
            self._manifests.pop(upload_id, None)
            self._parts.pop(upload_id, None)
