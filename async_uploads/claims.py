"""How a record takes an upload over: a claim, in the transaction that saves the record.

``prepare`` refuses before anything is written; ``adopt`` claims when the record's row exists, and asks for promotion on
commit. Neither touches a storage.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from functools import partial
from typing import Any

from django.db import IntegrityError, models, transaction

from async_uploads import journal, naming, promotion
from async_uploads.acceptance import (
    AlreadyClaimed,
    Claim,
    IncompleteUpload,
    InvalidUpload,
    is_ours,
    is_pending,
    look_up,
    require_acceptable,
)
from async_uploads.claim_rows import (
    Pending,
    compute_digest,
    find_taken,
    keep_claim,
    restore_columns,
    update_columns,
    update_journal,
)
from async_uploads.journal import AsyncTempFile

logger = logging.getLogger("async_uploads.claims")

# Before the INSERT or UPDATE.


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
    if not is_ours(row, file, instance, field):
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
        restore_columns(instance, fields, using, created)
        raise


def _plan(instance: models.Model, using: str, field: Any) -> Pending | None:
    """Decide what is to be done for one field; ``None`` for nothing."""
    file = getattr(instance, field.attname)
    if not is_pending(field, file):
        return None
    row = file.row
    require_acceptable(row, field)
    held = file.name
    if row.is_claimed:
        if not is_ours(row, file, instance, field) or not keep_claim(row):
            raise AlreadyClaimed
        if row.moved_to_location != held:
            update_columns(instance, {field: (held, row.moved_to_location)}, using)
            file.name = row.moved_to_location
        file.claim = None if row.is_promoted else Claim(row.key, row.claim)
        if file.claim is not None and using != journal.write_database():
            _promote_on_commit([(row, file)], using)  # the journal's commit does not tell whether the hook survived
        return None
    token = file.claim.token if file.claim is not None else secrets.token_hex(16)
    if row.is_in_place:
        name = row.object_name
    else:
        name = held if file.claim is not None and held != row.key else naming.choose_name(instance, field, row)
    return Pending(field, file, row, token, held, name)


class _ClaimLost(Exception):
    """Somebody else claimed one of the uploads in between; the savepoint is to be rolled back."""


class _NameTaken(Exception):
    """The storage holds files with these names by now; the savepoint is to be rolled back."""

    def __init__(self, taken: list[Pending]) -> None:
        super().__init__()
        self.taken = taken


class _ColumnChanged(Exception):
    """Somebody else wrote to the record in between; the savepoint is to be rolled back."""


def _claim(instance: models.Model, pending: list[Pending], using: str) -> bool:
    """Promise names and write them; ``False`` when somebody else claimed one of the uploads in between."""
    promised: set[str] = set()
    for each in pending:  # two fields of this very save
        while compute_digest(each) in promised:
            each.name = _another_name(each)
        promised.add(compute_digest(each))
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
            for each in find_taken(pending) or [each for each in pending if not each.row.is_in_place]:
                each.name = _another_name(each)
    return False


def _write_claims(instance: models.Model, pending: list[Pending], using: str) -> None:
    # The record before the journal, as a save in a transaction does: else two of them may wait for each other.
    changes = {each.field: (each.held, each.name) for each in pending if each.name != each.held}
    if changes and not update_columns(instance, changes, using):
        raise _ColumnChanged
    if update_journal(instance, pending, using) != len(pending):
        raise _ClaimLost
    # Whoever was promised a name before and has it by now has moved their file before their promise ended.
    # One that has its bytes there already was given a name of its own.
    moving = (each for each in pending if not each.row.is_in_place)
    taken = [each for each in moving if naming.is_taken(each.field.storage, each.name)]
    if taken:
        raise _NameTaken(taken)
    # In autocommit the hook runs when the block ends, so memory must be right before.
    for each in pending:
        each.file.name = each.name
        each.file.claim = Claim(each.row.key, each.token)
    _promote_on_commit([(each.row, each.file) for each in pending], using)


def _another_name(each: Pending) -> str:
    max_length = min(each.field.max_length or journal.KEY_LENGTH, journal.KEY_LENGTH)
    return naming.find_alternative(each.field.storage, each.name, max_length)


def _promote_on_commit(claimed: Sequence[tuple[AsyncTempFile, Any]], using: str) -> None:
    transaction.on_commit(partial(_promote_all, list(claimed)), using=using, robust=True)


def _promote_all(claimed: Sequence[tuple[AsyncTempFile, Any]]) -> None:
    for row, file in claimed:
        if promotion.promote(row) and file is not None and file.claim is not None and file.claim.key == row.key:
            file.name = row.moved_to_location if file.name != row.moved_to_location else file.name
            file.claim = None


__all__ = ["AlreadyClaimed", "Claim", "IncompleteUpload", "InvalidUpload", "adopt", "is_pending", "prepare"]
