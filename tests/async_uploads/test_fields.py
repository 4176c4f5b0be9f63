"""The model fields beside promotion: assignment, addresses, images, migrations."""

from __future__ import annotations

import json
import pickle
import struct
import zlib
from hashlib import shake_256
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps.registry import Apps
from django.contrib.admin.widgets import AdminFileWidget
from django.core.exceptions import ValidationError
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage
from django.db import connection, models
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.state import ModelState, ProjectState
from django.db.migrations.writer import MigrationWriter
from django.forms import modelform_factory
from django.urls import reverse
from PIL import Image

from async_uploads import forms
from async_uploads.models import AsyncFileField, AsyncFileInputData, AsyncImageField
from async_uploads.registry import AsyncFieldRegistry, default_async_field_registry
from tests.async_uploads.promoting import Base, Child, Unique, UniqueProxy, field_of, make_upload, media, row_of, tree
from tests.testapp.models import Document, Guarded, Legacy, Limited, Picture

assert media

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("media")]


def png(width: int, height: int) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def bomb() -> bytes:
    """A picture that claims more pixels than Pillow is willing to look at."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that the file system storage opens."""
    names: list[str] = []
    original = FileSystemStorage._open  # type: ignore[attr-defined]

    def count(self: FileSystemStorage, name: str, mode: str = "rb") -> Any:
        names.append(name)
        return original(self, name, mode)

    monkeypatch.setattr(FileSystemStorage, "_open", count)
    return names


# Assignment.


def test_an_upload_id_and_a_tus_url_mean_their_upload() -> None:
    key = make_upload(field_of(Document))
    upload_id = row_of(key).upload_id
    url = reverse(default_async_field_registry.tus_upload_url_name, args=[upload_id])
    for text in (key, upload_id, url, f"https://testserver{url}"):
        document = Document(file=AsyncFileInputData(key=text))
        assert document.file.name == key


@pytest.mark.parametrize(
    "key", ["docs/somebody-elses.txt", "unknown", "/uploads/tus/unknown", "../../etc/passwd", "\x01"]
)
def test_what_is_no_upload_cannot_be_assigned(key: str) -> None:
    with pytest.raises(ValidationError, match="Invalid upload received"):
        Document(file=AsyncFileInputData(key=key))


def test_the_upload_id_of_another_field_cannot_be_assigned() -> None:
    upload_id = row_of(make_upload(field_of(Guarded))).upload_id
    with pytest.raises(ValidationError, match="Invalid upload received"):
        Document(file=AsyncFileInputData(key=upload_id))


def test_a_permanent_file_cannot_be_adopted_by_naming_it() -> None:
    victim = Document.objects.create(file=make_upload(field_of(Document)))
    with pytest.raises(ValidationError):
        Document(file=AsyncFileInputData(key=victim.file.name))


def test_naming_the_present_file_changes_nothing() -> None:
    document = Document.objects.create(file=make_upload(field_of(Document)))
    document = Document.objects.get()
    document.file = AsyncFileInputData(key="docs/a.txt")
    document.save()
    assert Document.objects.get().file.name == "docs/a.txt"


def test_an_error_of_the_browser_is_told() -> None:
    with pytest.raises(ValidationError, match="no space"):
        Document(file=AsyncFileInputData(key="", error="no space"))


def test_whatever_carries_data_is_taken_as_the_value_of_a_form() -> None:
    key = make_upload(field_of(Document))
    assert Document(file=SimpleNamespace(data=AsyncFileInputData(key=key))).file.name == key


def test_an_update_of_the_table_takes_the_value_of_a_form() -> None:
    document = Document.objects.create(file=make_upload(field_of(Document)))
    key = make_upload(field_of(Document))
    Document.objects.filter(pk=document.pk).update(file=AsyncFileInputData(key=key))
    assert Document.objects.get().file.name == key


def test_clearing_empties_the_column() -> None:
    document = Document.objects.create(file=make_upload(field_of(Document)))
    document.file = None
    document.save()
    assert not Document.objects.get().file


def test_saving_and_deleting_through_the_value_work_as_with_django(media: Path) -> None:
    document = Document(file=make_upload(field_of(Document), name="pending.txt"))
    document.file.save("own.txt", ContentFile(b"own"))
    assert Document.objects.get().file.name == "docs/own.txt"
    document.file.delete()
    assert not (media / "docs/own.txt").exists()
    assert not Document.objects.get().file


# Addresses and permissions.


