"""Leases as locked files, among all processes of one machine.

The lease is ``flock`` on ``<upload id>.lock``: the kernel frees it when its holder dies. A wish for release is a file
``<upload id>.wanted`` beside it, whose content says what for. The holder removes both when it lets go.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from tus_server.errors import StoreUnavailable, UploadNotFound
from tus_server.locks.base import Lease, Locker, Wanted
from tus_server.uploads import is_upload_id


class FileLocker(Locker):
    """Leases in a directory.

    Args:
        directory: On a local file system, the same for all processes; created when needed.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = Path(directory)

    def try_acquire(self, upload_id: str) -> Lease | None:
        """See ``Locker``."""
        path = self._path(upload_id, "lock")
        try:
            if not os.path.isdir(self._directory):
                self._directory.mkdir(parents=True, exist_ok=True)
            while True:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                is_taken = False
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    # Whoever held the lock may have removed the file between our open and our flock: lock the new one.
                    if _is_open_at(descriptor, path):
                        wanted = self._path(upload_id, "wanted")
                        wanted.unlink(missing_ok=True)
                        is_taken = True
                        return FileLease(descriptor, path, wanted)
                except BlockingIOError:
                    return None
                finally:
                    if not is_taken:
                        os.close(descriptor)
        except OSError as error:
            raise StoreUnavailable("The lock directory cannot be used right now.") from error

    def request_release(self, upload_id: str, wanted: Wanted) -> None:
        """See ``Locker``."""
        path = self._path(upload_id, "wanted")
        try:
            with suppress(FileExistsError), path.open("w" if wanted == "terminate" else "x", encoding="ascii") as file:
                file.write(wanted)
        except OSError as error:
            raise StoreUnavailable("The lock directory cannot be used right now.") from error

    def _path(self, upload_id: str, suffix: str) -> Path:
        if not is_upload_id(upload_id):
            raise UploadNotFound()
        return self._directory / f"{upload_id}.{suffix}"


class FileLease(Lease):
    """A lease of ``FileLocker``."""

    def __init__(self, descriptor: int, path: Path, wanted_path: Path) -> None:
        self._descriptor: int | None = descriptor
        self._path = path
        self._wanted_path = wanted_path

    def wanted(self) -> Wanted | None:
        """See ``Lease``. One ``open`` while nobody wants it."""
        try:
            text = self._wanted_path.read_text(encoding="ascii")
        except OSError:
            return None
        return "terminate" if text == "terminate" else "append"

    def release(self) -> None:
        """See ``Lease``."""
        if self._descriptor is None:
            return
        for path in (self._wanted_path, self._path):
            with suppress(OSError):
                path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = None


def _is_open_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
