"""HEAD: where an upload stands (tus 1.0, section "HEAD"). Takes no lease, never waits, is never 423."""

from __future__ import annotations

from tus_server.effects import Steps
from tus_server.messages import Request, Response
from tus_server.protocol.concatenate import complete_final
from tus_server.protocol.context import Context, describe, load
from tus_server.protocol.finishing import ensure_finished


def retrieve(request: Request, context: Context) -> Steps[Response]:
    """Answer 200 with offset, length or deferral, metadata and expiry.

    An upload that is made of others has no offset before it is finished.

    Raises:
        StoreUnavailable: All bytes came and finishing is not done: 503 without an offset.
    """
    upload = yield from load(context, request)
    is_final = upload.record.is_final
    upload = yield from (complete_final if is_final else ensure_finished)(context, upload)
    headers = [("Cache-Control", "no-store")]
    if upload.is_finished or not is_final:
        headers.append(("Upload-Offset", str(upload.offset)))
    if upload.length is not None:
        headers.append(("Upload-Length", str(upload.length)))
    elif not is_final:
        headers.append(("Upload-Defer-Length", "1"))
    if upload.record.concat:
        headers.append(("Upload-Concat", upload.record.concat))
    if upload.record.metadata:
        headers.append(("Upload-Metadata", upload.record.metadata))
    return Response(200, (*headers, *describe(context, upload)))
