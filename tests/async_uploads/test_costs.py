"""No request of an upload may cost more statements than it does today."""

from __future__ import annotations

import pytest

from tests.async_uploads.costs import measure

pytestmark = pytest.mark.django_db(transaction=True)


def test_each_request_costs_the_statements_it_needs_and_none_per_write() -> None:
    found = {operation: [sql.split(" ", 1)[0] for sql in statements] for operation, statements in measure().items()}
    # One row read.
    assert found["HEAD of a running upload"] == ["SELECT"]
    assert found["HEAD of a finished upload"] == ["SELECT"]
    # One row read, the lease taken, the lease given back; the last activity is written once a minute.
    assert found["PATCH"] == ["SELECT", "UPDATE", "UPDATE"]
    assert found["PATCH of twice as much"] == found["PATCH"]
    # The file's end on top; the content has the type that the name promised, else one UPDATE
    # would come on top.
    assert found["last PATCH"] == ["SELECT", "UPDATE", "UPDATE", "UPDATE"]
    # The content type (cached by Django afterwards) and the row.
    assert found["creation"] in (["INSERT"], ["SELECT", "INSERT"])
    # The row, and that it is finished; no lease, since nobody else knows the upload.
    assert found["creation with upload"] == ["INSERT", "UPDATE"]
