"""Records and a locker that fail when they are told to, beside the store of ``faults``."""

from __future__ import annotations

from datetime import datetime

from tus_server.locks.base import Lease, Locker, Wanted
from tus_server.stores.base import Records
from tus_server.testing.faults import Faults
from tus_server.uploads import UploadRecord


class FaultyRecords:
    """Records in front of others; ``faults`` decides which call fails."""

    def __init__(self, records: Records, faults: Faults) -> None:
        self._records = records
        self._faults = faults

    def create(self, record: UploadRecord) -> None:
        """See ``Records``."""
        self._faults.call("records.create", self._records.create, record)

    def get(self, upload_id: str) -> UploadRecord:
        """See ``Records``."""
        return self._faults.call("records.get", self._records.get, upload_id)

    def set_length(self, upload_id: str, length: int) -> UploadRecord:
        """See ``Records``."""
        return self._faults.call("records.set_length", self._records.set_length, upload_id, length)

    def set_finished(self, record: UploadRecord, at: datetime) -> UploadRecord:
        """See ``Records``."""
        return self._faults.call("records.set_finished", self._records.set_finished, record, at)

    def touch(self, upload_id: str, now: datetime, expires_at: datetime | None) -> None:
        """See ``Records``."""
        self._faults.call("records.touch", self._records.touch, upload_id, now, expires_at)

    def delete(self, upload_id: str) -> None:
        """See ``Records``."""
        self._faults.call("records.delete", self._records.delete, upload_id)

    def expired(self, now: datetime, limit: int) -> list[UploadRecord]:
        """See ``Records``."""
        return self._faults.call("records.expired", self._records.expired, now, limit)


class FaultyLocker(Locker):
    """A locker in front of another; ``faults`` decides which call fails.

    A lease whose release failed, or that was given in an answer that got lost, is held by nobody who knows of it: it
    ends with its process, or with its time.

    Attributes:
        locker: The one behind.
        leases: The leases that are held, by upload.
    """

    def __init__(self, locker: Locker, faults: Faults) -> None:
        self.locker = locker
        self.leases: dict[str, Lease] = {}
        self._faults = faults

    def try_acquire(self, upload_id: str) -> Lease | None:
        """See ``Locker``."""
        return self._faults.call("try_acquire", self._acquire, upload_id)

    def request_release(self, upload_id: str, wanted: Wanted) -> None:
        """See ``Locker``."""
        self._faults.call("request_release", self.locker.request_release, upload_id, wanted)

    def _acquire(self, upload_id: str) -> Lease | None:
        lease = self.locker.try_acquire(upload_id)
        if lease is None:
            return None
        self.leases[upload_id] = lease
        return FaultyLease(self, upload_id, lease, self._faults)


class FaultyLease(Lease):
    """A lease of ``FaultyLocker``."""

    def __init__(self, locker: FaultyLocker, upload_id: str, lease: Lease, faults: Faults) -> None:
        self._locker = locker
        self._upload_id = upload_id
        self._lease = lease
        self._faults = faults

    def wanted(self) -> Wanted | None:
        """See ``Lease``."""
        return self._faults.call("wanted", self._lease.wanted)

    def release(self) -> None:
        """See ``Lease``."""
        self._faults.call("release", self._release)

    def _release(self) -> None:
        if self._locker.leases.get(self._upload_id) is self._lease:
            del self._locker.leases[self._upload_id]
        self._lease.release()
