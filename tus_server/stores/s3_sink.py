"""Receiving on S3: bytes are gathered to parts, full parts are sent while more is received, the rest becomes a tail.

* A part is sent when it is full, and the one that ends the upload. Until then nothing holds a place in the pool.
* What counts is recorded in order: the parts that were acknowledged, then the tail; at most once a second, and before
  ``settle`` returns. Old segments are deleted after that.
* A buffer that waits for bytes may be flushed as a tail by another thread; ``_lock`` is held by whoever works here.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from tus_server.errors import OffsetConflict, StoreUnavailable, TooLarge, UploadGone
from tus_server.parts import PartLimits
from tus_server.stores.base import Sink
from tus_server.stores.buffers import FileBuffer, MemoryBuffer, PartBuffer, ReceiveBudget
from tus_server.stores.manifested import Fence
from tus_server.stores.manifests import Segment
from tus_server.stores.pipeline import DEPTH, DEPTH_OF_FILES, GATHERED_SHARE, Pipeline
from tus_server.stores.recent import HEAD_BYTES, HeadCache
from tus_server.stores.s3_client import S3Bucket, UploadMissing
from tus_server.stores.s3_objects import Objects
from tus_server.stores.s3_tails import SegmentLost, Tails
from tus_server.uploads import UploadRecord

logger = logging.getLogger("tus_server.s3")

#: Acknowledged parts are recorded at most this often, in seconds.
RECORD_SECONDS = 1.0


@dataclass(frozen=True)
class Backend:
    """What a sink works with; one for all of a store's."""

    bucket: S3Bucket
    objects: Objects
    tails: Tails
    budget: ReceiveBudget
    heads: HeadCache
    limits: PartLimits
    clock: Callable[[], float]


@dataclass(frozen=True)
class SentPart:
    """A part that the backend acknowledged; ``size`` in bytes."""

    etag: str
    size: int


