"""What a project has forgotten is said, with a hint, before a user finds it."""

from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.checks import CheckMessage
from django.core.files.storage import FileSystemStorage
from django.core.management import call_command
from django.db import connection

from async_uploads import checks, conf
from tests.testapp.models import Document

FILE: Any = Document._meta.get_field("file")


def ids(found: list[CheckMessage]) -> list[str]:
    assert all(message.hint for message in found)
    return [str(message.id) for message in found]


@pytest.mark.django_db  # the check of a JSON column asks the database
def test_this_project_passes() -> None:
    call_command("check", fail_level="ERROR")
    assert ids(checks.check_settings()) == []
    assert ids(checks.check_urls()) == []
    assert ids(checks.check_fields()) == []


@pytest.mark.parametrize(
    ("configured", "expected"),
    [
        (None, []),
        ({}, []),
        (dict(conf.DEFAULTS), []),
        ([], ["async_uploads.E001"]),
        ({"UPLOAD_LIVETIME": 1}, ["async_uploads.E002"]),
        ({"RESOLVE_PERM_NAME": "nowhere.at_all"}, ["async_uploads.E003"]),
        ({"AUTHENTICATE": "os.path.nothing"}, ["async_uploads.E003"]),
        ({"DURABILITY": "some"}, ["async_uploads.E004"]),
        ({"DATABASE_CONTEXT": "nowhere.at_all"}, ["async_uploads.E003"]),
        ({"UPLOAD_MIDDLEWARE": ["os.path", "nowhere.at_all"]}, ["async_uploads.E003"]),
        ({"UPLOAD_MIDDLEWARE": "os.path", "UPLOAD_PATHS": "/uploads/"}, ["async_uploads.E010"] * 2),
        ({"UPLOAD_PATHS": ["uploads/"]}, ["async_uploads.E010"]),
        ({"UPLOAD_MIDDLEWARE": None, "UPLOAD_PATHS": ("/uploads/",), "DATABASE_CONTEXT": None}, []),
        ({"UPLOAD_LIFETIME": "7 days", "IDLE_TIMEOUT": 0}, ["async_uploads.E009", "async_uploads.E009"]),
        ({"UPLOAD_URL_EXPIRY": None, "COPY_IN_BACKGROUND_ABOVE": None}, ["async_uploads.E009"]),
    ],
)
def test_settings(settings: Any, configured: Any, expected: list[str]) -> None:
    settings.ASYNC_UPLOADS = configured
    assert ids(checks.check_settings()) == expected


def test_urls_that_are_not_included(settings: Any) -> None:
    settings.ROOT_URLCONF = "django.contrib.auth.urls"
    assert set(ids(checks.check_urls())) == {"async_uploads.E005"}


def test_a_storage_that_takes_no_uploads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FILE, "storage", FileSystemStorage())
    assert ids(checks.check_fields()) == ["async_uploads.E006"]


def test_a_column_that_is_too_short_for_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FILE, "max_length", 50)
    assert ids(checks.check_fields()) == ["async_uploads.E007"]


def test_a_storage_that_says_tus_and_has_no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    from async_uploads.storage.base import AsyncUploadStorage

    class Lying(AsyncUploadStorage):
        transport = "tus"

    monkeypatch.setattr(FILE, "storage", Lying())
    assert ids(checks.check_fields()) == ["async_uploads.E008"]


def test_a_bundle_that_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "is_bundle_built", lambda: False)
    assert ids(checks.check_bundle()) == ["async_uploads.W001"]
    monkeypatch.setattr(checks, "is_bundle_built", lambda: True)
    assert ids(checks.check_bundle()) == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("options", "mode", "hints"),
    [
        ({"transaction_mode": "IMMEDIATE", "timeout": 20}, "wal", []),
        ({"transaction_mode": "IMMEDIATE", "timeout": 20}, "delete", ["journal_mode=WAL"]),
        ({"timeout": 20}, "wal", ["IMMEDIATE"]),
        ({"transaction_mode": "IMMEDIATE"}, "wal", ['"timeout": 20']),
        ({}, "delete", ["journal_mode=WAL", "IMMEDIATE", "timeout"]),
    ],
)
def test_sqlite_that_will_be_locked(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], mode: str, hints: list[str]
) -> None:
    class Cursor:
        def __enter__(self) -> "Cursor":
            return self

        def __exit__(self, *args: object) -> None: ...

        def execute(self, statement: str) -> None: ...

        def fetchone(self) -> tuple[str]:
            return (mode,)

    fake = SimpleNamespace(vendor="sqlite", settings_dict={"OPTIONS": options}, cursor=Cursor)
    monkeypatch.setattr(checks, "connections", {"default": fake})
    found = checks.check_database(databases=["default"])
    assert ids(found) == (["async_uploads.W002"] if hints else [])
    for hint in hints:
        assert hint in str(found[0].hint)
    assert checks.check_database(databases=None) == []


@pytest.mark.django_db
def test_other_databases_are_not_asked() -> None:
    if connection.vendor != "sqlite":
        assert checks.check_database(databases=["default"]) == []


def test_an_admin_that_knows_no_owners_is_pointed_out(settings: Any) -> None:
    assert set(ids(checks.check_admin())) == {"async_uploads.I001"}
    settings.MIDDLEWARE = [*django_settings.MIDDLEWARE, "async_uploads.middleware.CurrentRequestMiddleware"]
    assert checks.check_admin() == []
