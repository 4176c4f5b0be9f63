"""After the commit: a claimed upload gets its permanent name in the storage.

Rules for editors:

* The database commits first, storage follows: nothing here runs for a record that is not committed.
* Every step may be repeated after a crash at any line; ``cleanup`` repeats what nobody finished.
* Nothing raised by ``promote`` leaves it: failures are recorded in the row, logged, and tried again later.
* One process at a time moves a file or returns it: ``turns`` says why, and whose turn it is.
"""

from __future__ import annotations

import logging
import secrets
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from datetime import timedelta
from functools import partial
from typing import Any

from django.db import connections, transaction
from django.db.models import Exists, F, Q
from django.utils import timezone

from async_uploads import conf, journal, naming, signals, turns
from async_uploads.journal import EXPIRED, RETURNING, AsyncTempFile
from async_uploads.storage.base import AsyncUploadStorage

logger = logging.getLogger("async_uploads.promotion")

#: Failed promotions are tried again after a minute, then twice as long each time, at most a day.
FIRST_RETRY = timedelta(minutes=1)
LAST_RETRY = timedelta(days=1)
#: A claim is given back only after this long where record and journal lie in two databases, which commit apart.
COMMIT_GRACE = timedelta(hours=1)


#: Set in processes that may take their time: no client waits for a copy there.
_in_background: ContextVar[bool] = ContextVar("async_uploads_in_background", default=False)


#: Asked for large copies: whether they have left it to somebody. ``apps`` puts the tasks framework here.
workers: list[Callable[[AsyncTempFile], bool]] = []


@contextmanager
def in_background() -> Iterator[None]:
    """Let files of every size be copied; for commands and task queues."""
    token = _in_background.set(True)
    try:
        yield
    finally:
        _in_background.reset(token)


def is_left_to_background(row: AsyncTempFile, field: Any) -> bool:
    """Say whether a file is to be copied, and too large for that while a client waits."""
    if row.place == row.moved_to_location:
        return False
    limit = conf.get("COPY_IN_BACKGROUND_ABOVE")
    if _in_background.get() or limit is None or row.length is None or row.length <= limit:
        return False
    return bool(field.storage.copies_on_move(row.place, row.moved_to_location))


def promote(row: AsyncTempFile) -> bool:
    """Give a claimed upload its permanent name, if a record still holds that; may be repeated.

    Where that means to copy a large file and a client waits, it is left to a worker or the cleanup.

    Args:
        row: As it stands after the claim; updated in place.

    Returns:
        Whether the file lies in its permanent place. Failures are recorded and logged, never raised.
    """
    if row.is_promoted:
        return True
    if not row.is_claimed:
        return False
    try:
        field = row.get_field()
        if field is None:
            raise LookupError(f"The field {row.field_label} does not exist any more")
        if row.claim == RETURNING or not is_held(row, field):
            give_back(row, field)
            return False
        if is_left_to_background(row, field):
            turns.end(row)
            is_asked = any(ask(row) for ask in workers)
            logger.info("%s: %s bytes are left to %s", row.key, row.length, "a worker" if is_asked else "the cleanup")
            return False
        return _move(row, field)
    except Exception as error:
        _record_failure(row, error)
        return False


def is_held(row: AsyncTempFile, field: Any) -> bool:
    """Say whether a record holds the promised name: the one that claimed it, else any other of the field's model."""
    alias = row.record.partition(":")[0]
    holding = holds(field, row.moved_to_location, alias)
    if find_records(row, field).filter(holding).exists():
        return True
    return bool(field.model._base_manager.using(alias).filter(holding).exists())


def holds(field: Any, name: str, using: str) -> Q:
    """Return the condition that a record's column holds exactly this name.

    MySQL and MariaDB find names in another case, too, as long as the project's columns have their default collations.
    """
    holding = Q(**{field.attname: name})
    if connections[using].vendor == "mysql":
        holding &= Q(**{f"{field.attname}__startswith": name})  # LIKE BINARY
    return holding


def give_back(row: AsyncTempFile, field: Any) -> bool:
    """Undo a claim that no record holds any more; the upload can be submitted again until it expires.

    Returns:
        Whether it was undone. Not yet where somebody else may be moving the file, nor where the record's database may
        still commit; the row in memory tells.
    """
    now = timezone.now()
    alias = row.record.partition(":")[0]
    if alias != journal.write_database() and row.last_activity > now - COMMIT_GRACE:
        return False
    claimed = journal.rows().filter(pk=row.pk, promoted_at=None)
    # Before the storage is touched: a move that is under way cannot be recorded any more then, and undoes itself.
    until = turns.plan(row.length)
    if not claimed.filter(claim=row.claim, retry_at=row.retry_at).update(claim=RETURNING, retry_at=until):
        return False
    row.claim, row.retry_at = RETURNING, until
    if is_held(row, field):  # saved again meanwhile; from now on such a save is refused
        token = secrets.token_hex(16)
        if claimed.filter(claim=RETURNING, retry_at=until).update(claim=token, retry_at=None):
            row.claim, row.retry_at = token, None
        return False
    with turns.hold(row, field.storage):
        if not turns.keep(row):
            return False
        if row.place != row.moved_to_location:
            field.storage.return_file(row.place, row.moved_to_location, row.length)
        # The name stays in the row, promised to nobody: where nothing holds a source, a copy may still come in late.
        facts = {"claim": None, "record": "", "target_digest": None, "retry_at": None, "last_activity": now}
        if not claimed.filter(claim=RETURNING, retry_at=row.retry_at).update(**facts):
            return False
    row.claim = row.retry_at = None
    return True


