"""Model fields whose files are uploaded before the record is saved.

To Django's migrations they are plain file fields: none of our own arguments is part of ``deconstruct``. Nothing about
a record is kept on a field; what a value remembers (its claim, its size hint) is on the ``AsyncFieldFile``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import signals
from django.utils.translation import gettext as _

from async_uploads import adoption, claims, forms, journal, sniffing
from async_uploads.field_files import (
    AsyncFieldFile,
    AsyncFileDescriptor,
    AsyncImageDescriptor,
    AsyncImageFieldFile,
)
from async_uploads.permissions import resolve_perm_name
from async_uploads.registry import AsyncFieldRegistry, default_async_field_registry
from async_uploads.storage.base import AsyncUploadStorage
from async_uploads.values import AsyncFileInputData, default_max_length, default_max_size

logger = logging.getLogger("async_uploads.fields")


class _Unset:
    """Tells "not given" from ``None``, which means "no check"."""


_UNSET = _Unset()


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

    def get_db_prep_save(self, value: Any, connection: Any) -> Any:
        """Return the column's value for a statement; the transaction's commit sees to uploads written in bulk."""
        if isinstance(value, AsyncFieldFile) and value and value.is_pending:
            adoption.adopt_on_commit(self, value, connection.alias)
        return super().get_db_prep_save(value, connection)

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        """Return the value to write; an upload that may not be saved is refused before anything is written.

        Raises:
            claims.InvalidUpload: It may not.
        """
        file = getattr(model_instance, self.attname)
        if isinstance(file, AsyncFieldFile) and file._committed and file.is_pending:
            pending = (getattr(model_instance, field.attname) for field in find_pending(model_instance))
            claims.prepare(model_instance, self, list(pending))
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
        """Fill width and height; an upload that cannot be read (yet) has none, its save will tell why.

        A picture that Pillow refuses by an error of its own (a decompression bomb) has none either, so that it can
        neither break the form that it is sent with nor the loading of its record.
        """
        try:
            super().update_dimension_fields(instance, force, *args, **kwargs)
        except Exception as error:
            if isinstance(error, OSError) and not getattr(instance, self.attname).is_pending:
                raise
            logger.info("The size in pixels of %s is unknown: %r", self, error)
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
        if value and (chosen is None or chosen & {field.name, field.attname}) and claims.is_pending(field, value):
            pending.append(field)
    return pending


def forget_rows(sender: type[models.Model], instance: models.Model, raw: bool = False, **kwargs: Any) -> None:
    """Let a save read its uploads' rows itself: what an earlier one read that failed may be out of date."""
    for field in find_pending(instance):
        file = instance.__dict__[field.attname]
        if isinstance(file, AsyncFieldFile):
            file.row = None


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
        claims.adopt(instance, pending, using, created=created)


def prepare_class(sender: type[models.Model], **kwargs: Any) -> None:
    """Register a model's fields, and listen to its saves if it has any, inherited ones included."""
    if sender._meta.apps is not apps:  # made up by a migration or a schema editor
        return
    fields = get_async_fields(sender)
    if not fields:
        return
    signals.pre_save.connect(forget_rows, sender=sender)
    signals.post_save.connect(adopt_after_save, sender=sender)
    for field in fields:
        if field.model is sender:
            field.async_field_registry.register_field(field)
        elif isinstance(field, AsyncImageField) and (field.width_field or field.height_field):
            # Django fills the sizes of inherited images only in instances of the parent.
            signals.post_init.connect(field.update_dimension_fields, sender=sender)


signals.class_prepared.connect(prepare_class)

__all__ = ["AsyncFieldFile", "AsyncFileField", "AsyncImageField", "AsyncImageFieldFile"]
