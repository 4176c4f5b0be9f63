"""PATCH: more bytes at the present offset (tus 1.0, sections "PATCH" and "Checksum")."""

from __future__ import annotations

from tus_server.effects import Steps, StoreCall
from tus_server.errors import BadRequest, OffsetConflict, TooLarge, UnsupportedMediaType
from tus_server.headers import is_offset_media_type, parse_length, parse_offset
from tus_server.locks.base import Lease
from tus_server.messages import Request, Response
from tus_server.protocol.appending import append_body, append_verified, declared_body
from tus_server.protocol.concatenate import refuse_bytes
from tus_server.protocol.context import Context, describe, load
from tus_server.protocol.finishing import ensure_finished
from tus_server.protocol.lengths import require_within, size_limit
from tus_server.protocol.locking import acquire, must_let_go
from tus_server.protocol.receiving import Body
from tus_server.protocol.verifying import receive_verified
from tus_server.stores.base import DefersLength
from tus_server.uploads import Upload


def append(request: Request, context: Context) -> Steps[Response]:
    """Append the body and answer 204 with the new offset.

    Everything that can be refused is refused before the body is touched, so the upload is then unchanged.

    Raises:
        Forbidden: The upload is made of others, whatever else may be wrong with the request.
        UnsupportedMediaType, BadRequest, OffsetConflict, TooLarge, Locked: The request cannot be served.
        ChecksumMismatch: The body is not what its sender meant; none of it was kept.
        TusError: See ``append_body`` for how a body can end. Of a body with a checksum that was cut nothing is kept.
    """
    upload = yield from load(context, request)
    refuse_bytes(upload)
    if not is_offset_media_type(request.headers.get("Content-Type")):
        raise UnsupportedMediaType()
    offset = parse_offset(request.headers.get("Upload-Offset"))
    body = declared_body(request, context)
    declared = request.headers.get("Upload-Length")
    length = None if declared is None else parse_length(declared)
    _require(context, upload, offset, length, body)
    if upload.is_finished and body.content_length == 0 and body.checksum is None:
        return _answer(context, upload)
    lease = yield from acquire(context, upload.id, "append")
    try:
        if upload.length is None:
            # Another request may have fixed the length while this one waited for the lease.
            upload = yield StoreCall(context.store.get, upload.id)
            _require(context, upload, offset, length, body)
        if body.checksum is None:
            upload = yield from _append(context, upload, length, body, lease)
        else:
            upload = yield from _verify_and_append(context, upload, length, body, lease)
    finally:
        yield StoreCall(lease.release)
    return _answer(context, upload)


def _append(context: Context, upload: Upload, length: int | None, body: Body, lease: Lease) -> Steps[Upload]:
    upload = yield from _fix_length(context, upload, length)
    if upload.is_received and body.content_length == 0:
        return (yield from ensure_finished(context, upload, lease))
    return (yield from append_body(context, upload, body, lease))


def _verify_and_append(context: Context, upload: Upload, length: int | None, body: Body, lease: Lease) -> Steps[Upload]:
    """Nothing is changed, not even a deferred length, before the body was verified."""
    end = _end(context, upload, length)
    aside = yield from receive_verified(context, upload.record, body, upload.offset, end, must_let_go(lease))
    try:
        upload = yield from _fix_length(context, upload, length)
        if upload.is_received:
            return (yield from ensure_finished(context, upload, lease))
        return (yield from append_verified(context, upload, aside))
    finally:
        yield StoreCall(aside.settle)


def _fix_length(context: Context, upload: Upload, length: int | None) -> Steps[Upload]:
    if upload.length is None and length is not None and isinstance(context.store, DefersLength):
        upload = yield StoreCall(context.store.declare_length, upload, length)
    return upload


def _require(context: Context, upload: Upload, offset: int, length: int | None, body: Body) -> None:
    """Refuse a request that does not fit the upload: its offset, its declared length, its body's length."""
    if offset != upload.offset:
        raise OffsetConflict(upload.offset)
    if length is not None:
        if upload.length not in (None, length):
            raise BadRequest(f"The length is {upload.length} already.", code="length_fixed")
        if length < upload.offset:
            raise BadRequest(f"The upload already has {upload.offset} bytes.", code="length_too_small")
        require_within(size_limit(context, upload.record), length)
    end = _end(context, upload, length)
    if end is not None and body.content_length is not None and offset + body.content_length > end:
        raise TooLarge(end, f"The body would reach {offset + body.content_length} bytes, the upload ends at {end}.")


def _end(context: Context, upload: Upload, length: int | None) -> int | None:
    """Return where the upload ends at the latest, with the length that a request declares for it."""
    end = length if upload.length is None else upload.length
    return size_limit(context, upload.record) if end is None else end


def _answer(context: Context, upload: Upload) -> Response:
    return Response(204, (("Upload-Offset", str(upload.offset)), *describe(context, upload)))
