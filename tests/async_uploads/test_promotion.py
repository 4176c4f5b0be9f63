"""How records take uploads over: claim, commit, promotion, reading in between."""

from __future__ import annotations

import copy
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import SuspiciousOperation
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import Model, signals
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import path
from django.utils import timezone

from async_uploads import claims, cleanup, journal, naming, promotion, turns
from async_uploads.claims import AlreadyClaimed, IncompleteUpload, InvalidUpload
from async_uploads.journal import AsyncTempFile
from async_uploads.storage import file_locks
from async_uploads.values import AsyncFileInputData
from tests.async_uploads.promoting import (
    Album,
    Base,
    ByKey,
    Child,
    Concrete,
    Elsewhere,
    PlainTriple,
    Triple,
    Unique,
    UniqueProxy,
    dictionary,
    field_of,
    make_upload,
    media,
    pass_turns,
    row_of,
    tree,
)
from tests.testapp.models import Document, Guarded

assert media

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("media")]


class Boom(Exception):
    """What a view raises in these tests."""


@contextmanager
def rolled_back() -> Iterator[None]:
    """A transaction that fails in the end."""
    with suppress(Boom), transaction.atomic():
        yield
        raise Boom


def read(file: Any) -> bytes:
    with file.open() as opened:
        content: bytes = opened.read()
    return content


@pytest.fixture
def unpromoted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every process die right after its commit."""
    monkeypatch.setattr(promotion, "promote", lambda row: False)


# The happy path.


def test_a_saved_upload_lies_in_its_permanent_place(media: Path) -> None:
    key = make_upload(field_of(Document), b"hello", "a b.txt")
    document = Document.objects.create(file=key)
    assert tree(media) == {"docs/a_b.txt": b"hello"}
    assert document.file.name == "docs/a_b.txt"
    assert Document.objects.get().file.name == "docs/a_b.txt"
    assert row_of(key).is_promoted
    assert document.file.claim is None


def test_the_value_of_a_form_is_taken_too(media: Path) -> None:
    key = make_upload(field_of(Document))
    Document.objects.create(file=AsyncFileInputData(key=key, name="a.txt"))
    assert tree(media) == {"docs/a.txt": b"content"}


def test_a_file_assigned_by_code_is_stored_as_by_django(media: Path) -> None:
    document = Document(file=ContentFile(b"by code", name="code.txt"))
    document.save()
    assert tree(media) == {"docs/code.txt": b"by code"}
    assert not AsyncTempFile.objects.exists()


def test_replacing_a_file_keeps_the_old_one_as_django_does(media: Path) -> None:
    document = Document.objects.create(file=make_upload(field_of(Document), b"one", "one.txt"))
    document.file = make_upload(field_of(Document), b"two", "two.txt")
    document.save()
    assert tree(media) == {"docs/one.txt": b"one", "docs/two.txt": b"two"}
    assert read(Document.objects.get().file) == b"two"


def test_two_uploads_of_one_name_get_two_names(media: Path) -> None:
    with transaction.atomic():
        first = Document.objects.create(file=make_upload(field_of(Document), b"one"))
        second = Document.objects.create(file=make_upload(field_of(Document), b"two"))
    assert first.file.name != second.file.name
    assert read(first.file) == b"one"
    assert read(second.file) == b"two"


def test_two_fields_of_one_record_get_two_names(media: Path) -> None:
    keys = [make_upload(field_of(Triple, name), name.encode()) for name in ("first", "second", "third")]
    triple = Triple.objects.create(first=keys[0], second=keys[1], third=keys[2])
    assert sorted(tree(media).values()) == [b"first", b"second", b"third"]
    triple = Triple.objects.get(pk=triple.pk)
    assert [read(triple.first), read(triple.second), read(triple.third)] == [b"first", b"second", b"third"]


def test_the_primary_key_can_be_part_of_the_name() -> None:
    record = ByKey.objects.create(file=make_upload(field_of(ByKey)))
    assert record.file.name == f"by-key/{record.pk}/a.txt"


def test_a_name_that_a_foreign_file_takes_before_the_commit_is_left_to_it(media: Path) -> None:
    with transaction.atomic():
        document = Document.objects.create(file=make_upload(field_of(Document), b"mine"))
        (media / "docs").mkdir()
        (media / "docs/a.txt").write_bytes(b"foreign")
    assert (media / "docs/a.txt").read_bytes() == b"foreign"
    assert document.file.name != "docs/a.txt"
    assert Document.objects.get().file.name == document.file.name
    assert read(document.file) == b"mine"


def test_a_file_saved_by_django_avoids_a_promised_name(media: Path) -> None:
    with transaction.atomic():
        document = Document.objects.create(file=make_upload(field_of(Document), b"mine"))
        assert default_storage.save("docs/a.txt", ContentFile(b"other")) != "docs/a.txt"
    assert document.file.name == "docs/a.txt"
    assert read(document.file) == b"mine"


def test_a_plain_file_field_costs_the_statement_that_keeps_it_off_promised_names(media: Path) -> None:
    """Without it, whoever reads the waiting file would be given somebody else's."""
    with transaction.atomic():
        triple = Triple.objects.create(first=make_upload(field_of(Triple, "first"), b"mine"))
        plain = PlainTriple(first=ContentFile(b"other", "a.txt"))
        with CaptureQueriesContext(connection) as captured:
            plain.save()
        asked = [query["sql"] for query in captured.captured_queries if "async_uploads" in query["sql"]]
        assert len(asked) == 2  # for the promised name and for the one that it got
        assert read(Triple.objects.get().first) == b"mine"
        assert read(PlainTriple.objects.get().first) == b"other"
        plain.second = "triple/b.txt"  # no new content
        assert count_statements(plain.save) == 1
    assert triple.first.name == "triple/a.txt"


