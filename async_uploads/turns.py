"""Whose turn it is: until ``retry_at`` a claimed upload belongs to the process that claimed it, or took it later.

That process alone moves the file or returns it. Who was killed between the move and its record can so not leave the
file where no row names it: nobody lets the promised name go before the turn is over, by when a killed process moves
nothing any more. The claim's own UPDATE writes the turn down; another one is needed only where a move begins late.

Clocks are no fence against a process that froze and thaws. So ``keep`` is asked while the file is held, where the
storage has locks that die with their holder; elsewhere a move that comes too late undoes itself, and the row remembers
the name, so that the storage finds what is left when the upload expires.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta

from django.utils import timezone

from async_uploads import journal
from async_uploads.journal import AsyncTempFile
from async_uploads.storage.base import AsyncUploadStorage

logger = logging.getLogger("async_uploads.promotion")

#: So long a turn lasts; after a crash an upload waits until it is over (reads work).
TURN = timedelta(minutes=10)
#: And as long again as the copy takes at so many bytes per second, the slowest that the storages wait for.
SLOWEST_COPY = 4 * 1024 * 1024


def plan(*lengths: int | None) -> datetime:
    """Return until when files of these lengths in bytes are moved or returned by whoever begins now."""
    return timezone.now() + TURN + timedelta(seconds=sum(length or 0 for length in lengths) / SLOWEST_COPY)


def keep(row: AsyncTempFile) -> bool:
    """See that nobody else moves or returns the file while this process does; no statement where time is left.

    Clocks of two machines may differ by as much as is left at least: half of ``TURN``.

    Args:
        row: As it was when this process claimed or took it; updated in place.

    Returns:
        Whether it is this process's turn. Else the file is to be left alone.
    """
    until = plan(row.length)
    if row.retry_at is not None and row.retry_at >= until - TURN / 2:
        return True
    found = journal.rows().filter(pk=row.pk, claim=row.claim, promoted_at=None, retry_at=row.retry_at)
    if not found.update(retry_at=until):
        logger.info("%s is somebody else's by now", row.key)
        return False
    row.retry_at = until
    return True


def end(row: AsyncTempFile) -> None:
    """Let a worker or the cleanup take the upload now."""
    if journal.rows().filter(pk=row.pk, claim=row.claim, retry_at=row.retry_at).update(retry_at=None):
        row.retry_at = None


def hold(row: AsyncTempFile, storage: AsyncUploadStorage) -> AbstractContextManager[None]:
    """Hold an upload's file, where its storage can; what lies at its permanent name already is never moved."""
    return nullcontext() if row.is_in_place else storage.hold_source(row.place, row.moved_to_location)
