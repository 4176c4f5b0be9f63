"""Broken on purpose: how the reference promotes. Our tests must fail on it.

It moves the file in ``post_save``, inside the caller's transaction, saves the record a second time, and notes a failed
move in the row, where nobody tries again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

from django.db import models

from async_uploads import claims, journal
from async_uploads.naming import choose_name


def prepare(instance: models.Model, field: Any, files: Sequence[Any]) -> None:
    """Trust whatever comes."""


def adopt(instance: models.Model, fields: Sequence[Any], using: str, *, created: bool = False) -> None:
    """Move now, whether or not the transaction will be committed."""
    is_moved = False
    for field in fields:
        file = getattr(instance, field.attname)
        row = journal.find_by_key(file.name)
        if row is None:
            continue
        name = choose_name(instance, field, row)
        try:
            field.storage.move_file(row.key, name)
        except Exception as error:
            row.error = repr(error)
        else:
            row.moved_to_location = file.name = name
            is_moved = True
        row.save()
    if is_moved:
        instance.save(using=using)


@contextmanager
def reference_design() -> Iterator[None]:
    """Let records be promoted as by the reference."""
    with mock.patch.object(claims, "prepare", prepare), mock.patch.object(claims, "adopt", adopt):
        yield
