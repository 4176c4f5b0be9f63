"""What a store must be able to do, and what it may declare besides.

Rules for everything in this package:

* The offset may be too small, never too large. It follows from what the backend has acknowledged.
* When ``Sink.settle`` returns, the bytes are with the backend: ``kill -9`` cannot take them.
* Nothing is deleted before its replacement is stored and recorded; every step can be repeated after a crash.
* Foreign exceptions become ours (``StoreUnavailable``, ``StorageFull``) at one place in each store.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import ClassVar, Final, Protocol

from tus_server.errors import BadRequest, UploadGone
from tus_server.uploads import Upload, UploadRecord

_BEHIND: Final = timedelta(minutes=1)


class Records(Protocol):
    """Where the facts of uploads are kept: a database table, files beside the data, a dictionary.

    Each method is atomic and has happened when it returns. All may raise ``StoreUnavailable``.
    """

    def create(self, record: UploadRecord) -> None:
        """Store a new record."""

    def get(self, upload_id: str) -> UploadRecord:
        """Return a record.

        Raises:
            UploadNotFound: There is none.
            UploadGone: There was one.
        """

    def set_length(self, upload_id: str, length: int) -> UploadRecord:
        """Fix a deferred length once; the same length again changes nothing.

        Raises:
            BadRequest: Another length is fixed already; nothing was changed.
            UploadNotFound: There is no such record.
        """

    def set_finished(self, record: UploadRecord, at: datetime) -> UploadRecord:
        """Record that the upload is finished; a repeat keeps the first time.

        Args:
            record: As the caller has read it; what is returned may be this with the time, without another look.
            at: When (aware).

        Raises:
            UploadNotFound: There is no such record.
        """

    def touch(self, upload_id: str, now: datetime, expires_at: datetime | None) -> None:
        """Record activity: bytes were accepted at ``now``, the upload now expires at ``expires_at``."""

    def delete(self, upload_id: str) -> None:
        """Forget a record; one that is not there is no error."""

    def expired(self, now: datetime, limit: int) -> list[UploadRecord]:
        """Return at most ``limit`` records of unfinished and partial uploads whose ``expires_at`` has passed, oldest
        first."""


class ReplacedRecords(ABC):
    """The changes of ``Records`` for keepers that read a whole record and put a changed one in its place."""

    @abstractmethod
    def _change(self, upload_id: str, change: Callable[[UploadRecord], UploadRecord]) -> UploadRecord:
        """Replace a record by what ``change`` makes of it, or raise ``UploadNotFound``."""

    def set_length(self, upload_id: str, length: int) -> UploadRecord:
        """See ``Records``."""

        def change(record: UploadRecord) -> UploadRecord:
            if record.length not in (None, length):
                raise BadRequest(f"The length is {record.length} already.", code="length_fixed")
            return replace(record, length=length)

        return self._change(upload_id, change)

    def set_finished(self, record: UploadRecord, at: datetime) -> UploadRecord:
        """See ``Records``."""
        return self._change(record.id, lambda before: replace(before, finished_at=before.finished_at or at))

    def touch(self, upload_id: str, now: datetime, expires_at: datetime | None) -> None:
        """See ``Records``."""
        self._change(upload_id, lambda record: replace(record, expires_at=expires_at))


class Sink(ABC):
    """An upload opened for appending at one offset, by one writer. Used once: writes, then ``settle``."""

    @abstractmethod
    def write(self, data: memoryview) -> None:
        """Append bytes. The buffer belongs to the caller again when this returns.

        Raises:
            StorageFull: No space is left; some of ``data`` may have been kept.
            StoreUnavailable: The backend failed; some of ``data`` may have been kept.
        """

    def write_all(self, pieces: Sequence[memoryview]) -> None:
        """Append pieces that follow each other; see ``write``. A sink that can do so in one call overrides it."""
        for piece in pieces:
            self.write(piece)

    @abstractmethod
    def settle(self) -> int:
        """Leave all bytes written with the backend, let the upload go, and return its new offset in bytes.

        Called exactly once, also after a failed write; then it keeps what it can and returns that offset.
        """


class Splices(ABC):
    """A sink that can take bytes out of a pipe inside the kernel (Linux)."""

    @abstractmethod
    def splice(self, pipe: int, count: int) -> bool:
        """Append the next ``count`` bytes of a pipe that holds so many.

        Returns:
            Whether that was done inside the kernel; if not, it is not worth asking again.

        Raises:
            StorageFull, StoreUnavailable: As of ``Sink.write``; the rest of the bytes is still in the pipe.
        """


class UploadStore(ABC):
    """Keeps the bytes of uploads, with their records in ``records``."""

    #: Extensions of the tus protocol that follow from the four methods every store has.
    extensions: ClassVar[tuple[str, ...]] = ("creation", "creation-with-upload", "checksum")

    records: Records

    def get(self, upload_id: str) -> Upload:
        """Return an upload as it stands.

        Raises:
            UploadNotFound, UploadGone: There is none, or no more.
        """
        return self.load(self.records.get(upload_id))

    @abstractmethod
    def create(self, record: UploadRecord) -> Upload:
        """Store a new, empty upload."""

    @abstractmethod
    def load(self, record: UploadRecord) -> Upload:
        """Return the upload of a record, with the offset that the backend acknowledges now.

        Raises:
            UploadGone: The backend has lost its bytes.
        """

    @abstractmethod
    def open_sink(self, upload: Upload, offset: int, expected: int | None = None) -> Sink:
        """Open an upload for appending at ``offset``, fenced against every other writer until ``settle``.

        Args:
            expected: How many bytes the request says it brings; ``None`` if that is not known.

        Raises:
            Locked: Another writer is in; nothing was changed, the caller may wait and try again.
            OffsetConflict: The upload stands elsewhere; nothing was changed.
            UploadGone: It was terminated.
        """

    @abstractmethod
    def finish(self, upload: Upload, now: datetime) -> Upload:
        """Record a received and synced upload as finished. May be repeated; a repeat changes nothing."""

    @abstractmethod
    def sync(self, upload: Upload) -> None:
        """Make a received upload's bytes as durable as the store was told to. May be repeated."""

    @abstractmethod
    def read(self, upload: Upload, start: int, count: int) -> bytes:
        """Return up to ``count`` bytes of a received and synced upload from ``start``, fewer only at its end.

        Raises:
            UploadGone: Its bytes are lost.
        """

    def scratch_directory(self, record: UploadRecord) -> Path | None:
        """Return a directory with as much room as the store, for a body that waits until it was verified.

        The files there have no names. ``None``: the system's directory for temporary files.
        """
        return None


