"""How a file is served by a signed URL: under its true name, and by a cloud in the page only where that is harmless."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from django.utils.http import content_disposition_header

from async_uploads import journal, sniffing

if TYPE_CHECKING:
    from async_uploads.storage.base import AsyncUploadStorage

#: What a field's ``download_params["parameters"]`` may set, under these names or those of the clouds' SDKs.
HEADERS = ("cache_control", "content_disposition", "content_type", "content_language", "content_encoding")

_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")


def find_original_name(storage: AsyncUploadStorage, name: str) -> str:
    """Return the file's true name while its row exists, else the last part of ``name``."""
    named = journal.rows().filter(storage=storage.identity(), moved_to_location=name).exclude(claim=None)
    row = named.order_by("-pk").first()
    if row is None and storage.is_temporary_path(name):
        row = journal.find_by_key(name)
    return row.original_filename if row is not None else name.rsplit("/", 1)[-1]


def build_download_headers(storage: AsyncUploadStorage, name: str, parameters: object = None) -> dict[str, str]:
    """Return the headers that a signed URL makes the cloud answer with, in snake case.

    Args:
        name: The file's name, or its key until it is promoted.
        parameters: The field's own, which win; ``ResponseContentType`` (S3) means ``content_type``.
    """
    filename = _CONTROL.sub("", find_original_name(storage, name)).replace("/", "_") or "file"
    media_type = sniffing.guess_type(filename) or sniffing.UNKNOWN
    is_attachment = media_type not in sniffing.INLINE_TYPES
    headers = {
        "content_disposition": content_disposition_header(is_attachment, filename) or "attachment",
        "content_type": media_type,
    }
    for key, value in parameters.items() if isinstance(parameters, Mapping) else ():
        snake = re.sub(r"(?<=[a-z])([A-Z])", r"_\1", str(key)).lower().removeprefix("response_")
        if snake in HEADERS and isinstance(value, str):
            headers[snake] = _CONTROL.sub("", value)
    return headers
