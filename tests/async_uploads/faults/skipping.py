"""A row that somebody else holds is left out by the cleanup, which does not wait for it (PostgreSQL, MariaDB).

``python -m tests.async_uploads.faults skipping`` prints one line of JSON.
"""

from __future__ import annotations

import json
from datetime import timedelta

from django.utils import timezone

from async_uploads.batches import Report
from async_uploads.cleanup import reconcile
from async_uploads.journal import AsyncTempFile
from tests.async_uploads.faults import scenarios, world
from tests.async_uploads.faults.waiting import be_impatient, hold
from tests.testapp.models import Document


def clean_beside(held: str) -> tuple[Report, Report]:
    """Clean while a statement's rows are held, and once more."""
    with hold(held):
        first = reconcile(timedelta(days=3))
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
        be_impatient()  # waiting is an error
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
