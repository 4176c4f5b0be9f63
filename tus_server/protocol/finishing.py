"""From received to finished: durable, verified, recorded. Every step may run again after a crash."""

from __future__ import annotations

from tus_server.effects import HookCall, Steps, StoreCall
from tus_server.errors import Locked, StoreUnavailable
from tus_server.locks.base import Lease
from tus_server.protocol.context import Context
from tus_server.stores.base import Expires
from tus_server.uploads import Upload


def finish(context: Context, upload: Upload) -> Steps[Upload]:
    """Finish a received upload whose lease is held: sync, ``pre_finish``, record, ``post_finish``.

    A partial upload is no file of its own: no hook sees it, and it goes on to expire.

    Raises:
        TusError: ``pre_finish`` refused it, or the store failed. It stays unfinished.
    """
    store = context.store
    yield StoreCall(store.sync, upload)
    if upload.record.is_partial:
        if isinstance(store, Expires):
            upload = yield StoreCall(store.touch, upload, context.clock(), context.next_expiry())
    else:
        yield HookCall(context.hooks.pre_finish, upload)
    finished: Upload = yield StoreCall(store.finish, upload, context.clock())
    if not finished.record.is_partial:
        yield HookCall(context.hooks.post_finish, finished)
    return finished


def ensure_finished(context: Context, upload: Upload, lease: Lease | None = None) -> Steps[Upload]:
    """Finish an upload that has all its bytes but whose finishing did not come through.

    Received is not complete: until this succeeds no answer gives an offset.

    Raises:
        StoreUnavailable: Somebody else is finishing it at this moment, or finishing failed.
        TusError: 4xx, when the finished object was refused.
    """
    if upload.is_finished or not upload.is_received:
        return upload
    try:
        held: Lease = lease if lease is not None else (yield from acquire_now(context, upload.id))
        try:
            fresh: Upload = yield StoreCall(context.store.get, upload.id)
            return fresh if fresh.is_finished else (yield from finish(context, fresh))
        finally:
            if lease is None:
                yield StoreCall(held.release)
    except Locked as error:
        raise StoreUnavailable("The upload is being finished.", code="finishing") from error


def acquire_now(context: Context, upload_id: str) -> Steps[Lease]:
    """Take a lease without asking anybody to let go and without waiting.

    Raises:
        Locked: It is taken.
    """
    lease: Lease | None = yield StoreCall(context.locker.try_acquire, upload_id)
    if lease is None:
        raise Locked()
    return lease
