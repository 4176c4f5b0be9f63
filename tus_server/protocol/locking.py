"""Getting the right to write, and noticing when somebody else should have it.

A newer request wins over a holder that is dead or has received nothing for a second; a termination wins over any.
"""

from __future__ import annotations

from collections.abc import Callable

from tus_server.effects import Pause, Received, Steps, StoreCall
from tus_server.errors import Locked
from tus_server.locks.base import Lease, Wanted
from tus_server.protocol.context import Context
from tus_server.stores.base import Sink
from tus_server.uploads import Upload

#: Seconds between two tries; together they make the 2 seconds within which a take-over succeeds or is refused.
PAUSES = (0.02, 0.05, 0.08, 0.1, 0.15, 0.2, 0.2, 0.2, 0.25, 0.25, 0.25, 0.25)
#: A holder whose client has sent nothing for so many seconds lets go for another append.
QUIET_SECONDS = 1.0


def acquire(context: Context, upload_id: str, wanted: Wanted) -> Steps[Lease]:
    """Take the lease of an upload, asking its holder to let go.

    Raises:
        Locked: Not obtained within 2 seconds; nothing was changed.
    """
    for number, seconds in enumerate((*PAUSES, None)):
        lease: Lease | None = yield StoreCall(context.locker.try_acquire, upload_id)
        if lease is not None:
            return lease
        if number in (0, len(PAUSES) // 2):
            yield StoreCall(context.locker.request_release, upload_id, wanted)
        if seconds is not None:
            yield Pause(seconds)
    raise Locked()


def patiently(call: StoreCall) -> Steps[object]:
    """Make a store call again for up to 2 seconds while the store's own fence is held by a request that is ending.

    Raises:
        Locked: It is still held, by a process that is frozen; nothing was changed.
    """
    for seconds in PAUSES:
        try:
            return (yield call)
        except Locked:
            yield Pause(seconds)
    return (yield call)


def open_sink(context: Context, upload: Upload, expected: int | None) -> Steps[Sink]:
    """Open an upload for appending at its offset; see ``UploadStore.open_sink`` and ``patiently``."""
    sink = yield from patiently(StoreCall(context.store.open_sink, upload, upload.offset, expected))
    assert isinstance(sink, Sink)
    return sink


def must_let_go(lease: Lease | None) -> Callable[[Received], bool]:
    """Return the question whether, after a slice of a body, the holder of a lease must let go of its upload."""

    def question(received: Received) -> bool:
        wanted = None if lease is None else lease.wanted()
        return wanted == "terminate" or (wanted == "append" and received.quiet_for >= QUIET_SECONDS)

    return question
