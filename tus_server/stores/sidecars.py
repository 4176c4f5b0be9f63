"""Records as small JSON files beside the data, for an endpoint without a database.

A record is replaced by writing a new file and renaming it over the old one, so a reader sees the old or the new record
and never half of one. The format carries a version. An expiry that moved on since is the file's time of modification.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tus_server.errors import StoreUnavailable, UploadNotFound
from tus_server.stores.base import ReplacedRecords
from tus_server.stores.syncing import Durability, directories
from tus_server.uploads import UploadRecord, is_upload_id

FORMAT = 1

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class FileRecords(ReplacedRecords):
    """Records in ``<directory>/<upload id>.upload.json``. Changes of one record must not run at once: hold its lease.

    Args:
        directory: Where the files live; created when needed.
        durability: ``data``: a record is synced when its upload is finished; ``strict``: when it is made or changed;
            ``none``: never.
    """

    def __init__(self, directory: Path, durability: Durability = "none") -> None:
        self._directory = directory
        self._durability = durability

    def _path(self, upload_id: str) -> Path:
        if not is_upload_id(upload_id):
            raise UploadNotFound()
        return self._directory / f"{upload_id}.upload.json"

    def create(self, record: UploadRecord) -> None:
        """See ``Records``."""
        self._replace(record)

    def touch(self, upload_id: str, now: datetime, expires_at: datetime | None) -> None:
        """See ``Records``. A later expiry is kept as the file's time: nothing is written that could be half there."""
        record = self.get(upload_id)
        if record.expires_at is None or expires_at is None or expires_at < record.expires_at:
            self._change(upload_id, lambda before: replace(before, expires_at=expires_at))
            return
        with _unavailable():
            _set_time(self._path(upload_id), expires_at)

    def _replace(self, record: UploadRecord) -> None:
        """Put a record in the place of the one before."""
        is_lasting = self._durability == "strict" or (self._durability == "data" and record.finished_at is not None)
        with _unavailable():
            if not os.path.isdir(self._directory):
                self._directory.mkdir(parents=True, exist_ok=True)
            path = self._path(record.id)
            descriptor, temporary = tempfile.mkstemp(prefix=".record-", dir=self._directory)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(json.dumps(_to_json(record)).encode())
                    file.flush()
                    if record.expires_at is not None:
                        _set_time(descriptor, record.expires_at)
                    if is_lasting:
                        os.fdatasync(descriptor)
                os.replace(temporary, path)
                if is_lasting:
                    directories.sync_name(path, self._directory)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(temporary)
                raise

    def get(self, upload_id: str) -> UploadRecord:
        """See ``Records``."""
        path = self._path(upload_id)
        with _unavailable():
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                raise UploadNotFound() from None
            try:
                status = os.fstat(descriptor)
                text, time_ns = os.pread(descriptor, status.st_size, 0), status.st_mtime_ns
            finally:
                os.close(descriptor)
            if not text:
                # Power was lost just after it was created.
                raise UploadNotFound()
            record = _from_json(json.loads(text))
            if record.expires_at is None:
                return record
            # The file's time is younger where it was touched, and anything where the file was copied.
            return replace(record, expires_at=max(record.expires_at, _to_moment(time_ns)))

    def _change(self, upload_id: str, change: Callable[[UploadRecord], UploadRecord]) -> UploadRecord:
        before = self.get(upload_id)
        after = change(before)
        if after != before:
            self.create(after)
        return after

    def delete(self, upload_id: str) -> None:
        """See ``Records``."""
        with _unavailable():
            self._path(upload_id).unlink(missing_ok=True)

    def expired(self, now: datetime, limit: int) -> list[UploadRecord]:
        """See ``Records``. Reads every record of the directory."""
        found: list[tuple[datetime, UploadRecord]] = []
        for path in self._directory.glob("*.upload.json"):
            with suppress(UploadNotFound):
                record = self.get(path.name.removesuffix(".upload.json"))
                if record.expires_at is not None and record.has_expired(now):
                    found.append((record.expires_at, record))
        return [record for _, record in sorted(found, key=lambda pair: pair[0])[:limit]]


def _set_time(file: Path | int, moment: datetime) -> None:
    """Set a file's time to a moment, to the microsecond; years before 1970 count as 1970."""
    time_ns = max((moment - _EPOCH) // timedelta(microseconds=1), 0) * 1000
    os.utime(file, ns=(time_ns, time_ns))


def _to_moment(time_ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=time_ns // 1000)


@contextmanager
def _unavailable() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
        raise StoreUnavailable("The upload's record cannot be used right now.") from error


def _to_json(record: UploadRecord) -> dict[str, object]:
    return {
        "format": FORMAT,
        "id": record.id,
        "object_name": record.object_name,
        "length": record.length,
        "metadata": record.metadata,
        "created_at": record.created_at.isoformat(),
        "expires_at": record.expires_at and record.expires_at.isoformat(),
        "finished_at": record.finished_at and record.finished_at.isoformat(),
        "concat": record.concat,
        "partials": list(record.partials),
        "max_size": record.max_size,
        "facts": dict(record.facts),
    }


# Any: this is JSON of our own making; a file of another format raises, and is reported as unavailable.
def _from_json(data: dict[str, Any]) -> UploadRecord:
    if data["format"] != FORMAT:
        raise ValueError(f"a record of format {FORMAT} was expected, {data['format']} came")

    def moment(name: str) -> datetime | None:
        return None if data[name] is None else datetime.fromisoformat(data[name])

    return UploadRecord(
        id=data["id"],
        object_name=data["object_name"],
        length=data["length"],
        metadata=data["metadata"],
        created_at=datetime.fromisoformat(data["created_at"]),
        expires_at=moment("expires_at"),
        finished_at=moment("finished_at"),
        concat=data.get("concat", ""),
        partials=tuple(data.get("partials", ())),
        max_size=data["max_size"],
        facts=data["facts"],
    )
