"""What the cloud stores share: uploads whose offset stands in a manifest, written under its fence.

A store on it provides the backend's half (``_open``, ``_recover``, ``_complete``, ``_read``, ``_append``, ``_remove``);
here are the orders of steps that must not differ. Three things keep writers apart:

* the caller's lease: politeness, between processes;
* ``Locked``, from a set of this store: between threads of this process, also where a lease was taken over;
* the manifest's revision, in ``Fence``: correctness. Whoever fails there stops: no answer, no deletion.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from tus_server.errors import Locked, OffsetConflict, StoreUnavailable, UploadGone, UploadNotFound
from tus_server.stores.base import Concatenates, RecordedStore, Records, Sink, Terminates
from tus_server.stores.manifests import Manifest, Manifests, Stale
from tus_server.stores.recent import HeadCache, RecentIds
from tus_server.uploads import Upload, UploadRecord


class Fence:
    """A manifest as one writer knows it, and its only way to change it.

    Attributes:
        known: The manifest after the last advance that came through.

    Args:
        finished: Where to note uploads whose finished object was recorded.
    """

    def __init__(self, manifests: Manifests, known: Manifest, finished: RecentIds | None = None) -> None:
        self.known = known
        self._manifests = manifests
        self._finished = finished
        self._unsure: Manifest | None = None

    def advance(self, wanted: Manifest, new_parts: Sequence[str] = ()) -> Manifest:
        """Replace the manifest; see ``Manifests.advance``. ``wanted`` is made of ``known``.

        Raises:
            OffsetConflict: Another writer took over (code ``taken_over``); nothing was changed.
            StoreUnavailable: Whether it was replaced is not known; ``resolve`` before the next try.
        """
        try:
            self.known = self._manifests.advance(self.known, wanted, new_parts)
        except Stale:
            raise taken_over() from None
        except BaseException:
            self._unsure = wanted
            raise
        if self._finished is not None and self.known.finished is not None:
            self._finished.add(self.known.upload_id)
        return self.known

    def resolve(self) -> Manifest:
        """Find out whether an advance without an answer came through; returns what is ``known`` then.

        Raises:
            OffsetConflict: Another writer took over.
        """
        if self._unsure is not None:
            stored = self._manifests.reload(self.known.upload_id)
            if stored == replace(self._unsure, revision=self.known.revision + 1):
                self.known = stored
            elif stored.revision != self.known.revision:
                raise taken_over()
            self._unsure = None
        return self.known


def taken_over() -> OffsetConflict:
    """Return the error for a writer behind the fence: its client asks where the upload stands."""
    return OffsetConflict(None, "Another request took this upload over.", code="taken_over")


class ManifestedStore(RecordedStore, Terminates, Concatenates):
    """A store over a cloud backend. Nothing is asked of the backend by ``create``, ``get`` and ``load``.

    Args:
        records: Where the facts of uploads are kept.
        manifests: Where their manifests are kept.
    """

    def __init__(self, records: Records, manifests: Manifests) -> None:
        self.records = records
        self.manifests = manifests
        self.heads = HeadCache()
        self._finished = RecentIds()
        self._writers: set[str] = set()
        self._writers_lock = threading.Lock()

    # --- the backend's half -----------------------------------------------------------------------------------

    @abstractmethod
    def _open(self, record: UploadRecord, fence: Fence, expected: int | None) -> Sink:
        """Return a sink that appends at ``fence.known.offset``; its ``settle`` calls ``leave`` in the end.

        It advances with ``is_unsettled`` before its first part, and ``settle`` clears that with its own advance.

        Args:
            expected: How many bytes the request says it brings; ``None`` if that is not known.
        """

    @abstractmethod
    def _recover(self, record: UploadRecord, fence: Fence) -> None:
        """After a writer died: adopt what the backend has beyond the manifest, and advance without ``is_unsettled``."""

    @abstractmethod
    def _complete(self, record: UploadRecord, fence: Fence) -> None:
        """Make the finished object of an upload that is received, and advance with ``finished``. May be repeated."""

    @abstractmethod
    def _read(self, record: UploadRecord, start: int, count: int) -> bytes:
        """Return bytes of the finished object; ``start`` lies in it, ``count`` is at least 1."""

    @abstractmethod
    def _append(self, record: UploadRecord, fence: Fence, partials: Sequence[Upload]) -> None:
        """Append what takes about a second of finished partials to a final, and advance. See ``Concatenates``."""

    @abstractmethod
    def _remove(self, record: UploadRecord, manifest: Manifest) -> None:
        """Remove everything of an upload from the backend. May be repeated; what is not there is no error."""

    # --- the orders of steps ----------------------------------------------------------------------------------

    def create(self, record: UploadRecord) -> Upload:
        """See ``UploadStore``. No request is made: an upload without bytes costs nothing."""
        self.records.create(record)
        return Upload(record, 0)

    def load(self, record: UploadRecord) -> Upload:
        """See ``UploadStore``. A finished upload is not looked for: it may have been moved away."""
        if record.finished_at is not None and record.length is not None:
            return Upload(record, record.length)
        manifest = self.manifests.load(record)
        if manifest.is_terminated:
            raise UploadGone()
        return Upload(record, manifest.offset)

    def open_sink(self, upload: Upload, offset: int, expected: int | None = None) -> Sink:
        """See ``UploadStore``. What a dead writer left is adopted first; then the upload may stand further."""
        self._enter(upload.id)
        try:
            fence = self._fence(upload)
            if fence.known.is_unsettled and fence.known.finished is None:
                self._recover(upload.record, fence)
            if fence.known.offset != offset:
                raise OffsetConflict(fence.known.offset)
            return self._open(upload.record, fence, expected)
        except BaseException:
            self.leave(upload.id)
            raise

    def sync(self, upload: Upload) -> None:
        """See ``UploadStore``: the finished object is made and recorded in the manifest."""
        if upload.id in self._finished or self.manifests.load(upload.record).finished is not None:
            return
        with self._exclusive(upload):
            fence = self._fence(upload)
            if fence.known.finished is None:
                if fence.known.offset != upload.length:
                    raise StoreUnavailable("Not all bytes of the upload are there any more.")
                self._complete(upload.record, fence)

    def finish(self, upload: Upload, now: datetime) -> Upload:
        """See ``UploadStore``."""
        self.sync(upload)
        return replace(upload, record=self.records.set_finished(upload.record, now))

    def read(self, upload: Upload, start: int, count: int) -> bytes:
        """See ``UploadStore``. The first bytes cost nothing in a process that received them."""
        end = start + count if upload.length is None else min(start + count, upload.length)
        if start >= end:
            return b""
        head = self.heads.get(upload.id)
        if end <= len(head):
            return head[start:end]
        return self._read(upload.record, start, end - start)

    def terminate(self, upload: Upload) -> None:
        """See ``Terminates``. The manifest is marked first and forgotten last but the record."""
        with self._exclusive(upload):
            manifest = self.manifests.reload(upload.id)
            if not manifest.is_terminated and (manifest.revision or self._is_recorded(upload)):
                try:
                    manifest = self.manifests.advance(manifest, replace(manifest, is_terminated=True))
                except Stale:
                    raise Locked() from None
            if manifest.revision:
                self._remove(upload.record, manifest)
                self.manifests.delete(upload.id)
            self.heads.forget(upload.id)
            self._finished.forget(upload.id)
        self.records.delete(upload.id)

    def discard(self, record: UploadRecord) -> bool:
        """Remove all bytes of an upload and let nobody write any more; record and manifest stay. May be repeated.

        Returns:
            ``False`` when somebody is writing at this moment; nothing was removed.
        """
        manifest = self.manifests.reload(record.id)
        if not manifest.is_terminated:
            try:
                manifest = self.manifests.advance(manifest, replace(manifest, is_terminated=True))
            except Stale:
                return False
        self._remove(record, manifest)
        self.heads.forget(record.id)
        self._finished.forget(record.id)
        return True

    def concatenate(self, final: Upload, partials: Sequence[Upload]) -> Upload:
        """See ``Concatenates``. The manifest tells what was copied before."""
        record, total = final.record, sum(partial.offset for partial in partials)
        with self._exclusive(final):
            fence = self._fence(final)
            if record.length is None:
                record = self.records.set_length(final.id, total)
            if fence.known.offset < total:
                self._append(record, fence, partials)
            return Upload(record, fence.known.offset)

    # --- writers ----------------------------------------------------------------------------------------------

    def _fence(self, upload: Upload) -> Fence:
        """Return the fence of a living upload, as it stands at this moment, or raise ``UploadGone``."""
        manifest = self.manifests.reload(upload.id)
        # Of revision 0 is what was never written to, and what was removed.
        if manifest.is_terminated or not (manifest.revision or self._is_recorded(upload)):
            raise UploadGone()
        return Fence(self.manifests, manifest, self._finished)

    def _is_recorded(self, upload: Upload) -> bool:
        try:
            self.records.get(upload.id)
        except (UploadNotFound, UploadGone):
            return False
        return True

    @contextmanager
    def _exclusive(self, upload: Upload) -> Iterator[None]:
        self._enter(upload.id)
        try:
            yield
        finally:
            self.leave(upload.id)

    def _enter(self, upload_id: str) -> None:
        with self._writers_lock:
            if upload_id in self._writers:
                raise Locked()
            self._writers.add(upload_id)

    def leave(self, upload_id: str) -> None:
        """Let other writers of this process in again; for sinks."""
        with self._writers_lock:
            self._writers.discard(upload_id)
