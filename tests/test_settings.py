"""The ground that the other tests stand on: the test project itself is in order."""

from __future__ import annotations

import os

import pytest
from django.core.management import call_command
from django.db import connection
from django.urls import reverse


@pytest.mark.django_db
def test_the_run_uses_the_database_that_it_asked_for() -> None:
    vendors = {"postgres": "postgresql", "mariadb": "mysql", "sqlite": "sqlite"}
    expected = vendors[os.environ.get("TEST_DATABASE", "sqlite")]
    assert connection.vendor == expected


@pytest.mark.django_db
def test_sqlite_runs_with_write_ahead_logging() -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA journal_mode")
            assert cursor.fetchone() == ("wal",)


@pytest.mark.django_db  # the check of a JSON column asks the database
def test_the_project_passes_the_system_checks() -> None:
    call_command("check", fail_level="WARNING")


@pytest.mark.django_db
def test_the_migrations_are_complete() -> None:
    call_command("makemigrations", "async_uploads", check_changes=True, dry_run=True, verbosity=0)


def test_the_admin_is_served() -> None:
    assert reverse("admin:testapp_document_add") == "/admin/testapp/document/add/"
