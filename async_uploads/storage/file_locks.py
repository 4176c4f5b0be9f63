"""Locks on files that are moved: the kernel frees them when their holder dies, not when it merely stops."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

#: What flock answers where a file system has no locks.
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}

#: Seconds to wait for somebody who moves or returns the same file; moving is a matter of names.
HOLD_TIMEOUT = 2.0


@contextmanager
def locked(*paths: str) -> Iterator[None]:
    """Hold the locks of the files that are there; names of one file (hard links) share its lock.

    Where the file system has no locks nothing is held.

    Raises:
        BlockingIOError: Somebody else has held one for ``HOLD_TIMEOUT``.
    """
    with ExitStack() as stack:
        known: set[tuple[int, int]] = set()
        for path in paths:
            with suppress(FileNotFoundError):
                descriptor = os.open(path, os.O_RDONLY)
                stack.callback(os.close, descriptor)
                found = os.fstat(descriptor)
                if (found.st_dev, found.st_ino) not in known:
                    known.add((found.st_dev, found.st_ino))
                    _lock(descriptor)
                    stack.callback(_unlock, descriptor)
        yield


def _lock(descriptor: int) -> None:
    deadline = time.monotonic() + HOLD_TIMEOUT
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return None
        time.sleep(0.01)


def _unlock(descriptor: int) -> None:
    """Also for children that were forked meanwhile, and still have the file open."""
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
