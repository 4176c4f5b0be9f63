"""What the rest of a project can hear of uploads. Each signal is sent inside the transaction that records its event.

So the database work of receivers happens exactly once: it is committed with the event, or the event has not happened
and comes again. Whatever else they do may happen again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.dispatch import Signal

from async_uploads import journal
from async_uploads.journal import AsyncTempFile

#: All bytes of an upload are there.
upload_finished = Signal()
#: A record's file lies in its permanent place. Also sent: ``instance``, the record, ``None`` when another one holds it.
file_promoted = Signal()
#: An upload that nobody took has been removed; its row is deleted in this transaction, or kept for a second removal.
upload_expired = Signal()
#: A file could not be moved and will be tried again. Also sent: ``error``.
promotion_failed = Signal()


def send(signal: Signal, row: AsyncTempFile, **facts: Any) -> None:
    """Tell the receivers; the sender is the model of the upload's field, ``None`` when that is gone.

    Nobody is told of partial uploads: they are no files.
    """
    if row.is_partial:
        return
    field = row.get_field()
    signal.send(sender=None if field is None else field.model, upload=row, field=field, **facts)


def record(
    signal: Signal,
    identity: Mapping[str, Any],
    condition: Q,
    columns: Mapping[str, Any],
    find_facts: Callable[[AsyncTempFile], Mapping[str, Any]] = lambda row: {},
) -> bool:
    """Write columns to a row and tell the receivers, in one transaction; one statement where nobody listens.

    Args:
        signal: One of the above.
        identity: Names the row: a unique column and its value (Any: as the column's type).
        condition: What must hold of the row, so that an event is recorded and told once.
        columns: What to write.
        find_facts: Asked for what else the signal carries, when somebody listens.

    Returns:
        Whether the condition held; else nothing was written and nobody told.
    """
    found = journal.rows().filter(**identity)
    if not signal.receivers:
        return bool(found.filter(condition).update(**columns))
    with transaction.atomic(using=journal.write_database()):
        if not found.filter(condition).update(**columns):
            return False
        row = found.get()
        send(signal, row, **find_facts(row))
    return True
