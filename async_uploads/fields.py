"""Model fields whose files are uploaded before the record is saved.

To Django's migrations they are plain file fields: none of our own arguments is part of ``deconstruct``. Nothing about
a record is kept on a field; what a value remembers (its claim, its size hint) is on the ``AsyncFieldFile``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import shake_256
from typing import Any, TypeVar
from urllib.parse import urlencode

from django.core.exceptions import ValidationError
from django.core.files.images import ImageFile
from django.db import models
from django.db.models import signals
from django.db.models.fields.files import FieldFile, FileDescriptor, ImageFieldFile, ImageFileDescriptor
from django.urls import reverse
from django.utils.translation import gettext as _

from async_uploads import forms, journal, promotion, sniffing
from async_uploads.permissions import resolve_perm_name
from async_uploads.promotion import Claim
from async_uploads.registry import AsyncFieldRegistry, default_async_field_registry
from async_uploads.storage.base import AsyncUploadStorage
from async_uploads.values import AsyncFileInputData, default_max_length, default_max_size

logger = logging.getLogger("async_uploads.fields")

T = TypeVar("T")


class _Unset:
    """Tells "not given" from ``None``, which means "no check"."""


_UNSET = _Unset()


class AsyncFieldFile(FieldFile):
    """The value of an ``AsyncFileField``: a stored file, or an upload that is to become one.

    Attributes:
        claim: What it remembers of its upload until that is promoted; also through pickle and copy.
        row: The upload's row as read a moment ago by ``pre_save``; never pickled.
        previous: The name that was replaced by assigning an upload, where that is known.
    """

    field: Any
    storage: Any  # Any: an AsyncUploadStorage, or whatever a project gave by mistake (a system check tells)

    def __init__(self, instance: models.Model, field: Any, name: str | None) -> None:
        super().__init__(instance, field, name)
        self.claim: Claim | None = None
        self.row: journal.AsyncTempFile | None = None
        self.previous: str | None = None

    @property
    def is_pending(self) -> bool:
        """Whether it names an upload that is not promoted, as far as memory knows."""
        return promotion.is_pending(self.field, self)

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
        kept = {"claim": self.claim, "previous": self.previous, "row": None}
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
        if data.width and data.height and isinstance(file, ImageFile):
            file._dimensions_cache = (data.width, data.height)  # type: ignore[attr-defined]
        super().__set__(instance, file)

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


class AsyncFileField(models.FileField):
    """A file field whose files are uploaded before the form is sent.

    Args:
        perm_create, perm_update, perm_detail: Permissions to upload for a new record, for an existing one, and to
            download; ``None`` asks for none. Not given: ``permissions.resolve_perm_name``.
        max_size: Limit in MiB; ``None`` for none.
        file_restrictions: ``image/*``, exact media types or ``.ext``; a text is a list of one.
        async_field_registry: Whose endpoints it uses.
        download_params: Passed to the storage's ``generate_download_url``.
        max_length: Of the column.
    """

    attr_class: Any = AsyncFieldFile
    descriptor_class: Any = AsyncFileDescriptor

    def __init__(
        self,
        *args: Any,
        perm_create: str | None | _Unset = _UNSET,
        perm_update: str | None | _Unset = _UNSET,
        perm_detail: str | None | _Unset = _UNSET,
        max_size: float | None = default_max_size,
        file_restrictions: str | Sequence[str] | None = None,
        async_field_registry: AsyncFieldRegistry = default_async_field_registry,
        max_length: int | None = default_max_length,
        download_params: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, max_length=max_length, **kwargs)
        self._perm_create, self._perm_update, self._perm_detail = perm_create, perm_update, perm_detail
        self.max_size = max_size
        restrictions = [file_restrictions] if isinstance(file_restrictions, str) else file_restrictions
        self.file_restrictions = list(restrictions or [])
        self.async_field_registry = async_field_registry
        self.download_params = dict(download_params or {})

    def deconstruct(self) -> Any:
        """Return what a migration stores: that of Django's own field, under the path that users import from."""
        name, path, args, kwargs = super().deconstruct()
        if type(self) in (AsyncFileField, AsyncImageField):
            path = f"async_uploads.models.{type(self).__name__}"
        return name, path, args, kwargs

    def _resolve(self, permission: str | None | _Unset, action: str, is_global: bool) -> str | None:
        return resolve_perm_name(self.model, action, is_global) if isinstance(permission, _Unset) else permission

    @property
    def perm_create(self) -> str | None:
        """The permission to upload for a new record."""
        return self._resolve(self._perm_create, "create", True)

    @property
    def perm_update(self) -> str | None:
        """The permission to upload for an existing record."""
        return self._resolve(self._perm_update, "update", False)

    @property
    def perm_detail(self) -> str | None:
        """The permission to download."""
        return self._resolve(self._perm_detail, "detail", False)

    def is_temporary(self, name: str) -> bool:
        """Say whether a name is that of an upload."""
        return isinstance(self.storage, AsyncUploadStorage) and self.storage.is_temporary_path(name)

    def is_valid_filetype(self, filename: str) -> bool:
        """Say whether a file with this name may be uploaded, by its ending alone."""
        return sniffing.is_allowed(self.file_restrictions, filename, None)

    def find_key(self, data: AsyncFileInputData) -> str:
        """Return the key of the upload that a value means.

        Raises:
            ValidationError: It means none.
        """
        if data.error:
            message = _("There was an unexpected error: %(error)s")
            raise ValidationError({self.name: ValidationError(message, params={"error": data.error})})
        if self.is_temporary(data.key):
            return data.key
        row = journal.find_upload(data.key)
        if row is None or row.field_label != journal.get_field_label(self) or row.is_promoted:
            logger.warning("Refused for %s: %r is neither an upload nor the present file", self, data.key)
            raise ValidationError({self.name: ValidationError(_("Invalid upload received"), code="invalid_upload")})
        return row.key

    def get_prep_value(self, value: Any) -> Any:
        """Return what the column holds: the name, or the key of an upload."""
        return super().get_prep_value(value.key if isinstance(value, AsyncFileInputData) else value)

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        """Return the value to write; an upload that may not be saved is refused before anything is written.

        Raises:
            promotion.InvalidUpload: It may not.
        """
        file = getattr(model_instance, self.attname)
        if isinstance(file, AsyncFieldFile) and file._committed and file.is_pending:
            pending = (getattr(model_instance, field.attname) for field in find_pending(model_instance))
            promotion.prepare(model_instance, self, list(pending))
        return super().pre_save(model_instance, add)

    def formfield(self, **kwargs: Any) -> Any:
        """Return the form field that uploads."""
        return super().formfield(**{"form_class": forms.AsyncFileField, **self._form_arguments(kwargs)})

    def _form_arguments(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        arguments = {"async_field": self, **kwargs}
        widget = kwargs.get("widget")
        # The admin gives every file field its own widget.
        cls = widget if isinstance(widget, type) else type(widget)
        if (cls.__module__, cls.__name__) == ("django.contrib.admin.widgets", "AdminFileWidget"):
            arguments["widget"] = forms.AdminAsyncFileInput
        return arguments


class AsyncImageField(AsyncFileField, models.ImageField):
    """An image field whose files are uploaded before the form is sent.

    Width and height come with the form's value, so the file is not opened for them; assigned from code without, it is
    opened once.

    Args:
        suppress_pillow_check: Whether the system check for Pillow is left out.
        width_field, height_field: Names of the fields that hold the size in pixels.
    """

    attr_class = AsyncImageFieldFile
    descriptor_class = AsyncImageDescriptor
    width_field: str | None
    height_field: str | None

    def __init__(self, *args: Any, suppress_pillow_check: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.suppress_pillow_check = suppress_pillow_check

    def check(self, **kwargs: Any) -> list[Any]:
        """Check as Django does, without asking for Pillow where that is suppressed."""
        found: list[Any] = super().check(**kwargs)
        return [each for each in found if not (self.suppress_pillow_check and each.id == "fields.E210")]

    def update_dimension_fields(self, instance: models.Model, force: bool = False, *args: Any, **kwargs: Any) -> None:
        """Fill width and height; an upload that cannot be read (yet) has none, its save will tell why."""
        try:
            super().update_dimension_fields(instance, force, *args, **kwargs)
        except FileNotFoundError:
            if not getattr(instance, self.attname).is_pending:
                raise
            for name in filter(None, (self.width_field, self.height_field)):
                setattr(instance, name, None)

    def formfield(self, **kwargs: Any) -> Any:
        """Return the form field that uploads images."""
        return super().formfield(**{"form_class": forms.AsyncImageField, **kwargs})


def get_async_fields(model: type[models.Model]) -> list[AsyncFileField]:
    """Return the async fields of a model, inherited ones included."""
    return [field for field in model._meta.concrete_fields if isinstance(field, AsyncFileField)]


def find_pending(instance: models.Model, names: Iterable[str] | None = None) -> list[AsyncFileField]:
    """Return the fields whose value in memory is an upload that is not promoted; asks no database.

    Args:
        instance: A record.
        names: Of the fields to look at; ``None`` for all.
    """
    chosen = None if names is None else set(names)
    pending = []
    for field in get_async_fields(type(instance)):
        value = instance.__dict__.get(field.attname)
        if value and (chosen is None or chosen & {field.name, field.attname}) and promotion.is_pending(field, value):
            pending.append(field)
    return pending


def adopt_after_save(
    sender: type[models.Model],
    instance: models.Model,
    using: str,
    raw: bool = False,
    created: bool = False,
    update_fields: Iterable[str] | None = None,
    **kwargs: Any,  # Any: whatever else the signal carries
) -> None:
    """Adopt the uploads of a record that was just saved; fixtures are left to the cleanup."""
    if raw:
        return
    pending = find_pending(instance, update_fields)
    if pending:
        promotion.adopt(instance, pending, using, created=created)


def prepare_class(sender: type[models.Model], **kwargs: Any) -> None:
    """Register a model's fields, and listen to its saves if it has any, inherited ones included."""
    if sender.__module__ == "__fake__":
        return
    fields = get_async_fields(sender)
    if not fields:
        return
    signals.post_save.connect(adopt_after_save, sender=sender)
    for field in fields:
        if field.model is sender:
            field.async_field_registry.register_field(field)
        elif isinstance(field, AsyncImageField) and (field.width_field or field.height_field):
            # Django fills the sizes of inherited images only in instances of the parent.
            signals.post_init.connect(field.update_dimension_fields, sender=sender)


signals.class_prepared.connect(prepare_class)

__all__ = ["AsyncFieldFile", "AsyncFileField", "AsyncImageField", "AsyncImageFieldFile"]
