"""Uploads on Azure Blob Storage: blocks are staged while bytes come in, and committed once, at the end.

* One blob name per upload: Put Block List drops what it does not name, Put Blob all that is uncommitted.
* Uncommitted blocks vanish 7 days after the last Put Block, so no upload lives longer than ``LIFETIME`` between two
  PATCH requests, whatever the configuration says.
* A committed blob carries a mark of its upload in its metadata. "Is it ours?" is answered by that and its size, where
  an answer was lost.
* Uncommitted blocks cannot be read. What is too small for a block waits in the manifest.

Limits: learn.microsoft.com, "Scalability targets for Blob storage" and "Put Block List".
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256

from tus_server.errors import BadRequest, StoreUnavailable, UploadGone
from tus_server.parts import KIB, MIB, PartLimits, choose_part_size
from tus_server.stores.azure_blobs import AzureBlobs, BlobExists, BlocksLost, Container, Found
from tus_server.stores.azure_blocks import Block, count_present, drop_writer, find_following, find_writer
from tus_server.stores.azure_joining import join
from tus_server.stores.azure_sink import AzureSink
from tus_server.stores.base import Records, Sink
from tus_server.stores.buffers import ReceiveBudget, shared_budget
from tus_server.stores.manifested import Fence, ManifestedStore
from tus_server.stores.manifests import Finished, Manifest, Manifests
from tus_server.uploads import Upload, UploadRecord

logger = logging.getLogger("tus_server.azure")

#: How long an upload may be without a PATCH; the service forgets its blocks after 7 days.
LIFETIME = timedelta(days=6)

#: Blocks of a blob at most, and up to how many we take another request: the rest is for its own blocks.
MOST_BLOCKS = 50_000
REFUSED_ABOVE = 45_000

#: The name of the mark in the metadata of a blob.
MARK = "tus_upload"


@dataclass(frozen=True)
class BlockLimits(PartLimits):
    """Limits of staged blocks; half of their number is left for requests that are interrupted."""

    smallest: int = 1 * MIB
    largest: int = 4000 * MIB
    most: int = MOST_BLOCKS

    @property
    def planned(self) -> int:
        """See ``PartLimits``."""
        return self.most // 2


LIMITS = BlockLimits()


def build_mark(upload_id: str) -> dict[str, str]:
    """Return what a committed blob carries; the id itself is a capability and stays secret."""
    return {MARK: sha256(upload_id.encode()).hexdigest()[:32]}


class AzureStore(ManifestedStore):
    """Uploads as blobs of one container.

    Args:
        container: The ``ContainerClient``; shared by threads.
        records, manifests: Where facts and manifests are kept.
        location: What stands before the object names, without a slash at its end; or what makes a blob's name of an
            object name.
        settings: Returns the headers that an upload's blob is served with (``content_type``, ``cache_control``, ...).
        sign: Returns the URL of a blob, by its name, with a signature that lets the service itself read it; without
            one, concatenation goes through this process.
        part_size: Of full blocks, in bytes; chosen by the upload's length when ``None``.
        inline_limit: Up to so many bytes wait in the manifest for more.
        budget: What the process may hold; the process's own when ``None``.
        clock: Seconds; the manifest is advanced once in one while blocks come through.
    """

    def __init__(
        self,
        container: Container,
        records: Records,
        manifests: Manifests,
        *,
        location: str | Callable[[str], str] = "",
        settings: Callable[[UploadRecord], Mapping[str, str | None]] = lambda record: {},
        sign: Callable[[str], str] | None = None,
        part_size: int | None = None,
        inline_limit: int = 64 * KIB,
        budget: ReceiveBudget | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(records, manifests)
        self.blobs = AzureBlobs(container)
        self.sign = sign
        self.part_size = part_size
        self.inline_limit = inline_limit
        self.clock = clock
        self._location = location
        self._settings = settings
        self._budget = budget

    @property
    def budget(self) -> ReceiveBudget:
        """What the process may hold."""
        return self._budget if self._budget is not None else shared_budget()

    def blob_name(self, record: UploadRecord) -> str:
        """Return where the bytes of an upload end up."""
        if callable(self._location):
            return self._location(record.object_name)
        return f"{self._location}/{record.object_name}" if self._location else record.object_name

    def touch(self, upload: Upload, now: datetime, expires_at: datetime | None) -> Upload:
        """See ``Expires``. Never more than ``LIFETIME`` ahead."""
        latest = now + LIFETIME
        return super().touch(upload, now, latest if expires_at is None else min(expires_at, latest))

    # --- receiving --------------------------------------------------------------------------------------------

    def _open(self, record: UploadRecord, fence: Fence, expected: int | None) -> Sink:
        return self._make_sink(record, fence, expected, on_settled=lambda: self.leave(record.id))

    def _make_sink(
        self, record: UploadRecord, fence: Fence, expected: int | None, on_settled: Callable[[], None] = lambda: None
    ) -> AzureSink:
        part_size = self.part_size or choose_part_size(
            record.length, max_size=record.max_size, expected=expected, limits=LIMITS
        )
        check_block_count(fence.known, record.length, part_size)
        return AzureSink(self, record, fence, part_size, on_settled=on_settled)

    def put_whole(self, record: UploadRecord, fence: Fence, data: bytes) -> None:
        """Store all bytes of an upload that has none yet by one request, and record it."""
        name, settings, mark = self.blob_name(record), self._settings(record), build_mark(record.id)
        try:
            etag = self.blobs.put(name, data, settings, mark)
        except BlobExists as error:
            # Azurite takes staged blocks of a dead writer for a blob; a list drops them.
            if self.blobs.look(name) is not None:
                etag = self._recognise(record, len(data), error).etag
            elif data:
                block = Block(0, len(data), fence.known.revision)
                self.blobs.stage(name, block.id, data)
                etag = self.blobs.commit(name, [block.id], settings, mark)
            else:
                etag = self.blobs.commit(name, (), settings, mark)
        self._record_finished(fence, etag, len(data))

    def _record_finished(self, fence: Fence, etag: str, size: int) -> None:
        finished = Finished(etag, size)
        # The ids of the blocks are of no use any more.
        wanted = replace(fence.resolve(), part_count=0, parts_end=size, tail=(), is_unsettled=False, finished=finished)
        fence.advance(wanted)

    def _recognise(self, record: UploadRecord, size: int, error: Exception) -> Found:
        """Return the blob of an upload whose commit has happened although its answer was lost, or raise."""
        found = self._find_own(record)
        if found is not None and found.size == size:
            return found
        logger.error("%s is taken by a blob that is not that of the upload", self.blob_name(record))
        raise StoreUnavailable("Another blob has the upload's name.", code="name_taken") from error

    def _find_own(self, record: UploadRecord) -> Found | None:
        found = self.blobs.look(self.blob_name(record))
        return found if found is not None and found.metadata.get(MARK) == build_mark(record.id)[MARK] else None

    # --- the end ----------------------------------------------------------------------------------------------

    def _complete(self, record: UploadRecord, fence: Fence) -> None:
        name, size = self.blob_name(record), fence.known.offset
        if not fence.known.part_count:
            data = b"".join(segment.data for segment in fence.known.tail)
            return self.put_whole(record, fence, data)
        if drop_writer(fence.known.tail):
            self._stage_tail(record, fence)
        ids = self.manifests.parts(record.id)
        try:
            etag = self.blobs.commit(name, ids, self._settings(record), build_mark(record.id))
        except BlobExists as error:
            etag = self._recognise(record, size, error).etag
        except BlocksLost as error:
            found = self._find_own(record)
            if found is None or found.size != size:
                raise self._step_back(record, fence, ids) from error
            etag = found.etag
        return self._record_finished(fence, etag, size)

    def _stage_tail(self, record: UploadRecord, fence: Fence) -> None:
        """Stage what waited in the manifest as the last block."""
        known = fence.known
        data = b"".join(segment.data for segment in known.tail)
        block = Block(known.parts_end, len(data), known.revision)
        self.blobs.stage(self.blob_name(record), block.id, data)
        wanted = replace(known, part_count=known.part_count + 1, parts_end=block.end, tail=())
        fence.advance(wanted, [block.id])

    def _step_back(self, record: UploadRecord, fence: Fence, ids: Sequence[str]) -> Exception:
        """Go back to the last block that the service still has. The one case in which the offset gets smaller."""
        count, end = count_present(ids, self.blobs.uncommitted(self.blob_name(record)))
        logger.error("Azure has lost acknowledged blocks of an upload: %s of %s are left", count, len(ids))
        self.heads.forget(record.id)
        if not count:
            return UploadGone("The storage has lost the upload's bytes.")
        fence.advance(replace(fence.known, part_count=count, parts_end=end, tail=()))
        return StoreUnavailable("Some bytes of the upload must be sent again.", code="parts_lost")

    # --- after a crash ----------------------------------------------------------------------------------------

    def _recover(self, record: UploadRecord, fence: Fence) -> None:
        known, name = fence.known, self.blob_name(record)
        if not known.part_count and (found := self._find_own(record)) is not None and found.size == record.length:
            return self._record_finished(fence, found.etag, found.size)
        writer, tail = find_writer(known.tail), drop_writer(known.tail)
        following = find_following(self.blobs.uncommitted(name), known.parts_end, writer, record.length)
        end = known.parts_end
        if following:
            end, tail = following[-1].end, ()  # the first of them begins with the tail
        count = known.part_count + len(following)
        wanted = replace(known, part_count=count, parts_end=end, tail=tail, is_unsettled=False)
        fence.advance(wanted, [block.id for block in following])

    # --- the rest ---------------------------------------------------------------------------------------------

    def _read(self, record: UploadRecord, start: int, count: int) -> bytes:
        try:
            return self.blobs.read(self.blob_name(record), start, count)
        except FileNotFoundError:
            raise UploadGone() from None

    def _append(self, record: UploadRecord, fence: Fence, partials: Sequence[Upload]) -> None:
        if fence.known.is_unsettled:
            self._recover(record, fence)
        sink = self._make_sink(record, fence, None)
        sources = [(self.blob_name(partial.record), partial.offset) for partial in partials]
        try:
            join(sink, self.blobs, sources, self.sign)
        except FileNotFoundError:
            raise UploadGone("The bytes of a partial upload are lost.") from None
        finally:
            sink.settle()

    def _remove(self, record: UploadRecord, manifest: Manifest) -> None:
        name = self.blob_name(record)
        if manifest.finished is None:
            if not manifest.part_count and not manifest.is_unsettled:
                return
            # Delete Blob leaves uncommitted blocks where they are: an empty list drops them, then the blob goes.
            try:
                etag = self.blobs.commit(name, (), {}, build_mark(record.id))
            except BlobExists:
                found = self._find_own(record)
                etag = "" if found is None else found.etag
        else:
            etag = manifest.finished.etag
        try:
            if etag:
                self.blobs.delete(name, etag)
        except BlobExists:
            logger.warning("%s is not the upload's any more and stays", name)


def check_block_count(known: Manifest, length: int | None, part_size: int) -> None:
    """Refuse an upload that came in so many pieces that the rest would not fit any more.

    Raises:
        BadRequest: Code ``too_many_blocks``; nothing was changed.
    """
    rest = 0 if length is None else -(-(length - known.parts_end) // part_size)
    if known.part_count > REFUSED_ABOVE or known.part_count + rest > MOST_BLOCKS:
        message = f"The upload came in {known.part_count} pieces; start again with larger chunks."
        raise BadRequest(message, code="too_many_blocks")
