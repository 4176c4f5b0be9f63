"""Making files and their names survive a loss of power.

A file's bytes are one thing, its name in its directory another, the directory's own name a third: each is synced by
itself (POSIX, ``fsync``; Linux, ``fsync(2)``). What was synced once and not changed since is not synced again.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, TypeAlias

#: ``none``: the kernel writes when it likes. ``data``: synced before an upload is called finished. ``strict``: synced
#: before each PATCH is acknowledged. Death of a process loses nothing at any level; this is about power loss.
Durability: TypeAlias = Literal["none", "data", "strict"]

_KNOWN: Final = 1024
#: A directory that was changed less than this before it was synced (nanoseconds) may change again within the same tick
#: of the file system's clock; then its time says nothing.
_TICK: Final = 1_000_000_000


class SyncedDirectories:
    """Remembers which directories were synced as they are. Shared by the threads of a process."""

    def __init__(self) -> None:
        self._known: OrderedDict[Path, tuple[int, int, int]] = OrderedDict()
        self._guard = threading.Lock()

    def sync_name(self, path: Path, root: Path) -> None:
        """Make the name of a file durable, and the names of the directories that lead to it.

        Args:
            path: The file, or a name that was just replaced or removed.
            root: A directory above it, whose own name is the last that is looked after.
        """
        sync_path(path.parent, os.fsync)
        for directory in path.parent.parents:
            if directory != root.parent and not directory.is_relative_to(root):
                return
            try:
                self._sync(directory)
            except PermissionError:
                # Above the root we may not be allowed to look; whoever made the root had to see to its name.
                if directory.is_relative_to(root):
                    raise

    def _sync(self, directory: Path) -> None:
        before = os.stat(directory)
        state = (before.st_dev, before.st_ino, before.st_mtime_ns)
        with self._guard:
            if self._known.get(directory) == state:
                self._known.move_to_end(directory)
                return
        sync_path(directory, os.fsync)
        if time.time_ns() - before.st_mtime_ns > _TICK:
            with self._guard:
                self._known[directory] = state
                if len(self._known) > _KNOWN:
                    self._known.popitem(last=False)


#: The one of this process.
directories = SyncedDirectories()


def sync_path(path: Path, sync: Callable[[int], None]) -> None:
    """Sync a file or a directory by its name."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)