class S3Sink(Sink):
    """Appends to one upload.

    Args:
        part_size: The upload's grid, in bytes.
        leave: Called in the end, so that other writers may come in.
    """

    def __init__(
        self, backend: Backend, record: UploadRecord, fence: Fence, part_size: int, leave: Callable[[], None]
    ) -> None:
        known = fence.known
        self._backend = backend
        self._record = record
        self._fence = fence
        self._part_size = part_size
        self._leave = leave
        self._lock = threading.Lock()
        self._uses_files = part_size > backend.budget.largest_in_memory
        self._pipeline: Pipeline[SentPart] = Pipeline(DEPTH_OF_FILES if self._uses_files else DEPTH)
        self._first = self._position = known.offset
        # The part that is gathered: where it begins, its number, what of it lies in the backend as a tail.
        self._begin = known.parts_end
        self._number = known.part_count + 1
        self._tail = known.tail
        self._buffer = self._new_buffer()
        # All that were acknowledged since the sink was opened; the manifest tells how many of them are recorded.
        self._acknowledged: list[SentPart] = []
        self._opened_at = known.part_count
        self._old: list[Segment] = []
        self._recorded_at = backend.clock()
        self._head = bytearray()
        self._error: BaseException | None = None
        self._is_lost = False
        self._is_over = False

    def _new_buffer(self) -> PartBuffer:
        if self._uses_files:
            return FileBuffer(self._position - self._begin)
        return MemoryBuffer(self._backend.budget, self, self._part_size)

    # --- receiving --------------------------------------------------------------------------------------------

    def write(self, data: memoryview) -> None:
        """See ``Sink``. May wait for the budget, and for parts on their way.

        Raises:
            OffsetConflict: Another writer took over.
            UploadGone: The backend has aborted the upload.
            TooLarge: The upload has as many parts as the backend takes.
        """
        with self._lock:
            if self._error is not None:
                raise self._error
            try:
                while data:
                    if self._position == self._begin + self._part_size:
                        self._send()
                    piece = data[: self._begin + self._part_size - self._position]
                    if (self._position - self._begin + len(piece)) * GATHERED_SHARE >= self._part_size:
                        self._pipeline.wait_for_room()
                    self._buffer.append(piece)
                    if self._position < HEAD_BYTES:
                        self._head += piece[: HEAD_BYTES - self._position]
                    self._position += len(piece)
                    data = data[len(piece) :]
                    if self._position == self._begin + self._part_size and self._position != self._record.length:
                        self._send()
                self._acknowledged += self._pipeline.take()
                if self._unrecorded() and self._backend.clock() - self._recorded_at >= RECORD_SECONDS:
                    self._advance(())
            except BaseException as error:
                self._error = error
                raise

    def _send(self) -> None:
        """Send the part that was gathered on its way, with the tail in front of it."""
        backend, number, buffer = self._backend, self._number, self._buffer
        if number > backend.limits.most:
            raise TooLarge(backend.limits.capacity(self._part_size), "The upload has more parts than can be stored.")
        self._fetch_tail()
        if not self._fence.known.is_unsettled or self._fence.known.multipart_id is None:
            backend.objects.begin(self._record, self._fence, self._part_size)
        elif backend.clock() - self._recorded_at >= RECORD_SECONDS:
            # A process that was frozen meanwhile would send its part over that of whoever took over.
            self._acknowledged += self._pipeline.take()
            self._advance(() if self._unrecorded() else self._fence.known.tail)
        multipart_id = self._fence.known.multipart_id
        assert multipart_id is not None
        key, size = backend.objects.key(self._record), buffer.size

        def upload() -> SentPart:
            try:
                return SentPart(backend.bucket.upload_part(key, multipart_id, number, buffer.body()), size)
            except UploadMissing:
                raise UploadGone() from None
            finally:
                buffer.close()

        self._pipeline.submit(upload)
        self._begin += size
        self._number += 1
        self._buffer = self._new_buffer()

    def _fetch_tail(self) -> None:
        """Put the tail in front of the buffer."""
        if self._tail:
            try:
                self._buffer.prepend(self._backend.tails.load(self._tail), self._tail[-1].end - self._begin)
            except SegmentLost as lost:
                raise self._fall_back(lost) from None
            self._old += self._tail
            self._tail = ()

    def _fall_back(self, lost: SegmentLost) -> StoreUnavailable:
        """Forget the bytes from a lost segment on; returns the error to raise."""
        logger.error("A segment of the upload %s is lost; its offset goes back.", self._record.id)
        self._backend.heads.forget(self._record.id)
        self._old += self._tail
        self._advance(lost.kept, is_unsettled=self._fence.known.is_unsettled)
        self._is_lost = True
        self._tail = lost.kept
        self._position = self._fence.known.offset
        self._buffer.close()
        self._buffer = self._new_buffer()
        return StoreUnavailable("Some bytes of the upload must be sent again.", code="parts_lost")

    # --- recording --------------------------------------------------------------------------------------------

    def _unrecorded(self) -> list[SentPart]:
        return self._acknowledged[self._fence.known.part_count - self._opened_at :]

    def _advance(self, tail: tuple[Segment, ...], *, is_unsettled: bool = True) -> None:
        """Record the parts that were acknowledged, and the tail behind them."""
        known, parts = self._fence.known, self._unrecorded()
        wanted = replace(
            known,
            part_size=self._part_size,
            part_count=known.part_count + len(parts),
            parts_end=known.parts_end + sum(part.size for part in parts),
            tail=tail,
            is_unsettled=is_unsettled and known.is_unsettled,
        )
        self._fence.advance(wanted, [part.etag for part in parts])
        self._recorded_at = self._backend.clock()

    def flush(self) -> bool:
        """See ``buffers.Holder``: what waits for more becomes a tail."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if self._is_over or self._error is not None or self._buffer.size == 0 or self._uses_files:
                return False
            self._keep_rest(is_unsettled=True, may_wait=False)
            return True
        except BaseException as error:
            # Whoever writes next is told, or whoever settles.
            self._error = error
            self._is_lost = True
            self._buffer.close()
            return True
        finally:
            self._lock.release()

    def _keep_rest(self, *, is_unsettled: bool = False, may_wait: bool = True) -> None:
        """Leave everything with the backend: wait for what is on its way, store the rest as a tail, record both."""
        self._acknowledged += self._pipeline.drain()
        if self._pipeline.error is not None:
            self._keep_prefix()
            raise self._pipeline.error
        known, tail = self._fence.known, self._tail
        if self._buffer.size:
            start = self._position - self._buffer.size
            try:
                tail = self._backend.tails.extended(
                    self._record.id, known.revision, tail, self._buffer, start, may_wait=may_wait
                )
            except SegmentLost as lost:
                raise self._fall_back(lost) from None
            except BaseException:
                self._keep_prefix()
                raise
        if tail != known.tail or self._unrecorded() or (known.is_unsettled and not is_unsettled):
            try:
                self._advance(tail, is_unsettled=is_unsettled)
            except OffsetConflict:
                # Behind the fence. Of the new segment nobody knows but we: its name is ours alone.
                self._backend.tails.drop([segment for segment in tail if segment not in self._tail])
                raise
        self._old += self._tail
        self._tail = tail
        self._buffer.close()
        self._buffer = self._new_buffer()

    def _keep_prefix(self) -> None:
        """Record what was acknowledged before something failed; the rest is forgotten."""
        self._buffer.close()
        known, has_more = self._fence.known, bool(self._unrecorded())
        if has_more or known.is_unsettled:
            self._advance(() if has_more else known.tail, is_unsettled=False)

    # --- the end ----------------------------------------------------------------------------------------------

    def settle(self) -> int:
        """See ``Sink``.

        Raises:
            OffsetConflict: Another writer took over; nothing more was done.
            StoreUnavailable: A part could not be stored; what came before it is kept.
        """
        with self._lock:
            try:
                self._fence.resolve()
                self._settle()
                known = self._fence.known
                head = bytes(self._head[: max(0, known.offset - self._first)])
                self._backend.heads.extend(self._record.id, self._first, head)
                self._backend.tails.drop([segment for segment in self._old if segment not in known.tail])
                return known.offset
            finally:
                self._is_over = True
                self._pipeline.drain()
                self._backend.budget.forget(self)
                self._buffer.close()
                self._leave()

    def _settle(self) -> None:
        if isinstance(self._error, OffsetConflict):
            raise self._error  # behind the fence
        is_whole = self._error is None and self._position == self._record.length and self._buffer.size > 0
        if is_whole and self._number == 1 and self._fence.known.multipart_id is None:
            self._put()
        else:
            if is_whole:
                self._send()
            self._keep_rest()
        if self._is_lost:
            raise StoreUnavailable("Some bytes must be sent again.", code="parts_lost")

    def _put(self) -> None:
        """Store the whole upload as its object; if that fails, as a tail, so that nothing has to be sent again."""
        try:
            self._fetch_tail()
            self._backend.objects.put(self._record, self._fence, self._buffer)
        except StoreUnavailable:
            if self._fence.resolve().finished is None:
                self._keep_rest()