def test_the_address_is_that_of_the_download_view() -> None:
    document = Document.objects.create(file=make_upload(field_of(Document)))
    mark = shake_256(b"docs/a.txt").hexdigest(8)
    query = f"field_id=testapp.Document.file&instance_id={document.pk}&_={mark}"
    assert document.file.url == f"/uploads/download-file/?{query}"
    with pytest.raises(ValueError, match="no file"):
        _ = Document().file.url


def test_permissions_default_to_those_of_the_model() -> None:
    field = field_of(Guarded)
    assert (field.perm_create, field.perm_update, field.perm_detail) == (
        "testapp.add_guarded",
        "testapp.change_guarded",
        "testapp.view_guarded",
    )
    assert field_of(Document).perm_create is None


@pytest.mark.parametrize(
    ("filename", "allowed"), [("a.png", True), ("a.PDF", True), ("a.pdf.exe", False), ("a", False), ("a.txt", False)]
)
def test_restrictions_are_checked_by_the_ending(filename: str, allowed: bool) -> None:
    assert field_of(Limited).is_valid_filetype(filename) is allowed


def test_one_restriction_may_be_given_as_text() -> None:
    assert AsyncFileField(file_restrictions="image/png").is_valid_filetype("a.png")
    assert AsyncFileField().is_valid_filetype("anything")


def test_the_form_field_knows_the_model_field() -> None:
    formfield = field_of(Document).formfield()
    assert type(formfield) is forms.AsyncFileField
    assert formfield.async_field is field_of(Document)
    assert type(field_of(Picture, "image").formfield()) is forms.AsyncImageField
    assert isinstance(field_of(Document).formfield(widget=AdminFileWidget).widget, forms.AdminAsyncFileInput)


# Registration.


def test_every_model_registers_its_own_fields_once() -> None:
    fields = default_async_field_registry.fields_by_id
    assert fields["testapp.Document.file"] is field_of(Document)
    assert "testapp.Concrete.file" in fields
    assert "testapp.Abstract.file" not in fields
    assert "testapp.Child.file" not in fields
    assert "testapp.UniqueProxy.file" not in fields
    assert field_of(UniqueProxy) is field_of(Unique)


def test_a_field_can_name_another_registry() -> None:
    other = AsyncFieldRegistry("fields")
    field = AsyncFileField(async_field_registry=other)
    type(
        "Other",
        (models.Model,),
        {"__module__": "__fake__", "Meta": type("Meta", (), {"app_label": "fake", "apps": Apps()}), "f": field},
    )
    assert other.fields_by_id == {}


# Images.


def test_the_size_of_an_image_comes_with_the_value(media: Path, opened: list[str]) -> None:
    key = make_upload(field_of(Picture, "image"), png(3, 2), "a.png")
    picture = Picture(image=AsyncFileInputData(key=key, width=3, height=2))
    assert (picture.width, picture.height) == (3, 2)
    picture.save()
    assert opened == []
    stored = Picture.objects.get()
    assert (stored.width, stored.height) == (3, 2)
    assert stored.image.name == "pictures/a.png"


def test_an_image_assigned_without_its_size_is_opened_once(opened: list[str]) -> None:
    key = make_upload(field_of(Picture, "image"), png(3, 2), "a.png")
    picture = Picture()
    picture.image = key
    picture.save()
    picture.save()
    assert len(opened) == 1
    assert (Picture.objects.get().width, Picture.objects.get().height) == (3, 2)


def test_replacing_an_image_replaces_its_size(opened: list[str]) -> None:
    field = field_of(Picture, "image")
    picture = Picture.objects.create(image=AsyncFileInputData(make_upload(field, png(3, 2), "a.png"), None, 3, 2))
    picture = Picture.objects.get()
    picture.image = AsyncFileInputData(make_upload(field, png(5, 4), "b.png"), width=5, height=4)
    picture.save()
    assert (Picture.objects.get().width, Picture.objects.get().height) == (5, 4)
    assert opened == []
    picture.image = None
    picture.save()
    assert (Picture.objects.get().width, Picture.objects.get().height) == (None, None)


def test_two_instances_do_not_share_a_size() -> None:
    field = field_of(Picture, "image")
    first = Picture(image=AsyncFileInputData(make_upload(field, png(3, 2), "a.png"), width=3, height=2))
    second = Picture(image=AsyncFileInputData(make_upload(field, png(5, 4), "b.png"), width=5, height=4))
    assert (first.width, second.width) == (3, 5)
    assert not [name for name in vars(field) if "dimension" in name]


