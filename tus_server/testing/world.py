"""What a state machine knows of an endpoint and its uploads, and how it plays a request.

Kept apart from the rules (``machine``), which say what is played and what must then hold.
"""

from __future__ import annotations

import shutil
import tempfile
from abc import abstractmethod
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tus_server.checksums import build_checksum
from tus_server.config import TusConfig
from tus_server.engine import Engine
from tus_server.errors import UploadGone, UploadNotFound
from tus_server.headers import OFFSET_MEDIA_TYPE
from tus_server.hooks import Hooks
from tus_server.locks.base import Lease, Locker
from tus_server.locks.memory import MemoryLocker
from tus_server.messages import Request, Response
from tus_server.stores.base import UploadStore
from tus_server.testing.bodies import ScriptedBody
from tus_server.testing.faults import Faults, FaultyStore
from tus_server.testing.faulty import FaultyLocker, FaultyRecords
from tus_server.testing.flights import Flight
from tus_server.testing.known import Known, State
from tus_server.testing.outcomes import Sent
from tus_server.uploads import Upload

#: The limit of the endpoint and the lifetime of its uploads.
MAX_SIZE = 120
LIFETIME = timedelta(hours=1)
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class _Observer(Hooks):
    """Tells the world what happens. What it finds wrong is kept, because an engine survives the errors of hooks."""

    def __init__(self, world: World) -> None:
        self._world = world

    def post_create(self, request: Request, upload: Upload) -> None:
        self._world.register(upload)

    def pre_finish(self, upload: Upload) -> None:
        known = self._world.uploads[upload.id]
        known.started += 1
        if self._world.stored_bytes(upload) != known.meant[: upload.length]:
            self._world.wrongs.append(f"{upload.id} is called received with other bytes")

    def post_finish(self, upload: Upload) -> None:
        self._world.uploads[upload.id].finished += 1
        if not upload.is_finished:
            self._world.wrongs.append(f"{upload.id} is called finished and is not")


