"""What a process remembers of the uploads that it has just served, so that it need not ask for it again."""

from __future__ import annotations

import threading
from collections import OrderedDict

#: How many bytes of an upload's beginning are remembered, and of how many uploads; and how many ids.
HEAD_BYTES = 4096
_HEADS = 512
_IDS = 4096


class HeadCache:
    """The first bytes of uploads that came in through this process, so that looking at a file's type asks nobody."""

    def __init__(self) -> None:
        self._heads: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def extend(self, upload_id: str, start: int, data: bytes) -> None:
        """Remember acknowledged bytes; those that do not follow the remembered ones are of no use."""
        with self._lock:
            head = self._heads.pop(upload_id, b"")
            if start == 0:
                head = data[:HEAD_BYTES]
            elif start == len(head):
                head = (head + data)[:HEAD_BYTES]
            self._heads[upload_id] = head
            if len(self._heads) > _HEADS:
                self._heads.popitem(last=False)

    def get(self, upload_id: str) -> bytes:
        """Return what is remembered of an upload, perhaps nothing."""
        with self._lock:
            return self._heads.get(upload_id, b"")

    def forget(self, upload_id: str) -> None:
        """Forget an upload: its bytes were lost, or it is gone."""
        with self._lock:
            self._heads.pop(upload_id, None)


class RecentIds:
    """The ids of the last few thousand uploads that something is true of, for good."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, upload_id: str) -> None:
        """Remember an upload."""
        with self._lock:
            self._ids[upload_id] = None
            if len(self._ids) > _IDS:
                self._ids.popitem(last=False)

    def __contains__(self, upload_id: str) -> bool:
        return upload_id in self._ids

    def forget(self, upload_id: str) -> None:
        """Forget an upload that is gone."""
        with self._lock:
            self._ids.pop(upload_id, None)
