"""Appending one body to an upload whose right to write is held: what PATCH and creation-with-upload share."""

from __future__ import annotations

from dataclasses import replace

from tus_server.effects import Steps, StoreCall
from tus_server.errors import (
    BadRequest,
    BodyIdle,
    BodyIncomplete,
    OffsetConflict,
    StoreUnavailable,
    TooLarge,
    TusError,
)
from tus_server.locks.base import Lease
from tus_server.messages import Request
from tus_server.protocol.context import Context
from tus_server.protocol.finishing import finish
from tus_server.protocol.lengths import size_limit
from tus_server.protocol.locking import must_let_go, open_sink
from tus_server.protocol.receiving import Body, BodyEnd, receive
from tus_server.stores.base import Expires
from tus_server.uploads import Upload


def refuse_checksum(request: Request) -> None:
    """Refuse a checksum: accepting one without verifying it would promise what nobody checks.

    Raises:
        BadRequest: The request declares one.
    """
    if "Upload-Checksum" in request.headers:
        raise BadRequest("Checksums are not offered here.", code="unsupported_checksum")


def append_body(context: Context, upload: Upload, content_length: int | None, lease: Lease | None) -> Steps[Upload]:
    """Append the request's body at the upload's offset, and finish the upload when that was its last byte.

    Returns:
        The upload as it stands.

    Raises:
        OffsetConflict: It stands elsewhere by now, or another request took over; what this one brought is kept.
        TooLarge: A body of unknown length went over the end; what came before its last piece is kept.
        BodyIncomplete, BodyIdle, StoreUnavailable: The body was cut; what arrived is kept.
    """
    limit = upload.length if upload.length is not None else size_limit(context, upload.record)
    room = None if limit is None else limit - upload.offset
    sink = yield from open_sink(context, upload, upload.offset)
    body = Body(content_length, context.config.idle_timeout)
    end, offset = yield from receive(sink, body, room, must_let_go(lease))
    advanced = replace(upload, offset=offset)
    if end == "finished" and advanced.is_received:
        return (yield from finish(context, advanced))
    if offset > upload.offset and isinstance(context.store, Expires):
        advanced = yield StoreCall(context.store.touch, advanced, context.clock(), context.next_expiry())
    if end != "finished":
        raise _cut(end, offset, limit)
    return advanced


def _cut(end: BodyEnd, offset: int, limit: int | None) -> TusError:
    match end:
        case "overflow":
            return TooLarge(limit or 0, f"More came than the upload can take, which is {limit} bytes.")
        case "released":
            return OffsetConflict(offset, "Another request took this upload over.", code="taken_over")
        case "idle":
            return BodyIdle()
        case "draining":
            return StoreUnavailable("The server is restarting. What arrived is kept.", code="draining")
        case _:
            return BodyIncomplete()
