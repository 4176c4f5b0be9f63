"""Form fields for uploads that happen before the form is sent; ``cleaned_data`` is like Django's uploaded files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.forms.widgets import FILE_INPUT_CONTRADICTION, Widget
from django.http import HttpRequest

from async_uploads import owners, validation
from async_uploads.pending import PendingUpload
from async_uploads.values import AsyncFileInputData, MalformedValue, parse_value
from async_uploads.widgets import AdminAsyncFileInput, AsyncFileInput, BoundUpload

if TYPE_CHECKING:
    from async_uploads.registry import AsyncFieldRegistry

__all__ = [
    "AdminAsyncFileInput",
    "AsyncFileField",
    "AsyncFileInput",
    "AsyncImageField",
    "AsyncUploadAdminMixin",
    "AsyncUploadFormMixin",
    "PendingUpload",
]


class AsyncFileField(forms.FileField):
    """A file that was uploaded before the form was sent, or, without JavaScript, with it.

    Args:
        async_field: The model field that the file is for: its limits, storage and permissions count.
        async_field_registry, async_field_id: The reference's way to name that field.
        storage: Accepted as in the reference; the model field's storage is used.
        request: The client's request, for checking whose upload it is. ``AsyncUploadFormMixin`` sets it.
    """

    widget = AsyncFileInput
    default_error_messages = validation.ERRORS
    #: What the input offers when the field restricts nothing.
    default_accept = ""

    def __init__(
        self,
        *,
        async_field: Any = None,  # Any: the model fields live above this module
        async_field_registry: AsyncFieldRegistry | None = None,
        async_field_id: str | None = None,
        storage: Any = None,
        request: HttpRequest | None = None,
        **kwargs: Any,
    ) -> None:
        if async_field is None and (async_field_registry is None or async_field_id is None):
            raise TypeError("AsyncFileField needs async_field, or async_field_registry and async_field_id.")
        self._async_field: Any = async_field
        self._registry = async_field_registry
        self._field_id = async_field_id
        super().__init__(**kwargs)
        self.request = request

    @property
    def async_field(self) -> Any:
        """The model field that the file is for."""
        if self._async_field is None and self._registry is not None and self._field_id is not None:
            self._async_field = self._registry.fields_by_id[self._field_id]
        return self._async_field

    @property
    def request(self) -> HttpRequest | None:
        """The client's request, from the form or from the context variable; ``None`` where nobody told it."""
        return self._request or owners.current_request.get(None)

    @request.setter
    def request(self, request: HttpRequest | None) -> None:
        self._request = request
        widget: object = self.widget
        if isinstance(widget, AsyncFileInput):
            widget.request = request

    def widget_attrs(self, widget: Widget) -> dict[str, Any]:
        """Tie the widget to the model field, and let the browser offer only what the field takes."""
        attrs = dict(super().widget_attrs(widget))
        if isinstance(widget, AsyncFileInput):
            widget.async_field = self.async_field
        accept = ",".join(self.async_field.file_restrictions or []) or self.default_accept
        if accept and "accept" not in widget.attrs:
            attrs["accept"] = accept
        return attrs

    def to_python(self, data: Any) -> Any:
        """Return the upload as a ``PendingUpload``, ``None`` for nothing.

        Raises:
            ValidationError: The value is malformed, or the upload may not be used.
        """
        return self._take(data, None)

    def clean(self, data: Any, initial: Any = None) -> Any:
        """Return a ``PendingUpload``; ``initial`` where nothing changed; ``False`` for "clear".

        Raises:
            ValidationError: As ``to_python``; or the field is required; or an upload and "clear" came together.
        """
        if isinstance(data, BoundUpload):
            data = data.data
        if data is FILE_INPUT_CONTRADICTION or not data:
            return super().clean(data, initial)
        if data is initial:
            return initial
        taken = self._take(data, initial)
        return initial if taken is None else taken

    def _take(self, data: Any, initial: Any) -> Any:
        if data in self.empty_values:
            return None
        if isinstance(data, PendingUpload):
            return data
        if isinstance(data, UploadedFile):
            return self._receive(data)
        try:
            value = parse_value(data)
        except MalformedValue as error:
            raise ValidationError(self.error_messages["bad_input"], code="bad_input") from error
        if value is None:
            return None
        current = getattr(initial, "name", initial) or None
        upload = validation.check(self.async_field, value, current=current, request=self.request)
        if upload is None:
            return None
        self.check_upload(upload)
        self.run_validators(upload)
        return upload

    def _receive(self, data: UploadedFile[Any]) -> PendingUpload:
        """Check a file that came in the form, then store it as an upload; checked first, so that nothing is left."""
        super().to_python(data)
        self.run_validators(data)
        upload = validation.receive(self.async_field, data, self.request)
        # Rendering the form again gives this upload back instead of asking for the file once more.
        data.async_upload_row = upload.row  # type: ignore[attr-defined]
        return upload

    def check_upload(self, upload: PendingUpload) -> None:
        """Apply Django's own rules of a file field to an upload: the name's length, and that it is not empty.

        Raises:
            ValidationError: It breaks one of them.
        """
        name = upload.name or ""
        if self.max_length is not None and len(name) > self.max_length:
            params = {"max": self.max_length, "length": len(name)}
            raise ValidationError(self.error_messages["max_length"], code="max_length", params=params)
        if not self.allow_empty_file and upload.known_size == 0:
            raise ValidationError(self.error_messages["empty"], code="empty")

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Say whether the form would change the file; the record's present file, named again, changes nothing."""
        if isinstance(data, AsyncFileInputData) and not data.error:
            current = getattr(initial, "name", initial)
            return not self.disabled and not (current and data.key == current)
        return super().has_changed(initial, data)

    def bound_data(self, data: Any, initial: Any) -> Any:
        """Return what a bound form shows again: what it received, beside the present file."""
        if data in (None, FILE_INPUT_CONTRADICTION):
            return initial
        return BoundUpload(data or None, initial)


