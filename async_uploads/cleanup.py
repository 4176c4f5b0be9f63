"""Finish what nobody finished, and remove what nobody wants: the work of ``cleanup_async_temp_files``.

Rules for editors: only what a row of ours names is touched. A claimed or referenced upload is never removed, one
that is being written to neither. Every step is a conditional UPDATE first, so that two runs and live traffic bear
each other.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import connections, models, router, transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from async_uploads import claims, conf, journal, promotion, signals
from async_uploads.claims import InvalidUpload
from async_uploads.journal import EXPIRED, AsyncTempFile
from async_uploads.registry import registries
from async_uploads.storage.base import AsyncUploadStorage

logger = logging.getLogger("async_uploads.cleanup")

BATCH = 200
#: So long another run leaves alone what this one is promoting; after a crash it waits so long (reads work).
TAKEN = timedelta(minutes=10)
#: Failed so often, a promotion is worth a person's look; it is tried further.
MANY_ATTEMPTS = 5


@dataclass
class Report:
    """What a run did, or would do.

    Attributes:
        promoted: Claimed uploads that got their permanent name.
        returned: Claims that no record held any more, given back.
        adopted: Keys that stood in a column and were claimed for their record.
        failed: What was tried and has to be tried again.
        expired: Uploads that were removed, with their bytes.
        removed: Rows of files promoted long ago.
        problems: What needs a person, one sentence each.
    """

    promoted: int = 0
    returned: int = 0
    adopted: int = 0
    failed: int = 0
    expired: int = 0
    removed: int = 0
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON-able values."""
        return asdict(self)


@dataclass(frozen=True)
class _Run:
    report: Report
    now: datetime
    age: timedelta
    dry: bool


def reconcile(age: timedelta = timedelta(hours=48), *, dry_run: bool = False, now: datetime | None = None) -> Report:
    """Finish, adopt, retry, expire and forget uploads; may be repeated and interrupted at any time.

    Args:
        age: How long finished uploads that nobody took over, and rows of promoted files, are kept.
        dry_run: Count only.
        now: The time to go by.
    """
    run = _Run(Report(), now or timezone.now(), age, dry_run)
    with promotion.in_background():
        for step in (_finish_claimed, _adopt_columns, _expire, _forget_promoted, _collect_problems):
            step(run)
    return run.report


def _batches(found: models.QuerySet[AsyncTempFile]) -> Iterator[list[AsyncTempFile]]:
    """Yield rows in batches by primary key; rows may be changed or deleted meanwhile."""
    last = 0
    while batch := list(found.filter(pk__gt=last).order_by("pk")[:BATCH]):
        yield batch
        last = batch[-1].pk


def _take(batch: Sequence[AsyncTempFile], condition: Q, **columns: Any) -> list[AsyncTempFile]:
    """Write columns to the rows of a batch for which a condition (still) holds, and return them as they are then.

    Rows that somebody holds at this moment (a save that has not committed, another run) are left out where the database
    can skip them, else waited for. The condition has no joins: PostgreSQL looks at it again after waiting.
    """
    using, pks = journal.write_database(), [row.pk for row in batch]
    if connections[using].features.has_select_for_update_skip_locked:
        with transaction.atomic(using=using):
            free = journal.rows().filter(condition, pk__in=pks).select_for_update(skip_locked=True)
            taken = list(free.values_list("pk", flat=True))
            journal.rows().filter(pk__in=taken).update(**columns)
    else:
        taken = [pk for pk in pks if journal.rows().filter(condition, pk=pk).update(**columns)]
    return list(journal.rows().filter(pk__in=taken).order_by("pk"))


def _finish_claimed(run: _Run) -> None:
    """Promote what is claimed: its process died, or it failed and its time has come again."""
    claimed = Q(promoted_at=None, claim__isnull=False) & ~Q(claim=EXPIRED)
    due = claimed & (Q(retry_at=None) | Q(retry_at__lte=run.now))
    for batch in _batches(journal.rows().filter(due)):
        for row in batch if run.dry else _take(batch, due, retry_at=timezone.now() + TAKEN):
            attempts = row.attempts
            if run.dry or promotion.promote(row):
                run.report.promoted += 1
            elif row.attempts > attempts:
                run.report.failed += 1
            else:
                run.report.returned += 1


