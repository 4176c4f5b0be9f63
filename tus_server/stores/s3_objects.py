"""Finished objects on S3: made of parts or stored at once, verified by the answer, looked at only after an error.

Never concluded from ListParts: what it says after Complete differs between vendors; an aborted upload answers alike.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from tus_server.errors import StoreUnavailable, UploadGone
from tus_server.stores.buffers import PartBuffer
from tus_server.stores.manifested import Fence
from tus_server.stores.manifests import Finished, Manifest
from tus_server.stores.s3_client import Found, NameTaken, PartsChanged, S3Bucket, UploadMissing
from tus_server.uploads import UploadRecord

logger = logging.getLogger("tus_server.s3")

T = TypeVar("T")

#: Seconds until a Complete is asked for again that was refused without a reason, or more often than this although the
#: missing parts were sent again each time.
PAUSE_SECONDS = 60.0
MOST_RETREATS = 3
#: Of so many uploads that is remembered; per process.
_REMEMBERED = 1000

_KNOWABLE = re.compile(r"[0-9a-f]{32}(-[0-9]+)?")


class Objects:
    """The finished objects of one bucket.

    Args:
        bucket: Where they lie.
        location: What their keys begin with, before the record's object name.
        parameters: Returns, for a record, what ``put_object`` is given on top of the bucket's parameters.
        clock: Seconds.
    """

    def __init__(
        self,
        bucket: S3Bucket,
        location: str,
        parameters: Callable[[UploadRecord], Mapping[str, Any]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bucket = bucket
        self._location = location
        self._parameters = parameters or (lambda record: {})
        self._refusals = _Refusals(clock)

    def key(self, record: UploadRecord) -> str:
        """Return the key of a record's object in the bucket."""
        return self._location + record.object_name

    def begin(self, record: UploadRecord, fence: Fence, part_size: int | None) -> None:
        """Mark an upload as unsettled before its first part is sent; its multipart upload is created if need be.

        A writer whose upload was taken over is noticed here, before it could overwrite a part.

        Raises:
            OffsetConflict: It was.
            StoreUnavailable: The multipart upload may be there without anybody knowing of it: lifecycle rules abort it.
        """
        known = fence.known
        if known.multipart_id is not None:
            if not known.is_unsettled:
                fence.advance(replace(known, is_unsettled=True))
            return
        multipart_id = self._bucket.create_multipart(self.key(record), self._parameters(record))
        fence.advance(replace(known, part_size=part_size, multipart_id=multipart_id, is_unsettled=True))

    def put(self, record: UploadRecord, fence: Fence, buffer: PartBuffer) -> None:
        """Store a whole upload at once, and advance with ``finished``. Its tail counts no more after that.

        Raises:
            OffsetConflict: The upload was taken over.
            StoreUnavailable: It may be stored; a repeat finds that out.
        """
        key, size = self.key(record), buffer.size
        if not self._bucket.conditional and not fence.known.is_unsettled:
            fence.advance(replace(fence.known, is_unsettled=True))
        try:
            etag = self._bucket.put_object(key, buffer.body(), self._parameters(record))
        except NameTaken:
            # A repeat after an answer that was lost, as far as one can see.
            etag = hashlib.md5(buffer.content(), usedforsecurity=False).hexdigest()
            etag = self._matching(key, size, etag)
        self._record(fence, Finished(etag, size))

    def complete(self, record: UploadRecord, fence: Fence, etags: Sequence[str]) -> None:
        """Make the object of an upload whose parts are all recorded, and advance with ``finished``. May be repeated.

        Raises:
            UploadGone: The backend has neither the parts nor the object.
            StoreUnavailable: It may be made; a repeat finds that out. Or parts were lost, and must be sent again
                (``parts_lost``). Or the backend refuses parts that it lists as they were recorded (``parts_refused``):
                for a minute it is not asked again.
        """
        self._refusals.check(record.id)
        known, key = fence.known, self.key(record)
        assert known.multipart_id is not None
        wanted = multipart_etag(etags)
        etag: str | None
        try:
            etag = self._bucket.complete(key, known.multipart_id, etags)
        except PartsChanged:
            raise self._go_back(record, fence, etags) from None
        except UploadMissing:
            etag = self._look(record, known, wanted)
            if etag is None:
                raise self._gone(record) from None
        except NameTaken:
            etag = self._matching(key, known.offset, wanted)
        except StoreUnavailable:
            etag = self._look(record, known, wanted)
            if etag is None and self._is_there(key, known.multipart_id):
                raise
            # Ceph RGW answers 500 for ever when the upload was aborted. The last look is the one that counts.
            etag = etag or self._look(record, known, wanted)
            if etag is None:
                raise self._gone(record) from None
        if not etag:
            # Ceph RGW answers the first Complete without one.
            etag = self._matching(key, known.offset, wanted)
        if _count_of(etag) not in (None, len(etags)):
            raise StoreUnavailable("The object store has made another object than was asked for.")
        self._record(fence, Finished(etag, known.offset))

    def _look(self, record: UploadRecord, known: Manifest, wanted: str) -> str | None:
        """Return the ETag of the object, if it is what the parts make."""
        found = self._bucket.head(self.key(record))
        return found.etag if found is not None and is_same(found, known.offset, wanted) else None

    def _is_there(self, key: str, multipart_id: str) -> bool:
        """Say whether a multipart upload may still be there. Some vendors say so after Complete too."""
        try:
            self._bucket.list_parts(key, multipart_id)
        except UploadMissing:
            return False
        return True

    def _gone(self, record: UploadRecord) -> UploadGone:
        logger.error("The multipart upload of %s is gone, and there is no object of it.", record.id)
        return UploadGone()

    def _record(self, fence: Fence, finished: Finished) -> None:
        fence.advance(replace(fence.known, tail=(), is_unsettled=False, finished=finished))
        self._refusals.forget(fence.known.upload_id)

    def _matching(self, key: str, size: int, etag: str) -> str:
        """Return the ETag of the object that has a name already, if it is what was to be stored."""
        found = self._bucket.head(key)
        if found is None or not is_same(found, size, etag):
            logger.error("Another object has the name %s.", key)
            raise StoreUnavailable("Another object has the upload's name.", code="name_taken")
        return found.etag

    def _go_back(self, record: UploadRecord, fence: Fence, etags: Sequence[str]) -> StoreUnavailable:
        """Keep the parts before the first that the backend lost, or that a writer overwrote that had been given up.

        Returns the error to raise. The offset goes back only where a part is not as it was recorded.
        """
        known, key = fence.known, self.key(record)
        assert known.multipart_id is not None
        try:
            listed = {part.number: part.etag for part in self._bucket.list_parts(key, known.multipart_id)}
        except UploadMissing:
            raise UploadGone() from None
        good = next((number for number, etag in enumerate(etags) if listed.get(number + 1) != etag), len(etags))
        if good == len(etags) or not self._refusals.may_retreat(record.id):
            logger.error(
                "S3 refuses to complete the upload %s (key %s, multipart upload %s), although %s. It is asked again in"
                " %d seconds at the earliest. If that does not help, somebody must: compare ListParts with the"
                " service's log, or terminate the upload, so that its client begins again.",
                *(record.id, key, known.multipart_id),
                f"it lists all {good} parts as they were stored" if good == len(etags) else "parts were sent anew",
                PAUSE_SECONDS,
            )
            return self._refusals.refuse(record.id)
        what = "overwritten" if good + 1 in listed else "lost"
        logger.error("Part %d of the upload %s is %s on S3; its offset goes back.", good + 1, record.id, what)
        if known.part_size is None:
            good = 0  # parts of a concatenation have any size; it is made again
        end = good * (known.part_size or 0)
        fence.advance(replace(known, part_count=good, parts_end=end, tail=(), is_unsettled=False))
        return StoreUnavailable("Some parts of the upload must be sent again.", code="parts_lost")


