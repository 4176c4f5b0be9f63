"""How a record takes an upload over: a claim, in the transaction that saves the record.

``prepare`` refuses before anything is written; ``adopt`` claims when the record's row exists, and asks for promotion on
commit. Neither touches a storage. What a field's value remembers (``Claim``) lets a later save repeat a claim that a
rollback undid.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.core.exceptions import SuspiciousOperation
from django.db import IntegrityError, models, transaction
from django.db.models import Case, Q, Value, When
from django.utils import timezone

from async_uploads import journal, naming, promotion
from async_uploads.journal import AsyncTempFile
from async_uploads.storage.base import AsyncUploadStorage

logger = logging.getLogger("async_uploads.claims")


class InvalidUpload(ValueError, SuspiciousOperation):
    """A record was given something that is no upload for its field.

    Forms refuse it before. What comes through between their check and the save (a form sent twice at once) is answered
    by Django with 400 and a line in its security log, as every ``SuspiciousOperation``.
    """

    def __init__(self, message: str = "Invalid upload received") -> None:
        super().__init__(message)


class AlreadyClaimed(InvalidUpload):
    """Another record has taken the upload."""

    def __init__(self, message: str = "The upload belongs to another record already") -> None:
        super().__init__(message)


class IncompleteUpload(InvalidUpload):
    """The upload is not finished."""

    def __init__(self, message: str = "The upload is not finished") -> None:
        super().__init__(message)


@dataclass(frozen=True)
class Claim:
    """What a field's value remembers of its upload until promotion; it survives a rollback, pickle and copy."""

    key: str
    token: str


@dataclass
class _Pending:
    """One field of one save: what is claimed, and which name is to be promised."""

    field: Any  # Any: the model fields live above this module
    file: Any
    row: AsyncTempFile
    token: str
    held: str  # what the column holds now
    name: str  # what it shall hold


def is_pending(field: Any, file: Any) -> bool:
    """Say from memory alone whether a field's value names an upload that is not promoted."""
    if getattr(file, "claim", None) is not None:
        return True
    name = getattr(file, "name", file)
    storage = field.storage
    return isinstance(storage, AsyncUploadStorage) and isinstance(name, str) and storage.is_temporary_path(name)


def build_record(instance: models.Model, field: Any, using: str) -> str:
    """Return what ``AsyncTempFile.record`` says of a record: ``<database alias>:<primary key>``.

    Args:
        instance: The record.
        field: Its field; the key is that of the table which holds the field's column.
        using: The record's database alias.
    """
    return f"{using}:{_pk_text(instance, field)}"


def _pk_text(instance: models.Model, field: Any) -> str:
    value = getattr(instance, field.model._meta.pk.attname)
    if isinstance(value, tuple):  # composite
        return "" if None in value else json.dumps(value, default=str)
    return "" if value is None else str(value)


def _key_of(file: Any) -> str:
    return file.claim.key if file.claim is not None else file.name or ""


# Before the INSERT or UPDATE.


def look_up(files: Iterable[Any]) -> None:
    """Read the rows of pending files into memory, in one statement for all that have none there."""
    wanted = [file for file in files if file.row is None or file.row.key != _key_of(file)]
    if not wanted:
        return
    found = {row.key: row for row in journal.rows().filter(key__in={_key_of(file) for file in wanted})}
    for file in wanted:
        file.row = found.get(_key_of(file))


def prepare(instance: models.Model, field: Any, files: Sequence[Any]) -> None:
    """Refuse what may not be saved, before anything is written; called by the field's ``pre_save``.

    Args:
        instance: The record that is saved.
        field: The field.
        files: The values of all its pending fields, so that their rows are read in one statement.

    Raises:
        InvalidUpload: The field's value is no upload for it, belongs to another record, or is not complete.
    """
    look_up(files)
    try:
        _check_before_save(instance, field)
    except InvalidUpload:
        for file in files:  # what was read now must not refuse a later save
            file.row = None
        raise


def _check_before_save(instance: models.Model, field: Any) -> None:
    file = getattr(instance, field.attname)
    row = file.row
    if row is None and file.claim is not None and file.name != file.claim.key and _still_stored(field, file.name):
        file.claim = None  # promoted long ago: the cleanup has removed the row
        return
    require_acceptable(row, field)
    if not row.is_claimed:
        _name_by_key(file)
        return
    if not _is_ours(row, file, instance, field):
        raise AlreadyClaimed
    # The same record again, or the claim still stands.
    file.name = row.moved_to_location
    file.claim = None if row.is_promoted else Claim(row.key, row.claim)


