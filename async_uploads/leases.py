"""Leases in the journal's database: who writes to an upload, over all processes and servers.

A lease finds and wakes the holder; what keeps two writers apart is the store's own fence. So a lease that was lost (a
process slept, the database was away) does no harm, and ``release`` of it is no error.

Time is the database's clock throughout: both sides of every comparison are computed by its ``Now()``.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, cast

from django.db import DatabaseError, IntegrityError, close_old_connections, connections, models
from django.db.models import ExpressionWrapper, Q, QuerySet, Value
from django.db.models.functions import Coalesce, Now

from async_uploads import journal
from async_uploads.journal import AsyncTempFile, UploadState
from async_uploads.statements import Insert, Select, Update, slot
from tus_server.errors import StoreUnavailable
from tus_server.locks.base import Lease, Locker, Wanted

logger = logging.getLogger("async_uploads.leases")

#: A holder that has not renewed for so long has lost its lease.
EXPIRY = timedelta(seconds=30)
#: Seconds between two looks at the requests for release, and between two renewals.
LOOK_EVERY = 1.0
RENEW_EVERY = 10.0
#: For so many seconds after the last lease the keeper's thread stays: a thread for every PATCH would cost more than it.
STAY = 10.0
#: A holder whose keeper has not even looked at a request for so long is dead or frozen, and has lost its lease too.
ANSWER_WITHIN = timedelta(seconds=1.5)


def _from_now(duration: timedelta) -> ExpressionWrapper[Any]:
    return ExpressionWrapper(Now() + Value(duration), output_field=models.DateTimeField())


def _expiry() -> ExpressionWrapper[Any]:
    return _from_now(EXPIRY)


def _find_free() -> QuerySet[UploadState]:
    """Return the state of an upload, if nobody holds it."""
    unanswered = Q(release_requested_at__lte=_from_now(-ANSWER_WITHIN))
    free = Q(lease_token=None) | Q(lease_expires_at__lte=Now()) | unanswered
    return journal.states().filter(free, pk=_UPLOAD_ID)


_UPLOAD_ID = slot(AsyncTempFile, "upload_id")
_LEASE_TOKEN = slot(UploadState, "lease_token")
_UNASKED = {"release_requested": "", "release_requested_at": None}
_TAKE = Update(_find_free, lease_token=_LEASE_TOKEN, lease_expires_at=_expiry(), **_UNASKED)
_FIND_WITHOUT_STATE = Select(lambda: journal.rows().filter(upload_id=_UPLOAD_ID, state=None))
_CREATE = Insert(UploadState, lease_expires_at=_expiry())
_RELEASE = Update(
    lambda: journal.states().filter(lease_token=_LEASE_TOKEN), lease_token=None, lease_expires_at=None, **_UNASKED
)


@contextmanager
def translated() -> Iterator[None]:
    """Turn a database that is locked or away into a reason to come back."""
    try:
        yield
    except DatabaseError as error:
        raise StoreUnavailable("The database cannot be used right now.") from error


class DatabaseLease(Lease):
    """A lease whose requests for release are looked up by the process's keeper."""

    def __init__(self, token: str, keeper: LeaseKeeper) -> None:
        self.token = token
        self._keeper = keeper
        self.wanted_for: Wanted | None = None

    def wanted(self) -> Wanted | None:
        """Return what the keeper saw last; memory only."""
        return self.wanted_for

    def release(self) -> None:
        """Give the upload back; if the database is away, the lease ends by itself."""
        self._keeper.forget(self)
        try:
            _RELEASE.run(journal.write_database(), lease_token=self.token)
        except DatabaseError:
            logger.warning("A lease could not be released; it ends in %s", EXPIRY, exc_info=True)