# Statements.


def count_statements(operation: Any) -> int:
    with CaptureQueriesContext(
        connection,
    ) as captured:
        operation()
    return len(captured)


def test_three_pending_fields_cost_five_statements(media: Path) -> None:
    keys = [make_upload(field_of(Triple, name), name=f"{name}.txt") for name in ("first", "second", "third")]
    with transaction.atomic():
        plain = count_statements(lambda: PlainTriple.objects.create(first="a", second="b", third="c"))
        pending = count_statements(lambda: Triple.objects.create(first=keys[0], second=keys[1], third=keys[2]))
    assert pending == plain + 5


def test_replacing_three_files_costs_five_statements(media: Path) -> None:
    triple, plain = Triple.objects.create(), PlainTriple.objects.create()
    for name in ("first", "second", "third"):
        setattr(triple, name, make_upload(field_of(Triple, name), name=f"{name}.txt"))
        setattr(plain, name, name)
    with transaction.atomic():
        assert count_statements(triple.save) == count_statements(plain.save) + 5


def test_nobody_listens_to_models_without_async_fields() -> None:
    def listeners(model: type[Model]) -> list[Any]:
        found = [*signals.post_save._live_receivers(model)[0], *signals.pre_save._live_receivers(model)[0]]
        return [each for each in found if each.__module__.startswith("async_uploads")]

    assert listeners(Triple)
    assert [*listeners(PlainTriple), *listeners(Album)] == []
    with transaction.atomic():
        assert count_statements(lambda: Album.objects.create(title="a")) == 1
        assert count_statements(Album.objects.get().save) == 1


def test_a_save_with_nothing_pending_costs_nothing() -> None:
    triple = Triple.objects.create(first=make_upload(field_of(Triple, "first")))
    plain = PlainTriple.objects.create(first="a")
    assert count_statements(triple.save) == count_statements(plain.save)


# Rollback.


def test_a_rollback_leaves_the_storage_unchanged_and_the_key_can_be_used_again(media: Path) -> None:
    key = make_upload(field_of(Document), b"hello")
    before = tree(media)
    with rolled_back():
        Document.objects.create(file=key)
    assert tree(media) == before
    assert not row_of(key).is_claimed
    Document.objects.create(file=key)
    assert tree(media) == {"docs/a.txt": b"hello"}


def test_a_savepoint_rolled_back_and_the_same_instance_saved_again_keeps_the_file(media: Path) -> None:
    Unique.objects.create(code="taken", file=make_upload(field_of(Unique), b"other", "other.txt"))
    key = make_upload(field_of(Unique), b"hello")
    instance = Unique(code="free", file=key)
    with transaction.atomic():
        with rolled_back():
            instance.save()
        instance.pk = None
        instance._state.adding = True
        instance.save()
    assert read(Unique.objects.get(code="free").file) == b"hello"
    assert row_of(key).is_promoted
    assert instance.file.claim is None


