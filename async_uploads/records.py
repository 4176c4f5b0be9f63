"""Rows of the journal as the engine sees them."""

from __future__ import annotations

import datetime

from django.conf import settings
from django.utils import timezone

from async_uploads.journal import AsyncTempFile, UploadState
from tus_server.headers import build_concat
from tus_server.uploads import UploadRecord


def to_row(moment: datetime.datetime | None) -> datetime.datetime | None:
    """Return the engine's aware time as the project's columns take it: naive where ``USE_TZ`` is off."""
    if moment is None or settings.USE_TZ or timezone.is_naive(moment):
        return moment
    return timezone.make_naive(moment, timezone.get_default_timezone())


def from_row(moment: datetime.datetime) -> datetime.datetime:
    """Return a column's time as the engine takes it: aware."""
    return timezone.make_aware(moment, timezone.get_default_timezone()) if timezone.is_naive(moment) else moment


def build_record(row: AsyncTempFile, max_size: int | None = None, state: UploadState | None = None) -> UploadRecord:
    """Build the engine's view of a row.

    Args:
        row: The row.
        max_size: The field's limit in bytes, which matters while the length is deferred.
        state: Its state, if that was read along; the keeper of the manifests asks no more then.
    """
    return UploadRecord(
        id=row.upload_id,
        object_name=row.object_name,
        length=row.length,
        metadata=row.metadata,
        created_at=from_row(row.created_at),
        expires_at=row.expires_at and from_row(row.expires_at),
        finished_at=row.finished_at and from_row(row.finished_at),
        concat=build_concat() if row.is_partial else row.concat,
        partials=tuple(row.partials),
        max_size=max_size,
        facts={
            "key": row.key,
            "owner": row.owner,
            "field_label": row.field_label,
            "filename": row.original_filename,
            "media_type": row.media_type,
            "is_owned": row.is_claimed or row.is_promoted,
        },
        state=state,
    )


def read_state(row: AsyncTempFile) -> UploadState:
    """Return the state that was read along with a row (``select_related``); an empty one where it has none yet."""
    state: UploadState | None = getattr(row, "state", None)
    return UploadState(upload_id=row.upload_id) if state is None else state
