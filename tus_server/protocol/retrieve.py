"""HEAD: where an upload stands (tus 1.0, section "HEAD"). Takes no lease, never waits, is never 423."""

from __future__ import annotations

from tus_server.effects import Steps
from tus_server.messages import Request, Response
from tus_server.protocol.context import Context, describe, load
from tus_server.protocol.finishing import ensure_finished


def retrieve(request: Request, context: Context) -> Steps[Response]:
    """Answer 200 with offset, length or deferral, metadata and expiry.

    Raises:
        StoreUnavailable: All bytes came and finishing is not done: 503 without an offset.
    """
    upload = yield from load(context, request)
    upload = yield from ensure_finished(context, upload)
    headers = [("Upload-Offset", str(upload.offset)), ("Cache-Control", "no-store")]
    if upload.length is None:
        headers.append(("Upload-Defer-Length", "1"))
    else:
        headers.append(("Upload-Length", str(upload.length)))
    if upload.record.metadata:
        headers.append(("Upload-Metadata", upload.record.metadata))
    return Response(200, (*headers, *describe(context, upload)))
