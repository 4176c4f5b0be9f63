"""PATCH: more bytes at the present offset (tus 1.0, section "PATCH")."""

from __future__ import annotations

from tus_server.effects import Steps, StoreCall
from tus_server.errors import BadRequest, OffsetConflict, TooLarge, UnsupportedMediaType
from tus_server.headers import is_offset_media_type, parse_length, parse_offset
from tus_server.locks.base import Lease
from tus_server.messages import Request, Response
from tus_server.protocol.appending import append_body, refuse_checksum
from tus_server.protocol.context import Context, describe, load
from tus_server.protocol.finishing import ensure_finished
from tus_server.protocol.lengths import body_length, require_within, size_limit
from tus_server.protocol.locking import acquire
from tus_server.stores.base import DefersLength
from tus_server.uploads import Upload


def append(request: Request, context: Context) -> Steps[Response]:
    """Append the body and answer 204 with the new offset.

    Everything that can be refused is refused before the body is touched, so the upload is then unchanged.

    Raises:
        UnsupportedMediaType, BadRequest, OffsetConflict, TooLarge, Locked: The request cannot be served.
        TusError: See ``append_body`` for how a body can end.
    """
    if not is_offset_media_type(request.headers.get("Content-Type")):
        raise UnsupportedMediaType()
    offset = parse_offset(request.headers.get("Upload-Offset"))
    refuse_checksum(request)
    content_length = body_length(request)
    declared = request.headers.get("Upload-Length")
    length = None if declared is None else parse_length(declared)
    upload = yield from load(context, request)
    _require(context, upload, offset, length, content_length)
    if upload.is_finished and content_length == 0:
        return _answer(context, upload)
    lease = yield from acquire(context, upload.id, "append")
    try:
        upload = yield from _append(context, upload, length, content_length, lease)
    finally:
        yield StoreCall(lease.release)
    return _answer(context, upload)


def _append(
    context: Context, upload: Upload, length: int | None, content_length: int | None, lease: Lease
) -> Steps[Upload]:
    if upload.length is None:
        # Another request may have fixed the length while this one waited for the lease.
        offset = upload.offset
        upload = yield StoreCall(context.store.get, upload.id)
        _require(context, upload, offset, length, content_length)
        if length is not None and isinstance(context.store, DefersLength):
            upload = yield StoreCall(context.store.declare_length, upload, length)
    if upload.is_received and content_length == 0:
        return (yield from ensure_finished(context, upload, lease))
    return (yield from append_body(context, upload, content_length, lease))


def _require(context: Context, upload: Upload, offset: int, length: int | None, content_length: int | None) -> None:
    """Refuse a request that does not fit the upload: its offset, its declared length, its body's length."""
    if offset != upload.offset:
        raise OffsetConflict(upload.offset)
    if length is not None:
        if upload.length not in (None, length):
            raise BadRequest(f"The length is {upload.length} already.", code="length_fixed")
        if length < upload.offset:
            raise BadRequest(f"The upload already has {upload.offset} bytes.", code="length_too_small")
        require_within(size_limit(context, upload.record), length)
    end = length if upload.length is None else upload.length
    if end is None:
        end = size_limit(context, upload.record)
    if end is not None and content_length is not None and offset + content_length > end:
        raise TooLarge(end, f"The body would reach {offset + content_length} bytes, the upload ends at {end}.")


def _answer(context: Context, upload: Upload) -> Response:
    return Response(204, (("Upload-Offset", str(upload.offset)), *describe(context, upload)))
