"""Broken on purpose: how the reference promotes. Our tests must fail on it.

It moves the file in ``post_save``, inside the caller's transaction, trusts whatever key it is given, saves the record a
second time, and notes a failed move in the row, where nobody tries again. What is written without ``post_save`` it
never sees; its cleanup only removes what is old and was not moved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from django.db import models
from django.utils import timezone

from async_uploads import adoption, claims, journal, naming, references


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
        name = naming.choose_name(instance, field, row)
        try:
            field.storage.move_file(row.key, name)
        except Exception as error:
            row.error = repr(error)
        else:
            row.moved_to_location = file.name = name
            row.promoted_at = row.source_removed_at = timezone.now()
            is_moved = True
        row.save()
    if is_moved:
        instance.save(using=using)


def never(*args: Any, **kwargs: Any) -> None:
    """Leave it undone."""


@contextmanager
def reference_design() -> Iterator[None]:
    """Let records be promoted as by the reference."""
    replaced = (
        (claims, "prepare", prepare),
        (claims, "adopt", adopt),
        (adoption, "adopt_on_commit", never),
        (references, "adopt_columns", never),
    )
    with ExitStack() as stack:
        for module, name, function in replaced:
            stack.enter_context(mock.patch.object(module, name, function))
        yield
