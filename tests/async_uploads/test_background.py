"""Copies above ``COPY_IN_BACKGROUND_ABOVE`` are made by the cleanup or by the project's workers.

Until then the file is read at its upload.
"""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.db import transaction
from django.utils import timezone

from async_uploads import background, promotion
from async_uploads.cleanup import reconcile
from async_uploads.storage.base import AsyncUploadStorage
from tests.async_uploads.promoting import Elsewhere, dictionary, field_of, make_upload, media, row_of, tree
from tests.async_uploads.queueing import Job, work
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


# Django's tasks.


class Boom(Exception):
    """What ends a transaction."""


def use_backend(settings: Any, path: str, **options: Any) -> None:
    """Let the project have a backend for its tasks."""
    if not background.HAS_FRAMEWORK:
        pytest.skip("this Django has no tasks framework")
    settings.TASKS = {"default": {"BACKEND": path, **options}}


@pytest.fixture
def queue(settings: Any) -> None:
    """A queue whose tasks are run by a worker."""
    use_backend(settings, "tests.async_uploads.queueing.DatabaseBackend")


@pytest.mark.usefixtures("limit", "copying", "queue")
def test_a_large_copy_is_made_by_a_worker(media: Path) -> None:
    key = make_upload(field_of(Document), b"hello")
    document = Document.objects.create(file=key)
    assert list(tree(media)) == [key]
    with document.file.open() as file:
        assert file.read() == b"hello"
    assert work() == [True]
    assert tree(media) == {"docs/a.txt": b"hello"}
    assert row_of(key).is_promoted


@pytest.mark.usefixtures("limit", "copying", "queue")
def test_nobody_is_asked_before_the_commit_and_nobody_after_a_rollback(media: Path) -> None:
    key = make_upload(field_of(Document), b"hello")
    with suppress(Boom), transaction.atomic():
        Document.objects.create(file=key)
        raise Boom
    assert not Job.objects.exists()
    with transaction.atomic():
        Document.objects.create(file=key)
        assert not Job.objects.exists()
    assert Job.objects.count() == 1


@pytest.mark.usefixtures("limit", "copying", "queue")
def test_small_copies_are_not_queued(media: Path) -> None:
    Document.objects.create(file=make_upload(field_of(Document), b"four"))
    assert not Job.objects.exists()
    assert tree(media) == {"docs/a.txt": b"four"}


@pytest.mark.usefixtures("limit", "copying", "queue")
def test_a_task_that_comes_after_the_cleanup_or_twice_changes_nothing(media: Path) -> None:
    Document.objects.create(file=make_upload(field_of(Document), b"hello"))
    job = Job.objects.get()
    assert reconcile().promoted == 1
    Job.objects.create(path=job.path, arguments=job.arguments)
    assert work() == [False, False]
    assert tree(media) == {"docs/a.txt": b"hello"}


@pytest.mark.usefixtures("limit", "copying", "queue")
def test_a_task_whose_record_is_gone_gives_the_upload_back_and_one_without_a_row_does_nothing(media: Path) -> None:
    key = make_upload(field_of(Document), b"hello")
    Document.objects.create(file=key).delete()
    Job.objects.create(path="async_uploads.background.promote_upload", arguments="[[0], {}]")
    assert work() == [False, False]
    assert list(tree(media)) == [key]
    assert not row_of(key).is_claimed


@pytest.mark.usefixtures("limit", "copying", "queue")
def test_a_task_that_fails_is_left_to_the_cleanup(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = make_upload(field_of(Document), b"hello")
    Document.objects.create(file=key)
    with monkeypatch.context() as patch:
        patch.setattr(default_storage.__class__, "move_file", lambda *args: os.stat("/nonexistent"))
        assert work() == [False]
    assert row_of(key).attempts == 1
    assert reconcile(now=timezone.now() + timedelta(minutes=2)).promoted == 1
    assert tree(media) == {"docs/a.txt": b"hello"}


@pytest.mark.usefixtures("limit", "copying")
@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("django.tasks.backends.immediate.ImmediateBackend", {}),
        ("django.tasks.backends.dummy.DummyBackend", {}),
        ("tests.async_uploads.queueing.BrokenBackend", {}),
        ("tests.async_uploads.queueing.DatabaseBackend", {"QUEUES": ["mail"]}),
        ("tests.async_uploads.queueing.Unknown", {}),
    ],
    ids=["run at once", "never run", "the queue is away", "no default queue", "no such backend"],
)
def test_without_workers_to_ask_the_cleanup_makes_the_copy(
    media: Path, settings: Any, path: str, options: dict[str, Any]
) -> None:
    use_backend(settings, path, **options)
    key = make_upload(field_of(Document), b"hello")
    document = Document.objects.create(file=key)
    assert list(tree(media)) == [key]
    assert document.file.claim is not None
    assert row_of(key).attempts == 0
    assert reconcile().promoted == 1
    assert tree(media) == {"docs/a.txt": b"hello"}


def test_a_project_without_a_default_queue_has_the_function_alone(settings: Any) -> None:
    use_backend(settings, "tests.async_uploads.queueing.DatabaseBackend", QUEUES=["mail"])

    assert background.as_task(promote_nothing) is promote_nothing
    settings.TASKS = {"other": {"BACKEND": "django.tasks.backends.dummy.DummyBackend"}}
    assert background.as_task(promote_nothing) is promote_nothing


def promote_nothing(pk: int) -> bool:
    """A task needs a function of a module."""
    return False


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
