"""Uploads that nobody took over in time: the column is asked first, then the bytes go, then the row.

Rules for editors: a claimed or referenced upload is never removed, one that is being written to neither, and nothing in
a storage that is not the row's own. Parts of a multipart upload may come in after it was aborted, so the row of one
stays for an hour and is discarded once more.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import models, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from async_uploads import conf, journal, manifests, references, signals
from async_uploads.batches import Run, iterate_batches, take
from async_uploads.journal import EXPIRED, AsyncTempFile

logger = logging.getLogger("async_uploads.cleanup")

#: How long after the first time an upload with a multipart is discarded again.
DISCARD_AGAIN = timedelta(hours=1)


def has_expired(now: datetime, age: timedelta) -> Q:
    """Return the condition of expiry, on columns of the upload's own row.

    Unfinished and partial ones expire at ``expires_at``, other finished ones ``age`` after their last activity.
    """
    silent = now - max(age, conf.get_duration("UPLOAD_LIFETIME"))
    unfinished = (Q(finished_at=None) | Q(is_partial=True)) & (
        Q(expires_at__lte=now) | Q(expires_at=None, last_activity__lte=silent)
    )
    finished = Q(finished_at__isnull=False, is_partial=False, last_activity__lte=now - age)
    expiring = Q(claim=EXPIRED) & (Q(discarded_at=None) | Q(discarded_at__lte=now - DISCARD_AGAIN))
    return (expiring | Q(claim=None) & (unfinished | finished)) & Q(promoted_at=None)


def find_expired(now: datetime, age: timedelta) -> models.QuerySet[AsyncTempFile]:
    """Return the uploads that nobody claimed in time and nobody writes to."""
    idle = Q(state=None) | Q(state__lease_token=None) | Q(state__lease_expires_at__lte=Now())
    return journal.rows().filter(has_expired(now, age), idle)


def expire(run: Run) -> None:
    """Remove what has expired."""
    for batch in iterate_batches(find_expired(run.now, run.age)):
        for each, same_field in references.group_by_field(run, batch, "expired"):
            try:
                _expire_of_field(run, each, same_field)
            except Exception as error:
                logger.exception("Could not expire uploads of %s", each)
                run.report.problems.append(
                    f"Uploads of {journal.get_field_label(each)} could not be expired: {error!r}"
                )


def _expire_of_field(run: Run, each: Any, expired: Sequence[AsyncTempFile]) -> None:
    """Remove uploads of one field; asks the column first: a referenced one is adopted instead."""
    pks = [row.pk for row in expired]
    if not run.dry:
        # A writer that came meanwhile is kept apart by the storage's lock.
        expired = take(expired, has_expired(run.now, run.age), claim=EXPIRED)
    found = references.find_records(each, {f"{each.attname}__in": [row.key for row in expired]})
    referenced = {key for _, _, key in found}
    if referenced and not run.dry:
        journal.rows().filter(pk__in=pks, claim=EXPIRED, key__in=referenced, discarded_at=None).update(claim=None)
    for alias, pk, key in found:
        references.adopt(run, each, alias, pk, key)
    for row in expired:
        if row.key not in referenced:
            _remove(run, each, row)


def _remove(run: Run, each: Any, row: AsyncTempFile) -> None:
    if run.dry:
        run.report.expired += row.discarded_at is None
        return
    try:
        if not each.storage.discard_upload(row):
            journal.rows().filter(pk=row.pk, claim=EXPIRED, discarded_at=None).update(claim=None)  # it is written to
            return
    except Exception as error:
        logger.exception("Could not remove the expired upload %s", row.key)
        run.report.failed += 1
        journal.rows().filter(pk=row.pk).update(attempts=models.F("attempts") + 1, error=repr(error)[:4000])
        return
    try:
        run.report.expired += _record(row)
    except Exception:
        logger.exception("Could not record that the upload %s has expired", row.key)
        run.report.failed += 1


def _record(row: AsyncTempFile) -> bool:
    """Delete the row of an upload whose bytes are gone, or keep it for the second time; tell the receivers once."""
    found = journal.rows().filter(pk=row.pk, claim=EXPIRED)
    if row.discarded_at is not None:
        found.delete()
        return False
    with transaction.atomic(using=journal.write_database()):
        if manifests.find_multipart_id(row) is not None:
            is_first = bool(found.filter(discarded_at=None).update(discarded_at=timezone.now()))
        else:
            is_first = bool(found.delete()[0])
        if is_first:
            signals.send(signals.upload_expired, row)
    return is_first
