"""Uploads as files in a directory: one data file for each, whose size is the offset.

* Whoever writes holds ``flock(LOCK_EX)`` on the data file; the kernel frees it when the process dies. A token checked
  before each write would be no fence: a stopped process wakes up behind the check.
* Nothing is ever truncated and nothing unverified is ever appended, because the size *is* the offset.
* The record is created before its file and deleted after it, so no file exists that no record names.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from tus_server.errors import BadRequest, Locked, OffsetConflict, StorageFull, StoreUnavailable, UploadGone
from tus_server.stores.base import (
    Concatenates,
    RecordedStore,
    Records,
    Sink,
    Splices,
    Terminates,
)
from tus_server.stores.copying import copy_range
from tus_server.stores.sidecars import FileRecords
from tus_server.stores.syncing import Durability, directories, sync_path
from tus_server.uploads import Upload, UploadRecord

#: How many bytes of a concatenation are copied in one call: a second or less on most disks.
_COPY_BYTES = 256 * 1024 * 1024

#: How many pieces one call writes; Linux takes 1024 (IOV_MAX).
_PIECES = 512

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def translated() -> Iterator[None]:
    """Turn the errors of the operating system into ours: no space, or unavailable."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise StorageFull() from error
        raise StoreUnavailable("The upload directory cannot be used right now.") from error


