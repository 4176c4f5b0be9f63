"""What a record holds of an async field: the file or upload, and the descriptor that takes what is assigned.

Nothing about a record is kept on a field; what a value remembers (its claim, its size in pixels) is on the value.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from hashlib import shake_256
from typing import Any, TypeVar
from urllib.parse import urlencode

from django.core.exceptions import ValidationError
from django.core.files.images import ImageFile
from django.db import models
from django.db.models.fields.files import FieldFile, FileDescriptor, ImageFieldFile, ImageFileDescriptor
from django.urls import reverse

from async_uploads import claims, journal
from async_uploads.claims import Claim
from async_uploads.storage.base import AsyncUploadStorage
from async_uploads.values import AsyncFileInputData

logger = logging.getLogger("async_uploads.fields")

T = TypeVar("T")


class AsyncFieldFile(FieldFile):
    """The value of an ``AsyncFileField``: a stored file, or an upload that is to become one.

    Attributes:
        claim: What it remembers of its upload until that is promoted; also through pickle and copy.
        row: The upload's row as read a moment ago by ``pre_save``; never pickled.
        previous: The name that was replaced by assigning an upload, where that is known.
        is_unsettled: Whether it was written to a column and nobody has adopted it since; never pickled.
    """

    field: Any
    storage: Any  # Any: an AsyncUploadStorage, or whatever a project gave by mistake (a system check tells)

    def __init__(self, instance: models.Model, field: Any, name: str | None) -> None:
        super().__init__(instance, field, name)
        self.claim: Claim | None = None
        self.row: journal.AsyncTempFile | None = None
        self.previous: str | None = None
        self.is_unsettled = False

    @property
    def is_pending(self) -> bool:
        """Whether it names an upload that is not promoted, as far as memory knows."""
        return claims.is_pending(self.field, self)

    @property
    def url(self) -> str:
        """The address of the download view, which checks the permission; never the storage's."""
        self._require_file()  # type: ignore[attr-defined]  # Django's own, missing in the stubs
        registry = self.field.async_field_registry
        query = {
            "field_id": registry.generate_id(self.field),
            "instance_id": self.instance.pk,
            "_": shake_256((self.name or "").encode()).hexdigest(8),
        }
        return f"{reverse(registry.attached_download_view)}?{urlencode(query)}"

    @property
    def stored_name(self) -> str:
        """What the storage's ``generate_download_url`` is to be given: the upload's key until it is promoted."""
        name = self.name or ""
        return self.storage.find_stored_name(name) if isinstance(self.storage, AsyncUploadStorage) else name

    def _read(self, operation: Callable[[str], T]) -> T:
        """Read at the own upload, then by name (the storage asks the journal), then where the journal says.

        Storages raise what they like for "not there", so that every first failure leads to the next place.
        """
        name = self.name or ""
        if self.claim is not None and self.claim.key != name:
            try:
                return operation(self.claim.key)
            except Exception as error:
                logger.debug("%s does not lie at its key any more: %r", name, error)
        try:
            return operation(name)
        except Exception:
            place = self.storage.find_elsewhere(name) if isinstance(self.storage, AsyncUploadStorage) else None
            if place is None:
                raise
            return operation(place)

    def _get_file(self) -> Any:
        self._require_file()  # type: ignore[attr-defined]
        if getattr(self, "_file", None) is None:
            self._file = self._read(lambda name: self.storage.open(name, "rb"))
        return self._file

    def _set_file(self, file: Any) -> None:
        self._file = file

    def _del_file(self) -> None:
        del self._file

    file = property(_get_file, _set_file, _del_file)  # as Django does

    @property
    def path(self) -> str:
        """Where the file lies on disk now."""
        self._require_file()  # type: ignore[attr-defined]
        if self.claim is not None and self.storage.stored_size(self.claim.key) is not None:
            return str(self.storage.path(self.claim.key))
        return str(self.storage.path(self.name))

    @property
    def size(self) -> int:
        """The size in bytes."""
        self._require_file()  # type: ignore[attr-defined]
        if not self._committed:
            return int(self.file.size)
        return self._read(lambda name: int(self.storage.size(name)))

    def open(self, mode: str = "rb") -> AsyncFieldFile:  # type: ignore[override]
        """Open the file, or rewind it."""
        self._require_file()  # type: ignore[attr-defined]
        if self._committed and getattr(self._file, "closed", False):
            self._file = None  # it may lie elsewhere by now
        if getattr(self, "_file", None) is None:
            if mode.startswith("r") and "+" not in mode:
                self._file = self._read(lambda name: self.storage.open(name, mode))
            else:
                self._file = self.storage.open(self.name, mode)
        else:
            self.file.open(mode)
        return self

    open.alters_data = True  # type: ignore[attr-defined]  # noqa: A003  # as Django does

    def save(self, name: str, content: Any, save: bool = True) -> None:
        """Store content under a name of its own; an upload that was assigned before is forgotten."""
        self.claim = self.row = None
        super().save(name, content, save)

    save.alters_data = True  # type: ignore[attr-defined]

    def delete(self, save: bool = True) -> None:
        """Delete the file; of an upload that is not promoted only the claim is given up, and the cleanup removes it."""
        if self and self.is_pending:
            self.close()
            self._file = None
            self.claim = self.row = None
            self.name = None
            setattr(self.instance, self.field.attname, None)
            self._committed = False
            if save:
                self.instance.save()
            return
        super().delete(save)

    delete.alters_data = True  # type: ignore[attr-defined]

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        kept = {"claim": self.claim, "previous": self.previous, "row": None, "is_unsettled": False}
        if hasattr(self, "_dimensions_cache"):
            kept["_dimensions_cache"] = self._dimensions_cache
        return {**state, **kept}


