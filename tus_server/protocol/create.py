"""POST: a new upload, perhaps with its first bytes (extensions "creation", "creation-with-upload" and
"creation-defer-length")."""

from __future__ import annotations

from tus_server.effects import HookCall, ReadBody, Steps, StoreCall
from tus_server.errors import BadRequest, InvalidMetadata, TooLarge, UnsupportedMediaType
from tus_server.headers import is_offset_media_type, parse_metadata
from tus_server.messages import Request, Response
from tus_server.protocol.appending import append_body, refuse_checksum
from tus_server.protocol.context import Context, describe
from tus_server.protocol.finishing import finish
from tus_server.protocol.lengths import body_length, declared_length, require_within, size_limit
from tus_server.stores.base import DefersLength, Expires, Terminates
from tus_server.uploads import Upload, UploadRecord, generate_upload_id


def create(request: Request, context: Context) -> Steps[Response]:
    """Create an upload and answer 201 with its ``Location``; bytes that came along are appended first.

    Raises:
        BadRequest, InvalidMetadata: A header is malformed, or asks for an extension that is not offered.
        TooLarge: The declared length or the body exceeds a limit.
        UnsupportedMediaType: There is a body of another media type.
        TusError: Whatever ``pre_create`` refuses with. Nothing is stored in any of these cases.
    """
    if "Upload-Concat" in request.headers:
        raise BadRequest("Concatenation is not offered here.", code="unsupported_extension")
    record = _draft(request, context)
    content_length = body_length(request)
    with_upload = is_offset_media_type(request.headers.get("Content-Type"))
    carries_data = with_upload and content_length != 0
    if carries_data:
        refuse_checksum(request)
        require_room(record, content_length)
    else:
        yield from _refuse_other_body(content_length)
    record = yield HookCall(context.hooks.pre_create, request, record)
    limit = size_limit(context, record)
    require_within(limit, record.length)
    if carries_data:
        require_within(limit, content_length)
    upload: Upload = yield StoreCall(context.store.create, record)
    yield HookCall(context.hooks.post_create, request, upload)
    if carries_data:
        upload = yield from _take_first_bytes(context, upload, content_length)
    elif upload.is_received:
        upload = yield from finish(context, upload)
    headers = [("Location", request.base_path + upload.id)]
    if with_upload or upload.is_finished:
        headers.append(("Upload-Offset", str(upload.offset)))
    return Response(201, (*headers, *describe(context, upload)))


def _draft(request: Request, context: Context) -> UploadRecord:
    length = declared_length(request)
    if length is None and not isinstance(context.store, DefersLength):
        raise BadRequest("Upload-Defer-Length is not offered here.", code="unsupported_extension")
    require_within(context.config.max_size, length)
    metadata = request.headers.get("Upload-Metadata") or ""
    if not metadata.isascii():
        raise InvalidMetadata("Upload-Metadata must be ASCII.")
    parse_metadata(metadata)
    upload_id = generate_upload_id()
    return UploadRecord(
        id=upload_id,
        object_name=upload_id,
        length=length,
        metadata=metadata,
        created_at=context.clock(),
        expires_at=context.next_expiry() if isinstance(context.store, Expires) else None,
    )


def require_room(record: UploadRecord, content_length: int | None) -> None:
    """Refuse a body that is declared longer than the upload.

    Raises:
        TooLarge: It is.
    """
    if record.length is not None and content_length is not None and content_length > record.length:
        raise TooLarge(record.length, f"The body has {content_length} bytes, the upload only {record.length}.")


def _refuse_other_body(content_length: int | None) -> Steps[None]:
    """A body of another type is no data: an empty one is ignored, any other refused (checklist, AMB-10)."""
    if content_length or (content_length is None and (yield ReadBody(1))):
        raise UnsupportedMediaType()


def _take_first_bytes(context: Context, upload: Upload, content_length: int | None) -> Steps[Upload]:
    """Append the body of the creation. No lease is needed: nobody else knows the upload yet.

    A body that is too long leaves no upload behind; one that was cut leaves its bytes, for expiry to remove.
    """
    try:
        return (yield from append_body(context, upload, content_length, lease=None))
    except TooLarge:
        if isinstance(context.store, Terminates):
            yield StoreCall(context.store.terminate, upload)
        raise
