"""All the ways Django saves; the table of docs/explanation/saving.md names a test for each."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import django
import pytest
from asgiref.sync import async_to_sync
from django.contrib import admin
from django.contrib.auth.models import User
from django.core import serializers
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.db.utils import load_backend
from django.forms import inlineformset_factory, modelformset_factory
from django.test import Client
from django.urls import include, path
from django.utils import timezone

from async_uploads import claims, promotion
from async_uploads.claims import AlreadyClaimed, InvalidUpload
from async_uploads.cleanup import reconcile
from async_uploads.registry import default_async_field_registry
from tests.async_uploads.promoting import (
    Album,
    ByKey,
    Photo,
    Triple,
    Unique,
    field_of,
    make_upload,
    media,
    pass_turns,
    row_of,
    tree,
)
from tests.docs.pages import codes_in, read_table
from tests.testapp.models import Document

assert media

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("media")]


class Boom(Exception):
    """What ends a transaction."""


def read(file: Any) -> bytes:
    with file.open() as opened:
        content: bytes = opened.read()
    return content


def upload(content: bytes = b"hello", name: str = "a.txt", model: Any = Document) -> str:
    return make_upload(field_of(model), content, name)


# The page.

PAGE = ("explanation/saving", "| way | what happens |")


def list_tests() -> dict[str, str]:
    """Return the module of each test of this directory."""
    found = {}
    for module in Path(__file__).parent.rglob("test_*.py"):
        for node in ast.parse(module.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found[node.name] = module.stem
    return found


def test_the_table_of_ways_names_a_test_for_each_and_every_test_of_this_module() -> None:
    documented = [codes_in(tests) for *_, tests in read_table(*PAGE)]
    assert all(documented)
    names = [name for names in documented for name in names]
    tests = list_tests()
    assert [name for name in names if name not in tests] == []
    here = {name for name, module in tests.items() if module == "test_saving" and "the_table_of_ways" not in name}
    assert here - set(names) == set()


#: Each way that the page promises a line for, by what its line says of it.
WAYS = (
    "a failed INSERT in autocommit",
    "a savepoint rolled back, the same instance saved again",
    "reading through another instance, in the same transaction",
    "a primary key of its own",
    "`bulk_create()` in a transaction",
    "`bulk_create()` in autocommit",
    "`bulk_create(ignore_conflicts=True)`",
    "`bulk_create(update_conflicts=True)`",
    "`bulk_update()`",
    "`update_or_create()`",
    "`QuerySet.update()`",
    "`save(update_fields=…)`",
    "`using=`",
    "`loaddata`",
    "a raw save in autocommit",
    "multi-table inheritance",
    "proxy model",
    "abstract model",
    "nested `atomic`",
    "`ATOMIC_REQUESTS`",
    "`TestCase`",
    "`asave()`",
    "an instance copied or pickled before the commit",
    "a copy by `pk = None`, before the commit",
    "a copy by `pk = None`, after promotion",
    "Save as new in the admin",
    "deleting the record before the commit",
    "deleting it between commit and move",
    "deleting it after the move",
    "replacing a file",
    "clearing a file",
    "two records racing for one key",
    "two transactions wanting one name",
    "`upload_to` with the primary key",
    "a stale instance saved after promotion",
    "the same form of one record sent twice",
    "a create form sent twice (double click)",
    "a model formset",
    "an inline formset",
    "an inline in the admin",
    "a field's value assigned to another record",
    "a deadlock",
)


def test_the_table_of_ways_has_a_line_for_each() -> None:
    lines = [way.replace('"', "") for way, *_ in read_table(*PAGE)]
    assert [way for way in WAYS if not any(line.startswith(way) for line in lines)] == []


# One record.


def test_another_instance_reads_the_file_in_the_same_transaction() -> None:
    with transaction.atomic():
        document = Document.objects.create(file=upload())
        other = Document.objects.get(pk=document.pk)
        assert read(other.file) == b"hello"
        other.title = "changed"
        other.save()
        assert read(Document.objects.get(pk=document.pk).file) == b"hello"
    assert read(Document.objects.get(pk=document.pk).file) == b"hello"


def test_a_record_with_a_primary_key_of_its_own(media: Path) -> None:
    Document(pk=77, file=upload()).save()
    assert Document.objects.get(pk=77).file.name == "docs/a.txt"
    assert tree(media) == {"docs/a.txt": b"hello"}


def test_update_or_create_and_get_or_create(media: Path) -> None:
    for content, name in ((b"one", "one.txt"), (b"two", "two.txt")):
        Unique.objects.update_or_create(code="a", defaults={"file": upload(content, name, Unique)})
    assert read(Unique.objects.get().file) == b"two"
    assert tree(media) == {"unique/one.txt": b"one", "unique/two.txt": b"two"}
    unused = upload(b"three", "three.txt", Unique)
    record, is_created = Unique.objects.get_or_create(code="a", defaults={"file": unused})
    assert not is_created
    assert read(record.file) == b"two"
    assert not row_of(unused).is_claimed


def test_an_instance_that_is_read_anew_before_the_commit_keeps_its_file(media: Path) -> None:
    document = Document(file=upload())
    with transaction.atomic():
        document.save()
        document.refresh_from_db()
        assert read(document.file) == b"hello"
        document.title = "changed"
        document.save()
    assert Document.objects.get().file.name == document.file.name == "docs/a.txt"
    assert tree(media) == {"docs/a.txt": b"hello"}


def test_asave_and_acreate(media: Path) -> None:
    document, second = Document(file=upload()), upload(b"two", "b.txt")

    async def save() -> None:
        await document.asave()
        await Document.objects.acreate(file=second)

    async_to_sync(save)()
    assert Document.objects.get(pk=document.pk).file.name == document.file.name == "docs/a.txt"
    assert tree(media) == {"docs/a.txt": b"hello", "docs/b.txt": b"two"}


def test_nothing_moves_before_the_outermost_of_nested_transactions_commits(media: Path) -> None:
    key = upload()
    with transaction.atomic():
        with transaction.atomic():
            with transaction.atomic():
                Document.objects.create(file=key)
            assert list(tree(media)) == [key]
        assert list(tree(media)) == [key]
    assert list(tree(media)) == ["docs/a.txt"]


def test_clearing_a_pending_file_in_its_own_transaction_gives_the_upload_back(media: Path) -> None:
    key = make_upload(field_of(Triple, "first"), b"hello")
    with transaction.atomic():
        triple = Triple.objects.create(first=key)
        triple.first = ""
        triple.save()
    assert Triple.objects.get().first.name == ""
    assert list(tree(media)) == [key]
    assert not row_of(key).is_claimed


def test_replacing_a_pending_file_in_its_own_transaction_gives_the_first_upload_back(media: Path) -> None:
    first, second = upload(b"one", "one.txt"), upload(b"two", "two.txt")
    with transaction.atomic():
        document = Document.objects.create(file=first)
        document.file = second
        document.save()
    assert read(Document.objects.get().file) == b"two"
    assert sorted(tree(media)) == sorted([first, "docs/two.txt"])
    assert not row_of(first).is_claimed


def test_deleting_the_record_after_promotion_leaves_its_file_as_django_does(media: Path) -> None:
    key = upload()
    Document.objects.create(file=key).delete()
    report = reconcile()
    assert report.problems == []
    assert tree(media) == {"docs/a.txt": b"hello"}
    with pytest.raises(AlreadyClaimed):
        Document.objects.create(file=key)


def test_deleting_the_record_between_commit_and_promotion_gives_the_upload_back(
    media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = upload()
    with monkeypatch.context() as patch:
        patch.setattr(promotion, "promote", lambda row: False)
        document = Document.objects.create(file=key)
    document.delete()
    assert reconcile().returned == 0  # that process may still be about to move it
    pass_turns()
    assert reconcile().returned == 1
    assert list(tree(media)) == [key]
    assert not row_of(key).is_claimed


def test_a_copy_made_by_an_empty_primary_key_shares_the_promoted_file(media: Path) -> None:
    document = Document.objects.create(file=upload())
    document.pk = None
    document.save()
    assert [each.file.name for each in Document.objects.all()] == ["docs/a.txt"] * 2
    assert tree(media) == {"docs/a.txt": b"hello"}


@pytest.mark.parametrize("is_atomic", [False, True])
def test_a_value_assigned_to_another_record_is_shared_as_with_django(media: Path, is_atomic: bool) -> None:
    first, second = Document(title="first", file=upload()), Document(title="second")
    if is_atomic:
        with transaction.atomic():
            first.save()
            second.file = first.file
            second.save()
    else:
        first.save()
        second.file = first.file
        second.save()
    assert [each.file.name for each in Document.objects.all()] == ["docs/a.txt"] * 2
    assert tree(media) == {"docs/a.txt": b"hello"}
    assert read(Document.objects.get(title="second").file) == b"hello"


def test_a_promoted_file_assigned_to_another_field_is_only_named_there(media: Path) -> None:
    triple = Triple.objects.create(first=make_upload(field_of(Triple, "first"), b"hello"))
    triple.second = triple.first
    triple.save()
    triple = Triple.objects.get()
    assert triple.second.name == triple.first.name == "triple/a.txt"
    assert tree(media) == {"triple/a.txt": b"hello"}


def test_a_process_that_dies_while_it_saves_again_after_a_rollback_loses_nothing(
    media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = Document(file=upload())
    with suppress(Boom), transaction.atomic():
        document.save()
        raise Boom
    document.pk, document._state.adding = None, True
    with monkeypatch.context() as patch, suppress(Boom):
        patch.setattr(claims, "adopt", raise_boom)  # right after the INSERT, which autocommit commits
        document.save()
    assert read(Document.objects.get().file) == b"hello"
    reconcile()
    assert tree(media) == {"docs/a.txt": b"hello"}


def raise_boom(*args: Any, **kwargs: Any) -> None:
    raise Boom


# Many records.


def test_bulk_create_adopts_at_its_commit(media: Path) -> None:
    keys = [upload(str(number).encode()) for number in range(3)]
    with transaction.atomic():
        documents = Document.objects.bulk_create([Document(file=key) for key in keys])
    assert [read(each.file) for each in Document.objects.order_by("pk")] == [b"0", b"1", b"2"]
    assert sorted(tree(media).values()) == [b"0", b"1", b"2"]
    assert all(row_of(key).is_promoted for key in keys)
    if connection.features.can_return_rows_from_bulk_insert:
        assert [each.file.name for each in documents] == [each.file.name for each in Document.objects.order_by("pk")]


def test_bulk_create_in_a_transaction_moves_nothing_before_its_commit_and_nothing_after_a_rollback(media: Path) -> None:
    key = upload()
    with suppress(Boom), transaction.atomic():
        Document.objects.bulk_create([Document(file=key)])
        assert read(Document.objects.get().file) == b"hello"
        raise Boom
    assert list(tree(media)) == [key]
    assert not row_of(key).is_claimed
    with transaction.atomic():
        Document.objects.bulk_create([Document(file=key)])
        assert list(tree(media)) == [key]
    assert tree(media) == {"docs/a.txt": b"hello"}


def test_bulk_create_in_autocommit_adopts_at_once_or_is_left_to_the_cleanup(media: Path) -> None:
    key = upload()
    Document.objects.bulk_create([Document(file=key)])
    assert read(Document.objects.get().file) == b"hello"
    assert row_of(key).is_promoted or django.VERSION >= (6,)
    reconcile()
    assert tree(media) == {"docs/a.txt": b"hello"}


def test_an_instance_whose_save_was_rolled_back_keeps_its_file_when_created_in_bulk(media: Path) -> None:
    document = Document(file=upload())
    with suppress(Boom), transaction.atomic():
        document.save()
        raise Boom
    document.pk = None
    with transaction.atomic():
        Document.objects.bulk_create([document])
    assert Document.objects.get().file.name == "docs/a.txt"
    assert tree(media) == {"docs/a.txt": b"hello"}


def test_a_record_created_in_bulk_and_saved_before_the_commit_is_adopted_once(media: Path) -> None:
    with transaction.atomic():
        [document] = Document.objects.bulk_create([Document(file=upload())])
        document.title = "saved"
        document.save()
    assert Document.objects.get().file.name == document.file.name == "docs/a.txt"
    assert tree(media) == {"docs/a.txt": b"hello"}


def test_bulk_create_refuses_what_is_no_upload_for_the_field(media: Path) -> None:
    with pytest.raises(InvalidUpload):
        Document.objects.bulk_create([Document(), Document(file="async-temp-files/2026/11/22/unknown.txt")])
    assert not Document.objects.exists()


def test_bulk_create_that_ignores_conflicts_is_left_to_the_cleanup(media: Path) -> None:
    Unique.objects.create(code="taken", file=upload(b"old", "old.txt", Unique))
    ignored, inserted = upload(b"ignored", "b.txt", Unique), upload(b"new", "c.txt", Unique)
    Unique.objects.bulk_create(
        [Unique(code="taken", file=ignored), Unique(code="free", file=inserted)], ignore_conflicts=True
    )
    assert read(Unique.objects.get(code="free").file) == b"new"
    report = reconcile()
    assert (report.adopted, report.problems) == (1, [])
    assert read(Unique.objects.get(code="taken").file) == b"old"
    assert Unique.objects.get(code="free").file.name == "unique/c.txt"
    assert tree(media) == {"unique/old.txt": b"old", "unique/c.txt": b"new", ignored: b"ignored"}
    assert not row_of(ignored).is_claimed


def test_bulk_create_that_ignores_conflicts_adopts_records_with_known_keys(media: Path) -> None:
    Document.objects.create(pk=1, file=upload(b"old", "old.txt"))
    ignored, inserted = upload(b"ignored", "b.txt"), upload(b"new", "c.txt")
    documents = [Document(pk=1, file=ignored), Document(pk=2, file=inserted)]
    with transaction.atomic():
        Document.objects.bulk_create(documents, ignore_conflicts=True)
    assert read(Document.objects.get(pk=1).file) == b"old"
    assert Document.objects.get(pk=2).file.name == "docs/c.txt"
    assert tree(media) == {"docs/old.txt": b"old", "docs/c.txt": b"new", ignored: b"ignored"}
    assert not row_of(ignored).is_claimed


def test_bulk_create_that_updates_conflicts_adopts(media: Path) -> None:
    Unique.objects.create(code="taken", file=upload(b"old", "old.txt", Unique))
    key = upload(b"new", "new.txt", Unique)
    # MySQL and MariaDB take any unique column for the conflict, and none by name.
    target = {"unique_fields": ["code"]} if connection.features.supports_update_conflicts_with_target else {}
    Unique.objects.bulk_create(
        [Unique(code="taken", file=key)], update_conflicts=True, update_fields=["file"], **target
    )
    assert read(Unique.objects.get().file) == b"new"
    reconcile()
    assert Unique.objects.get().file.name == "unique/new.txt"
    assert tree(media) == {"unique/old.txt": b"old", "unique/new.txt": b"new"}


def test_bulk_create_gives_names_that_hold_the_primary_key() -> None:
    ByKey.objects.bulk_create([ByKey(file=upload(model=ByKey))])
    reconcile()
    record = ByKey.objects.get()
    assert record.file.name == f"by-key/{record.pk}/a.txt"


def test_bulk_update_adopts_at_its_commit(media: Path) -> None:
    documents = [Document.objects.create(title=str(number)) for number in range(2)]
    for document in documents:
        document.file = upload(document.title.encode(), f"{document.title}.txt")
    Document.objects.bulk_update(documents, ["file"])
    assert {each.title: each.file.name for each in Document.objects.all()} == {"0": "docs/0.txt", "1": "docs/1.txt"}
    assert [each.file.name for each in documents] == ["docs/0.txt", "docs/1.txt"]
    assert tree(media) == {"docs/0.txt": b"0", "docs/1.txt": b"1"}


def test_a_key_that_is_written_twice_in_bulk_has_one_owner_and_the_other_is_reported(media: Path) -> None:
    key = upload()
    Document.objects.bulk_create([Document(file=key), Document(file=key)])
    assert [read(each.file) for each in Document.objects.all()] == [b"hello", b"hello"]
    [problem] = reconcile().problems
    assert key in problem
    assert tree(media) == {"docs/a.txt": b"hello"}


@pytest.mark.parametrize("is_atomic", [False, True])
def test_an_update_of_a_query_set_is_left_to_the_cleanup(media: Path, is_atomic: bool) -> None:
    document = Document.objects.create()
    key = upload()
    if is_atomic:
        with transaction.atomic():
            Document.objects.filter(pk=document.pk).update(file=key)
    else:
        Document.objects.filter(pk=document.pk).update(file=key)
    assert read(Document.objects.get().file) == b"hello"
    assert not row_of(key).is_claimed
    assert reconcile().adopted == 1
    assert tree(media) == {"docs/a.txt": b"hello"}


def test_loading_a_fixture_adopts_at_its_commit(media: Path, tmp_path: Path) -> None:
    key = upload()
    fixture = tmp_path / "documents.json"
    fixture.write_text(serializers.serialize("json", [Document(pk=5, title="a", file=key)]))
    call_command("loaddata", str(fixture), verbosity=0)
    assert Document.objects.get().file.name == "docs/a.txt"
    assert tree(media) == {"docs/a.txt": b"hello"}


def test_dumping_a_record_and_loading_it_again_keeps_its_file(media: Path, tmp_path: Path) -> None:
    Document.objects.create(file=upload())
    fixture = tmp_path / "documents.json"
    call_command("dumpdata", "testapp.Document", output=str(fixture), verbosity=0)
    Document.objects.all().delete()
    call_command("loaddata", str(fixture), verbosity=0)
    assert read(Document.objects.get().file) == b"hello"
    assert reconcile().problems == []


# Another database.


@pytest.fixture
def other(tmp_path: Path) -> Iterator[str]:
    """A second database that holds documents, while the journal stays in the first."""
    options = {"timeout": 20, "transaction_mode": "IMMEDIATE"}
    configured: Any = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(tmp_path / "other.sqlite3"),
        "OPTIONS": options,
    }
    configured = connections.configure_settings({"default": {}, "other": configured})["other"]
    wrapper = load_backend(configured["ENGINE"]).DatabaseWrapper(configured, "other")
    wrapper.connect()  # before Django's tests know the alias, which they would refuse
    connections.databases["other"], connections["other"] = configured, wrapper
    try:
        with connections["other"].schema_editor() as editor:
            editor.create_model(Document)
        yield "other"
    finally:
        wrapper.close()
        del connections["other"], connections.databases["other"]


def test_records_in_another_database_adopt_there(media: Path, other: str) -> None:
    saved, created, rolled_back = (upload(name.encode(), f"{name}.txt") for name in "abc")
    Document(title="saved", file=saved).save(using=other)
    with transaction.atomic(using=other):
        Document.objects.using(other).bulk_create([Document(title="bulk", file=created)])
    with suppress(Boom), transaction.atomic(using=other):
        Document.objects.using(other).create(file=rolled_back)
        raise Boom
    assert not Document.objects.exists()
    assert [each.file.name for each in Document.objects.using(other).order_by("title")] == ["docs/b.txt", "docs/a.txt"]
    assert tree(media) == {"docs/a.txt": b"a", "docs/b.txt": b"b", rolled_back: b"c"}
    assert reconcile().problems == []


def test_a_transaction_of_one_database_does_not_keep_files_of_another_waiting(media: Path, other: str) -> None:
    with transaction.atomic(using="default"):
        Document.objects.using(other).create(file=upload())
    assert tree(media) == {"docs/a.txt": b"hello"}
    assert Document.objects.using(other).get().file.name == "docs/a.txt"


def test_a_key_written_by_an_update_in_another_database_is_adopted_there(media: Path, other: str) -> None:
    Document.objects.using(other).create()
    Document.objects.using(other).update(file=upload())
    assert reconcile().adopted == 1
    assert Document.objects.using(other).get().file.name == "docs/a.txt"


# Forms.


def value_of(key: str) -> str:
    return json.dumps({"key": key, "name": "a.txt"})


def build_management(prefix: str, total: int, initial: int = 0) -> dict[str, str]:
    return {f"{prefix}-TOTAL_FORMS": str(total), f"{prefix}-INITIAL_FORMS": str(initial)}


def test_a_formset_saves_an_upload_for_each_of_its_forms(media: Path) -> None:
    formset_class = modelformset_factory(Document, fields=["title", "file"], extra=2)
    keys = [upload(b"one", "one.txt"), upload(b"two", "two.txt")]
    data = build_management("form", 2)
    data |= {f"form-{number}-file": value_of(key) for number, key in enumerate(keys)}
    formset = formset_class(data, queryset=Document.objects.none())
    assert formset.is_valid(), formset.errors
    formset.save()
    assert tree(media) == {"docs/one.txt": b"one", "docs/two.txt": b"two"}


def test_an_inline_formset_saves_replaces_and_deletes(media: Path) -> None:
    album = Album.objects.create(title="a")
    formset_class = inlineformset_factory(Album, Photo, fields=["file"], extra=2)
    data = build_management("photo_set", 2)
    data |= {f"photo_set-{number}-file": value_of(upload(b"%d" % number, f"{number}.txt", Photo)) for number in (0, 1)}
    formset = formset_class(data, instance=album)
    assert formset.is_valid(), formset.errors
    formset.save()
    first, second = Photo.objects.order_by("pk")
    data = build_management("photo_set", 2, 2)
    data |= {"photo_set-0-id": str(first.pk), "photo_set-1-id": str(second.pk), "photo_set-1-DELETE": "on"}
    data |= {"photo_set-0-file": value_of(upload(b"new", "new.txt", Photo))}
    formset = formset_class(data, instance=album)
    assert formset.is_valid(), formset.errors
    formset.save()
    assert Photo.objects.get().file.name == "photos/new.txt"
    assert set(tree(media)) == {"photos/0.txt", "photos/1.txt", "photos/new.txt"}


class SavesAsNew(admin.ModelAdmin):
    save_as = True


class PhotoInline(admin.TabularInline):
    model = Photo
    extra = 1


class AlbumAdmin(admin.ModelAdmin):
    inlines = (PhotoInline,)


site = admin.AdminSite()
site.register(Document, SavesAsNew)
site.register(Album, AlbumAdmin)
urlpatterns = [
    path("admin/", site.urls),
    path("uploads/", include(default_async_field_registry.get_url_patterns())),
]


@pytest.mark.urls(__name__)
def test_saving_as_new_in_the_admin_gives_the_new_record_the_upload_and_leaves_the_old_one(
    media: Path, client: Client
) -> None:
    old = Document.objects.create(title="old", file=upload(b"old", "old.txt"))
    client.force_login(User.objects.create_superuser("root"))
    key = upload(b"new", "new.txt")
    data = {"title": "new", "file": value_of(key), "_saveasnew": "1"}
    answer = client.post(f"/admin/testapp/document/{old.pk}/change/", data)
    assert answer.status_code == 302, answer.content
    assert {each.title: each.file.name for each in Document.objects.all()} == {
        "old": "docs/old.txt",
        "new": "docs/new.txt",
    }
    # Without a file of its own the new record has none, as with Django's file fields: the form asks for it.
    assert client.post(f"/admin/testapp/document/{old.pk}/change/", {**data, "file": ""}).status_code == 200
    assert Document.objects.count() == 2


@pytest.mark.urls(__name__)
def test_an_inline_of_the_admin_saves_with_its_parent(media: Path, client: Client) -> None:
    client.force_login(User.objects.create_superuser("root"))
    data = {"title": "a", **build_management("photo_set", 1), "photo_set-0-file": value_of(upload(model=Photo))}
    # A form that is shown again because of its parent's error takes the upload the next time.
    assert client.post("/admin/testapp/album/add/", {**data, "title": ""}).status_code == 200
    assert not Photo.objects.exists()
    answer = client.post("/admin/testapp/album/add/", data)
    assert answer.status_code == 302, answer.content
    assert Photo.objects.get().file.name == "photos/a.txt"
    assert tree(media) == {"photos/a.txt": b"hello"}


def test_a_create_form_sent_twice_makes_one_record_with_the_file(media: Path) -> None:
    form_class = modelformset_factory(Document, fields=["file"], extra=1)
    key = upload()
    data = {**build_management("form", 1), "form-0-file": value_of(key)}
    forms = [form_class(data, queryset=Document.objects.none()) for _ in range(2)]
    assert all(form.is_valid() for form in forms)
    forms[0].save()
    with pytest.raises(AlreadyClaimed):
        forms[1].save()
    assert Document.objects.count() == 1
    assert tree(media) == {"docs/a.txt": b"hello"}
    assert row_of(key).promoted_at <= timezone.now()