class AsyncImageField(AsyncFileField):
    """The same for images: what does not look like one is refused."""

    default_accept = "image/*"
    default_error_messages = forms.ImageField.default_error_messages

    def check_upload(self, upload: PendingUpload) -> None:
        """Check besides that the content, where it is known, is that of a picture made of pixels.

        Raises:
            ValidationError: It is something else.
        """
        super().check_upload(upload)
        validation.check_image(self.async_field, upload.name or "", upload.row.media_type)

    def _receive(self, data: UploadedFile[Any]) -> PendingUpload:
        validation.check_image(self.async_field, data.name or "", "")
        is_svg = (data.name or "").lower().endswith(".svg") and validation.takes_svg(self.async_field)
        if not is_svg and not getattr(self.async_field, "suppress_pillow_check", False):
            # Django's own field looks into the file with Pillow.
            forms.ImageField(max_length=self.max_length, allow_empty_file=self.allow_empty_file).to_python(data)
        return super()._receive(data)


class AsyncUploadFormMixin(forms.BaseForm if TYPE_CHECKING else object):  # type: ignore[misc]
    """Mixin for forms that checks whose uploads they are given: ``MyForm(request.POST, request=request)``."""

    def __init__(self, *args: Any, request: HttpRequest | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.request = request
        for field in self.fields.values():
            if isinstance(field, AsyncFileField):
                field.request = request


class AsyncUploadAdminMixin:
    """Mixin for ``ModelAdmin`` and inlines: their file fields know the request and check whose uploads they get.

    Without it, and without ``async_uploads.middleware.CurrentRequestMiddleware``, the admin takes any finished upload
    whose key a staff user knows.
    """

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Return the form field, knowing the request."""
        formfield = super().formfield_for_dbfield(db_field, request, **kwargs)  # type: ignore[misc]
        if isinstance(formfield, AsyncFileField):
            formfield.request = request
        return formfield
