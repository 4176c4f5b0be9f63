"""Copies above ``COPY_IN_BACKGROUND_ABOVE`` are made by the cleanup; until then the file is read at its upload."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.db import transaction

from async_uploads import promotion
from async_uploads.cleanup import reconcile
from async_uploads.storage.base import AsyncUploadStorage
from tests.async_uploads.promoting import Elsewhere, dictionary, field_of, make_upload, media, row_of, tree
from tests.testapp.models import Document

assert media

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("media")]


@pytest.fixture
def limit(settings: Any) -> int:
    """A limit that small files exceed."""
    settings.ASYNC_UPLOADS = {"COPY_IN_BACKGROUND_ABOVE": 4}
    return 4


@pytest.fixture
def copying(monkeypatch: pytest.MonkeyPatch) -> None:
    """A storage on two file systems."""
    monkeypatch.setattr(default_storage.__class__, "copies_on_move", AsyncUploadStorage.copies_on_move)


@pytest.mark.usefixtures("limit", "copying")
def test_a_large_copy_is_left_to_the_cleanup_and_the_file_is_read_meanwhile(media: Path) -> None:
    key = make_upload(field_of(Document), b"hello")
    document = Document.objects.create(file=key)
    assert list(tree(media)) == [key]
    assert row_of(key).attempts == 0
    for each in (document, Document.objects.get()):
        with each.file.open() as file:
            assert file.read() == b"hello"
    assert reconcile().promoted == 1
    assert tree(media) == {"docs/a.txt": b"hello"}


@pytest.mark.usefixtures("limit", "copying")
def test_a_small_copy_is_made_at_once(media: Path) -> None:
    Document.objects.create(file=make_upload(field_of(Document), b"four"))
    assert tree(media) == {"docs/a.txt": b"four"}


@pytest.mark.usefixtures("limit")
def test_a_large_file_that_is_only_renamed_is_moved_at_once(media: Path) -> None:
    Document.objects.create(file=make_upload(field_of(Document), b"hello"))
    assert tree(media) == {"docs/a.txt": b"hello"}


@pytest.mark.usefixtures("copying")
def test_no_limit_copies_every_file_at_once(media: Path, settings: Any) -> None:
    settings.ASYNC_UPLOADS = {"COPY_IN_BACKGROUND_ABOVE": None}
    Document.objects.create(file=make_upload(field_of(Document), b"hello", length=5))
    assert tree(media) == {"docs/a.txt": b"hello"}


@pytest.mark.usefixtures("limit")
def test_a_storage_of_three_methods_is_taken_for_one_that_copies() -> None:
    key = make_upload(field_of(Elsewhere), b"hello", metadata="")
    Elsewhere.objects.create(file=key)
    assert key in dictionary.objects
    reconcile()
    assert dictionary.objects["else/a.txt"] == b"hello"


@pytest.mark.usefixtures("limit", "copying")
def test_a_large_upload_in_a_column_is_adopted_and_copied_in_one_run(media: Path) -> None:
    Document(file=make_upload(field_of(Document), b"hello")).save_base(raw=True)
    assert reconcile().adopted == 1
    assert tree(media) == {"docs/a.txt": b"hello"}


@pytest.mark.usefixtures("limit", "copying")
def test_a_task_queue_may_promote_in_the_background(media: Path) -> None:
    with promotion.in_background(), transaction.atomic():
        Document.objects.create(file=make_upload(field_of(Document), b"hello"))
    assert tree(media) == {"docs/a.txt": b"hello"}


def test_the_filesystem_copies_between_two_devices_only(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = make_upload(field_of(Document), b"hello")
    storage: Any = default_storage
    assert not storage.copies_on_move(key, "docs/new/a.txt")
    stat = os.stat

    class Far:
        st_dev = -1

    def look(path: Any, *args: Any, **kwargs: Any) -> Any:
        return Far if path == storage.path_of(key) else stat(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", look)
    assert storage.copies_on_move(key, "docs/new/a.txt")
