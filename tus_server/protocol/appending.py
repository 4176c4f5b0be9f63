"""Appending one body to an upload whose right to write is held: what PATCH and creation-with-upload share."""

from __future__ import annotations

from dataclasses import replace

from tus_server.checksums import parse_checksum
from tus_server.effects import Steps, StoreCall
from tus_server.locks.base import Lease
from tus_server.messages import Request
from tus_server.protocol.context import Context
from tus_server.protocol.finishing import finish
from tus_server.protocol.lengths import body_length, size_limit
from tus_server.protocol.locking import must_let_go, open_sink
from tus_server.protocol.receiving import Body, build_cut, receive
from tus_server.protocol.verifying import VerifyingSink, pour
from tus_server.stores.base import Expires
from tus_server.uploads import Upload


def declared_body(request: Request, context: Context) -> Body:
    """Return what a request says of its body.

    Raises:
        LengthRequired: There is a body, and the server below us cannot tell where it ends.
        BadRequest: ``Content-Length`` or ``Upload-Checksum`` is malformed, or the algorithm is none of ours.
    """
    checksum = request.headers.get("Upload-Checksum")
    return Body(
        body_length(request), context.config.idle_timeout, None if checksum is None else parse_checksum(checksum)
    )


def append_body(context: Context, upload: Upload, body: Body, lease: Lease | None) -> Steps[Upload]:
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
    sink = yield from open_sink(context, upload, body.content_length)
    end, offset = yield from receive(sink, body, room, must_let_go(lease))
    if end == "finished":
        return (yield from _advance(context, upload, offset))
    if offset > upload.offset:
        yield from _touch(context, replace(upload, offset=offset))
    raise build_cut(end, offset, limit, is_kept=True)


def append_verified(context: Context, upload: Upload, aside: VerifyingSink) -> Steps[Upload]:
    """Append a body that was verified, and finish the upload when that was its last byte.

    Raises:
        OffsetConflict: The upload stands elsewhere by now; nothing was appended.
        StorageFull, StoreUnavailable: The store failed; some of the body may have been kept, all of it verified.
    """
    sink = yield from open_sink(context, upload, aside.size)
    offset = yield from pour(aside, sink)
    return (yield from _advance(context, upload, offset))


def _advance(context: Context, upload: Upload, offset: int) -> Steps[Upload]:
    advanced = replace(upload, offset=offset)
    if upload.is_finished:
        return upload  # an empty body at the end of a finished upload
    if advanced.is_received:
        return (yield from finish(context, advanced))
    if offset > upload.offset:
        advanced = yield from _touch(context, advanced)
    return advanced


def _touch(context: Context, upload: Upload) -> Steps[Upload]:
    if isinstance(context.store, Expires):
        upload = yield StoreCall(context.store.touch, upload, context.clock(), context.next_expiry())
    return upload
