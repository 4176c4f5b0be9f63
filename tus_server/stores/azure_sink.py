"""Receiving into staged blocks: full ones are on their way while the next is gathered, and recorded in order."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Protocol

from tus_server.errors import OffsetConflict
from tus_server.stores.azure_blobs import AzureBlobs
from tus_server.stores.azure_blocks import Block, drop_writer, mark_writer
from tus_server.stores.base import Sink
from tus_server.stores.buffers import FileBuffer, MemoryBuffer, PartBuffer, ReceiveBudget
from tus_server.stores.manifested import Fence
from tus_server.stores.manifests import Segment
from tus_server.stores.pipeline import DEPTH, DEPTH_OF_FILES, GATHERED_SHARE, Pipeline
from tus_server.stores.recent import HEAD_BYTES, HeadCache
from tus_server.uploads import UploadRecord

logger = logging.getLogger("tus_server.azure")

#: Seconds between two advances while blocks are acknowledged: so much is sent again after ``kill -9`` at most.
PAUSE = 1.0


class Blocks(Protocol):
    """What a sink needs of its store; see ``AzureStore``."""

    blobs: AzureBlobs
    heads: HeadCache
    inline_limit: int
    clock: Callable[[], float]

    @property
    def budget(self) -> ReceiveBudget: ...
    def blob_name(self, record: UploadRecord) -> str: ...
    def put_whole(self, record: UploadRecord, fence: Fence, data: bytes) -> None: ...


class AzureSink(Sink):
    """Appends to one upload.

    Args:
        store: Whose upload it is.
        record: The upload's.
        fence: Its manifest, settled.
        part_size: Size of full blocks, in bytes.
        whole_limit: Uploads up to so many bytes that come at once are stored at once.
        on_settled: Called in the end, however it went.
    """

    def __init__(
        self,
        store: Blocks,
        record: UploadRecord,
        fence: Fence,
        part_size: int,
        *,
        whole_limit: int = 8 * 1024 * 1024,
        on_settled: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._record_of = record
        self._fence = fence
        self._part_size = part_size
        self._whole_limit = whole_limit
        self._on_settled = on_settled
        self._budget = store.budget
        is_in_file = part_size > self._budget.largest_in_memory
        self._new_buffer: Callable[[], PartBuffer] = (
            partial(FileBuffer, 0) if is_in_file else partial(MemoryBuffer, self._budget, self, part_size)
        )
        self._pipeline: Pipeline[Block] = Pipeline(DEPTH_OF_FILES if is_in_file else DEPTH)
        self._lock = threading.Lock()
        self._buffer: PartBuffer | None = None
        self._begin = fence.known.offset
        self._head = bytearray()
        #: Where the next block begins, and the number of blocks that were there before.
        self._start = fence.known.parts_end
        self._first = fence.known.part_count
        self._acknowledged: list[Block] = []
        self._revision = 0
        self._advanced_at = store.clock()
        self._has_raised = False
        #: Whether all was sent at once and no answer came: the next writer looks whether it is there.
        self._is_unsure = False

    # --- gathering --------------------------------------------------------------------------------------------

    def write(self, data: memoryview) -> None:
        """See ``Sink``."""
        if self._begin + len(self._head) < HEAD_BYTES:
            self._head += data[: HEAD_BYTES - self._begin - len(self._head)]
        try:
            with self._lock:
                while data:
                    buffer = self._gather()
                    room = self._part_size - buffer.size
                    if (buffer.size + len(data[:room])) * GATHERED_SHARE >= self._part_size:
                        self._pipeline.wait_for_room()
                    buffer.append(data[:room])
                    data = data[room:]
                    if buffer.size == self._part_size and not self._may_be_whole():
                        self._ship(buffer)
        except BaseException:
            self._has_raised = True
            raise

    def _gather(self) -> PartBuffer:
        """Return the buffer of the next block, which begins with what waited in the manifest."""
        if self._buffer is None:
            buffer = self._new_buffer()
            try:
                if self._start == self._fence.known.parts_end:
                    for segment in drop_writer(self._fence.known.tail):
                        buffer.append(memoryview(segment.data))
            except BaseException:
                buffer.close()
                raise
            self._buffer = buffer
        elif self._buffer.size == self._part_size:  # an earlier attempt to ship it failed, or it waited to be whole
            self._ship(self._buffer)
            return self._gather()
        return self._buffer

    def _may_be_whole(self) -> bool:
        length = self._record_of.length
        return self._start == 0 and length is not None and length <= min(self._whole_limit, self._part_size)

    @property
    def position(self) -> int:
        """Where the next byte belongs."""
        if self._buffer is not None:
            return self._start + self._buffer.size
        return max(self._start, self._fence.known.offset)

    # --- sending ----------------------------------------------------------------------------------------------

    def _ship(self, buffer: PartBuffer) -> None:
        """Send a block on its way."""
        block = self._announce(buffer.size)
        self._pipeline.submit(partial(self._stage, block, buffer))
        self._buffer, self._start = None, block.end
        self._take()

    def _announce(self, size: int) -> Block:
        """Return the next block; before the first one the manifest says that there may be more than it lists."""
        if not self._revision:
            self._advance(is_unsettled=True)
            self._revision = self._fence.known.revision
        return Block(self._start, size, self._revision)

    def _stage(self, block: Block, buffer: PartBuffer) -> Block:
        try:
            self._store.blobs.stage(self._store.blob_name(self._record_of), block.id, buffer.body())
        finally:
            buffer.close()
        return block

    def stage_from(self, url: str, start: int, count: int) -> None:
        """Append bytes of another blob, which the service reads itself; returns when they are there.

        Raises:
            Unsupported: It cannot; nothing was appended.
        """
        with self._lock:
            if self._start < self.position:
                self._ship(self._gather())
            block = self._announce(count)
            name = self._store.blob_name(self._record_of)
            self._acknowledged += self._pipeline.drain()
            if self._pipeline.error is not None:
                raise self._pipeline.error
            self._store.blobs.stage_from(name, block.id, url, start, count)
            self._acknowledged.append(block)
            self._start = block.end

    def _take(self) -> None:
        """Take what was acknowledged meanwhile, and record it once a second."""
        self._acknowledged += self._pipeline.take()
        now = self._store.clock()
        if now - self._advanced_at >= PAUSE and len(self._acknowledged) > self._recorded:
            self._advance(is_unsettled=True)
            self._advanced_at = now

    @property
    def _recorded(self) -> int:
        return self._fence.known.part_count - self._first

    def _advance(self, *, is_unsettled: bool, tail: tuple[Segment, ...] | None = None) -> None:
        """Record the acknowledged blocks; ``tail`` (what follows them) stays as it is where nothing is said."""
        known = self._fence.resolve()
        new = self._acknowledged[self._recorded :]
        end = new[-1].end if new else known.parts_end
        if tail is None:
            tail = () if new else drop_writer(known.tail)
        if is_unsettled:
            tail = mark_writer(tail, tail[-1].end if tail else end, self._revision or known.revision + 1)
        wanted = replace(
            known, part_count=known.part_count + len(new), parts_end=end, tail=tail, is_unsettled=is_unsettled
        )
        if wanted != known:
            self._fence.advance(wanted, [block.id for block in new])

    def flush(self) -> bool:
        """See ``buffers.Holder``: what is held becomes a block, if it is worth one."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            buffer = self._buffer
            if buffer is None or buffer.size < self._store.inline_limit:
                return False
            self._ship(buffer)
            return True
        except Exception as error:  # the holder meets it at its next write
            logger.warning("A waiting block could not be sent: %r", error)
            return False
        finally:
            self._lock.release()

    # --- the end ----------------------------------------------------------------------------------------------

    def settle(self) -> int:
        """See ``Sink``. Of blocks on their way those count that follow without a failure."""
        try:
            with self._lock:
                return self._settle()
        finally:
            self._budget.forget(self)
            if self._buffer is not None:
                self._buffer.close()
            self._on_settled()

    def _settle(self) -> int:
        error: BaseException | None = None
        tail: tuple[Segment, ...] | None = None
        try:
            if self._pipeline.error is None:
                tail = self._send_rest()
        except OffsetConflict:
            self._pipeline.drain()  # their buffers are in use
            raise
        except Exception as raised:
            error = raised
        self._acknowledged += self._pipeline.drain()
        if self._pipeline.error is not None:
            error, tail = self._pipeline.error, None
        if self._fence.known.finished is None:
            self._advance(is_unsettled=self._is_unsure, tail=tail)
        offset = self._fence.known.offset
        self._store.heads.extend(self._record_of.id, self._begin, bytes(self._head[: max(0, offset - self._begin)]))
        if error is not None and not self._has_raised:
            raise error
        return offset

    def _send_rest(self) -> tuple[Segment, ...] | None:
        """Send what is not a full block; return what waits in the manifest instead."""
        buffer = self._buffer
        if buffer is None or not buffer.size:
            return None
        is_last = self._start + buffer.size == self._record_of.length
        if is_last and self._may_be_whole() and not self._first:
            self._announce(buffer.size)
            self._is_unsure = True
            self._store.put_whole(self._record_of, self._fence, buffer.content())
            return None
        if is_last or buffer.size >= self._store.inline_limit:
            self._ship(buffer)
            return None
        return (Segment(self._start, buffer.size, data=buffer.content()),)
