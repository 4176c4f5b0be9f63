"""Whether a record may have an upload: what speaks against it, and what a field's value remembers of one.

A value's ``Claim`` lets a later save repeat a claim that a rollback undid.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import SuspiciousOperation
from django.db import models

from async_uploads import journal
from async_uploads.journal import RETURNING, AsyncTempFile
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


def is_pending(field: Any, file: Any) -> bool:
    """Say from memory alone whether a field's value names an upload that is not promoted."""
    if getattr(file, "claim", None) is not None:
        return True
    name = getattr(file, "name", file)
    storage = field.storage
    return isinstance(storage, AsyncUploadStorage) and isinstance(name, str) and storage.is_temporary_path(name)


def pk_text(instance: models.Model, field: Any) -> str:
    """Return a record's primary key, in the table that holds the field's column; empty where it has none yet."""
    value = getattr(instance, field.model._meta.pk.attname)
    if isinstance(value, tuple):  # composite
        return "" if None in value else json.dumps(value, default=str)
    return "" if value is None else str(value)


def key_of(file: Any) -> str:
    """Return the key of a pending value's upload."""
    return file.claim.key if file.claim is not None else file.name or ""


def look_up(files: Iterable[Any]) -> None:
    """Read the rows of pending files into memory, in one statement for all that have none there."""
    wanted = [file for file in files if file.row is None or file.row.key != key_of(file)]
    if not wanted:
        return
    found = {row.key: row for row in journal.rows().filter(key__in={key_of(file) for file in wanted})}
    for file in wanted:
        file.row = found.get(key_of(file))


def is_ours(row: AsyncTempFile, file: Any, instance: models.Model, field: Any) -> bool:
    """Say whether a claim is that of this value, or of this record; not while it is given back."""
    if row.claim == RETURNING:
        return False
    if file.claim is not None and file.claim.token == row.claim:
        return True
    pk = pk_text(instance, field)
    return bool(pk) and row.record.partition(":")[2] == pk


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