class Terminates(ABC):
    """A store that can remove an upload."""

    @abstractmethod
    def terminate(self, upload: Upload) -> None:
        """Remove an upload's bytes, then its record. May be repeated.

        Raises:
            Locked: A writer is in; nothing was changed.
        """


class DefersLength(ABC):
    """A store that can take an upload whose length is not known yet."""

    @abstractmethod
    def declare_length(self, upload: Upload, length: int) -> Upload:
        """Fix the length, in bytes, of an upload whose length was deferred; see ``Records.set_length``."""


class Expires(ABC):
    """A store whose unfinished uploads can expire."""

    @abstractmethod
    def touch(self, upload: Upload, now: datetime, expires_at: datetime | None) -> Upload:
        """Move the expiry after bytes were accepted."""

    @abstractmethod
    def expired(self, now: datetime, limit: int) -> list[Upload]:
        """Return at most ``limit`` unfinished and partial uploads that have expired, oldest first."""


class RecordedStore(UploadStore, DefersLength, Expires):
    """A store whose lengths and expiries stand in its records alone."""

    def declare_length(self, upload: Upload, length: int) -> Upload:
        """See ``DefersLength``."""
        return replace(upload, record=self.records.set_length(upload.id, length))

    def touch(self, upload: Upload, now: datetime, expires_at: datetime | None) -> Upload:
        """See ``Expires``. An expiry that was written a moment ago stays: not every PATCH costs a write for it."""
        if expires_at is not None and _is_recent(upload.record.expires_at, now, expires_at):
            return upload
        self.records.touch(upload.id, now, expires_at)
        return replace(upload, record=replace(upload.record, expires_at=expires_at))

    def expired(self, now: datetime, limit: int) -> list[Upload]:
        """See ``Expires``. Uploads whose bytes are gone count too, with offset 0, so that they can be terminated."""
        found = []
        for record in self.records.expired(now, limit):
            try:
                found.append(self.load(record))
            except UploadGone:
                found.append(Upload(record, 0))
        return found


def _is_recent(known: datetime | None, now: datetime, expires_at: datetime) -> bool:
    """Say whether a known expiry is behind the present one by less than a thousandth of its way, and a minute."""
    return known is not None and timedelta(0) <= expires_at - known < min((expires_at - now) / 1000, _BEHIND)


class Concatenates(ABC):
    """A store that can make an upload of others."""

    @abstractmethod
    def concatenate(self, final: Upload, partials: Sequence[Upload]) -> Upload:
        """Append the next bytes of finished uploads to an upload that is made of them.

        A call appends as much as takes about a second at most; the caller repeats it until the final is received. What
        is there already tells where to go on, so it may be repeated after a crash at any line. The first call fixes a
        length that was not known.

        Args:
            final: The upload that is made; its lease is held.
            partials: All uploads that it is made of, in order; one may come twice. They are not changed.

        Returns:
            The final as it then stands.

        Raises:
            UploadGone: It was terminated, or the bytes of a partial are lost.
            Locked: Another writer is in; nothing was changed.
            StorageFull, StoreUnavailable: The backend failed; what was appended stays.
        """


def extensions_of(store: UploadStore) -> tuple[str, ...]:
    """Return the tus extensions that a store's capabilities allow."""
    extensions = list(store.extensions)
    if isinstance(store, Concatenates):
        extensions += ["concatenation", "concatenation-unfinished"]
    if isinstance(store, DefersLength):
        extensions.append("creation-defer-length")
    if isinstance(store, Expires):
        extensions.append("expiration")
    if isinstance(store, Terminates):
        extensions.append("termination")
    return tuple(extensions)
