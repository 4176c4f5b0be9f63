"""The file input that uploads at once: what it renders, and what it reads from a posted form.

Without JavaScript, without the bundle, without a model field or without the upload URLs it is Django's own
``ClearableFileInput``. The saved file's key is never rendered, so no key can be swapped for another record's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.db.models import Model
from django.forms.renderers import BaseRenderer
from django.forms.widgets import FILE_INPUT_CONTRADICTION, CheckboxInput, ClearableFileInput, Media, Script
from django.http import HttpRequest
from django.http.request import HttpHeaders
from django.urls import NoReverseMatch, reverse

from async_uploads import intake, owners, validation
from async_uploads.journal import AsyncTempFile, find_upload, get_field_label
from async_uploads.texts import LABELS, MESSAGES
from async_uploads.values import AsyncFileInputData, MalformedValue, parse_value

#: Bytes per PATCH that the element starts with.
DEFAULT_CHUNK_SIZE = 8 * 1024 * 1024

SCRIPT = "async_uploads/async-uploads.js"
STYLES = "async_uploads/async-uploads.css"


def is_bundle_built() -> bool:
    """Say whether the element's script is there; a checkout built without Node has none."""
    return (Path(__file__).parent / "static" / SCRIPT).exists()


@dataclass(frozen=True)
class BoundUpload:
    """What a bound form shows again: the value it received, beside the record's present file.

    Attributes:
        data: What ``value_from_datadict`` returned.
        initial: The form's initial value, usually a ``FieldFile``.
    """

    data: Any  # Any: whatever a client posted
    initial: Any  # Any: a project may give anything as initial

    def __str__(self) -> str:
        return str(self.initial or "")