def test_inherited_images_have_their_size(opened: list[str]) -> None:
    image = make_upload(field_of(Base, "image"), png(3, 2), "a.png")
    child = Child(file=make_upload(field_of(Base)), image=AsyncFileInputData(image, width=3, height=2))
    child.save()
    assert (Child.objects.get().width, Base.objects.get().height) == (3, 2)
    assert opened == []


def test_a_pickled_image_keeps_its_size(opened: list[str]) -> None:
    key = make_upload(field_of(Picture, "image"), png(3, 2), "a.png")
    picture = pickle.loads(pickle.dumps(Picture(image=AsyncFileInputData(key=key, width=3, height=2))))
    assert (picture.image.width, picture.image.height) == (3, 2)
    assert opened == []


def test_an_image_that_cannot_be_read_is_refused_at_the_save_not_before() -> None:
    picture = Picture()
    picture.image = "async-temp-files/2026/11/22/unknown.png"
    assert picture.width is None


def test_a_decompression_bomb_breaks_neither_its_form_nor_the_loading_of_its_record() -> None:
    form_class = modelform_factory(Picture, fields=["title", "image"])
    form = form_class(
        {"title": "a", "image": json.dumps({"key": make_upload(field_of(Picture, "image"), bomb(), "a.png")})}
    )
    assert form.is_valid(), form.errors
    form.save()
    picture = Picture.objects.get()
    assert (picture.image.name, picture.width, picture.height) == ("pictures/a.png", None, None)


def test_pillow_is_checked_unless_suppressed() -> None:
    assert AsyncImageField(suppress_pillow_check=True).suppress_pillow_check
    assert field_of(Picture, "image").check() == []


# Migrations.


def test_no_argument_of_ours_enters_a_migration() -> None:
    field = AsyncFileField(
        upload_to="x/",
        perm_create=None,
        perm_update="a",
        perm_detail="b",
        max_size=None,
        file_restrictions=[".x"],
        download_params={"expire": 1},
    )
    _, path, args, kwargs = field.deconstruct()
    assert path == "async_uploads.models.AsyncFileField"
    assert (args, kwargs) == ([], {"upload_to": "x/", "max_length": 500})
    text, imports = MigrationWriter.serialize(
        AsyncImageField(upload_to="x/", width_field="w", suppress_pillow_check=True)
    )
    assert text == "async_uploads.models.AsyncImageField(max_length=500, upload_to='x/', width_field='w')"
    assert imports == {"import async_uploads.models"}


def test_a_plain_file_field_becomes_an_async_one_by_one_migration_that_touches_no_data(media: Path) -> None:
    legacy = Legacy.objects.create(file=ContentFile(b"old", name="old.txt"))

    def state(field: models.Field[Any, Any]) -> ProjectState:
        project = ProjectState()
        fields = [("id", models.BigAutoField(primary_key=True)), ("file", field)]
        project.add_model(ModelState("testapp", "Legacy", fields))
        return project

    before, after = state(models.FileField(upload_to="legacy/")), state(AsyncFileField(upload_to="legacy/"))
    changes = MigrationAutodetector(before, after)._detect_changes()
    operations = changes["testapp"][0].operations
    assert [type(each).__name__ for each in operations] == ["AlterField"]
    with connection.schema_editor() as editor:
        operations[0].database_forwards("testapp", editor, before, after)
    assert tree(media) == {"legacy/old.txt": b"old"}

    Migrated = type(
        "Migrated",
        (models.Model,),
        {
            "__module__": __name__,
            "file": AsyncFileField(upload_to="legacy/"),
            "Meta": type("Meta", (), {"app_label": "testapp", "db_table": "testapp_legacy", "managed": False}),
        },
    )
    record = Migrated._default_manager.get(pk=legacy.pk)
    with record.file.open() as file:
        assert file.read() == b"old"
    assert "instance_id" in record.file.url
    record.file = make_upload(field_of(Migrated), b"new", "new.txt")
    record.save()
    assert tree(media) == {"legacy/old.txt": b"old", "legacy/new.txt": b"new"}


@pytest.mark.parametrize(("width", "height"), [(2**63, 1), (3, 2**70)])
def test_a_size_hint_that_the_columns_cannot_hold_is_not_believed(width: int, height: int) -> None:
    key = make_upload(field_of(Picture, "image"), png(3, 2), "a.png")
    picture = Picture(image=AsyncFileInputData(key=key, width=width, height=height))
    assert (picture.width, picture.height) == (3, 2)
