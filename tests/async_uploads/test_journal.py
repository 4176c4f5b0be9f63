"""Rows of uploads: what is recorded at creation, and how a client's text finds one."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.urls import reverse, set_script_prefix
from django.utils import timezone

from async_uploads.journal import (
    EXPIRED,
    AsyncTempFile,
    UploadState,
    compute_target_digest,
    find_upload,
    get_field_label,
)
from async_uploads.registry import default_async_field_registry
from tests.async_uploads.promoting import field_of
from tests.testapp.models import Document

pytestmark = pytest.mark.django_db


def make_row() -> AsyncTempFile:
    return AsyncTempFile.create_for_field(field_of(Document), "Отчёт.pdf", owner="user:1", length=None)


def test_creation_records_the_facts() -> None:
    now = timezone.now()
    row = AsyncTempFile.objects.get(pk=make_row().pk)
    assert row.original_filename == "Отчёт.pdf"
    assert row.key.startswith("async-temp-files/")
    assert row.key.isascii()
    assert row.object_name == row.key == row.place
    assert row.upload_id not in row.key
    assert row.content_type is not None
    assert row.content_type.model == "document"
    assert (row.field_name, row.field_label) == ("file", "testapp.Document.file")
    assert row.storage == field_of(Document).storage.identity()
    assert row.owner == "user:1"
    assert row.length is None
    assert row.expires_at is not None
    assert timedelta(days=7) <= row.expires_at - now < timedelta(days=7, minutes=1)
    assert (row.is_finished, row.is_claimed, row.is_promoted, row.is_expiring) == (False, False, False, False)
    assert str(row) == row.key


def test_a_built_row_is_not_stored() -> None:
    assert AsyncTempFile.build_for_field(field_of(Document), "a.txt").pk is None


def test_a_row_knows_its_field_until_that_is_gone() -> None:
    row = make_row()
    assert row.get_field() is field_of(Document)
    for label in ("testapp.Document.gone", "testapp.Gone.file", "gone.Gone.file", "", "nonsense"):
        row.field_label = label
        assert row.get_field() is None


def test_the_loss_of_the_content_type_keeps_the_row() -> None:
    row = make_row()
    ContentType.objects.filter(pk=row.content_type_id).delete()
    ContentType.objects.clear_cache()
    row.refresh_from_db()
    assert row.content_type is None


def test_states_follow_from_facts() -> None:
    now = timezone.now()
    row = AsyncTempFile(expires_at=now)
    assert row.has_expired(now)
    row.finished_at = now
    assert not row.has_expired(now)
    row.claim = EXPIRED
    assert row.has_expired(now)
    assert not row.is_claimed
    row.claim = "token"
    assert row.is_claimed


def test_an_upload_is_found_by_key_id_and_url() -> None:
    row = make_row()
    url = reverse(default_async_field_registry.tus_upload_url_name, args=[row.upload_id])
    for text in (row.key, row.upload_id, url, f"{url}/", f"https://elsewhere.example{url}?x=1", f" {row.key} "):
        assert find_upload(text) == row


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\0",
        "\ud800",
        "unknown",
        "/uploads/tus/unknown",
        "/uploads/download-file/",
        "https://[broken",
        "/" * 600,
        "x" * 5000,
        "/admin/",
        "tus/x",
    ],
)
def test_anything_else_finds_nothing(text: str) -> None:
    make_row()
    assert find_upload(text) is None


def test_a_url_below_a_script_prefix_is_understood() -> None:
    row = make_row()
    set_script_prefix("/app/")
    try:
        url = reverse(default_async_field_registry.tus_upload_url_name, args=[row.upload_id])
        assert url.startswith("/app/uploads/")
        assert find_upload(url) == row
    finally:
        set_script_prefix("/")


def test_a_digest_tells_names_and_storages_apart() -> None:
    digests = {compute_target_digest(*each) for each in (("a", "b"), ("a", "c"), ("b", "b"), ("a/b", ""), ("", "a/b"))}
    assert len(digests) == 5
    assert all(len(each) == 64 for each in digests)


def test_a_field_has_a_label() -> None:
    assert get_field_label(field_of(Document)) == "testapp.Document.file"


def test_a_state_tells_whether_it_is_leased() -> None:
    row = make_row()
    state = UploadState.objects.create(upload=row)
    assert str(state) == f"{row.upload_id}: free"


def test_the_migration_matches_the_models() -> None:
    call_command("makemigrations", "async_uploads", check=True, dry_run=True, verbosity=0)
