"""Leases in memory, for tests and for one process."""

from __future__ import annotations

import threading

from tus_server.locks.base import Lease, Locker, Wanted


class MemoryLocker(Locker):
    """Leases among the threads of one process."""

    def __init__(self) -> None:
        self._leases: dict[str, MemoryLease] = {}
        self._lock = threading.Lock()

    def try_acquire(self, upload_id: str) -> Lease | None:
        """See ``Locker``."""
        with self._lock:
            if upload_id in self._leases:
                return None
            lease = self._leases[upload_id] = MemoryLease(self, upload_id)
            return lease

    def request_release(self, upload_id: str, wanted: Wanted) -> None:
        """See ``Locker``."""
        with self._lock:
            lease = self._leases.get(upload_id)
            if lease is not None and lease.request != "terminate":
                lease.request = wanted

    def forget(self, lease: MemoryLease) -> None:
        """Take a lease back."""
        with self._lock:
            if self._leases.get(lease.upload_id) is lease:
                del self._leases[lease.upload_id]


class MemoryLease(Lease):
    """A lease of ``MemoryLocker``."""

    def __init__(self, locker: MemoryLocker, upload_id: str) -> None:
        self._locker = locker
        self.upload_id = upload_id
        self.request: Wanted | None = None

    def wanted(self) -> Wanted | None:
        """See ``Lease``."""
        return self.request

    def release(self) -> None:
        """See ``Lease``."""
        self._locker.forget(self)
