"""What is broken: each scenario prepares a state, then does one thing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from unittest import mock

from django.db import transaction
from django.utils import timezone

from async_uploads import promotion
from async_uploads.cleanup import finish_claimed, reconcile
from async_uploads.journal import AsyncTempFile
from tests.async_uploads import promoting
from tests.async_uploads.faults import clouds, world
from tests.async_uploads.faults.census import storage_class
from tests.async_uploads.faults.world import field_of, make_upload
from tests.async_uploads.promoting import Triple
from tests.testapp.models import Document


class Boom(Exception):
    """What a view raises."""


@dataclass(frozen=True)
class Scenario:
    """One way to use promotion.

    Attributes:
        prepare: Makes the state; returns the keys of its uploads.
        act: Is broken.
        adopts: Whether a record shall have the uploads in the end, when nothing breaks.
        is_undone: Whether nothing at all may have changed when no record has the uploads in the end.
        stays: Files that lie there before and after, beside those of records.
    """

    prepare: Callable[[], list[str]]
    act: Callable[[list[str]], None]
    adopts: bool = True
    is_undone: bool = True
    stays: dict[str, bytes] = field(default_factory=dict)


def upload() -> list[str]:
    return [make_upload(field_of(Document), b"new", "new.txt")]


def upload_three() -> list[str]:
    names = ("first", "second", "third")
    return [make_upload(field_of(Triple, name), name.encode(), f"{name}.txt") for name in names]


def prepare_claimed() -> list[str]:
    keys = upload()
    with mock.patch.object(promotion, "promote", return_value=False):
        Document.objects.create(file=keys[0])
    promoting.pass_turns()
    return keys


def prepare_column() -> list[str]:
    keys = upload()
    Document(file=keys[0]).save_base(raw=True)
    return keys


def prepare_replacing() -> list[str]:
    Document.objects.create(file=make_upload(field_of(Document), b"old", "old.txt"))
    return upload()


def prepare_abandoned() -> list[str]:
    keys = upload()
    AsyncTempFile.objects.update(last_activity=timezone.now() - timedelta(days=9))
    return keys


def prepare_divided() -> list[str]:
    world.divide()
    return upload()


def prepare_claimed_and_divided() -> list[str]:
    world.divide()
    return prepare_claimed()


def prepare_copied_and_deleted() -> list[str]:
    """The process died when the file was copied, and then the record was deleted."""
    world.divide()
    keys = upload()
    with mock.patch("os.unlink", side_effect=OSError("died")):
        Document.objects.create(file=keys[0])
    AsyncTempFile.objects.update(error="", attempts=0)
    promoting.pass_turns()
    Document.objects.all().delete()
    return keys


def prepare_moved_and_deleted() -> list[str]:
    """The process died when the file was copied, but that was not recorded; and then the record was deleted."""
    keys = prepare_claimed()
    row = AsyncTempFile.objects.get()
    if not row.is_in_place:
        field_of(Document).storage.move_file(row.place, row.moved_to_location)
    Document.objects.all().delete()
    return keys


def prepare_promoted() -> list[str]:
    keys = upload()
    Document.objects.create(file=keys[0])
    return keys


def clean_up_later(keys: list[str]) -> None:
    """Sources go when no URL can work any more."""
    reconcile(timedelta(days=3), now=timezone.now() + timedelta(hours=2))


def finish_by_a_worker(keys: list[str]) -> None:
    finish_claimed(AsyncTempFile.objects.get(key=keys[0]).pk)


def save(keys: list[str]) -> None:
    Document.objects.create(file=keys[0])


def save_in_transaction(keys: list[str]) -> None:
    with transaction.atomic():
        Document.objects.create(file=keys[0])


def save_and_roll_back(keys: list[str]) -> None:
    with suppress(Boom), transaction.atomic():
        Document.objects.create(file=keys[0])
        raise Boom


def save_again(keys: list[str]) -> None:
    document = Document(file=keys[0])
    with suppress(Boom), transaction.atomic():
        document.save()
        raise Boom
    document.pk, document._state.adding = None, True
    document.save()


def update_in_bulk_again(keys: list[str]) -> None:
    document = Document.objects.get()
    document.file = keys[0]
    with suppress(Boom), transaction.atomic():
        document.save()
        raise Boom
    Document.objects.bulk_update([document], ["file"])


def create_in_bulk(keys: list[str]) -> None:
    with transaction.atomic():
        Document.objects.bulk_create([Document(file=keys[0])])


def save_three(keys: list[str]) -> None:
    Triple.objects.create(first=keys[0], second=keys[1], third=keys[2])


def save_what_another_deletes(keys: list[str]) -> None:
    """While the file is being moved the record is deleted, and a worker looks at it; one death for both."""
    storage = storage_class()
    move = storage.move_file

    def move_meanwhile(self: Any, *names: str) -> None:
        with mock.patch.object(storage, "move_file", move):
            Document.objects.all().delete()
            finish_by_a_worker(keys)
            move(self, *names)

    with mock.patch.object(storage, "move_file", move_meanwhile):
        Document.objects.create(file=keys[0])


def replace(keys: list[str]) -> None:
    document = Document.objects.get()
    document.file = keys[0]
    document.save()


def clean_up(keys: list[str]) -> None:
    reconcile(timedelta(days=3))


SCENARIOS = {
    "save in autocommit": Scenario(upload, save),
    "save in a transaction": Scenario(upload, save_in_transaction),
    "save and roll back": Scenario(upload, save_and_roll_back, adopts=False),
    "save again after a rollback": Scenario(upload, save_again),
    "update in bulk after a rollback": Scenario(
        prepare_replacing, update_in_bulk_again, stays={"docs/old.txt": b"old"}
    ),
    "create in bulk": Scenario(upload, create_in_bulk),
    "save three fields": Scenario(upload_three, save_three),
    "delete a record while its file is moved": Scenario(upload, save_what_another_deletes, False, False),
    "replace a file": Scenario(prepare_replacing, replace, stays={"docs/old.txt": b"old"}),
    "finish a claim": Scenario(prepare_claimed, clean_up, is_undone=False),
    "adopt a key in a column": Scenario(prepare_column, clean_up, is_undone=False),
    "expire": Scenario(prepare_abandoned, clean_up, False, False),
}
#: Where files lie on two file systems.
ON_DISK = {
    "copy to another file system": Scenario(prepare_divided, save_in_transaction),
    "let a worker copy": Scenario(prepare_claimed_and_divided, finish_by_a_worker),
    "give back what was copied": Scenario(prepare_copied_and_deleted, clean_up, False, False),
}
#: Where a move is a copy, or nothing at all.
IN_THE_CLOUD = {
    "let a worker copy": Scenario(prepare_claimed, finish_by_a_worker),
    "give back what was copied": Scenario(prepare_moved_and_deleted, clean_up, False, False),
    "forget the source": Scenario(prepare_promoted, clean_up_later),
}


def choose() -> dict[str, Scenario]:
    """Return the scenarios for where the files lie."""
    return SCENARIOS | (ON_DISK if clouds.current is None else IN_THE_CLOUD)
