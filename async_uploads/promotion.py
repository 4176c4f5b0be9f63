"""After the commit: a claimed upload gets its permanent name in the storage.

Rules for editors:

* The database commits first, storage follows: nothing here runs for a record that is not committed.
* Every step may be repeated after a crash at any line; ``cleanup`` repeats what nobody finished.
* Nothing raised by ``promote`` leaves it: failures are recorded in the row, logged, and tried again later.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from datetime import timedelta
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from async_uploads import conf, journal, naming, signals
from async_uploads.journal import AsyncTempFile
from async_uploads.storage.base import AsyncUploadStorage

logger = logging.getLogger("async_uploads.promotion")

#: Failed promotions are tried again after a minute, then twice as long each time, at most a day.
FIRST_RETRY = timedelta(minutes=1)
LAST_RETRY = timedelta(days=1)
#: A claim is given back only after this long where record and journal lie in two databases, which commit apart.
COMMIT_GRACE = timedelta(hours=1)


#: Set in processes that may take their time: no client waits for a copy there.
_in_background: ContextVar[bool] = ContextVar("async_uploads_in_background", default=False)


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
    limit = conf.get("COPY_IN_BACKGROUND_ABOVE")
    if _in_background.get() or limit is None or row.length is None or row.length <= limit:
        return False
    return bool(field.storage.copies_on_move(row.place, row.moved_to_location))


def promote(row: AsyncTempFile) -> bool:
    """Give a claimed upload its permanent name, if a record still holds that; may be repeated.

    Where that means to copy a large file and a client waits, it is left to the cleanup.

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
        if not is_held(row, field):
            give_back(row, field)
            return False
        if is_left_to_background(row, field):
            logger.info("%s is left to the cleanup: %s bytes are to be copied", row.key, row.length)
            return False
        _move(row, field)
    except Exception as error:
        _record_failure(row, error)
        return False
    return True


def is_held(row: AsyncTempFile, field: Any) -> bool:
    """Say whether a record holds the promised name: the one that claimed it, else any other of the field's model."""
    holding = {field.attname: row.moved_to_location}
    if find_records(row, field).filter(**holding).exists():
        return True
    alias = row.record.partition(":")[0]
    return bool(field.model._base_manager.using(alias).filter(**holding).exists())


def give_back(row: AsyncTempFile, field: Any) -> bool:
    """Undo a claim that no record holds any more; the upload can be submitted again until it expires."""
    now = timezone.now()
    alias = row.record.partition(":")[0]
    if alias != journal.write_database() and row.last_activity > now - COMMIT_GRACE:
        return False
    field.storage.return_file(row.place, row.moved_to_location, row.length)
    changed = journal.rows().filter(pk=row.pk, claim=row.claim, promoted_at=None)
    facts = {"claim": None, "record": "", "moved_to_location": "", "target_digest": None, "retry_at": None}
    return bool(changed.update(**facts, last_activity=now))


def _move(row: AsyncTempFile, field: Any) -> None:
    storage: AsyncUploadStorage = field.storage
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
    now = timezone.now()
    columns = {"promoted_at": now, "target_digest": None, "error": "", "retry_at": None}
    still = Q(claim=row.claim, promoted_at=None)
    signals.record(signals.file_promoted, {"pk": row.pk}, still, columns, partial(_find_instance, field))
    row.promoted_at = now


def _find_instance(field: Any, row: AsyncTempFile) -> dict[str, Any]:
    return {"instance": find_records(row, field).filter(**{field.attname: row.moved_to_location}).first()}


def _rename_claim(row: AsyncTempFile, field: Any) -> None:
    """Promise another name, because somebody who knows no journal has taken this one.

    Raises:
        FileExistsError: The record that claimed the upload does not hold the name any more.
    """
    old = row.moved_to_location
    new = naming.find_alternative(field.storage, old, min(field.max_length or journal.KEY_LENGTH, journal.KEY_LENGTH))
    digest = journal.compute_target_digest(field.storage.identity(), new)
    with atomic(row.record.partition(":")[0]):
        if not find_records(row, field).filter(**{field.attname: old}).update(**{field.attname: new}):
            raise FileExistsError(f"{old} belongs to somebody else")
        journal.rows().filter(pk=row.pk, claim=row.claim).update(moved_to_location=new, target_digest=digest)
    row.moved_to_location = new


def _record_failure(row: AsyncTempFile, error: Exception) -> None:
    logger.error("Could not promote %s to %s; it will be tried again", row.key, row.moved_to_location, exc_info=error)
    wait = min(FIRST_RETRY * 2 ** min(row.attempts, 16), LAST_RETRY)
    row.attempts += 1
    row.retry_at = timezone.now() + wait
    row.error = "".join(traceback.format_exception(error))[-4000:]
    columns = {"attempts": F("attempts") + 1, "retry_at": row.retry_at, "error": row.error}
    try:
        try:
            facts = {"error": error}
            signals.record(signals.promotion_failed, {"pk": row.pk}, Q(promoted_at=None), columns, lambda _: facts)
        except Exception:
            logger.exception("A receiver of promotion_failed failed for %s", row.key)
            journal.rows().filter(pk=row.pk, promoted_at=None).update(**columns)
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
