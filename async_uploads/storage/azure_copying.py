"""Copying a blob inside Azure so that a repeat after a crash at any line knows how far it came.

The chain: Put Blob From URL (up to 5000 MiB, done when it answers), Put Block From URL in pieces, Copy Blob polled to
its end; where the service may not read its own blobs, this process carries them. A copy carries marks in its metadata:
of which blob, and of which state of it. The source is never touched.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

from tus_server.stores.azure_blobs import AzureBlobs, BlobExists, Found, SourceChanged, Unsupported

MIB = 1024 * 1024

#: Limits of the service: Put Blob From URL, and blocks of a blob.
LARGEST_WHOLE = 5000 * MIB
MOST_BLOCKS = 50_000
#: Size of a piece, in bytes, and how many are copied at once; size of one that goes through this process.
PIECE = 256 * MIB
AT_ONCE = 8
CARRIED = 8 * MIB

#: Seconds between two looks at a pending copy: the first, the longest; and how long it may take at least, and by its
#: size, in bytes a second.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
PATIENCE, SLOWEST = 10.0, 4 * MIB

#: Names in a copy's metadata.
SOURCE_MARK, STATE_MARK = "async_upload_source", "async_upload_state"


class CopyFailed(OSError):
    """The service gave a copy up, or has not finished it yet. The source is as it was; trying again goes on."""


def build_marks(source: str, etag: str) -> dict[str, str]:
    """Return what a copy of a blob carries in its metadata: values that fit into a header and give nothing away."""
    return {SOURCE_MARK: sha256(source.encode()).hexdigest()[:32], STATE_MARK: etag.strip('"')}


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:8]


def is_copy(found: Found, source: str) -> bool:
    """Say whether a blob was made, or is being made, as a copy of another."""
    return found.metadata.get(SOURCE_MARK) == build_marks(source, "")[SOURCE_MARK]


def is_there(found: Found | None) -> bool:
    """Say whether a blob can be read: a copy that is pending, or was given up, shows an empty one meanwhile."""
    return found is not None and found.is_block_blob and found.copy_status in ("", "success")


@dataclass(frozen=True)
class BlobCopier:
    """Copies blobs of one container.

    Attributes:
        blobs: The container.
        sign: Returns a blob's URL with a signature that lets the service read it, valid as long as copies may take.
        pause: Waits for some seconds.
        is_overwriting: Whether a foreign blob of the target's name is replaced.
    """

    blobs: AzureBlobs
    sign: Callable[[str], str]
    pause: Callable[[float], None] = time.sleep
    is_overwriting: bool = False

    def copy(self, source: str, target: str, settings: Mapping[str, str | None], etag: str = "") -> None:
        """Make ``target`` a copy of ``source``; returns when it is one, verified. May be repeated.

        Args:
            source, target: Names of blobs.
            settings: The headers that the copy is served with.
            etag: What the source's ETag must be; empty where that is not known.

        Raises:
            FileExistsError: Another blob has the target's name; nothing was changed.
            FileNotFoundError: There is neither a source nor a copy of it.
            SourceChanged: The source is not the one that was meant.
            CopyFailed: See there.
            StoreUnavailable: The service could not be used.
        """
        found = self.blobs.look(source)
        if found is None:
            copied = self.blobs.look(target)
            if copied is None or not is_copy(copied, source) or not is_there(copied):
                raise FileNotFoundError(f"There is no blob {source}")
            return
        if etag and found.etag != etag:
            raise SourceChanged(f"{source} has the ETag {found.etag}, not {etag}")
        replaced = None
        if self.is_overwriting and (present := self.blobs.look(target)) is not None:
            if self._is_done(present, source, target, found):
                return
            replaced = present.etag
        job = _Job(source, target, found, settings, build_marks(source, found.etag), replaced)
        try:
            self._copy(job)
        except BlobExists as error:
            self._meet(job, error)
        self._verify(job)

    def _copy(self, job: _Job) -> None:
        for way in (self._copy_whole, self._copy_pieces, self._copy_by_service):
            try:
                return way(job)
            except Unsupported:
                continue
        self._carry(job)

    def _meet(self, job: _Job, error: BlobExists) -> None:
        """Find out who has the target's name: an earlier attempt of this very copy, or somebody else."""
        present = self.blobs.look(job.target)
        if present is None:
            raise CopyFailed(f"{job.target} was there and is not any more") from error
        if self._is_done(present, job.source, job.target, job.found):
            return
        if not is_copy(present, job.source):
            raise FileExistsError(f"{job.target} is another blob") from error
        self._copy(job.replacing(present.etag))

    def _is_done(self, present: Found, source: str, target: str, found: Found) -> bool:
        """Say whether a blob is this copy already, after waiting for it if it is on its way."""
        marks = build_marks(source, found.etag)
        if any(present.metadata.get(name) != value for name, value in marks.items()):
            return False
        if present.copy_status == "pending":
            self._wait(target, found.size)
            return True
        return is_there(present) and present.size == found.size

    def _copy_whole(self, job: _Job) -> None:
        if job.found.size > LARGEST_WHOLE:
            raise Unsupported("PayloadTooLarge")
        url = self.sign(job.source)
        self.blobs.put_from(job.target, url, job.found.etag, job.settings, job.marks, job.replaced)

    def _copy_pieces(self, job: _Job) -> None:
        """Copy by Put Block From URL; pieces that an earlier attempt copied are not copied again."""
        size, url = job.found.size, self.sign(job.source)
        if not size:
            raise Unsupported("InvalidRange")
        piece = max(PIECE, -(-size // MOST_BLOCKS))
        state = _digest(job.found.etag)
        pieces = {f"{start:016d}-{min(piece, size - start):010d}-{state}": start for start in range(0, size, piece)}
        known = self.blobs.uncommitted(job.target)
        missing = [(block, start) for block, start in pieces.items() if block not in known]
        with ThreadPoolExecutor(min(AT_ONCE, max(1, len(missing))), thread_name_prefix="copy") as pool:
            stage = partial(self.blobs.stage_from, job.target)
            flying = [
                pool.submit(stage, block, url, start, min(piece, size - start), job.found.etag)
                for block, start in missing
            ]
            try:
                for each in flying:
                    each.result()
            finally:
                pool.shutdown(cancel_futures=True)
        self.blobs.commit_over(job.target, list(pieces), job.settings, job.marks, job.replaced)

    def _copy_by_service(self, job: _Job) -> None:
        """Copy by Copy Blob, which takes no headers: they are set after."""
        url = self.sign(job.source)
        status = self.blobs.copy(job.target, url, job.found.etag, job.marks, job.replaced)
        copied = self.blobs.look(job.target) if status == "success" else None
        if copied is None or not is_there(copied):
            copied = self._wait(job.target, job.found.size)
        if any(copied.settings.get(name) != value for name, value in job.settings.items()):
            self.blobs.set_headers(job.target, copied.etag, job.settings)

    def _carry(self, job: _Job) -> None:
        """Copy through this process, where the service may not read its own blobs (a firewall)."""
        size = job.found.size
        piece = max(CARRIED, -(-size // MOST_BLOCKS))
        ids = []
        for start in range(0, size, piece):
            count = min(piece, size - start)
            try:
                data = self.blobs.open(job.source, start, count, job.found.etag)[1]
            except BlobExists as error:
                raise SourceChanged(f"{job.source} has not the ETag {job.found.etag} any more") from error
            ids.append(f"{start:016d}-{count:010d}-{_digest(job.found.etag)}")
            self.blobs.stage(job.target, ids[-1], data)
        self.blobs.commit_over(job.target, ids, job.settings, job.marks, job.replaced)

    def _wait(self, target: str, size: int) -> Found:
        """Look at a copy of so many bytes until it is done.

        Raises:
            CopyFailed: The service gave it up, or takes too long; the next attempt goes on.
        """
        pause, waited = FIRST_PAUSE, 0.0
        while True:
            found = self.blobs.look(target)
            if found is None:
                raise CopyFailed(f"The copy {target} has vanished")
            if found.copy_status in ("failed", "aborted"):
                raise CopyFailed(f"The copy {target} {found.copy_status}: {found.copy_reason or 'no reason given'}")
            if is_there(found):
                return found
            if waited >= PATIENCE + size / SLOWEST:
                raise CopyFailed(f"The copy {target} is still pending after {waited:.0f} s")
            self.pause(pause)
            waited += pause
            pause = min(pause * 2, LONGEST_PAUSE)

    def _verify(self, job: _Job) -> None:
        copied = self.blobs.look(job.target)
        if copied is None or not is_there(copied) or copied.size != job.found.size:
            raise CopyFailed(f"{job.target} is no complete copy of {job.source} ({job.found.size} bytes): {copied}")
        if not is_copy(copied, job.source):
            raise FileExistsError(f"{job.target} became another blob")


@dataclass(frozen=True)
class _Job:
    """One copy: of what (as it was found), to where, how it is served, its marks, and the ETag that it replaces."""

    source: str
    target: str
    found: Found
    settings: Mapping[str, str | None]
    marks: Mapping[str, str]
    replaced: str | None

    def replacing(self, etag: str) -> _Job:
        """Return the same copy in place of the blob with this ETag."""
        return _Job(self.source, self.target, self.found, self.settings, self.marks, etag)
