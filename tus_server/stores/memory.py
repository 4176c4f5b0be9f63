"""Uploads in memory: for tests, and as the shortest example of a store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from tus_server.errors import Locked, OffsetConflict, UploadGone, UploadNotFound
from tus_server.stores.base import (
    Concatenates,
    RecordedStore,
    Records,
    ReplacedRecords,
    Sink,
    Terminates,
)
from tus_server.uploads import Upload, UploadRecord


class MemoryRecords(ReplacedRecords):
    """Records in a dictionary."""

    def __init__(self) -> None:
        self._records: dict[str, UploadRecord] = {}
        self._lock = threading.Lock()

    def create(self, record: UploadRecord) -> None:
        """See ``Records``."""
        with self._lock:
            self._records[record.id] = record

    def get(self, upload_id: str) -> UploadRecord:
        """See ``Records``."""
        try:
            return self._records[upload_id]
        except KeyError:
            raise UploadNotFound() from None

    def _change(self, upload_id: str, change: Callable[[UploadRecord], UploadRecord]) -> UploadRecord:
        with self._lock:
            record = self._records[upload_id] = change(self.get(upload_id))
            return record

    def delete(self, upload_id: str) -> None:
        """See ``Records``."""
        with self._lock:
            self._records.pop(upload_id, None)

    def expired(self, now: datetime, limit: int) -> list[UploadRecord]:
        """See ``Records``."""
        found = [
            (record.expires_at, record)
            for record in list(self._records.values())
            if record.expires_at is not None and record.has_expired(now)
        ]
        return [record for _, record in sorted(found, key=lambda pair: pair[0])[:limit]]


class MemoryStore(RecordedStore, Terminates, Concatenates):
    """Uploads in byte arrays of this process; gone with it."""

    def __init__(self) -> None:
        self.records: Records = MemoryRecords()
        self._data: dict[str, bytearray] = {}
        self._writers: dict[str, threading.Lock] = {}

    def create(self, record: UploadRecord) -> Upload:
        """See ``UploadStore``."""
        self._data[record.id] = bytearray()
        self._writers[record.id] = threading.Lock()
        self.records.create(record)
        return Upload(record, 0)

    def load(self, record: UploadRecord) -> Upload:
        """See ``UploadStore``."""
        data = self._data.get(record.id)
        if data is None:
            raise UploadGone()
        return Upload(record, len(data))

    def open_sink(self, upload: Upload, offset: int, expected: int | None = None) -> Sink:
        """See ``UploadStore``."""
        lock, data = self._writers.get(upload.id), self._data.get(upload.id)
        if lock is None or data is None:
            raise UploadGone()
        if not lock.acquire(blocking=False):
            raise Locked()
        if len(data) != offset:
            lock.release()
            raise OffsetConflict(len(data))
        return MemorySink(data, lock)

    def sync(self, upload: Upload) -> None:
        """See ``UploadStore``: memory is as durable as it gets."""

    def read(self, upload: Upload, start: int, count: int) -> bytes:
        """See ``UploadStore``."""
        return bytes(self.content(upload.id)[start : start + count])

    def finish(self, upload: Upload, now: datetime) -> Upload:
        """See ``UploadStore``."""
        return replace(upload, record=self.records.set_finished(upload.record, now))

    def terminate(self, upload: Upload) -> None:
        """See ``Terminates``."""
        lock = self._writers.get(upload.id)
        if lock is not None:
            if not lock.acquire(blocking=False):
                raise Locked()
            del self._data[upload.id], self._writers[upload.id]
        self.records.delete(upload.id)

    def concatenate(self, final: Upload, partials: Sequence[Upload]) -> Upload:
        """See ``Concatenates``. All of it at once: memory is quick."""
        try:
            content = b"".join(self._data[partial.id] for partial in partials)
        except KeyError:
            raise UploadGone() from None
        record = self.records.set_length(final.id, len(content))
        sink = self.open_sink(final, final.offset)
        sink.write(memoryview(content)[final.offset :])
        return Upload(record, sink.settle())

    def content(self, upload_id: str) -> bytes:
        """Return the bytes of an upload."""
        try:
            return bytes(self._data[upload_id])
        except KeyError:
            raise UploadGone() from None


class MemorySink(Sink):
    """Appends to one byte array; its lock is the fence."""

    def __init__(self, data: bytearray, lock: threading.Lock) -> None:
        self._data = data
        self._lock = lock

    def write(self, data: memoryview) -> None:
        """See ``Sink``."""
        self._data += data

    def settle(self) -> int:
        """See ``Sink``."""
        self._lock.release()
        return len(self._data)
