"""The views behind the signed URLs of storages on this server. The token is the permission."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, cast

from asgiref.sync import sync_to_async
from django.core.exceptions import SuspiciousOperation
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler, StopUpload, TemporaryFileUploadHandler
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.multipartparser import MultiPartParserError
from django.http.response import HttpResponseBase
from django.utils import timezone
from django.utils.http import content_disposition_header
from django.utils.translation import gettext as _

from async_uploads import intake, signing, sniffing
from async_uploads.journal import find_by_key, get_field_label
from async_uploads.view_base import RegistryView
from tus_server.errors import BadRequest, Forbidden, TooLarge

_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")


class LimitedUpload(FileUploadHandler):
    """Ends the reading of a multipart body as soon as a file in it exceeds a limit."""

    def __init__(self, request: HttpRequest, limit: int | None) -> None:
        super().__init__(request)
        self.limit = limit
        self.is_exceeded = False

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes:
        """Pass a chunk on, or stop."""
        if self.limit is not None and start + len(raw_data) > self.limit:
            self.is_exceeded = True
            raise StopUpload(connection_reset=True)
        return raw_data

    def file_complete(self, file_size: int) -> None:
        """Leave the file to the next handler."""


class DirectUploadView(RegistryView):
    """Takes one signed upload, as a multipart POST with the member ``file``; the token is the permission."""

    def post(self, request: HttpRequest) -> HttpResponseBase:
        """Store the file: 201; 403 for a bad or used token, 400 for what the field does not take."""
        payload = read_token(request, "upload")
        field = self.get_field(payload)
        row = find_by_key(str(payload.get("key", "")))
        if row is None or row.field_label != get_field_label(field) or row.has_expired(timezone.now()):
            raise Forbidden(_("Invalid upload URL."), code="invalid_token")
        if row.is_finished or row.is_claimed:
            raise Forbidden(_("This upload URL has been used already."), code="used_token")
        file = self.receive(request, field)
        media_type = sniffing.detect(file.read(sniffing.HEAD_SIZE), row.original_filename)
        file.seek(0)
        intake.check_type(field, row.original_filename, media_type)
        row.media_type = media_type
        if not field.storage.receive_direct(row, file):
            raise Forbidden(_("This upload URL has been used already."), code="used_token")
        return JsonResponse({"key": row.key}, status=201)

    def receive(self, request: HttpRequest, field: Any) -> UploadedFile[Any]:
        """Read the body up to the field's limit.

        Raises:
            TooLarge: The file exceeds it.
            BadRequest: There is no file in the body.
        """
        limit = intake.size_limit(field)
        guard = LimitedUpload(request, limit)
        if not hasattr(request, "_files"):  # a middleware of the project may have read the form already
            request.upload_handlers = [guard, TemporaryFileUploadHandler(request)]
        try:
            file = request.FILES.get("file")
        except (MultiPartParserError, SuspiciousOperation, OSError) as error:
            raise BadRequest(_("The body is no complete multipart form."), code="invalid_body") from error
        if guard.is_exceeded and limit is not None:
            raise TooLarge(limit)
        if not isinstance(file, UploadedFile):
            raise BadRequest(_("No file uploaded."), code="no_file")
        intake.check_size(field, file.size)
        return file


class StreamedFileResponse(FileResponse):
    """A file that is read piece by piece under ASGI too; Django's own reads all of it into memory there first."""

    block_size = 256 * 1024

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the file's pieces, each read in a thread."""
        pieces = iter(cast("Iterator[bytes]", self.streaming_content))
        read = sync_to_async(lambda: next(pieces, b""), thread_sensitive=False)
        while piece := await read():
            yield piece


class DirectDownloadView(RegistryView):
    """Serves one file of this server by a signed URL; the token is the permission."""

    def get(self, request: HttpRequest) -> HttpResponseBase:
        """Answer with the file: shown only where its type is harmless, else as an attachment.

        Raises:
            Http404: There is no such file any more.
        """
        payload = read_token(request, "download")
        field = self.get_field(payload)
        name = str(payload.get("name", ""))
        try:
            file = field.storage.open(name, "rb")
        except (FileNotFoundError, IsADirectoryError) as error:
            raise Http404("No such file") from error
        filename = clean_disposition_name(str(payload.get("filename") or name.rpartition("/")[2]))
        media_type = sniffing.guess_type(filename) or sniffing.UNKNOWN
        response = StreamedFileResponse(file, content_type=media_type)
        is_inline = media_type in sniffing.INLINE_TYPES
        response["Content-Disposition"] = content_disposition_header(not is_inline, filename) or "attachment"
        response["X-Content-Type-Options"] = "nosniff"
        response["Cache-Control"] = "private"
        parameters = payload.get("parameters")
        if isinstance(parameters, dict):
            apply_parameters(response, parameters)
        return response


def apply_parameters(response: HttpResponse | FileResponse, parameters: Mapping[str, Any]) -> None:
    """Apply the field's ``download_params["parameters"]``, which the project wrote and we signed."""
    headers = {
        "cache_control": "Cache-Control",
        "content_disposition": "Content-Disposition",
        "content_type": "Content-Type",
        "content_language": "Content-Language",
    }
    for name, value in parameters.items():
        snake = re.sub(r"(?<=[a-z])([A-Z])", r"_\1", name).lower().removeprefix("response_")
        if snake in headers and isinstance(value, str):
            response[headers[snake]] = _CONTROL.sub("", value)


def clean_disposition_name(filename: str) -> str:
    """Return a file name without what could end a header or a line; every script stays."""
    return _CONTROL.sub("", filename).replace("/", "_") or "file"


def read_token(request: HttpRequest, purpose: str) -> dict[str, Any]:
    """Return what a signed URL says.

    Raises:
        Forbidden: It was not signed by us for this purpose, or its time is over.
    """
    try:
        return signing.unsign(request.GET.get("token", ""), purpose)
    except signing.SignatureExpired as error:
        raise Forbidden(_("The URL has expired."), code="expired_token") from error
    except (signing.BadSignature, ValueError) as error:
        raise Forbidden(_("Invalid URL."), code="invalid_token") from error