# Keys that stand in columns.


def _all_fields() -> list[Any]:
    return [known for registry in list(registries) for known in registry.fields_by_id.values()]


def _aliases(model: type[models.Model]) -> list[str]:
    """Return the databases that hold a model's table, the one that is written to first."""
    first = router.db_for_write(model)
    others = [alias for alias in connections if alias != first and router.allow_migrate_model(alias, model)]
    table = model._meta.db_table
    return [first, *(alias for alias in others if table in connections[alias].introspection.table_names())]


def _adopt_columns(run: _Run) -> None:
    """Claim the uploads whose keys stand in columns: bulk operations, or a process that died in between."""
    for each in _all_fields():
        if not isinstance(each.storage, AsyncUploadStorage):
            continue
        holds_key = {f"{each.attname}__startswith": f"{each.storage.temporary_key_prefix}/"}
        try:
            for alias, pk, key in iterate_records(each, holds_key):
                _adopt(run, each, alias, pk, key)
        except Exception as error:
            run.report.problems.append(f"{each} could not be searched: {error!r}")


def _adopt(run: _Run, each: Any, alias: str, pk: object, key: str) -> bool:
    """Adopt one key; what refuses it needs a person."""
    if run.dry:
        run.report.adopted += 1
        return True
    try:
        with promotion.atomic(alias):
            instance = _lock(each.model._base_manager.using(alias).filter(pk=pk), alias).first()
            if instance is None or getattr(instance, each.attname).name != key:
                return True  # somebody is changing it at this moment, or has
            claims.adopt(instance, [each], alias)
    except InvalidUpload as error:
        run.report.problems.append(f"{each.model._meta.label}(pk={pk!r}).{each.name} holds the key {key}: {error}")
        return False
    except Exception as error:
        logger.exception("Could not adopt %s for %s(pk=%r)", key, each, pk)
        run.report.problems.append(f"{each.model._meta.label}(pk={pk!r}).{each.name} holds the key {key}: {error!r}")
        return False
    run.report.adopted += 1
    return True


def _lock(records: models.QuerySet[Any], alias: str) -> models.QuerySet[Any]:
    """Let records that somebody else is changing be left out, where the database can do that."""
    features = connections[alias].features
    if not features.has_select_for_update_skip_locked:
        return records
    return records.select_for_update(skip_locked=True, of=("self",) if features.has_select_for_update_of else ())


def iterate_records(each: Any, condition: dict[str, Any]) -> Iterator[tuple[str, object, str]]:
    """Yield what ``find_records`` returns, in batches by primary key; the records may be changed meanwhile."""
    seen: set[tuple[object, str]] = set()
    for alias in _aliases(each.model):
        records = each.model._base_manager.using(alias).filter(**condition).order_by("pk")
        batch = list(records.values_list("pk", each.attname)[:BATCH])
        while batch:
            for pk, key in batch:
                if (pk, key) not in seen:
                    yield alias, pk, key
            seen.update(batch)
            batch = list(records.filter(pk__gt=batch[-1][0]).values_list("pk", each.attname)[:BATCH])


def find_records(each: Any, condition: dict[str, Any]) -> list[tuple[str, object, str]]:
    """Return (alias, primary key, column) of the records of a field's model that a condition selects.

    A record that several databases have (a replica) is returned once, from the one that is written to.
    """
    return list(iterate_records(each, condition))


# Expiry.


def _has_expired(now: datetime, age: timedelta) -> Q:
    """Return the condition of expiry, on columns of the upload's own row.

    Unfinished and partial ones expire at ``expires_at``, other finished ones ``age`` after their last activity.
    """
    silent = now - max(age, conf.get_duration("UPLOAD_LIFETIME"))
    unfinished = (Q(finished_at=None) | Q(is_partial=True)) & (
        Q(expires_at__lte=now) | Q(expires_at=None, last_activity__lte=silent)
    )
    finished = Q(finished_at__isnull=False, is_partial=False, last_activity__lte=now - age)
    return (Q(claim=EXPIRED) | Q(claim=None) & (unfinished | finished)) & Q(promoted_at=None)