class AsyncImageFieldFile(AsyncFieldFile, ImageFieldFile):
    """The value of an ``AsyncImageField``; the size in pixels that came with an upload is believed until read."""

    def save(self, name: str, content: Any, save: bool = True) -> None:
        """Store content; the size in pixels of an earlier file is forgotten."""
        self.__dict__.pop("_dimensions_cache", None)
        super().save(name, content, save)

    save.alters_data = True  # type: ignore[attr-defined]

    def delete(self, save: bool = True) -> None:
        """Delete the file, and forget its size in pixels."""
        self.__dict__.pop("_dimensions_cache", None)
        super().delete(save)

    delete.alters_data = True  # type: ignore[attr-defined]


class AsyncFileDescriptor(FileDescriptor):
    """Takes what a form, a serializer or code says about an upload, besides what Django's file fields take."""

    field: Any

    def __set__(self, instance: models.Model, value: Any) -> None:
        data = getattr(value, "data", None) if not isinstance(value, (str, AsyncFileInputData, FieldFile)) else value
        if isinstance(data, AsyncFileInputData):
            self.assign(instance, data)
            return
        if isinstance(value, str) and self.field.attname in instance.__dict__ and self.field.is_temporary(value):
            value = self.build_file(instance, value)
        super().__set__(instance, value)

    def assign(self, instance: models.Model, data: AsyncFileInputData) -> None:
        """Let the record's value be an upload; one that it has already changes nothing.

        Raises:
            ValidationError: It is no upload.
        """
        current = instance.__dict__.get(self.field.attname)
        name = getattr(current, "name", current) or ""
        claim = getattr(current, "claim", None)
        if data.key and (data.key == name or (claim is not None and claim.key == data.key)):
            return
        file = self.build_file(instance, self.field.find_key(data))
        if data.width and data.height and isinstance(file, ImageFile) and self.fits(data):
            file._dimensions_cache = (data.width, data.height)  # type: ignore[attr-defined]
        super().__set__(instance, file)

    def fits(self, data: AsyncFileInputData) -> bool:
        """Say whether a client's hint of an image's size fits its columns; one that does not is not worth believing."""
        sizes = {self.field.width_field: data.width, self.field.height_field: data.height}
        try:
            for name, value in sizes.items():
                if name:
                    self.field.model._meta.get_field(name).run_validators(value)
        except ValidationError:
            return False
        return True

    def build_file(self, instance: models.Model, key: str) -> AsyncFieldFile:
        """Return the value for an upload, which remembers the name that it replaces."""
        current = instance.__dict__.get(self.field.attname)
        name = getattr(current, "name", current) or ""
        file: AsyncFieldFile = self.field.attr_class(instance, self.field, key)
        if instance._state.adding:
            file.previous = ""
        elif isinstance(current, AsyncFieldFile) and current.previous is not None and current.is_pending:
            file.previous = current.previous
        elif isinstance(name, str) and not self.field.is_temporary(name):
            file.previous = name
        return file


class AsyncImageDescriptor(AsyncFileDescriptor, ImageFileDescriptor):
    """Keeps width and height beside the file, as Django's image field does."""