class LeaseKeeper:
    """Renews the leases of this process and looks for requests; its thread ends some seconds after the last lease.

    Args:
        look_every, renew_every: Seconds.
    """

    def __init__(self, look_every: float = LOOK_EVERY, renew_every: float = RENEW_EVERY) -> None:
        self.look_every = look_every
        self.renew_every = renew_every
        self._leases: dict[str, DatabaseLease] = {}
        self._guard = threading.Lock()
        self._is_ending = threading.Event()
        self._thread: threading.Thread | None = None

    def keep(self, lease: DatabaseLease) -> None:
        """Look after a lease from now on."""
        with self._guard:
            self._leases[lease.token] = lease
            # After a fork there is no thread any more, whatever the parent had.
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="async-uploads-leases", daemon=True)
                self._thread.start()

    def forget(self, lease: DatabaseLease) -> None:
        """Leave a lease alone from now on."""
        with self._guard:
            self._leases.pop(lease.token, None)

    def join(self, timeout: float = 5) -> None:
        """End the thread and wait for that, when no leases are left (for tests)."""
        thread = self._thread
        if thread is not None:
            self._is_ending.set()
            thread.join(timeout)

    def look(self) -> None:
        """Read the requests for release of all leases in one statement, and answer new ones in another.

        The answer only says that somebody is there; the holder decides. A lost lease is wanted by its taker.
        """
        with self._guard:
            leases = dict(self._leases)
        found = dict(
            journal.states().filter(lease_token__in=list(leases)).values_list("lease_token", "release_requested")
        )
        for token, lease in leases.items():
            requested = found.get(token, "append")
            lease.wanted_for = cast(Wanted, requested) if requested else None
        asked = [token for token, requested in found.items() if requested]
        if asked:
            unanswered = journal.states().filter(lease_token__in=asked, release_requested_at__isnull=False)
            unanswered.update(lease_expires_at=_expiry(), release_requested_at=None)

    def renew(self) -> None:
        """Prolong all leases in one statement."""
        with self._guard:
            tokens = list(self._leases)
        journal.states().filter(lease_token__in=tokens).update(lease_expires_at=_expiry())

    def _run(self) -> None:
        renewed = needed = time.monotonic()
        try:
            while True:
                is_ending = self._is_ending.wait(self.look_every)
                self._is_ending.clear()
                with self._guard:
                    is_needed = bool(self._leases)
                    if not is_needed and (is_ending or time.monotonic() - needed >= STAY):
                        self._thread = None
                        return
                if not is_needed:
                    connections.close_all()
                    continue
                needed = time.monotonic()
                try:
                    close_old_connections()
                    if time.monotonic() - renewed >= self.renew_every:
                        self.renew()
                        renewed = time.monotonic()
                    self.look()
                except Exception:
                    # A database that is away for 30 s costs the leases, never the uploads.
                    logger.warning("The leases could not be looked at", exc_info=True)
        finally:
            connections.close_all()


#: The one of this process.
keeper = LeaseKeeper()


class DatabaseLocker(Locker):
    """Gives leases on uploads that have a row in the journal."""

    def __init__(self, lease_keeper: LeaseKeeper | None = None) -> None:
        self._keeper = lease_keeper or keeper

    def try_acquire(self, upload_id: str) -> Lease | None:
        """Take the upload if nobody holds it, without waiting; one statement once it has been leased before."""
        token = secrets.token_hex(16)
        with translated():
            if not self._take(upload_id, token) and not self._insert(upload_id, token):
                return None
        lease = DatabaseLease(token, self._keeper)
        self._keeper.keep(lease)
        return lease

    def _take(self, upload_id: str, token: str) -> bool:
        return bool(_TAKE.run(journal.write_database(), upload_id=upload_id, lease_token=token))

    def _insert(self, upload_id: str, token: str) -> bool:
        """Make the state of an upload that was never leased; ``False`` when it has one, or there is no such upload."""
        using = journal.write_database()
        if _FIND_WITHOUT_STATE.first(using, upload_id=upload_id) is None:
            return False
        try:
            _CREATE.run(using, UploadState(upload_id=upload_id, lease_token=token, lease_expires_at=_expiry()))
        except IntegrityError:
            return False
        return True

    def request_release(self, upload_id: str, wanted: Wanted) -> None:
        """Leave a request for the holder's keeper; ``terminate`` is not replaced by ``append``."""
        held = journal.state_of(upload_id).filter(lease_token__isnull=False)
        if wanted == "append":
            held = held.exclude(release_requested="terminate")
        with translated():
            held.update(release_requested=wanted, release_requested_at=Coalesce("release_requested_at", Now()))


__all__ = ["DatabaseLease", "DatabaseLocker", "LeaseKeeper", "keeper"]