def test_a_failed_insert_in_autocommit_loses_nothing(media: Path) -> None:
    Unique.objects.create(code="taken", file=make_upload(field_of(Unique), b"other", "other.txt"))
    key = make_upload(field_of(Unique), b"hello")
    instance = Unique(code="taken", file=key)
    with pytest.raises(IntegrityError):
        instance.save()
    assert not row_of(key).is_claimed
    instance.code = "free"
    instance.save()
    assert read(Unique.objects.get(code="free").file) == b"hello"


def test_a_rolled_back_instance_takes_another_name_when_its_own_is_taken_meanwhile(media: Path) -> None:
    mine = Document(file=make_upload(field_of(Document), b"mine"))
    with rolled_back():
        mine.save()
    theirs = Document.objects.create(file=make_upload(field_of(Document), b"theirs"))
    assert read(mine.file) == b"mine"
    mine.pk = None
    mine.save()
    assert mine.file.name != theirs.file.name
    assert read(Document.objects.get(pk=mine.pk).file) == b"mine"
    assert read(Document.objects.get(pk=theirs.pk).file) == b"theirs"


def test_a_name_that_was_taken_between_its_choice_and_the_claim_is_not_promised(
    media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Document(file=make_upload(field_of(Document), b"other"))
    choose = naming.choose_name

    def choose_slowly(*args: Any) -> str:
        monkeypatch.setattr(naming, "choose_name", choose)
        name = choose(*args)
        other.save()
        return name

    monkeypatch.setattr(naming, "choose_name", choose_slowly)
    with transaction.atomic():
        mine = Document.objects.create(file=make_upload(field_of(Document), b"mine"))
        monkeypatch.setattr(promotion, "promote", lambda row: False)
    assert read(Document.objects.get(pk=mine.pk).file) == b"mine"
    assert read(Document.objects.get(pk=other.pk).file) == b"other"


def test_a_rolled_back_instance_is_refused_when_another_record_took_its_upload(media: Path) -> None:
    key = make_upload(field_of(Document))
    mine = Document(file=key)
    with rolled_back():
        mine.save()
    Document.objects.create(file=key)
    mine.pk = None
    mine._state.adding = True
    with pytest.raises(AlreadyClaimed):
        mine.save()
    assert Document.objects.count() == 1


# Refusals.


def test_a_key_is_taken_once(media: Path) -> None:
    key = make_upload(field_of(Document))
    Document.objects.create(file=key)
    with pytest.raises(AlreadyClaimed):
        Document.objects.create(file=key)
    assert Document.objects.count() == 1


def test_a_claim_lost_between_the_check_and_the_save_is_refused(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = make_upload(field_of(Document))
    prepare = claims.prepare

    def prepare_slowly(instance: Any, field: Any, files: Any) -> None:
        prepare(instance, field, files)
        monkeypatch.setattr(claims, "prepare", prepare)
        Document.objects.create(title="faster", file=key)

    monkeypatch.setattr(claims, "prepare", prepare_slowly)
    with pytest.raises(AlreadyClaimed):
        Document.objects.create(title="slower", file=key)
    assert Document.objects.get(title="slower").file.name == ""
    assert Document.objects.get(title="faster").file.name == "docs/a.txt"


def test_a_replacement_refused_too_late_leaves_the_old_file(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = Document.objects.create(file=make_upload(field_of(Document), name="old.txt"))
    document.file = key = make_upload(field_of(Document))
    Document.objects.create(title="faster", file=key)
    monkeypatch.setattr(claims, "prepare", lambda instance, field, files: None)
    with pytest.raises(AlreadyClaimed):
        document.save()
    assert Document.objects.get(pk=document.pk).file.name == "docs/old.txt"


def test_the_same_record_may_submit_the_same_key_again(media: Path) -> None:
    key = make_upload(field_of(Document), b"hello")
    document = Document.objects.create(file=key)
    again = Document.objects.get(pk=document.pk)
    again.file = AsyncFileInputData(key=key)
    again.save()
    assert again.file.name == "docs/a.txt"
    assert Document.objects.get().file.name == "docs/a.txt"
    assert tree(media) == {"docs/a.txt": b"hello"}


def test_the_key_of_another_field_is_refused(media: Path) -> None:
    key = make_upload(field_of(Guarded))
    with pytest.raises(InvalidUpload):
        Document.objects.create(file=key)
    assert not Document.objects.exists()


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(InvalidUpload):
        Document.objects.create(file="async-temp-files/2026/11/22/unknown.txt")
    assert not Document.objects.exists()


def test_an_incomplete_upload_is_refused(media: Path) -> None:
    key = make_upload(field_of(Document), finished=False)
    with pytest.raises(IncompleteUpload):
        Document.objects.create(file=key)
    assert not Document.objects.exists()


def test_an_upload_that_was_refused_too_early_is_taken_later(media: Path) -> None:
    key = make_upload(field_of(Document), finished=False)
    document = Document(file=key)
    with pytest.raises(IncompleteUpload):
        document.save()
    AsyncTempFile.objects.update(finished_at=timezone.now())
    document.save()
    assert row_of(key).is_promoted


def test_an_upload_that_the_cleanup_is_removing_is_refused(media: Path) -> None:
    key = make_upload(field_of(Document), claim=journal.EXPIRED)
    with pytest.raises(InvalidUpload):
        Document.objects.create(file=key)


# Reading before promotion.


@pytest.mark.usefixtures("unpromoted")
def test_another_instance_reads_the_file_before_it_is_promoted(media: Path) -> None:
    key = make_upload(field_of(Document), b"hello")
    Document.objects.create(file=key)
    document = Document.objects.get()
    assert list(tree(media)) == [key]
    assert document.file.name == "docs/a.txt"
    assert read(document.file) == b"hello"
    assert document.file.size == 5
    assert Path(document.file.path).read_bytes() == b"hello"
    assert default_storage.exists("docs/a.txt")
    assert default_storage.size("docs/a.txt") == 5
    assert read(default_storage.open("docs/a.txt")) == b"hello"
    assert default_storage.url("docs/a.txt") == f"/media/{key}"
    assert not default_storage.exists("docs/b.txt")


@pytest.mark.django_db(transaction=False)
def test_reads_work_in_a_test_case_where_no_commit_happens(media: Path) -> None:
    key = make_upload(field_of(Document), b"hello")
    document = Document.objects.create(file=key)
    assert list(tree(media)) == [key]
    assert read(document.file) == b"hello"
    assert read(Document.objects.get().file) == b"hello"
    document.save()
    assert document.file.size == 5


def test_a_copied_and_a_pickled_instance_carry_the_claim(media: Path) -> None:
    key = make_upload(field_of(Document), b"hello")
    with rolled_back():
        document = Document.objects.create(file=key)
        twin, pickled, deep = copy.copy(document), pickle.dumps(document), copy.deepcopy(document)
    for each in (twin, pickle.loads(pickled), deep):
        assert each.file.claim.key == key
        assert read(each.file) == b"hello"
    restored = pickle.loads(pickled)
    restored._state.adding = True
    restored.save()
    assert read(Document.objects.get().file) == b"hello"


def test_a_copy_of_the_record_shares_the_file_as_with_django(media: Path) -> None:
    key = make_upload(field_of(Document), b"hello")
    with transaction.atomic():
        document = Document.objects.create(file=key)
        document.pk = None
        document._state.adding = True
        document.save()
    assert tree(media) == {"docs/a.txt": b"hello"}
    assert [each.file.name for each in Document.objects.all()] == ["docs/a.txt"] * 2


def test_deleting_a_pending_file_leaves_the_upload_to_the_cleanup(media: Path) -> None:
    key = make_upload(field_of(Triple, "first"), b"hello")
    with transaction.atomic():
        triple = Triple.objects.create(first=key)
        triple.first.delete()
    assert Triple.objects.get().first.name == ""
    assert list(tree(media)) == [key]
    assert not row_of(key).is_claimed


def test_deleting_the_record_before_the_commit_gives_the_claim_back(media: Path) -> None:
    key = make_upload(field_of(Document), b"hello")
    with transaction.atomic():
        Document.objects.create(file=key).delete()
    assert list(tree(media)) == [key]
    assert not row_of(key).is_claimed


def test_a_file_read_before_its_promotion_can_be_opened_again(media: Path) -> None:
    with transaction.atomic():
        document = Document.objects.create(file=make_upload(field_of(Document), b"hello"))
        assert read(document.file) == b"hello"
    assert read(document.file) == b"hello"
    with document.file.open() as file:
        assert file.read(2) == b"he"
        assert file.open().read() == b"hello"


# Crashes.


def test_promotion_after_a_crash_between_link_and_unlink_finishes_the_move(
    media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_upload(field_of(Document), b"hello")

    def die(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", die)
        with pytest.raises(KeyboardInterrupt):
            Document.objects.create(file=key)
    assert sorted(tree(media)) == sorted([key, "docs/a.txt"])
    assert read(Document.objects.get().file) == b"hello"
    assert promotion.promote(row_of(key))
    assert tree(media) == {"docs/a.txt": b"hello"}
    assert promotion.promote(row_of(key))


def test_promotion_after_a_crash_before_it_was_recorded_records_it(media: Path) -> None:
    key = make_upload(field_of(Document), b"hello")
    Document.objects.create(file=key)
    digest = journal.compute_target_digest(row_of(key).storage, "docs/a.txt")
    AsyncTempFile.objects.update(promoted_at=None, target_digest=digest)
    assert promotion.promote(row_of(key))
    assert row_of(key).is_promoted
    assert tree(media) == {"docs/a.txt": b"hello"}


def test_a_failed_promotion_is_recorded_and_not_raised(
    media: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    key = make_upload(field_of(Document), b"hello")

    def fail(*args: Any) -> None:
        raise OSError("the disk is away")

    with monkeypatch.context() as patch:
        patch.setattr(default_storage.__class__, "move_file", fail)
        document = Document.objects.create(file=key)
    row = row_of(key)
    assert row.attempts == 1
    assert "the disk is away" in row.error
    assert row.retry_at is not None
    assert row.retry_at > timezone.now()
    assert any(record.name.startswith("async_uploads") for record in caplog.records)
    assert read(document.file) == b"hello"
    assert read(Document.objects.get().file) == b"hello"
    assert promotion.promote(row)
    assert row_of(key).error == ""
    assert tree(media) == {"docs/a.txt": b"hello"}


def test_a_moved_file_of_the_wrong_size_is_not_called_promoted(media: Path) -> None:
    key = make_upload(field_of(Document), b"hello", length=6)
    Document.objects.create(file=key)
    assert not row_of(key).is_promoted
    assert "5 bytes" in row_of(key).error


def delete_meanwhile(patch: pytest.MonkeyPatch, method: str, meanwhile: Callable[[Callable[[], Any]], Any]) -> None:
    """Let the record be deleted in the middle of its promotion; ``meanwhile`` gets what the storage would do."""
    storage_class = default_storage.__class__
    operation = getattr(storage_class, method)

    def act(storage: Any, *names: str) -> Any:
        patch.setattr(storage_class, method, operation)
        Document.objects.all().delete()
        return meanwhile(lambda: operation(storage, *names))

    patch.setattr(storage_class, method, act)


@pytest.mark.parametrize("is_moved", [False, True])
def test_a_record_that_is_deleted_while_its_file_is_moved_leaves_the_upload_at_its_key(
    media: Path, monkeypatch: pytest.MonkeyPatch, is_moved: bool
) -> None:
    key = make_upload(field_of(Document), b"hello")

    def clean_meanwhile(move: Callable[[], Any]) -> None:
        if is_moved:
            move()
        assert cleanup.reconcile().returned == 0
        if not is_moved:
            move()

    delete_meanwhile(monkeypatch, "move_file", clean_meanwhile)
    Document.objects.create(file=key)
    row = row_of(key)
    assert (row.is_claimed, row.is_promoted, row.error) == (False, False, "")
    assert tree(media) == {key: b"hello"}
    Document.objects.create(file=key)
    assert tree(media) == {"docs/a.txt": b"hello"}


class Killed(BaseException):
    """The process ends here; nothing of ours catches it, and the kernel frees its locks."""


@pytest.mark.parametrize("is_late", [False, True])
def test_a_process_that_moves_a_deleted_records_file_and_dies_loses_nothing(
    media: Path, monkeypatch: pytest.MonkeyPatch, is_late: bool
) -> None:
    key = make_upload(field_of(Document), b"hello")
    monkeypatch.setattr(file_locks, "HOLD_TIMEOUT", 0)

    def clean_meanwhile(move: Callable[[], Any]) -> None:
        if is_late:  # frozen, for longer than the others wait: but it holds the file
            pass_turns()
        report = cleanup.reconcile()
        assert (report.returned, report.failed) == (0, int(is_late))
        move()
        raise Killed

    delete_meanwhile(monkeypatch, "move_file", clean_meanwhile)
    with pytest.raises(Killed):
        Document.objects.create(file=key)
    assert tree(media) == {"docs/a.txt": b"hello"}
    assert row_of(key).moved_to_location == "docs/a.txt"
    assert cleanup.reconcile(now=timezone.now() + timedelta(hours=1)).returned == 1
    assert tree(media) == {key: b"hello"}
    Document.objects.create(file=key)
    assert tree(media) == {"docs/a.txt": b"hello"}


def test_a_process_that_thaws_when_its_time_is_over_moves_nothing(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = make_upload(field_of(Document), b"hello")

    def clean_meanwhile(hold: Callable[[], Any]) -> Any:
        pass_turns()
        assert cleanup.reconcile().returned == 1
        Document.objects.create(title="another", file=key)
        monkeypatch.setattr(turns, "plan", lambda length: timezone.now() + timedelta(hours=1))
        return hold()

    delete_meanwhile(monkeypatch, "hold_source", clean_meanwhile)
    Document.objects.create(file=key)
    assert Document.objects.get().file.name == "docs/a.txt"
    assert row_of(key).is_promoted
    assert tree(media) == {"docs/a.txt": b"hello"}


def test_a_late_giver_does_not_take_a_file_back_from_its_new_record(
    media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_upload(field_of(Document), b"hello")

    def save_meanwhile(hold: Callable[[], Any]) -> Any:
        assert row_of(key).claim == journal.RETURNING
        pass_turns()
        assert cleanup.reconcile().returned == 1
        Document.objects.create(title="another", file=key)
        monkeypatch.setattr(turns, "plan", lambda length: timezone.now() + timedelta(hours=1))
        return hold()

    delete_meanwhile(monkeypatch, "hold_source", save_meanwhile)
    with transaction.atomic():
        Document.objects.create(file=key).delete()
    assert Document.objects.get().file.name == "docs/a.txt"
    assert tree(media) == {"docs/a.txt": b"hello"}


def test_a_promotion_that_begins_late_asks_for_more_time_by_one_statement(
    media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    for is_late in (False, True):
        key = make_upload(field_of(Document), b"hello")
        with monkeypatch.context() as patch:
            patch.setattr(promotion, "promote", lambda row: False)
            Document.objects.create(file=key)
        if is_late:
            AsyncTempFile.objects.filter(key=key).update(retry_at=timezone.now())
        row = row_of(key)
        with CaptureQueriesContext(connection) as captured:
            assert promotion.promote(row)
        counts.append(len(captured))
    assert counts[1] == counts[0] + 1
    assert sorted(tree(media).values()) == [b"hello"] * 2


def test_a_claim_that_was_not_quite_given_back_is_so_by_the_next_run(
    media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_upload(field_of(Document), b"hello")

    def fail(*args: Any) -> None:
        raise OSError("away")

    with monkeypatch.context() as patch:
        patch.setattr(default_storage.__class__, "return_file", fail)
        with transaction.atomic():
            document = Document.objects.create(file=key)
            Document.objects.all().delete()
    row = row_of(key)
    assert row.claim == journal.RETURNING
    with pytest.raises(AlreadyClaimed):
        document.save(force_insert=True)
    document.pk = None
    with pytest.raises(AlreadyClaimed):
        document.save()
    assert cleanup.reconcile(now=timezone.now() + timedelta(hours=1)).returned == 1
    document.save()
    assert tree(media) == {"docs/a.txt": b"hello"}


def test_a_record_that_is_saved_again_while_its_claim_is_given_back_keeps_it(
    media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_upload(field_of(Document), b"hello")
    with monkeypatch.context() as patch:
        patch.setattr(promotion, "promote", lambda row: False)
        document = Document.objects.create(file=key)
        Document.objects.update(file="")
    pass_turns()
    is_held = promotion.is_held

    def look_and_save(row: AsyncTempFile, field: Any) -> bool:
        found = is_held(row, field)
        monkeypatch.undo()
        with monkeypatch.context() as patch:
            patch.setattr(promotion, "promote", lambda row: False)
            document.save()
        return found

    monkeypatch.setattr(promotion, "is_held", look_and_save)
    assert cleanup.reconcile().returned == 0
    assert cleanup.reconcile().promoted == 1
    assert Document.objects.get().file.name == "docs/a.txt"
    assert tree(media) == {"docs/a.txt": b"hello"}


# Views and threads.


def save_and_raise(request: HttpRequest) -> HttpResponse:
    """Save a record, then fail unless told not to."""
    Document.objects.create(file=AsyncFileInputData(key=request.POST["key"]))
    if "fail" in request.POST:
        raise Boom
    return HttpResponse("saved")


urlpatterns = [path("save/", save_and_raise)]


@pytest.mark.urls(__name__)
def test_a_view_that_fails_under_atomic_requests_leaves_the_upload_for_the_next_submission(
    media: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    key = make_upload(field_of(Document), b"hello")
    before = tree(media)
    with pytest.raises(Boom):
        client.post("/save/", {"key": key, "fail": "1"})
    assert tree(media) == before
    assert not Document.objects.exists()
    assert client.post("/save/", {"key": key}).content == b"saved"
    assert tree(media) == {"docs/a.txt": b"hello"}


def run_in_threads(operation: Callable[[int], Any], count: int) -> list[Any]:
    """Run an operation at the same moment in several threads; returns its results or errors."""
    start = threading.Barrier(count)

    def run(number: int) -> Any:
        try:
            start.wait(60)
            return operation(number)
        except Exception as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


@pytest.mark.parametrize("is_atomic", [False, True])
def test_records_racing_for_one_key_leave_one_winner(media: Path, is_atomic: bool) -> None:
    key = make_upload(field_of(Document), b"hello")

    def save(number: int) -> Document:
        with transaction.atomic() if is_atomic else nullcontext():
            return Document.objects.create(title=str(number), file=key)

    results = run_in_threads(save, 4)
    assert sorted(type(each).__name__ for each in results) == ["AlreadyClaimed"] * 3 + ["Document"]
    assert [each.file.name for each in Document.objects.exclude(file="")] == ["docs/a.txt"]
    assert tree(media) == {"docs/a.txt": b"hello"}


@pytest.mark.parametrize("is_atomic", [False, True])
def test_records_racing_for_one_name_get_a_name_each(media: Path, is_atomic: bool) -> None:
    keys = [make_upload(field_of(Document), str(number).encode()) for number in range(4)]

    def save(number: int) -> Document:
        with transaction.atomic() if is_atomic else nullcontext():
            return Document.objects.create(title=str(number), file=keys[number])

    results = run_in_threads(save, 4)
    assert [type(each).__name__ for each in results] == ["Document"] * 4
    for document in Document.objects.all():
        assert read(document.file) == document.title.encode()
    assert sorted(tree(media).values()) == [b"0", b"1", b"2", b"3"]


def test_a_promotion_done_twice_at_once_leaves_one_file(media: Path) -> None:
    key = make_upload(field_of(Document), b"hello")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(promotion, "promote", lambda row: False)
        Document.objects.create(file=key)
    assert run_in_threads(lambda number: promotion.promote(row_of(key)), 4) == [True] * 4
    assert tree(media) == {"docs/a.txt": b"hello"}


# Faults.


class Fault(DatabaseError):
    """What a statement raises in the sweep."""


class FaultyStatements:
    """Lets the k-th statement fail, before its effect or after it."""

    def __init__(self, fatal: int | None = None, is_after: bool = False) -> None:
        self.fatal, self.is_after, self.count = fatal, is_after, 0

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        number, self.count = self.count, self.count + 1
        if number != self.fatal:
            return execute(sql, params, many, context)
        # A BEGIN that took effect and failed all the same is a lost connection.
        if self.is_after and not sql.startswith("BEGIN"):
            execute(sql, params, many, context)
        raise Fault(sql)


@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.parametrize("is_atomic", [False, True])
def test_whichever_statement_fails_the_file_is_readable_and_ends_in_one_place(
    media: Path, is_atomic: bool, is_after: bool
) -> None:
    def save(key: str, faulty: FaultyStatements) -> None:
        with connection.execute_wrapper(faulty), transaction.atomic() if is_atomic else nullcontext():
            Document.objects.create(file=key)

    clean = FaultyStatements()
    save(make_upload(field_of(Document)), clean)
    Document.objects.all().delete()
    assert clean.count >= 4
    for number in range(clean.count):
        content = f"{number}".encode()
        key = make_upload(field_of(Document), content, f"{number}.txt")
        before = tree(media)
        with suppress(Fault):
            save(key, FaultyStatements(number, is_after))
        if not Document.objects.exists():
            assert tree(media) == before
            Document.objects.create(file=key)
        assert read(Document.objects.get().file) == content
        report = cleanup.reconcile(timedelta(days=3), now=timezone.now() + timedelta(days=2))
        assert not report.problems
        assert Document.objects.get().file.name == f"docs/{number}.txt"
        assert read(Document.objects.get().file) == content
        assert sorted(tree(media).values()).count(content) == 1
        assert row_of(key).is_promoted
        Document.objects.all().delete()


# Ways to save.


def test_only_the_named_fields_are_adopted() -> None:
    key = make_upload(field_of(Document))
    document = Document.objects.create(file=make_upload(field_of(Document), name="old.txt"))
    document.file = key
    document.title = "new"
    document.save(update_fields=["title"])
    assert not row_of(key).is_claimed
    assert Document.objects.get().file.name == "docs/old.txt"
    document.save(update_fields=["file"])
    assert row_of(key).is_promoted


def test_a_proxy_adopts() -> None:
    record = UniqueProxy.objects.create(code="a", file=make_upload(field_of(Unique)))
    assert record.file.name == "unique/a.txt"
    assert read(Unique.objects.get().file) == b"content"


def test_a_child_with_a_table_of_its_own_adopts_its_parents_fields_too(media: Path) -> None:
    inherited, own = make_upload(field_of(Base), b"inherited"), make_upload(field_of(Child, "extra"), b"own")
    Child.objects.create(file=inherited, extra=own)
    child = Child.objects.get()
    assert tree(media) == {"base/a.txt": b"inherited", "child/a.txt": b"own"}
    assert (read(child.file), read(child.extra)) == (b"inherited", b"own")
    assert row_of(inherited).field_label == "testapp.Base.file"


def test_a_field_of_an_abstract_model_belongs_to_each_concrete_one() -> None:
    record = Concrete.objects.create(file=make_upload(field_of(Concrete)))
    assert record.file.name == "concrete/a.txt"
    assert field_of(Concrete).perm_detail == "testapp.special"


def test_a_key_that_nobody_adopted_stays_in_the_column_and_reads_work(media: Path) -> None:
    key = make_upload(field_of(Document), b"hello")
    Document(file=key).save_base(raw=True)
    document = Document.objects.get()
    assert document.file.name == key
    assert read(document.file) == b"hello"
    document.save()
    assert document.file.name == "docs/a.txt"


def test_a_stale_instance_saved_after_promotion_gets_the_permanent_name(media: Path) -> None:
    key = make_upload(field_of(Document), b"hello")
    stale = Document(file=key)
    stale.save_base(raw=True)
    Document.objects.get().save()
    stale.pk = Document.objects.get().pk
    stale.save()
    assert Document.objects.get().file.name == "docs/a.txt"
    assert stale.file.name == "docs/a.txt"


def test_fixtures_are_left_to_the_cleanup() -> None:
    key = make_upload(field_of(Document))
    Document(pk=1, file=key).save_base(raw=True)
    assert not row_of(key).is_claimed


def test_a_storage_of_three_methods_works() -> None:
    key = make_upload(field_of(Elsewhere), b"hello", finished=False, metadata="", length=None)
    record = Elsewhere.objects.create(file=key)
    assert record.file.name == "else/a.txt"
    assert dictionary.objects["else/a.txt"] == b"hello"
    assert row_of(key).is_promoted
    assert record.file.stored_name == "else/a.txt"


@pytest.mark.usefixtures("unpromoted")
def test_a_storage_of_three_methods_is_asked_for_the_key_until_promotion() -> None:
    key = make_upload(field_of(Elsewhere), b"hello", finished=False, metadata="", length=None)
    Elsewhere.objects.create(file=key)
    assert Elsewhere.objects.get().file.stored_name == key


def test_a_refusal_that_no_form_catches_is_a_bad_request(media: Path) -> None:
    key = make_upload(field_of(Document), b"hello")
    Document.objects.create(file=key)
    with pytest.raises(SuspiciousOperation):
        Document.objects.create(file=key)
