"""Statements that are compiled once for each connection do what the same query sets do."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection, models, transaction
from django.db.models import ExpressionWrapper, Value
from django.db.models.functions import Now
from django.db.models.signals import post_save
from django.test.utils import CaptureQueriesContext, override_settings
from django.utils import timezone

from async_uploads.journal import AsyncTempFile, UploadState, rows
from async_uploads.statements import Insert, Select, Update, slot
from tests.testapp.models import Document

pytestmark = pytest.mark.django_db(transaction=True)

ID = slot(AsyncTempFile, "upload_id")
FILE = Document._meta.get_field("file")


def make() -> AsyncTempFile:
    return AsyncTempFile.build_for_field(FILE, "a.txt", partials=["x", "y"], is_partial=True, length=2**40)


def stored() -> AsyncTempFile:
    row = make()
    row.save(force_insert=True)
    return rows().get()


def columns(row: AsyncTempFile | None) -> dict[str, Any]:
    assert row is not None
    return {field.attname: getattr(row, field.attname) for field in AsyncTempFile._meta.concrete_fields}


def test_a_row_is_read_as_by_a_query_set() -> None:
    select, row = Select(lambda: rows().filter(upload_id=ID)), stored()
    for _ in range(2):
        found = select.first("default", upload_id=row.upload_id)
        assert columns(found) == columns(row)
        assert found is not None
        assert found._state.db == "default"
        assert not found._state.adding
        assert not found.get_deferred_fields()
    assert select.first("default", upload_id="another") is None


def test_what_is_read_along_costs_no_statement_whether_it_is_there_or_not() -> None:
    select, row = Select(lambda: rows().filter(upload_id=ID).select_related("state")), stored()
    for token in (None, "token"):
        if token:
            UploadState(upload_id=row.upload_id, lease_token=token, tail=[[0, 1, "", "eA=="]]).save(force_insert=True)
        found = select.first("default", upload_id=row.upload_id)
        with CaptureQueriesContext(connection) as captured:
            state = getattr(found, "state", None)
            assert (state and state.lease_token) == token
            if state is not None:
                assert state.tail == [[0, 1, "", "eA=="]]
                assert state.upload is found
        assert not captured.captured_queries


def test_an_update_writes_its_values_and_says_how_many_rows_met_its_condition() -> None:
    update = Update(
        lambda: rows().filter(upload_id=ID, claim=None),
        expires_at=slot(AsyncTempFile, "expires_at"),
        partials=slot(AsyncTempFile, "partials"),
        claim="taken",
    )
    row, moment = stored(), timezone.now().replace(microsecond=123456) + timedelta(days=3)
    assert update.run("default", upload_id="another", expires_at=moment, partials=[]) == 0
    assert update.run("default", upload_id=row.upload_id, expires_at=moment, partials=["z"]) == 1
    assert update.run("default", upload_id=row.upload_id, expires_at=None, partials=[]) == 0
    changed = {"expires_at": moment, "partials": ["z"], "claim": "taken"}
    assert columns(rows().get()) == columns(row) | changed


def test_nothing_is_written_as_null() -> None:
    update, row = Update(lambda: rows().filter(upload_id=ID), expires_at=slot(AsyncTempFile, "expires_at")), stored()
    assert update.run("default", upload_id=row.upload_id, expires_at=None) == 1
    assert rows().get().expires_at is None


def test_a_row_is_stored_as_by_save() -> None:
    insert = Insert(AsyncTempFile)
    for _ in range(2):
        row = make()
        insert.run("default", row)
        found = rows().get(upload_id=row.upload_id)
        assert columns(found) == columns(row) | {"id": found.pk}


def test_a_row_is_stored_with_what_the_database_computes() -> None:
    later = ExpressionWrapper(Now() + Value(timedelta(days=1)), output_field=models.DateTimeField())
    insert, before = Insert(UploadState, lease_expires_at=later), timezone.now() + timedelta(hours=23)
    for _ in range(2):
        row = make()
        row.save(force_insert=True)
        insert.run("default", UploadState(upload_id=row.upload_id, lease_token="token", lease_expires_at=later))
        found = UploadState.objects.get(upload=row.upload_id)
        assert found.lease_expires_at > before
        assert (found.lease_token, found.tail, found.finished_size) == ("token", [], None)


def test_who_listens_to_the_signals_of_rows_hears_of_new_ones() -> None:
    heard: list[Any] = []

    def listen(instance: AsyncTempFile, created: bool, **more: Any) -> None:
        heard.append((instance.upload_id, created, instance.pk is not None))

    insert, row = Insert(AsyncTempFile), make()
    post_save.connect(listen, sender=AsyncTempFile)
    try:
        insert.run("default", row)
    finally:
        post_save.disconnect(listen, sender=AsyncTempFile)
    assert heard == [(row.upload_id, True, True)]
    assert rows().filter(upload_id=row.upload_id).exists()


def test_a_statement_is_compiled_once_for_each_connection() -> None:
    compiled = 0

    def find() -> Any:
        nonlocal compiled
        compiled += 1
        return rows().filter(upload_id=ID)

    def ask() -> None:
        assert select.first("default", upload_id="unknown") is None
        assert select.first("default", upload_id="unknown") is None

    def ask_and_close() -> None:
        try:
            ask()
        finally:
            connection.close()

    select = Select(find)
    ask()
    connection.close()
    ask()
    assert compiled == 1
    thread = threading.Thread(target=ask_and_close)
    thread.start()
    thread.join()
    assert compiled == 2


def test_times_are_as_the_setting_has_them_at_each_run() -> None:
    select, row = Select(lambda: rows().filter(upload_id=ID)), stored()
    for use_tz in (True, False, True):
        with override_settings(USE_TZ=use_tz):
            found, expected = select.first("default", upload_id=row.upload_id), rows().get()
            assert found is not None
            assert timezone.is_aware(found.created_at) is use_tz
            assert found.created_at == expected.created_at


def test_an_error_in_a_transaction_lets_it_roll_back() -> None:
    update, row = Update(lambda: rows().filter(upload_id=ID), claim="taken"), stored()

    def fail(*arguments: Any) -> None:
        raise OperationalError("database is locked")

    with transaction.atomic():
        with connection.execute_wrapper(fail), pytest.raises(OperationalError):
            update.run("default", upload_id=row.upload_id)
        assert connection.needs_rollback
        connection.set_rollback(True)
    assert rows().get().claim is None
