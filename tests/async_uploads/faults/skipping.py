"""A row that somebody else holds is left out by the cleanup, which does not wait for it (PostgreSQL).

``python -m tests.async_uploads.faults skipping`` prints one line of JSON.
"""

from __future__ import annotations

import json
from datetime import timedelta

from django.db import connection
from django.utils import timezone

from async_uploads.cleanup import Report, reconcile
from async_uploads.journal import AsyncTempFile
from tests.async_uploads.faults import oracle, scenarios, world
from tests.testapp.models import Document


def clean_beside(held: str) -> tuple[Report, Report]:
    """Clean while a statement's rows are held, and once more."""
    holder = oracle.connect()
    holder.autocommit = False
    holder.execute(held)
    try:
        first = reconcile(timedelta(days=3))
    finally:
        holder.rollback()
        holder.close()
    return first, reconcile(timedelta(days=3))


def main() -> int:
    """Hold a claimed row, an expired one, and a record with a key; returns the number of violations."""
    world.build()
    violations = []
    journal_row = "SELECT id FROM async_uploads_asynctempfile ORDER BY id LIMIT 1 FOR UPDATE"
    record = "SELECT id FROM testapp_document ORDER BY id LIMIT 1 FOR UPDATE"
    for prepare, held, member in (
        (scenarios.prepare_claimed, journal_row, "promoted"),
        (scenarios.prepare_column, record, "adopted"),
        (scenarios.upload, journal_row, "expired"),
    ):
        world.reset()
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '2s'")  # waiting is an error
        for _ in range(3):
            prepare()
        if member == "expired":
            AsyncTempFile.objects.update(last_activity=timezone.now() - timedelta(days=9))
        counts = [getattr(report, member) for report in clean_beside(held)]
        if counts != [2, 1]:
            violations.append(f"{member}: {counts} instead of two and then the one that was held")
    documents = Document.objects.count()
    world.close()
    print(json.dumps({"documents": documents, "violations": violations}))
    return len(violations)
