"""The statements of a claim: one UPDATE of the journal for all its uploads, and one of the record's columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import models, transaction
from django.db.models import Case, Q, Value, When
from django.utils import timezone

from async_uploads import journal, promotion, turns
from async_uploads.acceptance import pk_text
from async_uploads.journal import AsyncTempFile


@dataclass
class Pending:
    """One field of one save: what is claimed, and which name is to be promised."""

    field: Any  # Any: the model fields live above this module
    file: Any
    row: AsyncTempFile
    token: str
    held: str  # what the column holds now
    name: str  # what it shall hold


def build_record(instance: models.Model, field: Any, using: str) -> str:
    """Return what ``AsyncTempFile.record`` says of a record: ``<database alias>:<primary key>``.

    Args:
        instance: The record.
        field: Its field; the key is that of the table which holds the field's column.
        using: The record's database alias.
    """
    return f"{using}:{pk_text(instance, field)}"


def compute_digest(each: Pending) -> str:
    """Return what keeps others from the name."""
    # The storage as it is now: reads ask by that, and a project may have moved its files since the upload.
    return journal.compute_target_digest(each.field.storage.identity(), each.name)


def find_taken(pending: list[Pending]) -> list[Pending]:
    """Return those whose names are promised to other uploads."""
    digests = {compute_digest(each): each for each in pending}
    keys = [each.row.key for each in pending]
    taken = journal.rows().filter(target_digest__in=digests).exclude(key__in=keys)
    return [digests[digest] for digest in taken.values_list("target_digest", flat=True) if digest is not None]


def update_journal(instance: models.Model, pending: list[Pending], using: str) -> int:
    """Write the claims in one statement; returns how many stand."""
    free = Q()
    for each in pending:
        free |= Q(key=each.row.key) & (Q(claim=None) | Q(claim=each.token))
    now = timezone.now()
    until = turns.plan(*(each.row.length for each in pending))
    columns: dict[str, Any] = {"last_activity": now, "retry_at": until}
    values: dict[str, Callable[[Pending], str]] = {
        "record": lambda each: build_record(instance, each.field, using),
        "claim": lambda each: each.token,
        "moved_to_location": lambda each: each.name,
        "target_digest": compute_digest,
    }
    for column, value in values.items():
        if len(pending) == 1:
            columns[column] = value(pending[0])
        else:
            columns[column] = Case(
                *(When(key=each.row.key, then=Value(value(each))) for each in pending),
                output_field=models.CharField(),
            )
    for each in pending:
        each.row.claim, each.row.moved_to_location = each.token, each.name
        each.row.record, each.row.last_activity = build_record(instance, each.field, using), now
        each.row.retry_at = until
    return journal.rows().filter(free, promoted_at=None).update(**columns)


def keep_claim(row: AsyncTempFile) -> bool:
    """See that a claim which is not promoted cannot be given back before this transaction ends, nor has been."""
    if row.is_promoted:
        return True
    return bool(journal.rows().filter(pk=row.pk, claim=row.claim).update(last_activity=timezone.now()))


def _owners_of(changes: Iterable[Any]) -> dict[Any, list[Any]]:
    """Group fields by the model whose table holds them (multi-table inheritance has several)."""
    grouped: dict[Any, list[Any]] = {}
    for field in changes:
        grouped.setdefault(field.model, []).append(field)
    return grouped


def update_columns(instance: models.Model, changes: Mapping[Any, tuple[str, str]], using: str) -> bool:
    """Write new names where the columns hold the old ones; ``False`` when one does not."""
    complete = True
    for model, fields in _owners_of(changes).items():
        found = model._base_manager.using(using).filter(pk=getattr(instance, model._meta.pk.attname))
        found = found.filter(*(promotion.holds(field, changes[field][0], using) for field in fields))
        complete &= bool(found.update(**{field.attname: changes[field][1] for field in fields}))
    return complete


def restore_columns(instance: models.Model, fields: Sequence[Any], using: str, created: bool) -> None:
    """Take a refused key out of the columns again, where the value before is known."""
    connection = transaction.get_connection(using)
    if connection.in_atomic_block:
        return  # the caller's transaction will be rolled back, or is theirs to keep
    for field in fields:
        file = getattr(instance, field.attname)
        previous = "" if created else file.previous
        if previous is not None and file.name and file.claim is None:
            update_columns(instance, {field: (file.name, previous)}, using)
