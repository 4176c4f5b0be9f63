"""DELETE: the end of an upload at the client's wish (extension "termination")."""

from __future__ import annotations

from tus_server.effects import HookCall, Steps, StoreCall
from tus_server.messages import Request, Response
from tus_server.protocol.context import Context, load
from tus_server.protocol.locking import acquire, patiently
from tus_server.stores.base import Terminates


def terminate(request: Request, context: Context) -> Steps[Response]:
    """Remove an upload and answer 204. A request that is writing to it is ended first.

    Raises:
        Locked: The writer did not let go within 2 seconds; nothing was changed.
        Forbidden: ``pre_terminate`` refuses, as when a model owns the file.
    """
    upload = yield from load(context, request)
    store = context.store
    assert isinstance(store, Terminates)
    lease = yield from acquire(context, upload.id, "terminate")
    try:
        yield HookCall(context.hooks.pre_terminate, request, upload)
        yield from patiently(StoreCall(store.terminate, upload))
        yield HookCall(context.hooks.post_terminate, request, upload)
    finally:
        yield StoreCall(lease.release)
    return Response(204)
