"""Copying between files without bringing the bytes into this process.

``copy_file_range`` shares the blocks where the file system can (btrfs, XFS) and copies inside the kernel elsewhere.
Where the kernel cannot, the bytes go through memory, a mebibyte at a time.
"""

from __future__ import annotations

import errno
import os

_PIECE_BYTES = 1024 * 1024
#: What ``copy_file_range`` answers where a kernel or a file system does not know it, or for two file systems.
_CANNOT = {errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM, errno.ETXTBSY}


def copy_range(source: int, source_offset: int, target: int, target_offset: int, count: int) -> int:
    """Copy up to ``count`` bytes from one open file to another.

    Returns:
        How many were copied: fewer only at the source's end.

    Raises:
        OSError: Reading or writing failed; some bytes may have been copied.
    """
    copied = 0
    while copied < count:
        wanted = count - copied
        step = _copy_in_kernel(source, source_offset + copied, target, target_offset + copied, wanted)
        if step == 0:
            # The end; or one of the file systems that answer 0 for what they cannot do.
            step = _copy_by_hand(source, source_offset + copied, target, target_offset + copied, wanted)
        if step == 0:
            break
        copied += step
    return copied


def _copy_in_kernel(source: int, source_offset: int, target: int, target_offset: int, count: int) -> int:
    """Copy some bytes; 0 at the source's end, and where it cannot be done this way."""
    if not hasattr(os, "copy_file_range"):
        return 0
    try:
        return os.copy_file_range(source, target, count, source_offset, target_offset)
    except OSError as error:
        if error.errno in _CANNOT:
            return 0
        raise


def _copy_by_hand(source: int, source_offset: int, target: int, target_offset: int, count: int) -> int:
    """Copy at most a mebibyte; 0 at the source's end."""
    piece = os.pread(source, min(count, _PIECE_BYTES), source_offset)
    return os.pwrite(target, piece, target_offset) if piece else 0