def _move(row: AsyncTempFile, field: Any) -> bool:
    """Move the file and record it; bytes that came to their permanent place at once are recorded only."""
    storage: AsyncUploadStorage = field.storage
    token = row.claim
    with turns.hold(row, storage):
        if row.place != row.moved_to_location:
            if not turns.keep(row):
                return _settle_lost(row, field, is_moved=False)
            _move_file(row, field, storage)
        if _record_promotion(row, field, _names_it(row, field)):
            return True
        # Another record has the name; else it was deleted meanwhile, or this process has lost its right.
        if is_held(row, field) and _record_promotion(row, field, Q()):
            return True
        is_promoted = _settle_lost(row, field)
    if not is_promoted and row.claim == token:
        give_back(row, field)
    return is_promoted


def _names_it(row: AsyncTempFile, field: Any) -> Q:
    """Return the condition that the record that claimed it holds its name, where one statement can ask for that."""
    alias = row.record.partition(":")[0]
    if alias != journal.write_database():
        return Q()
    return Q(Exists(find_records(row, field).filter(holds(field, row.moved_to_location, alias))))


def _record_promotion(row: AsyncTempFile, field: Any, condition: Q) -> bool:
    now = timezone.now()
    columns = {"promoted_at": now, "target_digest": None, "error": "", "retry_at": None}
    columns["source_removed_at"] = now if field.storage.source_lifetime() is None else None
    still = Q(claim=row.claim, promoted_at=None) & condition
    if not signals.record(signals.file_promoted, {"pk": row.pk}, still, columns, partial(_find_instance, field)):
        return False
    row.promoted_at = now
    return True


def _settle_lost(row: AsyncTempFile, field: Any, *, is_moved: bool = True) -> bool:
    """See what became of an upload that somebody else promoted, gave back or took; undo a move that was made here."""
    found = journal.rows().filter(pk=row.pk).first()
    if found is None:
        return False
    is_same = found.moved_to_location == row.moved_to_location and found.claim not in (None, RETURNING, EXPIRED)
    if not is_same and is_moved and row.place != row.moved_to_location:
        logger.info("%s was given back while it was moved to %s", row.key, row.moved_to_location)
        field.storage.return_file(row.place, row.moved_to_location, row.length)
    row.claim, row.promoted_at = found.claim, found.promoted_at
    return is_same and found.is_promoted


def _move_file(row: AsyncTempFile, field: Any, storage: AsyncUploadStorage) -> None:
    for _ in range(naming.NAME_ATTEMPTS):
        try:
            storage.move_file(row.place, row.moved_to_location)
            break
        except FileExistsError:
            _rename_claim(row, field)
    else:
        raise FileExistsError(f"No permanent name is free for {row.key}")
    size = storage.stored_size(row.moved_to_location)
    if size is not None and row.length is not None and size != row.length:
        raise OSError(f"{row.moved_to_location} has {size} bytes, the upload had {row.length}")


def _find_instance(field: Any, row: AsyncTempFile) -> dict[str, Any]:
    holding = holds(field, row.moved_to_location, row.record.partition(":")[0])
    return {"instance": find_records(row, field).filter(holding).first()}


def _rename_claim(row: AsyncTempFile, field: Any) -> None:
    """Promise another name, because somebody who knows no journal has taken this one.

    Raises:
        FileExistsError: The record that claimed the upload does not hold the name any more; nothing was changed.
    """
    old = row.moved_to_location
    new = naming.find_alternative(field.storage, old, min(field.max_length or journal.KEY_LENGTH, journal.KEY_LENGTH))
    digest = journal.compute_target_digest(field.storage.identity(), new)
    alias = row.record.partition(":")[0]
    with atomic(alias):
        if not find_records(row, field).filter(holds(field, old, alias)).update(**{field.attname: new}):
            raise FileExistsError(f"{old} belongs to somebody else")
        found = journal.rows().filter(pk=row.pk, claim=row.claim, promoted_at=None)
        if not found.update(moved_to_location=new, target_digest=digest):
            raise FileExistsError(f"{old} is not promised to {row.key} any more")
    row.moved_to_location = new


def _record_failure(row: AsyncTempFile, error: Exception) -> None:
    logger.error("Could not promote %s to %s; it will be tried again", row.key, row.moved_to_location, exc_info=error)
    wait = min(FIRST_RETRY * 2 ** min(row.attempts, 16), LAST_RETRY)
    row.attempts += 1
    still = Q(claim=row.claim, retry_at=row.retry_at, promoted_at=None)  # else somebody else is at it
    row.retry_at = timezone.now() + wait
    row.error = "".join(traceback.format_exception(error))[-4000:]
    columns = {"attempts": F("attempts") + 1, "retry_at": row.retry_at, "error": row.error}
    try:
        try:
            facts = {"error": error}
            signals.record(signals.promotion_failed, {"pk": row.pk}, still, columns, lambda _: facts)
        except Exception:
            logger.exception("A receiver of promotion_failed failed for %s", row.key)
            journal.rows().filter(still, pk=row.pk).update(**columns)
    except Exception:
        logger.exception("Could not record why %s was not promoted", row.key)


def find_records(row: AsyncTempFile, field: Any) -> Any:
    """Return the query set of the record that claimed an upload."""
    alias, _, pk = row.record.partition(":")
    return field.model._base_manager.using(alias).filter(pk=field.model._meta.pk.to_python(pk))


def atomic(using: str) -> ExitStack:
    stack = ExitStack()
    with stack:
        stack.enter_context(transaction.atomic(using=using))
        if journal.write_database() != using:
            stack.enter_context(transaction.atomic(using=journal.write_database()))
        return stack.pop_all()