class AsyncFileInput(ClearableFileInput):
    """File input that becomes ``<async-upload>`` where its script is loaded.

    Attributes:
        async_field: The model field it uploads for; the form field sets it. ``None``: a plain file input.
        request: The client's request where the form knows it; else the context variable is asked.
        chunk_size: Bytes per PATCH that the element starts with.
    """

    template_name = "async_uploads/widgets/async_upload.html"
    plain_template_name = ClearableFileInput.template_name
    chunk_size: int = DEFAULT_CHUNK_SIZE
    # Any: the model fields live above this module.
    async_field: Any = None
    request: HttpRequest | None = None

    def __init__(self, attrs: dict[str, Any] | None = None, *, chunk_size: int | None = None) -> None:
        super().__init__(attrs)
        if chunk_size is not None:
            if chunk_size <= 0:
                raise ValueError("chunk_size must be a positive number of bytes: what one cut can cost stays finite.")
            self.chunk_size = chunk_size

    @property
    def media(self) -> Media:
        """The element's script and styles; nothing while they are not built."""
        if not is_bundle_built():
            return Media()
        return Media(css={"all": [STYLES]}, js=[Script(SCRIPT, defer=True)])  # type: ignore[list-item]  # the stubs are older

    def get_request(self) -> HttpRequest | None:
        """Return the client's request as far as anybody told it."""
        return self.request or owners.current_request.get(None)

    # Reading

    def value_from_datadict(self, data: Mapping[str, Any], files: Any, name: str) -> Any:  # Any: as Django's
        """Return the parsed value, the malformed text, a real file, ``False`` for "clear", or ``None`` for nothing.

        An upload and a ticked "clear" at once give Django's marker for a contradiction.
        """
        clear_name = self.clear_checkbox_name(name)
        self.checked = clear_name in data
        upload = self._read_upload(data.get(name)) or files.get(name)
        if not self.is_required and CheckboxInput().value_from_datadict(data, files, clear_name):
            return FILE_INPUT_CONTRADICTION if upload else False
        return upload or None

    @staticmethod
    def _read_upload(raw: Any) -> Any:
        if isinstance(raw, UploadedFile) or not raw:
            return raw or None
        try:
            return parse_value(raw)
        except MalformedValue:
            return raw

    def value_omitted_from_data(self, data: Mapping[str, Any], files: Any, name: str) -> bool:
        """Say whether the form did not contain this input at all."""
        return name not in data and super().value_omitted_from_data(data, files, name)

    # Rendering

    def is_initial(self, value: Any) -> bool:
        """Say whether ``value`` is a saved file that can be linked to."""
        try:
            return super().is_initial(value)
        except (NoReverseMatch, ValueError):
            return False

    def format_value(self, value: Any) -> Any:
        """Return the saved file, or for what a bound form received the JSON text of the hidden input.

        The latter only for an upload of this field that belongs to this client; else ``None``.
        """
        if isinstance(value, BoundUpload):
            value = value.initial
        if isinstance(value, AsyncFileInputData):
            return self.format_pending(value) or None
        return super().format_value(value)

    def format_pending(self, value: Any) -> str:
        """Return the hidden input's JSON text for a received value; empty for what may not be shown again."""
        row, width, height = getattr(value, "async_upload_row", None), None, None
        if isinstance(value, AsyncFileInputData) and not value.error and value.key and self.async_field is not None:
            row, width, height = find_upload(value.key), value.width, value.height
        if row is None or not self._may_show(row):
            return ""
        members = {"key": row.key, "name": row.original_filename, "width": width, "height": height, "error": None}
        if row.length is not None:
            members["size"] = row.length
        if url := self._preview_url(row):
            members["url"] = url
        if url := self._upload_url(row):
            members["uploadUrl"] = url
        return json.dumps(members)

    def _may_show(self, row: AsyncTempFile) -> bool:
        field = self.async_field
        is_for_field = row.field_label == get_field_label(field) and not row.is_partial
        return is_for_field and row.is_finished and not row.is_claimed and validation.may_use(row, self.get_request())

    def _preview_url(self, row: AsyncTempFile) -> str:
        field = self.async_field
        try:
            return str(field.storage.generate_download_url(row.place, self._field_id()))
        except Exception:  # A preview is never worth a broken page, and a custom storage may raise anything.
            return ""

    def _upload_url(self, row: AsyncTempFile) -> str:
        """Return the upload's tus URL, where the element deletes it when the person removes it; empty without one."""
        registry, storage = self.async_field.async_field_registry, self.async_field.storage
        try:
            is_tus = storage.transport == "tus"
            return reverse(registry.tus_upload_url_name, kwargs={"upload_id": row.upload_id}) if is_tus else ""
        except NoReverseMatch:
            return ""

    def _field_id(self) -> str:
        return str(self.async_field.async_field_registry.generate_id(self.async_field))

    def _endpoint(self) -> str:
        """Return the address that the element creates uploads at; empty where the project has not included it."""
        registry = self.async_field.async_field_registry
        is_tus = self.async_field.storage.transport == "tus"
        try:
            return reverse(registry.tus_url_name if is_tus else registry.attached_view)
        except NoReverseMatch:
            return ""

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        """Return Django's context for a file input, plus ``widget.async_upload`` (see the template)."""
        received, initial = (value.data, value.initial) if isinstance(value, BoundUpload) else (None, value)
        if isinstance(initial, AsyncFileInputData | str):
            received, initial = initial, None
        context: dict[str, Any] = super().get_context(name, initial, attrs)
        context["widget"]["async_upload"] = self.get_upload_context(received, initial)
        return context

    def get_upload_context(self, received: Any, initial: Any) -> dict[str, Any] | None:
        """Return what the element needs to know; ``None`` where there is nothing to upload to."""
        field = self.async_field
        endpoint = "" if field is None else self._endpoint()
        if field is None or not endpoint:
            return None
        instance: Model | None = getattr(initial, "instance", None)
        return {
            "transport": field.storage.transport,
            "endpoint": endpoint,
            "field_id": self._field_id(),
            "instance_id": "" if instance is None or instance._state.adding else str(instance.pk),
            "max_size": intake.size_limit(field),
            "chunk_size": self.chunk_size,
            "messages": json.dumps({key: str(text) for key, text in MESSAGES.items()}, ensure_ascii=False),
            "labels": LABELS,
            "csrf_cookie": "" if settings.CSRF_USE_SESSIONS else settings.CSRF_COOKIE_NAME,
            "csrf_header": HttpHeaders.parse_header_name(settings.CSRF_HEADER_NAME) or "X-CSRFToken",
            "value": self.format_pending(received),
        }

    def render(
        self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: BaseRenderer | None = None
    ) -> Any:
        """Render the element, or Django's own file input where there is nothing to upload to."""
        context = self.get_context(name, value, attrs)
        plain = context["widget"]["async_upload"] is None
        template = self.plain_template_name if plain else self.template_name
        return self._render(template, context, renderer)  # type: ignore[attr-defined]  # not in the stubs


class AdminAsyncFileInput(AsyncFileInput):
    """The same for the admin: its plain fallback is the admin's own file input."""

    plain_template_name = "admin/widgets/clearable_file_input.html"
