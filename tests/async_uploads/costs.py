"""What each request of an upload costs the database: pinned in ``test_costs``, printed by ``benchmarks/queries.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.async_uploads.tusclient import create, field_id, patch, request
from tests.testapp.models import Document


def count(operation: Callable[[], Any]) -> tuple[Any, list[str]]:
    """Run an operation; return its answer and the statements that it made, without savepoints and transactions."""
    with CaptureQueriesContext(connection) as captured:
        answer = operation()
    assert answer.status_code < 300, answer.content
    statements = [str(query["sql"]) for query in captured.captured_queries]
    return answer, [sql for sql in statements if sql.split(" ", 1)[0] in ("SELECT", "INSERT", "UPDATE", "DELETE")]


def measure() -> dict[str, list[str]]:
    """Upload two chunks and look in between, as an anonymous client; return the statements of each operation.

    What a login costs comes on top: the session and the user, one SELECT each.
    """
    client, found = Client(), {}
    first, last = b"%PDF-1.4 ", b"the rest"
    length = 4 * len(first) + len(last)
    created, found["creation"] = count(lambda: create(client, field_id(Document), "a.pdf", length))
    url = created["Location"]
    count(lambda: patch(client, url, 0, first))  # makes the row of the upload's state
    _, found["PATCH"] = count(lambda: patch(client, url, len(first), first))
    _, found["PATCH of twice as much"] = count(lambda: patch(client, url, 2 * len(first), 2 * first))
    _, found["HEAD of a running upload"] = count(lambda: request(client, "HEAD", url))
    _, found["last PATCH"] = count(lambda: patch(client, url, 4 * len(first), last))
    _, found["HEAD of a finished upload"] = count(lambda: request(client, "HEAD", url))
    _, found["creation with upload"] = count(
        lambda: create(client, field_id(Document), "a.pdf", len(first), data=first)
    )
    return found
