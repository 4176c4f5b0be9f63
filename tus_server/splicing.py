"""Bytes from a socket to a file inside the kernel (Linux, ``splice``): through a pipe, each thread has one.

Only where nobody wants to see the bytes: a sink that is no file (a body with a checksum, or whose end is held back)
gets them from a buffer.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import sys
import threading
from contextlib import suppress
from typing import Final, TypeGuard

from tus_server.stores.base import Sink, Splices

_PIPE_BYTES: Final = 1024 * 1024
#: What the kernel says where it cannot move bytes out of such a socket.
_CANNOT: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF})


class _Pipe:
    """A pipe that is empty between two uses; it ends with its thread."""

    def __init__(self, out: int, into: int) -> None:
        self.out = out
        self.into = into
        with suppress(OSError):
            # The most that a user may have by default; less is only slower.
            fcntl.fcntl(self.into, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def __del__(self) -> None:
        os.close(self.out)
        os.close(self.into)


class _Own(threading.local):
    pipe: _Pipe | None = None


_own = _Own()


def is_possible(sink: Sink) -> TypeGuard[Splices]:
    """Say whether bytes can be moved into a sink inside the kernel, as far as is known before."""
    return sys.platform == "linux" and isinstance(sink, Splices)


def fill(connection: socket.socket, wanted: int) -> int | None:
    """Move what a socket holds, up to ``wanted`` bytes and 1 MiB, into this thread's pipe, waiting for its timeout.

    Returns:
        How many bytes the pipe holds now, to be poured at once; 0 at the end of the connection; ``None`` if this socket
        cannot do it, then nothing has happened.

    Raises:
        TimeoutError, BlockingIOError: Nothing came within the socket's timeout, as of ``socket.recv``.
        OSError: The connection is broken.
    """
    try:
        pipe = _own.pipe = _own.pipe or _Pipe(*os.pipe2(os.O_CLOEXEC))
        return _fill(connection, pipe, min(wanted, _PIPE_BYTES))
    except OSError as error:
        if error.errno in _CANNOT or error.errno in (errno.EMFILE, errno.ENFILE):
            return None
        raise


def _fill(connection: socket.socket, pipe: _Pipe, wanted: int) -> int:
    while True:
        try:
            return os.splice(connection.fileno(), pipe.into, wanted, flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            timeout = connection.gettimeout()
            if timeout == 0:
                raise
            poll = select.poll()
            poll.register(connection, select.POLLIN)
            if not poll.poll(None if timeout is None else timeout * 1000):
                raise TimeoutError from None


def pour(sink: Splices, count: int) -> bool:
    """Move the ``count`` bytes that this thread's pipe holds into a sink; see ``Splices.splice``.

    Raises:
        StorageFull, StoreUnavailable: As of ``Sink.write``. What was not written is lost.
    """
    pipe = _own.pipe
    assert pipe is not None
    try:
        return sink.splice(pipe.out, count)
    except BaseException:
        _own.pipe = None
        raise