def find_expired(now: datetime, age: timedelta) -> models.QuerySet[AsyncTempFile]:
    """Return the uploads that nobody claimed in time and nobody writes to."""
    idle = Q(state=None) | Q(state__lease_token=None) | Q(state__lease_expires_at__lte=Now())
    return journal.rows().filter(_has_expired(now, age), idle)


def _expire(run: _Run) -> None:
    for batch in _batches(find_expired(run.now, run.age)):
        by_field: dict[str, list[AsyncTempFile]] = {}
        for row in batch:
            by_field.setdefault(row.field_label, []).append(row)
        for label, same_field in by_field.items():
            each = same_field[0].get_field()
            if each is None:
                names = ", ".join(row.key for row in same_field[:3])
                run.report.problems.append(f"The field {label} of {len(same_field)} expired uploads is gone: {names}")
                continue
            try:
                _expire_of_field(run, each, same_field)
            except Exception as error:
                logger.exception("Could not expire uploads of %s", label)
                run.report.problems.append(f"Uploads of {label} could not be expired: {error!r}")


def _expire_of_field(run: _Run, each: Any, expired: Sequence[AsyncTempFile]) -> None:
    """Remove uploads of one field; asks the column first: a referenced one is adopted instead."""
    pks = [row.pk for row in expired]
    if not run.dry:
        # A writer that came meanwhile is kept apart by the storage's lock.
        expired = _take(expired, _has_expired(run.now, run.age), claim=EXPIRED)
    references = find_records(each, {f"{each.attname}__in": [row.key for row in expired]})
    referenced = {key for _, _, key in references}
    if referenced and not run.dry:
        journal.rows().filter(pk__in=pks, claim=EXPIRED, key__in=referenced).update(claim=None)
    for alias, pk, key in references:
        _adopt(run, each, alias, pk, key)
    for row in expired:
        if row.key not in referenced:
            _remove(run, each, row)


def _remove(run: _Run, each: Any, row: AsyncTempFile) -> None:
    if run.dry:
        run.report.expired += 1
        return
    try:
        if isinstance(each.storage, AsyncUploadStorage) and not each.storage.discard_upload(row):
            journal.rows().filter(pk=row.pk, claim=EXPIRED).update(claim=None)  # somebody writes to it
            return
    except Exception as error:
        logger.exception("Could not remove the expired upload %s", row.key)
        run.report.failed += 1
        journal.rows().filter(pk=row.pk).update(attempts=models.F("attempts") + 1, error=repr(error)[:4000])
        return
    try:
        with transaction.atomic(using=journal.write_database()):
            is_last = bool(journal.rows().filter(pk=row.pk, claim=EXPIRED).delete()[0])
            if is_last:
                signals.send(signals.upload_expired, row)
    except Exception:
        logger.exception("Could not record that the upload %s has expired", row.key)
        run.report.failed += 1
        return
    run.report.expired += is_last


# The end.


def _forget_promoted(run: _Run) -> None:
    """Remove the rows that were kept to recognise a form submitted twice."""
    for batch in _batches(journal.rows().filter(promoted_at__lte=run.now - run.age)):
        if not run.dry:
            _, counts = journal.rows().filter(pk__in=[row.pk for row in batch]).delete()
            run.report.removed += counts.get(AsyncTempFile._meta.label, 0)
        else:
            run.report.removed += len(batch)


def _collect_problems(run: _Run) -> None:
    """Report what fails again and again."""
    for row in journal.rows().filter(promoted_at=None, attempts__gte=MANY_ATTEMPTS).order_by("pk")[:BATCH]:
        lines = row.error.strip().splitlines() or ["unknown"]
        run.report.problems.append(f"{row.key} failed {row.attempts} times: {lines[-1]}")
