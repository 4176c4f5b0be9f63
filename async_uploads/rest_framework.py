"""Serializer fields, for ``ModelSerializer.serializer_field_mapping``.

Omitted means unchanged, ``null`` clears, ``{"key": ..., "name": ...}`` or a bare key, upload id or tus URL is a new
file. Whose upload it is is checked by ``context["request"]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db.models import Model
from django.utils.translation import ngettext_lazy

from async_uploads import validation
from async_uploads.pending import PendingUpload
from async_uploads.values import AsyncFileInputData, MalformedValue, parse_value

try:
    from rest_framework import serializers
    from rest_framework.fields import empty, get_attribute
except ImportError as error:
    raise ImproperlyConfigured("async_uploads.rest_framework needs the package djangorestframework.") from error


class AsyncFileField(serializers.ModelField):
    """A file that was uploaded before the request: shown as ``{"key", "name", "url"}``, given as what names an upload.

    Made from a model's field: by ``serializer_field_mapping``, or with ``model_field=``.
    """

    default_error_messages = {
        "max_length": ngettext_lazy(
            "Ensure this filename has at most %(max)d character (it has %(length)d).",
            "Ensure this filename has at most %(max)d characters (it has %(length)d).",
            "max",
        ),
        "bad_input": validation.ERRORS["bad_input"],
    }

    def __init__(self, model_field: Any, max_length: int | None = None, **kwargs: Any) -> None:
        if model_field.blank and not kwargs.get("read_only"):
            kwargs.setdefault("allow_null", True)
        super().__init__(model_field=model_field, **kwargs)
        # ``ModelField`` itself would validate the length of the value, not of the file's name.
        self.max_length = max_length
        self._row_pk: object = None

    def get_value(self, dictionary: Mapping[Any, Any]) -> Any:
        """Return the value, and remember which record a nested serializer's data is about."""
        value = super().get_value(dictionary)
        model = getattr(getattr(self.parent, "Meta", None), "model", None)
        pk_name = model._meta.pk.name if model is not None else ""
        row_pk = dictionary.get(pk_name) if pk_name else None
        self._row_pk = dictionary.get("pk") if row_pk is None else row_pk
        # A multipart form has no null: an empty text clears.
        return None if value == "" and value is not empty and self.allow_null else value

    def to_internal_value(self, data: Any) -> Any:
        """Return an ``AsyncFileInputData`` that the model's field takes.

        Raises:
            ValidationError: The value is malformed, or the upload may not be used.
        """
        try:
            value = parse_value(data)
        except MalformedValue:
            self.fail("bad_input")
        if value is None:
            self.fail("bad_input")
        request = self.context.get("request")
        current = self.get_current_name()
        try:
            upload = validation.check(self.model_field, value, current=current, request=request)
        except DjangoValidationError as error:
            raise serializers.ValidationError(error.messages, code=error.code) from error
        if upload is None:
            # Named again: the file stays what it is.
            return AsyncFileInputData(key=current or value.key, name=value.name, width=value.width, height=value.height)
        self.check_upload(upload)
        return upload.data

    def check_upload(self, upload: PendingUpload) -> None:
        """Apply the rules that the model's field does not know.

        Raises:
            ValidationError: It breaks one.
        """
        name = upload.name or ""
        if self.max_length is not None and len(name) > self.max_length:
            message = self.error_messages["max_length"] % {"max": self.max_length, "length": len(name)}
            raise serializers.ValidationError(message, code="max_length")

    def _may_be_about_rows(self) -> bool:
        """Say whether the data can be about a record that is there: nested, or in a list that is updated.

        A serializer that stands alone creates a record, whatever primary key a client sends along.
        """
        above: Any = self.parent.parent  # Any: None above the root, against the stubs
        if above is None:
            return False
        is_list = isinstance(above, serializers.ListSerializer) and above.parent is None
        return not is_list or above.instance is not None

    def get_current_name(self) -> str | None:
        """Return the name of the file that the record has now; ``None`` for a new record or one without file.

        The record is the serializer's instance, else, nested, the one whose primary key is in the data.
        """
        model = self.model_field.model
        instance = getattr(self.parent, "instance", None)
        if isinstance(instance, model):
            return getattr(instance, self.model_field.name).name or None
        if self._row_pk in (None, "") or not self._may_be_about_rows():
            return None
        try:
            record: Model | None = model._base_manager.filter(pk=self._row_pk).first()
        except (ValueError, TypeError, OverflowError, DjangoValidationError):
            return None
        return None if record is None else getattr(record, self.model_field.name).name or None

    def to_representation(self, value: Any) -> Any:
        """Return ``{"key", "name", "url"}``, or ``None`` without a file."""
        if len(self.source_attrs) > 1:
            value = get_attribute(value, self.source_attrs[:-1])
        file = self.model_field.value_from_object(value)
        if not file:
            return None
        try:
            url = file.url
        except Exception:  # A custom storage may raise anything; the URL is only for showing it.
            url = None
        return {"key": file.name, "name": file.name.rpartition("/")[2], "url": url}


class AsyncImageField(AsyncFileField):
    """The same for images: what does not look like one is refused."""

    def check_upload(self, upload: PendingUpload) -> None:
        """Check besides that the content is that of a picture."""
        super().check_upload(upload)
        try:
            validation.check_image(self.model_field, upload.name or "", upload.row.media_type)
        except DjangoValidationError as error:
            raise serializers.ValidationError(error.messages, code=error.code) from error
