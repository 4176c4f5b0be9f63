"""Models and helpers of the tests about promotion: one model for each way Django saves.

The models join ``tests.testapp``, which has no migrations: their tables are made with the test database, because tests
are collected before.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.db import models
from django.utils import timezone

from async_uploads.journal import AsyncTempFile, write_database
from async_uploads.models import AsyncFileField, AsyncImageField
from async_uploads.storage.base import AsyncUploadStorage


class DictionaryStorage(AsyncUploadStorage):
    """What a project may write: three methods over a dictionary."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def generate_upload_url(self, key: str, field_id: str, *args: Any, **kwargs: Any) -> str:
        return f"https://bucket.example/{key}"

    def generate_download_url(self, key: str, field_id: str, **kwargs: Any) -> str:
        return f"https://bucket.example/{key}?download"

    def move_file(self, from_key: str, to_key: str) -> None:
        if from_key in self.objects:
            self.objects[to_key] = self.objects.pop(from_key)


dictionary = DictionaryStorage()


class Triple(models.Model):
    first = AsyncFileField(upload_to="triple/", blank=True)
    second = AsyncFileField(upload_to="triple/", blank=True)
    third = AsyncFileField(upload_to="triple/", blank=True)

    class Meta:
        app_label = "testapp"


class PlainTriple(models.Model):
    first = models.FileField(upload_to="triple/", blank=True)
    second = models.FileField(upload_to="triple/", blank=True)
    third = models.FileField(upload_to="triple/", blank=True)

    class Meta:
        app_label = "testapp"


class Unique(models.Model):
    code = models.CharField(max_length=10, unique=True)
    file = AsyncFileField(upload_to="unique/")

    class Meta:
        app_label = "testapp"


class UniqueProxy(Unique):
    class Meta:
        app_label = "testapp"
        proxy = True


class Base(models.Model):
    file = AsyncFileField(upload_to="base/")
    image = AsyncImageField(upload_to="base/", width_field="width", height_field="height", blank=True)
    width = models.IntegerField(null=True, blank=True)
    height = models.IntegerField(null=True, blank=True)

    class Meta:
        app_label = "testapp"


class Child(Base):
    extra = AsyncFileField(upload_to="child/", blank=True)

    class Meta:
        app_label = "testapp"


class Abstract(models.Model):
    file = AsyncFileField(upload_to="concrete/", perm_detail="testapp.special")

    class Meta:
        abstract = True
        app_label = "testapp"


class Concrete(Abstract):
    class Meta:
        app_label = "testapp"


def name_by_key(instance: models.Model, filename: str) -> str:
    return f"by-key/{instance.pk}/{filename}"


class ByKey(models.Model):
    file = AsyncFileField(upload_to=name_by_key)

    class Meta:
        app_label = "testapp"


class Album(models.Model):
    title = models.CharField(max_length=10)

    class Meta:
        app_label = "testapp"


class Photo(models.Model):
    album = models.ForeignKey(Album, on_delete=models.CASCADE)
    file = AsyncFileField(upload_to="photos/")

    class Meta:
        app_label = "testapp"


class Elsewhere(models.Model):
    file = AsyncFileField(storage=dictionary, upload_to="else/")

    class Meta:
        app_label = "testapp"


@pytest.fixture
def media(tmp_path: Path, settings: Any) -> Path:
    """An empty directory of uploaded files of its own."""
    settings.MEDIA_ROOT = tmp_path / "media"
    settings.MEDIA_ROOT.mkdir()
    root: Path = settings.MEDIA_ROOT
    return root


def field_of(model: type[models.Model], name: str = "file") -> Any:
    return model._meta.get_field(name)


def make_upload(
    field: Any, content: bytes = b"content", name: str = "a.txt", finished: bool = True, **facts: Any
) -> str:
    """Write an upload as its tus endpoint would; returns its key.

    The bytes come first: a finished row without them would be a lie that a cleanup may meet.
    """
    facts = {"length": len(content), "metadata": "filename YQ==", **facts}
    if finished:
        facts["finished_at"] = timezone.now()
    row = AsyncTempFile.build_for_field(field, name, **facts)
    if field.storage is dictionary:
        dictionary.objects[row.key] = content
    else:
        path = Path(default_storage.path(row.key))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    row.save(using=write_database(), force_insert=True)
    return row.key


def pass_turns() -> None:
    """Let the minutes pass in which claimed uploads belong to the process that claimed them, dead or not."""
    AsyncTempFile.objects.filter(promoted_at=None).update(retry_at=None)


def row_of(key: str) -> AsyncTempFile:
    return AsyncTempFile.objects.get(key=key)


def tree(media: Path) -> dict[str, bytes]:
    """Return everything that lies in the storage."""
    return {str(path.relative_to(media)): path.read_bytes() for path in media.rglob("*") if path.is_file()}
