"""Uploads on S3 and what speaks its language: parts of one multipart upload, a tail of segments beside it, a manifest.

A POST and a HEAD cost no request. An upload of up to 8 MiB that comes in one piece costs one: PutObject. Larger ones
are parts on a fixed grid, sent while more is received; what does not fill a part waits in segments. The object is made
at the end (Complete), and its ETag recorded in the manifest.

The offset follows from the manifest alone. After the death of a writer the next one asks once which parts came besides.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from tus_server.errors import StoreUnavailable, TooLarge, UploadGone
from tus_server.parts import S3_LIMITS, PartLimits, choose_part_size, count_following
from tus_server.stores.base import Records, Sink
from tus_server.stores.buffers import FileBuffer, ReceiveBudget, shared_budget
from tus_server.stores.manifested import Fence, ManifestedStore
from tus_server.stores.manifests import Manifest, Manifests
from tus_server.stores.s3_client import Found, ObjectMissing, S3Bucket, S3Client, UploadMissing
from tus_server.stores.s3_copies import append_copies
from tus_server.stores.s3_objects import Objects
from tus_server.stores.s3_sink import Backend, S3Sink
from tus_server.stores.s3_tails import SegmentLost, Tails
from tus_server.uploads import Upload, UploadRecord

logger = logging.getLogger("tus_server.s3")

#: S3 tells when an object was stored to the second.
_CLOCK = timedelta(seconds=1)


class S3Store(ManifestedStore):
    """Uploads in a bucket.

    Args:
        client: boto3's low-level client, shared by threads; ``max_pool_connections`` should be at least
            ``pipeline.POOL_THREADS``. For other services than AWS set ``request_checksum_calculation`` and
            ``response_checksum_validation`` to ``when_required``.
        bucket: The bucket's name.
        records: Where the facts of uploads are kept.
        manifests: Where their manifests are kept.
        location: What every key begins with; a slash follows.
        segments: The folder, under ``location``, of the tails.
        put_parameters: For the finished objects, as ``put_object`` takes them (``ContentType``, ``ACL``, ...); a
            function of the record for what differs between uploads.
        common: For segments and for reading too, where ``put_parameters`` is a function: encryption, ``RequestPayer``,
            ``ExpectedBucketOwner``.
        buffers: The budget of received bytes; the process's own when ``None``.
        part_size: The size of all parts, in bytes; chosen for each upload when ``None``.
        max_size: The largest upload without a length, where the record has no limit.
        inline_limit: Up to how many bytes of a tail stand in the manifest.
        conditional: Whether the bucket takes ``If-None-Match`` with PutObject and CompleteMultipartUpload.
        limits: What the service allows.
        clock: Seconds, for how often acknowledged parts are recorded.
    """

    def __init__(
        self,
        client: S3Client,
        bucket: str,
        records: Records,
        manifests: Manifests,
        *,
        location: str = "",
        segments: str = "",
        put_parameters: Mapping[str, Any] | Callable[[UploadRecord], Mapping[str, Any]] | None = None,
        common: Mapping[str, Any] | None = None,
        buffers: ReceiveBudget | None = None,
        part_size: int | None = None,
        max_size: int | None = None,
        inline_limit: int = 65536,
        conditional: bool = False,
        limits: PartLimits = S3_LIMITS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(records, manifests)
        if part_size is not None and not limits.smallest <= part_size <= limits.largest:
            raise ValueError(f"part_size is {part_size}, it must be {limits.smallest} to {limits.largest} bytes")
        each = put_parameters if callable(put_parameters) else None
        fixed = common if callable(put_parameters) else put_parameters
        self.bucket = S3Bucket(client, bucket, fixed, conditional=conditional)
        self.limits = limits
        self.part_size = part_size
        self.max_size = max_size
        location = f"{location.strip('/')}/" if location.strip("/") else ""
        segments = f"{segments.strip('/')}/" if segments.strip("/") else ""
        self._objects = Objects(self.bucket, location, each, clock)
        self._tails = Tails(self.bucket, location + segments, inline_limit)
        budget = shared_budget() if buffers is None else buffers
        self._backend = Backend(self.bucket, self._objects, self._tails, budget, self.heads, limits, clock)

    def key(self, record: UploadRecord) -> str:
        """Return the key of a record's finished object in the bucket."""
        return self._objects.key(record)

    def segments_folder(self, upload_id: str) -> str:
        """Return what the keys of an upload's segments begin with."""
        return self._tails.folder(upload_id)

    def drop_segments(self, upload_id: str) -> None:
        """Delete what tails of a finished upload were left by processes that died. May be repeated."""
        for key in self.bucket.list_keys(self.segments_folder(upload_id)):
            self.bucket.delete(key)

    # --- appending --------------------------------------------------------------------------------------------

    def _open(self, record: UploadRecord, fence: Fence, expected: int | None) -> Sink:
        known = fence.known
        part_size = known.part_size or self.part_size
        if part_size is None:
            max_size = record.max_size if record.max_size is not None else self.max_size
            first = expected if known.offset == 0 else None
            part_size = choose_part_size(record.length, max_size=max_size, expected=first, limits=self.limits)
        capacity = self.limits.capacity(part_size)
        if record.length is not None and record.length > capacity:
            raise TooLarge(capacity)
        return S3Sink(self._backend, record, fence, part_size, partial(self.leave, record.id))

    def _recover(self, record: UploadRecord, fence: Fence) -> None:
        """Adopt the parts that follow the recorded ones on the grid. Bytes with a checksum are sent only when they
        matched, so every part is worth adopting; whatever goes wrong, none is adopted."""
        known = fence.known
        etags: list[str] = []
        if known.multipart_id is not None and known.part_size is not None:
            try:
                parts = self.bucket.list_parts(self.key(record), known.multipart_id, after=known.part_count)
            except (UploadMissing, StoreUnavailable):
                parts = []
            sizes = [(part.number, part.size) for part in parts]
            count = count_following(sizes, known.part_count, known.part_size, record.length)
            found = {part.number: part.etag for part in parts}
            etags = [found[known.part_count + number] for number in range(1, count + 1)]
        wanted = replace(known, is_unsettled=False)
        if etags:
            count = known.part_count + len(etags)
            end = count * (known.part_size or 0)
            end = end if record.length is None else min(end, record.length)
            wanted = replace(wanted, part_count=count, parts_end=end, tail=())
            logger.info("Of the upload %s, %d parts of a dead writer were found.", record.id, len(etags))
        fence.advance(wanted, etags)
        if etags:
            self._tails.drop(known.tail)

    def _complete(self, record: UploadRecord, fence: Fence) -> None:
        tail = fence.known.tail
        if tail or fence.known.part_count == 0:
            self._store_rest(record, fence)
        if fence.known.finished is None:
            try:
                self._objects.complete(record, fence, self.manifests.parts(record.id))
            finally:
                if fence.known.offset != record.length:
                    self.heads.forget(record.id)
        self._tails.drop(tail)

    def _store_rest(self, record: UploadRecord, fence: Fence) -> None:
        """Make a tail the last part, or the whole object when there are no parts."""
        known = fence.known
        buffer = FileBuffer(known.offset - known.parts_end)
        try:
            buffer.prepend(self._tails.load(known.tail), known.offset - known.parts_end)
            if known.part_count == 0 and known.multipart_id is None:
                self._objects.put(record, fence, buffer)
                return
            self._objects.begin(record, fence, known.part_size)
            multipart_id = fence.known.multipart_id
            assert multipart_id is not None
            etag = self.bucket.upload_part(self.key(record), multipart_id, known.part_count + 1, buffer.body())
        except SegmentLost as lost:
            logger.error("A segment of the upload %s is lost; its offset goes back.", record.id)
            self.heads.forget(record.id)
            fence.advance(replace(fence.known, tail=lost.kept))
            raise StoreUnavailable("Some bytes of the upload must be sent again.", code="parts_lost") from None
        except UploadMissing:
            raise UploadGone() from None
        finally:
            buffer.close()
        known = fence.known
        wanted = replace(known, part_count=known.part_count + 1, parts_end=known.offset, tail=(), is_unsettled=False)
        fence.advance(wanted, [etag])

    # --- the rest ---------------------------------------------------------------------------------------------

    def _read(self, record: UploadRecord, start: int, count: int) -> bytes:
        try:
            return self.bucket.get(self.key(record), start, count)
        except ObjectMissing:
            raise UploadGone() from None

    def _append(self, record: UploadRecord, fence: Fence, partials: Sequence[Upload]) -> None:
        append_copies(self._backend, record, fence, [(each, self.manifests.reload(each.id)) for each in partials])

    def _remove(self, record: UploadRecord, manifest: Manifest) -> None:
        key = self.key(record)
        if manifest.multipart_id is not None and manifest.finished is None:
            self.bucket.abort(key, manifest.multipart_id)
        self.drop_segments(record.id)
        found = self.bucket.head(key)
        if found is not None and _is_ours(found, record, manifest):
            self.bucket.delete(key)


def _is_ours(found: Found, record: UploadRecord, manifest: Manifest) -> bool:
    """Say whether an object under an upload's name is the upload's: the name may be a permanent one (zero copy)."""
    if manifest.finished is not None:
        return found.etag == manifest.finished.etag
    # Stored, and the answer lost, or the process died before it was recorded.
    return found.modified >= record.created_at - _CLOCK and record.length in (None, found.size)
