"""The tails of uploads on S3: received bytes too few for a part, as objects of their own beside the upload.

* A segment is never overwritten: each has its own name. It is deleted after what replaces it was stored and recorded.
* Few bytes stand in the manifest itself; then they are its last segment, and the only one of the kind.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator

from tus_server.errors import StoreUnavailable
from tus_server.stores.buffers import PartBuffer
from tus_server.stores.manifests import Segment
from tus_server.stores.pipeline import shared_pool
from tus_server.stores.s3_client import ObjectMissing, S3Bucket

logger = logging.getLogger("tus_server.s3")

#: More segments than this are joined into one.
MOST_SEGMENTS = 32
#: How many bytes of segments are remembered by the process that stored them, and of one segment.
_CACHE_BYTES = 16 * 1024 * 1024
_CACHED_BYTES = 2 * 1024 * 1024


class SegmentLost(Exception):
    """The backend no longer has what it acknowledged.

    Args:
        kept: The segments before the one that is missing.
    """

    def __init__(self, kept: tuple[Segment, ...]) -> None:
        super().__init__(f"a segment is missing after {len(kept)}")
        self.kept = kept


class Tails:
    """The segments of one bucket.

    Args:
        bucket: Where they lie.
        prefix: What their names begin with, up to the upload's id.
        inline_limit: Up to how many bytes of a tail stand in the manifest.
    """

    def __init__(self, bucket: S3Bucket, prefix: str, inline_limit: int) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._inline_limit = inline_limit
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._cached = 0
        self._lock = threading.Lock()

    def folder(self, upload_id: str) -> str:
        """Return what the names of an upload's segments begin with."""
        return f"{self._prefix}{upload_id}/tail/"

    def load(self, tail: tuple[Segment, ...]) -> Iterator[bytes]:
        """Return the bytes of segments, in order; those that have to be fetched are fetched at once.

        Raises:
            SegmentLost: One is missing.
            StoreUnavailable: One cannot be fetched.
        """
        return iter(self._fetch(tail))

    def _fetch(self, tail: tuple[Segment, ...]) -> list[bytes]:
        futures = {}
        found: list[bytes] = []
        with self._lock:
            cached = {segment.name: self._cache[segment.name] for segment in tail if segment.name in self._cache}
        for segment in tail:
            if segment.name and segment.name not in cached:
                futures[segment.name] = shared_pool().submit(self._bucket.get, segment.name)
        for number, segment in enumerate(tail):
            if not segment.name:
                found.append(segment.data)
                continue
            try:
                data = cached[segment.name] if segment.name in cached else futures[segment.name].result()
            except ObjectMissing:
                raise SegmentLost(tail[:number]) from None
            if len(data) != segment.size:
                raise StoreUnavailable("A piece of the upload cannot be read right now.")
            found.append(data)
        return found

    def extended(
        self,
        upload_id: str,
        revision: int,
        tail: tuple[Segment, ...],
        buffer: PartBuffer,
        start: int,
        *,
        may_wait: bool = True,
    ) -> tuple[Segment, ...]:
        """Store what a buffer holds as more of a tail, and return the tail as it then is. The buffer is used up.

        Args:
            revision: The manifest's, for the name.
            start: Where in the upload the buffer's bytes begin, which is where the tail ends.
            may_wait: Whether to wait for the budget, if segments are joined.

        Raises:
            SegmentLost, StoreUnavailable: As ``load``; and nothing was stored, or nobody knows of it.
        """
        inline = tail[-1] if tail and not tail[-1].name else None
        objects = tail if inline is None else tail[:-1]
        if buffer.size + (inline.size if inline else 0) <= self._inline_limit:
            begin, data = (inline.start, inline.data) if inline else (start, b"")
            data += buffer.content()
            return (*objects, Segment(begin, len(data), data=data))
        joined = tail if len(objects) >= MOST_SEGMENTS else tail[len(objects) :]
        if joined:
            size = start - joined[0].start
            buffer.prepend(self.load(joined), size, may_wait=may_wait)
            start -= size
        segment = Segment(start, buffer.size, f"{self.folder(upload_id)}{start}-{buffer.size}-{revision}-{_token()}")
        body = buffer.body()
        self._bucket.put_segment(segment.name, body)
        if segment.size <= _CACHED_BYTES:
            self._remember(segment.name, buffer.content())
        return (*tail[: len(tail) - len(joined)], segment)

    def drop(self, segments: Iterable[Segment]) -> None:
        """Delete segments that nobody needs any more; what cannot be deleted now is left to the cleanup."""
        names = [segment.name for segment in segments if segment.name]
        with self._lock:
            for name in names:
                self._cached -= len(self._cache.pop(name, b""))
        for future in [shared_pool().submit(self._bucket.delete, name) for name in names]:
            try:
                future.result()
            except StoreUnavailable:
                logger.warning("A segment could not be deleted; the cleanup will.")

    def _remember(self, name: str, data: bytes) -> None:
        with self._lock:
            self._cache[name] = data
            self._cached += len(data)
            while self._cached > _CACHE_BYTES:
                self._cached -= len(self._cache.popitem(last=False)[1])


def _token() -> str:
    """Two writers that know the same revision must not choose the same name."""
    return secrets.token_hex(4)
