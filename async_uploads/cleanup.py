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

from django.db import connections, models, router
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from async_uploads import claims, conf, journal, promotion
from async_uploads.claims import InvalidUpload
from async_uploads.journal import EXPIRED, AsyncTempFile
from async_uploads.registry import registries
from async_uploads.storage.base import AsyncUploadStorage

logger = logging.getLogger("async_uploads.cleanup")

BATCH = 200
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
    for step in (_finish_claimed, _adopt_columns, _expire, _forget_promoted, _collect_problems):
        step(run)
    return run.report


def _batches(found: models.QuerySet[AsyncTempFile]) -> Iterator[list[AsyncTempFile]]:
    """Yield rows in batches by primary key; rows may be changed or deleted meanwhile."""
    last = 0
    while batch := list(found.filter(pk__gt=last).order_by("pk")[:BATCH]):
        yield batch
        last = batch[-1].pk


def _finish_claimed(run: _Run) -> None:
    """Promote what is claimed: its process died, or it failed and its time has come again."""
    due = journal.rows().filter(promoted_at=None).exclude(Q(claim=None) | Q(claim=EXPIRED))
    for batch in _batches(due.filter(Q(retry_at=None) | Q(retry_at__lte=run.now))):
        for row in batch:
            if run.dry or promotion.promote(row):
                run.report.promoted += 1
            elif row.retry_at is not None and row.retry_at > run.now:
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
            found = find_records(each, holds_key)
        except Exception as error:
            run.report.problems.append(f"{each} could not be searched: {error!r}")
            continue
        for alias, pk, key in found:
            _adopt(run, each, alias, pk, key)


def _adopt(run: _Run, each: Any, alias: str, pk: object, key: str) -> bool:
    """Adopt one key; what refuses it needs a person."""
    if run.dry:
        run.report.adopted += 1
        return True
    instance = each.model._base_manager.using(alias).filter(pk=pk).first()
    if instance is None or getattr(instance, each.attname).name != key:
        return True
    try:
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


def find_records(each: Any, condition: dict[str, Any]) -> list[tuple[str, object, str]]:
    """Return (alias, primary key, column) of the records of a field's model that a condition selects.

    A record that several databases have (a replica) is returned once, from the one that is written to.
    """
    found: dict[tuple[object, str], str] = {}
    for alias in _aliases(each.model):
        records = each.model._base_manager.using(alias).filter(**condition)
        for pk, key in records.values_list("pk", each.attname):
            found.setdefault((pk, key), alias)
    return [(alias, pk, key) for (pk, key), alias in found.items()]


# Expiry.


def find_expired(now: datetime, age: timedelta) -> models.QuerySet[AsyncTempFile]:
    """Return the uploads that nobody claimed in time and nobody writes to.

    Unfinished ones expire at ``expires_at``, finished ones ``age`` after their last activity.
    """
    silent = now - max(age, conf.get_duration("UPLOAD_LIFETIME"))
    unfinished = Q(finished_at=None) & (Q(expires_at__lte=now) | Q(expires_at=None, last_activity__lte=silent))
    finished = Q(finished_at__isnull=False, last_activity__lte=now - age)
    idle = Q(state=None) | Q(state__lease_token=None) | Q(state__lease_expires_at__lte=Now())
    return journal.rows().filter(Q(claim=EXPIRED) | Q(claim=None) & (unfinished | finished), idle, promoted_at=None)


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
        find_expired(run.now, run.age).filter(pk__in=pks).update(claim=EXPIRED)
        expired = list(journal.rows().filter(pk__in=pks, claim=EXPIRED))
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
    journal.rows().filter(pk=row.pk, claim=EXPIRED).delete()
    run.report.expired += 1


# The end.


def _forget_promoted(run: _Run) -> None:
    """Remove the rows that were kept to recognise a form submitted twice."""
    for batch in _batches(journal.rows().filter(promoted_at__lte=run.now - run.age)):
        if not run.dry:
            journal.rows().filter(pk__in=[row.pk for row in batch]).delete()
        run.report.removed += len(batch)


def _collect_problems(run: _Run) -> None:
    """Report what fails again and again."""
    for row in journal.rows().filter(promoted_at=None, attempts__gte=MANY_ATTEMPTS).order_by("pk")[:BATCH]:
        lines = row.error.strip().splitlines() or ["unknown"]
        run.report.problems.append(f"{row.key} failed {row.attempts} times: {lines[-1]}")
