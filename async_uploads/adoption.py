"""Uploads of records that are written without ``post_save``: bulk operations and fixtures, at their commit.

The database learns the value of a field from ``Field.get_db_prep_save``, whichever way a record is written, and that
knows the connection. Where a transaction is open then, its commit adopts what no ``post_save`` has adopted before. What
is written in autocommit (``bulk_create`` of Django 6.x: one INSERT), without a record in memory or without its primary
key is left to the cleanup.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from django.db import models, transaction

from async_uploads import claims
from async_uploads.claims import InvalidUpload

logger = logging.getLogger("async_uploads.adoption")


def adopt_on_commit(field: Any, file: Any, using: str) -> None:
    """Let the commit adopt an upload that is being written to a column, unless ``post_save`` does so before.

    Args:
        field: An async field (Any: those live above).
        file: Its value in the record that is written; it is pending.
        using: The alias of the database that is written to.
    """
    if transaction.get_connection(using).in_atomic_block:
        claims.require_named(file)
        file.is_unsettled = True
        transaction.on_commit(partial(_adopt, file.instance, field, file, using), using=using, robust=True)


def _adopt(instance: models.Model, field: Any, file: Any, using: str) -> None:
    """Adopt a record's upload now; a column that holds something else by now is left alone."""
    if not file.is_unsettled:
        return
    name, file.is_unsettled = file.name, False
    if getattr(instance, field.model._meta.pk.attname) is None:
        return  # an INSERT that ignored conflicts, or a database that does not tell the keys of many rows
    if instance.__dict__.get(field.attname) is not file:
        logger.info("%r got another value of %s before its commit", instance, field)
        return
    try:
        claims.adopt(instance, [field], using)
    except InvalidUpload as error:
        logger.warning("%r could not adopt %s: %s", instance, name, error)
