"""Leases: one writer an upload, who can be asked to let go.

Nothing here waits. A request that finds the upload taken asks for its release and tries again after a pause; the
holder looks at ``Lease.wanted`` at least once a second and decides: it lets go for a termination at once, and for
another append when it has received no byte for a second.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, TypeAlias

#: Why somebody wants the upload.
Wanted: TypeAlias = Literal["append", "terminate"]


class Lease(ABC):
    """The right to write to one upload, until released or lost with the process."""

    @abstractmethod
    def wanted(self) -> Wanted | None:
        """Return what somebody else wants the upload for, ``None`` when nobody does. Cheap: memory, or one stat."""

    @abstractmethod
    def release(self) -> None:
        """Give the upload back. A repeat changes nothing; a lease that was lost is no error."""


class Locker(ABC):
    """Gives leases, across everything that serves the same uploads."""

    @abstractmethod
    def try_acquire(self, upload_id: str) -> Lease | None:
        """Take the upload if it is free, without waiting. May raise ``StoreUnavailable``."""

    @abstractmethod
    def request_release(self, upload_id: str, wanted: Wanted) -> None:
        """Tell the holder, if there is one, that somebody wants the upload. ``terminate`` outweighs ``append``."""
