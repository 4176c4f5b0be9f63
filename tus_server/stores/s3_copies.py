"""Concatenation on S3: parts of the final upload are copied from its partials by the backend.

A part must have 5 MiB, so the end of a small partial borrows bytes from the next one; those go through memory. What
comes next follows from where the parts end, so a call can be repeated after a crash at any line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from tus_server.errors import UploadGone
from tus_server.parts import Range, next_piece
from tus_server.stores.buffers import FileBuffer
from tus_server.stores.manifested import Fence
from tus_server.stores.manifests import Manifest
from tus_server.stores.pipeline import Pipeline
from tus_server.stores.s3_client import NameTaken, UploadMissing
from tus_server.stores.s3_sink import Backend, SentPart
from tus_server.uploads import Upload, UploadRecord

MIB = 1024 * 1024
#: How many bytes one request copies, at least where there are so many: 8 MiB pieces would be 131 requests per GiB.
COPY_BYTES = 128 * MIB
#: How long new copies are begun in one call, in seconds, and how many at most.
CALL_SECONDS = 1.0
MOST_COPIES = 8


def append_copies(
    backend: Backend, record: UploadRecord, fence: Fence, partials: Sequence[tuple[Upload, Manifest]]
) -> None:
    """Append the next pieces of partials to a final upload, and record them; see ``Concatenates``.

    Args:
        partials: What the final is made of, in order, with their manifests.

    Raises:
        UploadGone: A partial is not finished, or its object is lost.
        OffsetConflict: Another writer took over.
        StoreUnavailable: The backend failed; what was copied before stays.
    """
    sources = []
    for upload, manifest in partials:
        if manifest.finished is None or manifest.is_terminated:
            raise UploadGone()
        sources.append((backend.objects.key(upload.record), manifest.finished.etag))
    copies = _Copies(backend, record, fence, sources, [upload.offset for upload, _ in partials])
    known = fence.known
    if known.multipart_id is None and known.part_count == 0 and copies.total <= backend.limits.usual:
        copies.put_all()
    else:
        copies.append_some()


class _Copies:
    def __init__(
        self,
        backend: Backend,
        record: UploadRecord,
        fence: Fence,
        sources: Sequence[tuple[str, str]],
        sizes: Sequence[int],
    ) -> None:
        self._backend = backend
        self._record = record
        self._fence = fence
        self._sources = sources
        self._sizes = sizes
        self.total = sum(sizes)

    def put_all(self) -> None:
        """Store a small final at once."""
        buffer = FileBuffer(self.total)
        try:
            ranges = [Range(number, 0, size) for number, size in enumerate(self._sizes) if size]
            buffer.prepend(map(self._fetch, ranges), self.total)
            self._backend.objects.put(self._record, self._fence, buffer)
        finally:
            buffer.close()

    def append_some(self) -> None:
        """Copy for about a second, and record what was acknowledged."""
        backend, limits = self._backend, self._backend.limits
        copy_size = max(min(COPY_BYTES, limits.largest), -(-self.total // limits.planned), 2 * limits.smallest)
        backend.objects.begin(self._record, self._fence, None)
        known = self._fence.known
        pipeline: Pipeline[SentPart] = Pipeline()
        position, number, began = known.parts_end, known.part_count, backend.clock()
        try:
            while position < self.total and number < known.part_count + MOST_COPIES:
                ranges = next_piece(self._sizes, position, limits, copy_size)
                number += 1
                pipeline.submit(partial(self.send, number, ranges))
                position += sum(each.count for each in ranges)
                if backend.clock() - began >= CALL_SECONDS:
                    break
        finally:
            parts = pipeline.drain()
            wanted = replace(
                known,
                part_count=known.part_count + len(parts),
                parts_end=known.parts_end + sum(part.size for part in parts),
                tail=() if parts else known.tail,
                is_unsettled=False,
            )
            self._fence.advance(wanted, [part.etag for part in parts])
        if pipeline.error is not None:
            raise pipeline.error

    def send(self, number: int, ranges: Sequence[Range]) -> SentPart:
        """Make one part of the final."""
        backend, multipart_id = self._backend, self._fence.known.multipart_id
        assert multipart_id is not None
        key, size = backend.objects.key(self._record), sum(each.count for each in ranges)
        try:
            if len(ranges) == 1 and size >= backend.limits.smallest:
                (one,) = ranges
                source, etag = self._sources[one.source]
                is_whole = size == self._sizes[one.source]
                span = None if is_whole else (one.start, one.start + one.count)
                return SentPart(backend.bucket.copy_part(key, multipart_id, number, source, etag, span), size)
            body = b"".join(map(self._fetch, ranges))
            return SentPart(backend.bucket.upload_part(key, multipart_id, number, body), size)
        except (UploadMissing, NameTaken):
            raise UploadGone() from None

    def _fetch(self, one: Range) -> bytes:
        source, etag = self._sources[one.source]
        try:
            return self._backend.bucket.get(source, one.start, one.count, etag)
        except (UploadMissing, NameTaken):
            raise UploadGone() from None