class _Refusals:
    """The uploads that a backend does not complete: how often each went back, and when it is asked again."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._retreats: OrderedDict[str, int] = OrderedDict()
        self._until: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, upload_id: str) -> None:
        """Raise ``StoreUnavailable`` while the backend is not to be asked."""
        until = self._until.get(upload_id)
        left = 0 if until is None else math.ceil(until - self._clock())
        if left > 0:
            raise _refused(left)

    def may_retreat(self, upload_id: str) -> bool:
        """Say whether an upload may go back once more, and count that."""
        with self._lock:
            count = self._retreats.pop(upload_id, 0) + 1
            _remember(self._retreats, upload_id, count)
        return count <= MOST_RETREATS

    def refuse(self, upload_id: str) -> StoreUnavailable:
        """Let nobody ask for a while; returns the error to raise."""
        with self._lock:
            self._retreats.pop(upload_id, None)
            _remember(self._until, upload_id, self._clock() + PAUSE_SECONDS)
        return _refused(math.ceil(PAUSE_SECONDS))

    def forget(self, upload_id: str) -> None:
        """The upload is complete."""
        with self._lock:
            self._retreats.pop(upload_id, None)
            self._until.pop(upload_id, None)


def _remember(known: OrderedDict[str, T], upload_id: str, value: T) -> None:
    known[upload_id] = value
    while len(known) > _REMEMBERED:
        known.popitem(last=False)


def _refused(seconds: int) -> StoreUnavailable:
    message = "The object store refuses to put the upload together."
    return StoreUnavailable(message, code="parts_refused", retry_after=seconds)


def multipart_etag(etags: Sequence[str]) -> str:
    """Return the ETag of an object made of parts: the MD5 of the parts' MD5s, and their count. Empty if unknowable."""
    try:
        digests = b"".join(bytes.fromhex(etag) for etag in etags)
    except ValueError:
        return ""
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(etags)}"


def is_same(found: Found, size: int, etag: str) -> bool:
    """Say whether an object is the one that was meant: right size, and right ETag where vendor and encryption give one
    that can be known; else the right count of parts."""
    if found.size != size:
        return False
    if found.is_opaque or not etag or not _KNOWABLE.fullmatch(found.etag):
        return not etag or _count_of(found.etag) in (None, _count_of(etag))
    return found.etag == etag


def _count_of(etag: str) -> int | None:
    """Return the count of parts that an ETag tells, if it tells one."""
    _, dash, count = etag.rpartition("-")
    return int(count) if dash and count.isdecimal() else None
