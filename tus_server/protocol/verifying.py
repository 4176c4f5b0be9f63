"""Bodies with a checksum: verified first, then appended.

The bytes wait aside, in memory or in a file without a name, and the store sees none of them before the body's end was
seen and its digest was right. So no offset ever counts a byte that was not verified, and there is nothing to take back:
a chunk that does not match, or was cut, was never there (tus 1.0, "Checksum"; checklist, AMB-12 and AMB-13).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import SpooledTemporaryFile

from tus_server.checksums import Checksum, new_digest
from tus_server.effects import Received, Steps, StoreCall
from tus_server.errors import ChecksumMismatch, StorageFull, StoreUnavailable
from tus_server.protocol.context import Context
from tus_server.protocol.receiving import Body, build_cut, receive_into
from tus_server.stores.base import Sink
from tus_server.uploads import UploadRecord

#: How many bytes of a body wait in memory; a larger one goes to a file.
MEMORY_BYTES = 1024 * 1024
#: How many bytes are copied at a time, and how many in one call: a thread of the pool is not held for a whole chunk.
_PIECE_BYTES = 1024 * 1024
_POUR_BYTES = 64 * 1024 * 1024

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class VerifyingSink(Sink):
    """Keeps a body aside until its digest was compared, then pours it into the store's sink.

    Args:
        checksum: The digest that the body must have.
        directory: Where the file lies that takes what is too much for memory. It has no name there, so that it is gone
            with its process. The system's directory for temporary files when ``None``.

    Attributes:
        size: How many bytes came.
    """

    def __init__(self, checksum: Checksum, directory: Path | None) -> None:
        self.size = 0
        self._checksum = checksum
        self._digest = new_digest(checksum.algorithm)
        # Closed by settle, which every caller owes.
        self._file = SpooledTemporaryFile(MEMORY_BYTES, dir=None if directory is None else str(directory))  # noqa: SIM115

    def write(self, data: memoryview) -> None:
        """Keep bytes aside.

        Raises:
            StorageFull, StoreUnavailable: They cannot be; the body will not be appended.
        """
        with _translated():
            self._file.write(data)
        self._digest.update(data)
        self.size += len(data)

    def verify(self) -> None:
        """Compare the digest of all that came, and make ready to pour.

        Raises:
            ChecksumMismatch: It is another.
        """
        if self._digest.digest() != self._checksum.digest:
            raise ChecksumMismatch()
        with _translated():
            self._file.seek(0)

    def pour(self, sink: Sink) -> bool:
        """Write the next verified bytes, up to 64 MiB, to a sink, and say whether there may be more."""
        for _ in range(_POUR_BYTES // _PIECE_BYTES):
            with _translated():
                piece = self._file.read(_PIECE_BYTES)
            if not piece:
                return False
            sink.write(memoryview(piece))
        return True

    def settle(self) -> int:
        """Forget the body. Returns 0: nothing kept aside counts."""
        self._file.close()
        return 0


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise StorageFull("The server has no space left. None of this body was kept.") from error
        raise StoreUnavailable("The body cannot be kept for its verification right now.") from error


def receive_verified(
    context: Context,
    record: UploadRecord,
    body: Body,
    offset: int,
    end: int | None,
    must_let_go: Callable[[Received], bool],
) -> Steps[VerifyingSink]:
    """Receive a body with a checksum, and verify it. Nothing is stored yet; the caller settles what it is given.

    Args:
        record: The upload that the body is for; it need not exist yet.
        offset: Where the upload stands.
        end: Where it ends at the latest, in bytes; ``None`` if nothing limits it. So much disk is used at most.

    Raises:
        ChecksumMismatch: The body is not what its sender meant.
        TooLarge: A body of unknown length went over the end.
        BodyIncomplete, BodyIdle, OffsetConflict, StoreUnavailable: It was cut.
    """
    checksum = body.checksum
    assert checksum is not None

    def open_aside() -> VerifyingSink:
        return VerifyingSink(checksum, context.store.scratch_directory(record))

    aside: VerifyingSink = yield StoreCall(open_aside)
    try:
        ended = yield from receive_into(aside, body, None if end is None else end - offset, must_let_go)
        if ended != "finished":
            raise build_cut(ended, offset, end, is_kept=False)
        yield StoreCall(aside.verify)
    except BaseException:
        yield StoreCall(aside.settle)
        raise
    return aside


def pour(aside: VerifyingSink, sink: Sink) -> Steps[int]:
    """Append a verified body and settle the sink; returns the upload's new offset."""
    try:
        while (yield StoreCall(aside.pour, sink)):
            pass
    except BaseException:
        yield StoreCall(sink.settle)
        raise
    offset: int = yield StoreCall(sink.settle)
    return offset