class World:
    """An endpoint over a store that may fail, the uploads that were made there, and the requests under way."""

    #: Whether the kernel keeps what a dead process had written, as it does with files.
    closes_on_death = True

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="uploads-"))
        self.uploads: dict[str, Known] = {}
        self.wrongs: list[str] = []
        self.flights: list[Flight] = []
        self.now = START
        self.faults = Faults()
        self.next_content = b""
        self.open_engine()

    @abstractmethod
    def open_store(self, directory: Path) -> UploadStore:
        """Open the store of a directory: at the beginning, and after each restart, when its uploads must be there."""

    @abstractmethod
    def stored_bytes(self, upload: Upload) -> bytes | None:
        """Return what lies in the backend, without asking the store; ``None`` if there is nothing."""

    def needs_recovery(self, known: Known) -> bool:
        """Say whether a writer died and the next one will look at what it left, so that the offset may rise."""
        return False

    def open_locker(self) -> Locker:
        """Return a locker without leases, as after the death of all processes."""
        return MemoryLocker()

    def drop_lease(self, lease: Lease) -> None:
        """Do what becomes of a lease when its process dies."""
        lease.release()

    def crash(self) -> None:
        """Let every process die."""
        for flight in self.flights:
            flight.kill()
        self.store.crash(closes=self.closes_on_death)
        for lease in self.locker.leases.values():
            self.drop_lease(lease)
        self.locker.leases.clear()

    def teardown(self) -> None:
        """End what is under way, and remove the directory."""
        self.crash()
        shutil.rmtree(self.directory)

    def register(self, upload: Upload) -> None:
        """Learn of a new upload."""
        expiry = self.now + LIFETIME
        self.uploads[upload.id] = Known(
            upload.id,
            self.next_content,
            upload.length,
            (expiry, expiry),
            is_partial=upload.record.is_partial,
            parts=tuple(self.uploads[part] for part in upload.record.partials),
        )

    def open_engine(self) -> None:
        """Open store, locker and engine, as processes do that start."""
        store = self.open_store(self.directory)
        if not isinstance(store.records, FaultyRecords):
            store.records = FaultyRecords(store.records, self.faults)
        self.store = FaultyStore(store, self.faults)
        self.locker = FaultyLocker(self.open_locker(), self.faults)
        config = TusConfig(max_size=MAX_SIZE, lifetime=LIFETIME)
        self.engine = Engine(self.store, self.locker, _Observer(self), config, lambda: self.now)

    def chosen(self, pick: int) -> Known:
        """Return one of the uploads, the newest first."""
        return list(self.uploads.values())[-1 - pick % len(self.uploads)]

    def load(self, known: Known) -> Upload:
        """Return what the store itself says of an upload; nothing fails here."""
        with self.faults.held():
            return self.store.store.get(known.id)

    def exists(self, known: Known) -> bool:
        """Say whether the store knows an upload."""
        try:
            self.load(known)
        except (UploadNotFound, UploadGone):
            return False
        return True

    def offset_of(self, known: Known) -> int:
        """Return how many bytes of an upload lie in the backend."""
        try:
            upload = self.load(known)
            with self.faults.held():
                return len(self.stored_bytes(upload) or b"")
        except (UploadNotFound, UploadGone):
            return 0

    def is_busy(self, known: Known) -> bool:
        """Say whether a request is under way, or a lease was lost, that may keep others from an upload.

        A request to an upload that is made of others also meets these.
        """
        ids = {known.id, *(part.id for part in known.parts)}
        ids |= {other.id for other in self.uploads.values() if other.parts and other.is_of(known.id)}
        return any(flight.upload_id in ids for flight in self.flights) or not ids.isdisjoint(self.locker.leases)

    def must_live(self, known: Known) -> bool:
        """Say whether an upload cannot have expired."""
        return known.state == "alive" and (self.is_kept(known) or known.expires[0] > self.now)

    def may_live(self, known: Known) -> bool:
        """Say whether an upload may be there, and not expired."""
        return self.exists(known) and (self.is_kept(known) or known.expires[1] > self.now)

    def is_kept(self, known: Known) -> bool:
        """Say whether an upload has no expiry any more."""
        return not known.is_partial and self.load(known).is_finished

    def set_all(self, uploads: list[Known], state: State) -> None:
        """Note what became of some uploads."""
        for known in uploads:
            known.state = state

    def alone(self, flight: Flight) -> Response:
        """Run a request to its end while every other stands still."""
        response = flight.run()
        self.note(flight)
        self.learn(flight, response)
        return response

    def note(self, flight: Flight) -> None:
        """Note what a request may have done so far."""
        known = self.uploads[flight.upload_id or ""]
        known.sent = max(known.sent, flight.offset + flight.delivered)
        self.learn_length(known)
        for met in (known, *known.parts):
            met.expires = (met.expires[0], self.now + LIFETIME)  # a part may be finished on the way
        if self.faults.fired or any(one is not flight and one.upload_id == known.id for one in self.flights):
            known.is_disturbed = True
        known.is_hook_lost = known.is_hook_lost or self.has_lost_a_hook()
        is_over = flight.response is not None and not self.faults.fired
        if flight.method == "DELETE" and known.state == "alive" and not is_over:
            known.state = "unsure"

    def learn_length(self, known: Known) -> None:
        """Learn the length that was declared for an upload; it never changes."""
        if known.state != "gone" and self.exists(known):
            length = self.load(known).length
            assert known.length in (None, length), "the length has changed"
            known.length = length

    def has_lost_a_hook(self) -> bool:
        """Say whether an answer was lost that an upload is finished."""
        return not {("finish", "after"), ("records.set_finished", "after")}.isdisjoint(self.faults.fired)

    def learn(self, flight: Flight, response: Response) -> None:
        """Learn from an answer, and check what it claims."""
        known = self.uploads[flight.upload_id or ""]
        if response.status in (404, 410):
            if self.exists(known):
                is_short_of_parts = not all(self.must_live(part) for part in known.parts)
                assert known.expires[0] <= self.now or is_short_of_parts, "an upload is denied"
                assert known.is_partial or not self.load(known).is_finished, "a finished upload is denied"
            else:
                assert known.state != "alive", "an upload is lost"
                known.state = "gone"
        elif flight.method == "DELETE":
            if response.status == 204:
                known.state = "gone"
        elif response.status in (200, 204):
            assert known.state != "gone"
            header = response.header("Upload-Offset")
            if known.parts and header is None:
                return  # it is not put together yet
            told = int(header or "")
            assert not known.parts or told == known.parts_length, "an offset before it was put together"
            if not self.is_being_deleted(known) and not self.is_half_removed(known):
                known.state = "alive"
                assert told <= self.offset_of(known), "an offset that is not stored"
                assert flight.method != "HEAD" or told == self.offset_of(known) or self.is_busy(known)
            known.told = max(known.told, told)

    def is_being_deleted(self, known: Known) -> bool:
        """Say whether a DELETE of an upload is under way."""
        return any(flight.upload_id == known.id and flight.method == "DELETE" for flight in self.flights)

    def is_half_removed(self, known: Known) -> bool:
        """Say whether the bytes of a finished upload are gone and its record is not.

        A store may remove both in two steps, and does not look for the bytes of a finished upload, which may have been
        moved to where they belong. Whoever asked for the removal was told that it failed, and may ask again.
        """
        with self.faults.held():
            upload = self.store.store.get(known.id)
            return known.state == "unsure" and upload.is_finished and self.stored_bytes(upload) is None

    def fly(
        self,
        method: str,
        known: Known | None,
        headers: dict[str, str] | None = None,
        offset: int = 0,
        body: Sent | None = None,
        quiet_for: float = 0.0,
    ) -> Flight:
        """Begin a request whose body, if it has one, brings its upload's content from ``offset`` on."""
        headers = dict(headers or {})
        script = ScriptedBody()
        if body is None:
            headers["Content-Length"] = "0"
        else:
            content = self.next_content if known is None else known.content
            starts = [offset + sum(body.pieces[:number]) for number in range(len(body.pieces))]
            pieces = [content[start : start + size] for start, size in zip(starts, body.pieces, strict=True)]
            script = ScriptedBody(pieces, body.end)
            headers["Content-Type"] = OFFSET_MEDIA_TYPE
            if not body.is_chunked:
                headers["Content-Length"] = str(body.total + body.missing)
            if body.checksum is not None:
                data = b"".join(pieces) + (b"" if body.checksum == "right" else b"!")
                headers["Upload-Checksum"] = build_checksum("sha1", data)
        self.faults.fired.clear()
        return Flight(
            self.engine, method, known.id if known else None, headers, script, offset=offset, quiet_for=quiet_for
        )