def _name_by_key(file: Any) -> None:
    """Let the column hold the key until the claim that a rollback undid is repeated.

    In autocommit the INSERT commits before the claim: a name that nobody promises yet could not be read, nor found by
    the cleanup if the process died in between.
    """
    if file.claim is not None:
        file.name = file.claim.key


def require_named(file: Any) -> None:
    """See that a value which is written without ``prepare`` (``bulk_update``) does not name an undone claim."""
    if file.row is None and file.claim is not None and file.name != file.claim.key:
        row = journal.find_by_key(file.claim.key)
        if row is not None and row.claim != file.claim.token:
            _name_by_key(file)


def _still_stored(field: Any, name: str) -> bool:
    try:
        return bool(field.storage.exists(name))
    except (NotImplementedError, AttributeError):
        return True


def _is_ours(row: AsyncTempFile, file: Any, instance: models.Model, field: Any) -> bool:
    if file.claim is not None and file.claim.token == row.claim:
        return True
    pk_text = _pk_text(instance, field)
    return bool(pk_text) and row.record.partition(":")[2] == pk_text


def require_acceptable(row: AsyncTempFile | None, field: Any) -> None:
    """Check that an upload is one for this field, and complete.

    A signed upload to a storage that trusts its clients (the default ``verify_upload``) counts as complete.

    Raises:
        InvalidUpload, IncompleteUpload: It is not.
    """
    if row is None or row.is_expiring or row.is_partial or row.field_label != journal.get_field_label(field):
        logger.warning("Refused for %s: %s is no upload for this field", field, row.key if row else "the value")
        raise InvalidUpload
    trusts = field.storage.__class__.verify_upload is AsyncUploadStorage.verify_upload and not row.metadata
    if not row.is_finished and not trusts:
        raise IncompleteUpload


# After the INSERT or UPDATE, in the caller's transaction.


def adopt(instance: models.Model, fields: Sequence[Any], using: str, *, created: bool = False) -> None:
    """Claim the pending uploads of a record that was just written, and let its columns hold their permanent names.

    In one savepoint: one UPDATE of the journal, which checks the claims, and one of the record's columns. Promotion
    follows when the transaction commits. A claim that stands is left alone; one that a rollback undid is repeated.

    Args:
        instance: The record; its row exists.
        fields: Those of its async fields that were written.
        using: The database alias of the record.
        created: Whether the record is new, so that its columns held nothing before.

    Raises:
        InvalidUpload: As ``prepare``. The columns hold what they held before where that is known.
    """
    files = [getattr(instance, field.attname) for field in fields]
    try:
        for is_last in (False, True):
            look_up(files)
            pending = [each for each in map(partial(_plan, instance, using), fields) if each is not None]
            for file in files:
                file.row, file.is_unsettled = None, False
            if not pending or _claim(instance, pending, using):
                return
            if is_last:
                raise AlreadyClaimed
    except InvalidUpload:
        _restore_columns(instance, fields, using, created)
        raise


def _plan(instance: models.Model, using: str, field: Any) -> _Pending | None:
    """Decide what is to be done for one field; ``None`` for nothing."""
    file = getattr(instance, field.attname)
    if not is_pending(field, file):
        return None
    row = file.row
    require_acceptable(row, field)
    held = file.name
    if row.is_claimed:
        if not _is_ours(row, file, instance, field):
            raise AlreadyClaimed
        if row.moved_to_location != held:
            _update_columns(instance, {field: (held, row.moved_to_location)}, using)
            file.name = row.moved_to_location
        file.claim = None if row.is_promoted else Claim(row.key, row.claim)
        if file.claim is not None and using != journal.write_database():
            _promote_on_commit([(row, file)], using)  # the journal's commit does not tell whether the hook survived
        return None
    token = file.claim.token if file.claim is not None else secrets.token_hex(16)
    name = held if file.claim is not None and held != row.key else naming.choose_name(instance, field, row)
    return _Pending(field, file, row, token, held, name)


class _ClaimLost(Exception):
    """Somebody else claimed one of the uploads in between; the savepoint is to be rolled back."""


class _NameTaken(Exception):
    """The storage holds files with these names by now; the savepoint is to be rolled back."""

    def __init__(self, taken: list[_Pending]) -> None:
        super().__init__()
        self.taken = taken


class _ColumnChanged(Exception):
    """Somebody else wrote to the record in between; the savepoint is to be rolled back."""


