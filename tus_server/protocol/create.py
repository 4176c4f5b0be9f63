"""POST: a new upload, perhaps with its first bytes (extensions "creation", "creation-with-upload" and
"creation-defer-length")."""

from __future__ import annotations

from tus_server.effects import HookCall, ReadBody, Steps, StoreCall
from tus_server.errors import BadRequest, InvalidMetadata, TooLarge, UnsupportedMediaType
from tus_server.headers import is_offset_media_type, parse_metadata
from tus_server.messages import Request, Response
from tus_server.protocol.appending import append_body, append_verified, declared_body
from tus_server.protocol.concatenate import create_final, declared_urls
from tus_server.protocol.context import Context, describe
from tus_server.protocol.finishing import finish
from tus_server.protocol.lengths import declared_length, require_within, size_limit
from tus_server.protocol.locking import must_let_go
from tus_server.protocol.receiving import Body
from tus_server.protocol.verifying import receive_verified
from tus_server.stores.base import DefersLength, Expires, Terminates
from tus_server.uploads import Upload, UploadRecord, generate_upload_id


def create(request: Request, context: Context) -> Steps[Response]:
    """Create an upload and answer 201 with its ``Location``; bytes that came along are appended first.

    Bytes with a checksum are verified before there is an upload: of a body that does not match, or was cut, no upload
    is left.

    Raises:
        BadRequest, InvalidMetadata: A header is malformed, or asks for an extension that is not offered.
        TooLarge: The declared length or the body exceeds a limit.
        UnsupportedMediaType: There is a body of another media type.
        ChecksumMismatch: The body is not what its sender meant.
        TusError: Whatever ``pre_create`` refuses with. Nothing is stored in any of these cases.
    """
    urls = declared_urls(request, context)
    if urls:
        return (yield from create_final(request, context, _draft(request, context, None), urls))
    record = _draft(request, context, declared_length(request))
    body = declared_body(request, context)
    with_upload = is_offset_media_type(request.headers.get("Content-Type"))
    carries_data = with_upload and body.content_length != 0
    if carries_data:
        require_room(record, body.content_length)
    else:
        yield from _refuse_other_body(body.content_length)
    record = yield HookCall(context.hooks.pre_create, request, record)
    limit = size_limit(context, record)
    require_within(limit, record.length)
    if carries_data:
        require_within(limit, body.content_length)
    if body.checksum is not None:
        upload = yield from _verify_and_create(request, context, record, body)
    else:
        upload = yield from _create(request, context, record)
        if carries_data:
            upload = yield from _take_first_bytes(context, upload, body)
        elif upload.is_received:
            upload = yield from finish(context, upload)
    headers = [("Location", request.base_path + upload.id)]
    if with_upload or upload.is_finished:
        headers.append(("Upload-Offset", str(upload.offset)))
    return Response(201, (*headers, *describe(context, upload)))


def _create(request: Request, context: Context, record: UploadRecord) -> Steps[Upload]:
    upload: Upload = yield StoreCall(context.store.create, record)
    yield HookCall(context.hooks.post_create, request, upload)
    return upload


def _verify_and_create(request: Request, context: Context, record: UploadRecord, body: Body) -> Steps[Upload]:
    end = record.length if record.length is not None else size_limit(context, record)
    aside = yield from receive_verified(context, record, body, 0, end, must_let_go(None))
    try:
        upload = yield from _create(request, context, record)
        return (yield from append_verified(context, upload, aside))
    finally:
        yield StoreCall(aside.settle)


def _draft(request: Request, context: Context, length: int | None) -> UploadRecord:
    if "Upload-Defer-Length" in request.headers and not isinstance(context.store, DefersLength):
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
        concat=request.headers.get("Upload-Concat") or "",
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


def _take_first_bytes(context: Context, upload: Upload, body: Body) -> Steps[Upload]:
    """Append the body of the creation. No lease is needed: nobody else knows the upload yet.

    A body that is too long leaves no upload behind; one that was cut leaves its bytes, for expiry to remove.
    """
    try:
        return (yield from append_body(context, upload, body, lease=None))
    except TooLarge:
        if isinstance(context.store, Terminates):
            yield StoreCall(context.store.terminate, upload)
        raise
