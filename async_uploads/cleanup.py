"""Finish what nobody finished, and remove what nobody wants: the work of ``cleanup_async_temp_files``.

Rules for editors: only what a row of ours names is touched. A claimed or referenced upload is never removed, one
that is being written to neither. Every step is a conditional UPDATE first, so that two runs and live traffic bear
each other.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

from django.db import OperationalError, connections
from django.db.models import Q
from django.utils import timezone

from async_uploads import expiry, journal, promotion, references, turns
from async_uploads.batches import BATCH, Report, Run, iterate_batches, take
from async_uploads.journal import EXPIRED, AsyncTempFile

logger = logging.getLogger("async_uploads.cleanup")

#: Failed so often, a promotion is worth a person's look; it is tried further.
MANY_ATTEMPTS = 5


def reconcile(age: timedelta = timedelta(hours=48), *, dry_run: bool = False, now: datetime | None = None) -> Report:
    """Finish, adopt, retry, expire and forget uploads; may be repeated and interrupted at any time.

    Args:
        age: How long finished uploads that nobody took over, and rows of promoted files, are kept.
        dry_run: Count only.
        now: The time to go by.
    """
    run = Run(Report(), now or timezone.now(), age, dry_run)
    with promotion.in_background():
        for step in (
            _finish_claimed,
            references.adopt_columns,
            expiry.expire,
            _forget_sources,
            _forget_promoted,
            _collect_problems,
        ):
            try:
                step(run)
            except OperationalError:  # a deadlock, or somebody held a row for too long: the next run goes on
                if not connections[journal.write_database()].is_usable():
                    raise
                logger.exception("A part of the cleanup is left to the next run")
                run.report.failed += 1
    return run.report


def finish_claimed(pk: int) -> bool:
    """Promote one upload now, however large, if it is claimed and nobody else is at it; may be repeated.

    Args:
        pk: Of its row.
    """
    due = _is_due(timezone.now())
    with promotion.in_background():
        return any(promotion.promote(row) for row in _take_each(journal.rows().filter(due, pk=pk), due))


def _is_due(now: datetime) -> Q:
    claimed = Q(promoted_at=None, claim__isnull=False) & ~Q(claim=EXPIRED)
    return claimed & (Q(retry_at=None) | Q(retry_at__lte=now))


def _take_each(found: Iterable[AsyncTempFile], due: Q) -> Iterator[AsyncTempFile]:
    """Yield uploads one by one, each taken just before its turn, so that it is not anybody else's then."""
    for row in found:
        yield from take([row], due, retry_at=turns.plan(row.length))


def _finish_claimed(run: Run) -> None:
    """Promote what is claimed: its process died, or it failed and its time has come again."""
    due = _is_due(run.now)
    for batch in iterate_batches(journal.rows().filter(due)):
        for row in batch if run.dry else _take_each(batch, due):
            attempts = row.attempts
            if run.dry or promotion.promote(row):
                run.report.promoted += 1
            elif row.attempts > attempts:
                run.report.failed += 1
            elif not row.is_claimed:
                run.report.returned += 1
            # Else it waits: for the commit of another database, or somebody else is at it.


def _forget_sources(run: Run) -> None:
    """Remove what copies left at their uploads' keys, when no URL that was signed for them is valid any more."""
    kept = journal.rows().filter(promoted_at__lte=run.now, source_removed_at=None).select_related("state")
    for batch in iterate_batches(kept):
        for each, rows in references.group_by_field(run, batch, "promoted"):
            lifetime = each.storage.source_lifetime()
            for row in rows:
                if lifetime is None or row.promoted_at <= run.now - lifetime:
                    _forget_source(run, each, row)


def _forget_source(run: Run, each: Any, row: AsyncTempFile) -> None:
    if not run.dry:
        try:
            each.storage.forget_source(row)
        except Exception as error:
            logger.exception("Could not remove the source of %s", row.moved_to_location)
            run.report.failed += 1
            journal.rows().filter(pk=row.pk).update(error=repr(error)[:4000])
            return
        found = journal.rows().filter(pk=row.pk, source_removed_at=None)
        if not found.update(source_removed_at=timezone.now(), error=""):
            return
    run.report.sources += 1


def _forget_promoted(run: Run) -> None:
    """Remove the rows that were kept to recognise a form submitted twice."""
    done = journal.rows().filter(promoted_at__lte=run.now - run.age, source_removed_at__isnull=False)
    for batch in iterate_batches(done):
        if not run.dry:
            _, counts = journal.rows().filter(pk__in=[row.pk for row in batch]).delete()
            run.report.removed += counts.get(AsyncTempFile._meta.label, 0)
        else:
            run.report.removed += len(batch)


def _collect_problems(run: Run) -> None:
    """Report what fails again and again."""
    for row in journal.rows().filter(promoted_at=None, attempts__gte=MANY_ATTEMPTS).order_by("pk")[:BATCH]:
        lines = row.error.strip().splitlines() or ["unknown"]
        run.report.problems.append(f"{row.key} failed {row.attempts} times: {lines[-1]}")