def _claim(instance: models.Model, pending: list[_Pending], using: str) -> bool:
    """Promise names and write them; ``False`` when somebody else claimed one of the uploads in between."""
    promised: set[str] = set()
    for each in pending:  # two fields of this very save
        while _compute_digest(each) in promised:
            each.name = _another_name(each)
        promised.add(_compute_digest(each))
    for attempt in range(1, naming.NAME_ATTEMPTS + 1):
        try:
            with promotion.atomic(using):
                _write_claims(instance, pending, using)
            return True
        except _ClaimLost:
            return False
        except _ColumnChanged:
            logger.info("%r was changed by somebody else while its uploads were claimed", instance)
            return True
        except _NameTaken as error:
            for each in error.taken:
                each.name = _another_name(each)
        except IntegrityError:
            if attempt == naming.NAME_ATTEMPTS:
                raise
            # None is found where the other upload was promoted in between.
            for each in _find_taken(pending) or pending:
                each.name = _another_name(each)
    return False


def _write_claims(instance: models.Model, pending: list[_Pending], using: str) -> None:
    # The record before the journal, as a save in a transaction does: else two of them may wait for each other.
    changes = {each.field: (each.held, each.name) for each in pending if each.name != each.held}
    if changes and not _update_columns(instance, changes, using):
        raise _ColumnChanged
    if _update_journal(instance, pending, using) != len(pending):
        raise _ClaimLost
    # Whoever was promised a name before and has it by now has moved their file before their promise ended.
    taken = [each for each in pending if naming.is_taken(each.field.storage, each.name)]
    if taken:
        raise _NameTaken(taken)
    # In autocommit the hook runs when the block ends, so memory must be right before.
    for each in pending:
        each.file.name = each.name
        each.file.claim = Claim(each.row.key, each.token)
    _promote_on_commit([(each.row, each.file) for each in pending], using)


def _compute_digest(each: _Pending) -> str:
    # The storage as it is now: reads ask by that, and a project may have moved its files since the upload.
    return journal.compute_target_digest(each.field.storage.identity(), each.name)


def _another_name(each: _Pending) -> str:
    max_length = min(each.field.max_length or journal.KEY_LENGTH, journal.KEY_LENGTH)
    return naming.find_alternative(each.field.storage, each.name, max_length)


def _find_taken(pending: list[_Pending]) -> list[_Pending]:
    digests = {_compute_digest(each): each for each in pending}
    keys = [each.row.key for each in pending]
    taken = journal.rows().filter(target_digest__in=digests).exclude(key__in=keys)
    return [digests[digest] for digest in taken.values_list("target_digest", flat=True) if digest is not None]


def _update_journal(instance: models.Model, pending: list[_Pending], using: str) -> int:
    """Write the claims in one statement; returns how many stand."""
    free = Q()
    for each in pending:
        free |= Q(key=each.row.key) & (Q(claim=None) | Q(claim=each.token))
    now = timezone.now()
    columns: dict[str, Any] = {"last_activity": now}
    values: dict[str, Callable[[_Pending], str]] = {
        "record": lambda each: build_record(instance, each.field, using),
        "claim": lambda each: each.token,
        "moved_to_location": lambda each: each.name,
        "target_digest": _compute_digest,
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
    return journal.rows().filter(free, promoted_at=None).update(**columns)


def _owners_of(changes: Iterable[Any]) -> dict[Any, list[Any]]:
    """Group fields by the model whose table holds them (multi-table inheritance has several)."""
    grouped: dict[Any, list[Any]] = {}
    for field in changes:
        grouped.setdefault(field.model, []).append(field)
    return grouped


def _update_columns(instance: models.Model, changes: Mapping[Any, tuple[str | None, str]], using: str) -> bool:
    """Write new names where the columns hold the old ones; ``False`` when one does not."""
    complete = True
    for model, fields in _owners_of(changes).items():
        found = model._base_manager.using(using).filter(pk=getattr(instance, model._meta.pk.attname))
        found = found.filter(**{field.attname: changes[field][0] for field in fields})
        complete &= bool(found.update(**{field.attname: changes[field][1] for field in fields}))
    return complete


def _restore_columns(instance: models.Model, fields: Sequence[Any], using: str, created: bool) -> None:
    """Take a refused key out of the columns again, where the value before is known."""
    connection = transaction.get_connection(using)
    if connection.in_atomic_block:
        return  # the caller's transaction will be rolled back, or is theirs to keep
    for field in fields:
        file = getattr(instance, field.attname)
        previous = "" if created else file.previous
        if previous is not None and file.name and file.claim is None:
            _update_columns(instance, {field: (file.name, previous)}, using)


def _promote_on_commit(claimed: Sequence[tuple[AsyncTempFile, Any]], using: str) -> None:
    transaction.on_commit(partial(_promote_all, list(claimed)), using=using, robust=True)


def _promote_all(claimed: Sequence[tuple[AsyncTempFile, Any]]) -> None:
    for row, file in claimed:
        if promotion.promote(row) and file is not None and file.claim is not None and file.claim.key == row.key:
            file.name = row.moved_to_location if file.name != row.moved_to_location else file.name
            file.claim = None
