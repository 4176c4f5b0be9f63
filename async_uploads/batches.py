"""What a run of the cleanup is, what it reports, and how it takes rows so that two runs share the work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import connections, models, transaction
from django.db.models import Q

from async_uploads import journal
from async_uploads.journal import AsyncTempFile

BATCH = 200


@dataclass
class Report:
    """What a run did, or would do.

    Attributes:
        promoted: Claimed uploads that got their permanent name.
        returned: Claims that no record held any more, given back.
        adopted: Keys that stood in a column and were claimed for their record.
        failed: What was tried and has to be tried again.
        expired: Uploads that were removed, with their bytes.
        sources: Promoted uploads whose sources and other leftovers were removed.
        removed: Rows of files promoted long ago.
        problems: What needs a person, one sentence each.
    """

    promoted: int = 0
    returned: int = 0
    adopted: int = 0
    failed: int = 0
    expired: int = 0
    sources: int = 0
    removed: int = 0
    problems: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON-able values."""
        return asdict(self)


@dataclass(frozen=True)
class Run:
    """One run: its report, the time it goes by, how long what nobody wants is kept, and whether it only counts."""

    report: Report
    now: datetime
    age: timedelta
    dry: bool


def iterate_batches(found: models.QuerySet[AsyncTempFile]) -> Iterator[list[AsyncTempFile]]:
    """Yield rows in batches by primary key; rows may be changed or deleted meanwhile."""
    last = 0
    while batch := list(found.filter(pk__gt=last).order_by("pk")[:BATCH]):
        yield batch
        last = batch[-1].pk


def take(batch: Sequence[AsyncTempFile], condition: Q, **columns: Any) -> list[AsyncTempFile]:
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
    return list(journal.rows().filter(pk__in=taken).select_related("state").order_by("pk"))
