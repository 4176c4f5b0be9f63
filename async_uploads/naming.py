"""Permanent names: which one an upload gets, and another one when somebody was faster."""

from __future__ import annotations

import secrets
from typing import Any

from django.core.exceptions import SuspiciousFileOperation
from django.db import models

from async_uploads import journal
from async_uploads.journal import AsyncTempFile
from async_uploads.storage.base import without_journal
from async_uploads.values import reduce_name

#: How many names are tried when others are promised the same one.
NAME_ATTEMPTS = 10


def choose_name(instance: models.Model, field: Any, row: AsyncTempFile) -> str:
    """Return a permanent name that the storage does not hold, as Django's own file field would."""
    max_length = min(field.max_length or journal.KEY_LENGTH, journal.KEY_LENGTH)
    try:
        name = field.generate_filename(instance, row.original_filename)
    except SuspiciousFileOperation:
        name = field.generate_filename(instance, reduce_name(row.original_filename))
    return find_available(field.storage, name, max_length)


def find_available(storage: Any, name: str, max_length: int) -> str:
    with without_journal():
        try:
            return str(storage.get_available_name(name, max_length=max_length))
        except (NotImplementedError, AttributeError):  # a storage without exists()
            return name


def is_taken(storage: Any, name: str) -> bool:
    return not storage.overwrites and storage.stored_size(name) is not None


def find_alternative(storage: Any, name: str, max_length: int) -> str:
    """Return another name than one that was promised to somebody else."""
    directory, slash, last = name.rpartition("/")
    root, dot, extension = last.rpartition(".")
    root, extension = (root, dot + extension) if root else (last, "")
    room = max_length - len(directory) - len(slash) - len(extension) - 8
    return find_available(
        storage, f"{directory}{slash}{root[: max(room, 1)]}_{secrets.token_hex(4)[:7]}{extension}", max_length
    )