class FilesystemStore(RecordedStore, Terminates, Concatenates):
    """Uploads in a directory.

    Args:
        directory: Where the data files live, at ``directory / record.object_name``. Created when needed.
        records: Where the facts are kept; files beside the data when ``None``.
        durability: What is synced when; see ``Durability``.
        file_mode: Permission bits of new data files, before the umask.
        directory_mode: Permission bits of new directories, before the umask.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        records: Records | None = None,
        durability: Durability = "data",
        *,
        file_mode: int = 0o666,
        directory_mode: int = 0o777,
    ) -> None:
        self.directory = Path(directory)
        self._root = os.path.abspath(directory)
        self.records = FileRecords(self.directory, durability) if records is None else records
        self.durability = durability
        self.file_mode = file_mode
        self.directory_mode = directory_mode

    def path(self, record: UploadRecord) -> Path:
        """Return where the bytes of a record lie.

        Raises:
            BadRequest: The object name leads out of the directory.
        """
        return Path(self._find(record))

    def _find(self, record: UploadRecord) -> str:
        """Return the same as text: paths as objects cost more than the calls that take them."""
        place = os.path.normpath(os.path.join(self._root, record.object_name))
        if not place.startswith(os.path.join(self._root, "")) or "\0" in record.object_name:
            raise BadRequest("The object name leads out of the upload directory.", code="invalid_name")
        return place

    def create(self, record: UploadRecord) -> Upload:
        """See ``UploadStore``. An empty data file is made."""
        place = self._find(record)
        parent = os.path.dirname(place)
        with translated():
            if not os.path.isdir(parent):
                Path(parent).mkdir(self.directory_mode, parents=True, exist_ok=True)
        self.records.create(record)
        with translated():
            os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, self.file_mode))
            if self.durability == "strict":
                directories.sync_name(Path(place), self.directory)
        return Upload(record, 0)

    def load(self, record: UploadRecord) -> Upload:
        """See ``UploadStore``. A finished upload is not looked for: it may have been moved away."""
        if record.finished_at is not None and record.length is not None:
            return Upload(record, record.length)
        with translated():
            try:
                return Upload(record, os.stat(self._find(record)).st_size)
            except FileNotFoundError:
                raise UploadGone() from None

    def open_sink(self, upload: Upload, offset: int, expected: int | None = None) -> Sink:
        """See ``UploadStore``."""
        descriptor, size = self._open_locked(upload)
        try:
            if size != offset:
                raise OffsetConflict(size)
            return FileSink(descriptor, offset, sync=self.durability == "strict", length=upload.length)
        except BaseException:
            os.close(descriptor)
            raise

    def _open_locked(self, upload: Upload) -> tuple[int, int]:
        """Open the data file and take its lock, or raise ``Locked`` or ``UploadGone``; returns its size too."""
        place = self._find(upload.record)
        with translated():
            try:
                descriptor = os.open(place, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                raise UploadGone() from None
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Between open and flock the file may have been removed by whoever held the lock before us.
                status = os.fstat(descriptor)
                if status.st_nlink == 0:
                    raise UploadGone()
            except BlockingIOError:
                os.close(descriptor)
                raise Locked() from None
            except BaseException:
                os.close(descriptor)
                raise
        return descriptor, status.st_size

    def sync(self, upload: Upload) -> None:
        """See ``UploadStore``: the data file, and the directories that lead to it."""
        if self.durability == "none":
            return
        path = self.path(upload.record)
        with translated():
            try:
                sync_path(path, os.fdatasync)
                directories.sync_name(path, self.directory)
            except FileNotFoundError:
                raise UploadGone() from None

    def read(self, upload: Upload, start: int, count: int) -> bytes:
        """See ``UploadStore``."""
        with translated():
            try:
                descriptor = os.open(self._find(upload.record), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                raise UploadGone() from None
            try:
                return os.pread(descriptor, count, start)
            finally:
                os.close(descriptor)

    def scratch_directory(self, record: UploadRecord) -> Path:
        """See ``UploadStore``: where the data files live, on their own file system."""
        with translated():
            self.directory.mkdir(self.directory_mode, parents=True, exist_ok=True)
        return self.directory

    def finish(self, upload: Upload, now: datetime) -> Upload:
        """See ``UploadStore``."""
        return replace(upload, record=self.records.set_finished(upload.record, now))

    def terminate(self, upload: Upload) -> None:
        """See ``Terminates``."""
        with suppress(UploadGone):
            descriptor, _ = self._open_locked(upload)
            try:
                with translated():
                    self.path(upload.record).unlink(missing_ok=True)
            finally:
                os.close(descriptor)
        self.records.delete(upload.id)

    def concatenate(self, final: Upload, partials: Sequence[Upload]) -> Upload:
        """See ``Concatenates``. The final's size tells what was copied before; blocks are shared where possible."""
        record = final.record
        if record.length is None:
            record = self.records.set_length(final.id, sum(partial.offset for partial in partials))
        descriptor, size = self._open_locked(final)
        try:
            start, stop = 0, size + _COPY_BYTES
            for partial in partials:
                end = start + partial.offset
                if start <= size < min(end, stop):
                    size = self._copy(partial, size - start, descriptor, size, min(end, stop) - size)
                start = end
            return Upload(record, size)
        finally:
            os.close(descriptor)

    def _copy(self, partial: Upload, offset: int, target: int, position: int, count: int) -> int:
        """Append a part of a partial to the final's file, and return the final's new size."""
        with translated():
            try:
                source = os.open(self.path(partial.record), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                raise UploadGone() from None
            try:
                if copy_range(source, offset, target, position, count) < count:
                    raise UploadGone()
            finally:
                os.close(source)
        return position + count


class FileSink(Sink, Splices):
    """Appends to one locked file; closing it frees the lock.

    Args:
        descriptor: The file's.
        offset: Where the next byte goes.
        sync: Whether ``settle`` makes the bytes durable.
        length: With how many bytes the upload is received: then ``UploadStore.sync`` follows, and ``settle`` need not.
    """

    def __init__(self, descriptor: int, offset: int, *, sync: bool, length: int | None) -> None:
        self._descriptor = descriptor
        self._position = offset
        self._sync = sync
        self._length = length

    def write(self, data: memoryview) -> None:
        """See ``Sink``."""
        with translated():
            while data:
                written = os.pwrite(self._descriptor, data, self._position)
                self._position += written
                data = data[written:]

    def write_all(self, pieces: Sequence[memoryview]) -> None:
        """See ``Sink``: one call of the system for usual numbers of pieces."""
        with translated():
            for start in range(0, len(pieces), _PIECES):
                vector = list(pieces[start : start + _PIECES])
                while vector:
                    written = os.pwritev(self._descriptor, vector, self._position)
                    self._position += written
                    vector = _behind(vector, written)

    def splice(self, pipe: int, count: int) -> bool:
        """See ``Splices``."""
        with translated():
            while count:
                try:
                    moved = os.splice(pipe, self._descriptor, count, offset_dst=self._position)
                except OSError as error:
                    if error.errno != errno.EINVAL:
                        raise
                    # This file system cannot do it.
                    while count:
                        data = os.read(pipe, count)
                        self.write(memoryview(data))
                        count -= len(data)
                    return False
                self._position += moved
                count -= moved
        return True

    def settle(self) -> int:
        """See ``Sink``."""
        try:
            with translated():
                size = os.fstat(self._descriptor).st_size
                if self._sync and size != self._length:
                    os.fdatasync(self._descriptor)
                return size
        finally:
            os.close(self._descriptor)


def _behind(pieces: list[memoryview], count: int) -> list[memoryview]:
    """Return what follows the first ``count`` bytes of some pieces."""
    for number, piece in enumerate(pieces):
        if count < len(piece):
            return [piece[count:], *pieces[number + 1 :]]
        count -= len(piece)
    return []
