"""Final uploads without a server: interrupted, at once, refused, and failing at every call."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tus_server.config import TusConfig
from tus_server.effects import StoreCall
from tus_server.engine import Engine
from tus_server.errors import StoreUnavailable, UnsupportedMediaType
from tus_server.headers import Headers
from tus_server.hooks import Hooks
from tus_server.locks.memory import MemoryLocker
from tus_server.messages import Request, Response
from tus_server.stores import filesystem
from tus_server.stores.base import UploadStore
from tus_server.stores.filesystem import FilesystemStore
from tus_server.stores.memory import MemoryStore
from tus_server.testing.bodies import ScriptedBody, send
from tus_server.testing.faults import Faults, FaultyStore, When
from tus_server.testing.stores import NOW, append, make_final, make_partials, make_record
from tus_server.uploads import Upload, UploadRecord

PARTS = [b"abc", b"", b"defgh"]


class Recorder(Hooks):
    """Remembers what it was told, and refuses on demand."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.refusal: Exception | None = None

    def pre_create(self, request: Request, record: UploadRecord) -> UploadRecord:
        self.seen.append(("pre_create", record.id))
        return record

    def pre_finish(self, upload: Upload) -> None:
        self.seen.append(("pre_finish", upload.id))
        if self.refusal:
            raise self.refusal

    def post_finish(self, upload: Upload) -> None:
        self.seen.append(("post_finish", upload.id))


class Site:
    """An engine over a store, with its hooks, its locker and a clock that a test moves."""

    def __init__(self, store: UploadStore, lifetime: timedelta | None = timedelta(hours=1)) -> None:
        self.store, self.hooks, self.locker, self.now = store, Recorder(), MemoryLocker(), NOW
        config = TusConfig(lifetime=lifetime)
        self.engine = Engine(store, self.locker, self.hooks, config, clock=lambda: self.now)

    def upload_part(self, content: bytes) -> str:
        created = send(self.engine, "POST", headers={"Upload-Concat": "partial", "Upload-Length": str(len(content))})
        upload_id = (created.header("Location") or "").rpartition("/")[2]
        if content:
            send(self.engine, "PATCH", upload_id, {"Upload-Offset": "0"}, content)
        return upload_id

    def post_final(self, ids: list[str]) -> Response:
        return send(self.engine, "POST", headers={"Upload-Concat": f"final;{' '.join(ids)}"})

    def head(self, upload_id: str) -> Response:
        return send(self.engine, "HEAD", upload_id)


@pytest.fixture(params=["memory", "files"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> UploadStore:
    return MemoryStore() if request.param == "memory" else FilesystemStore(tmp_path, durability="none")


@pytest.fixture
def site(store: UploadStore) -> Site:
    return Site(store)


def read(store: UploadStore, upload_id: str) -> bytes:
    if isinstance(store, MemoryStore):
        return store.content(upload_id)
    assert isinstance(store, FilesystemStore)
    return (store.directory / upload_id).read_bytes()


def id_in(answer: Response) -> str:
    assert answer.status == 201, answer
    return (answer.header("Location") or "").rpartition("/")[2]


def test_hooks_see_parts_created_and_only_the_final_upload_finished(site: Site) -> None:
    ids = [site.upload_part(part) for part in PARTS]
    final = id_in(site.post_final(ids))
    created = [("pre_create", each) for each in (*ids, final)]
    assert site.hooks.seen == [*created, ("pre_finish", final), ("post_finish", final)]
    assert read(site.store, final) == b"".join(PARTS)


@pytest.mark.parametrize("there", [0, 1, 3, 7, 8])
def test_the_next_head_goes_on_with_what_a_crash_interrupted(site: Site, there: int) -> None:
    partials = make_partials(site.store, *PARTS)
    final = append(site.store, make_final(site.store, partials, 8), b"abcdefgh"[:there])
    for _ in range(2):
        answer = site.head(final.id)
        assert (answer.status, answer.header("Upload-Offset"), answer.header("Upload-Length")) == (200, "8", "8")
    assert read(site.store, final.id) == b"abcdefgh"
    assert site.hooks.seen == [("pre_finish", final.id), ("post_finish", final.id)]


def test_while_somebody_else_is_at_it_the_answer_is_503_without_an_offset(site: Site) -> None:
    partials = make_partials(site.store, *PARTS)
    final = make_final(site.store, partials, 8)
    lease = site.locker.try_acquire(final.id)
    assert lease is not None
    answer = site.head(final.id)
    assert (answer.status, answer.header("Upload-Offset"), answer.header("Retry-After")) == (503, None, "1")
    lease.release()
    # A frozen process holds the store's fence longer than the lease.
    sink = site.store.open_sink(final, 0)
    assert site.head(final.id).status == 503
    sink.settle()
    assert site.head(final.id).header("Upload-Offset") == "8"


def test_a_refused_final_upload_is_not_left_behind(site: Site) -> None:
    ids = [site.upload_part(part) for part in PARTS]
    site.hooks.refusal = UnsupportedMediaType("not such a file")
    answer = site.post_final(ids)
    assert answer.status == 415
    final = site.hooks.seen[-1][1]
    assert site.head(final).status == 404
    assert [site.head(each).status for each in ids] == [200, 200, 200]
    site.hooks.refusal = None
    assert read(site.store, id_in(site.post_final(ids))) == b"".join(PARTS)


def test_the_parts_expire_with_their_own_clock_and_the_final_upload_does_not(site: Site) -> None:
    early = site.upload_part(b"abc")
    site.now += timedelta(minutes=40)
    late = site.upload_part(b"def")
    final = id_in(site.post_final([early, late]))
    assert site.head(early).header("Upload-Expires") == "Fri, 02 Jan 2026 04:04:05 GMT"
    site.now += timedelta(minutes=30)
    assert [site.head(each).status for each in (early, late, final)] == [410, 200, 200]
    assert site.post_final([early, late]).status == 404
    assert site.head(final).header("Upload-Expires") is None


def test_the_expiry_of_a_part_counts_from_its_last_byte(site: Site) -> None:
    created = send(site.engine, "POST", headers={"Upload-Concat": "partial", "Upload-Length": "3"})
    site.now += timedelta(minutes=59)
    upload_id = id_in(created)
    assert send(site.engine, "PATCH", upload_id, {"Upload-Offset": "0"}, b"abc").status == 204
    site.now += timedelta(minutes=59)
    assert site.head(upload_id).status == 200


def test_a_waiting_final_upload_is_gone_with_a_part_that_expired(site: Site) -> None:
    created = send(site.engine, "POST", headers={"Upload-Concat": "partial", "Upload-Length": "3"})
    site.now += timedelta(minutes=30)
    final = id_in(site.post_final([id_in(created), site.upload_part(b"abc")]))
    site.now += timedelta(minutes=31)
    assert site.head(final).status == 410


def test_without_a_lifetime_parts_stay(store: UploadStore) -> None:
    site = Site(store, lifetime=None)
    upload_id = site.upload_part(b"abc")
    site.now = datetime(2036, 1, 1, tzinfo=UTC)
    answer = site.head(upload_id)
    assert (answer.status, answer.header("Upload-Expires")) == (200, None)


def test_a_received_part_whose_finishing_failed_is_finished_first(site: Site) -> None:
    part = append(site.store, site.store.create(make_record(3, concat="partial")), b"abc")
    assert not site.store.get(part.id).is_finished
    final = id_in(site.post_final([part.id]))
    assert site.store.get(part.id).is_finished
    assert read(site.store, final) == b"abc"


def drive(site: Site, request: Request, between: Callable[[StoreCall], None]) -> Response:
    """Run a request, telling ``between`` of each store call before it is made."""
    steps = site.engine.handle(request)
    answer: object = None
    error: BaseException | None = None
    while True:
        try:
            effect = steps.send(answer) if error is None else steps.throw(error)
        except StopIteration as stop:
            response: Response = stop.value
            return response
        answer, error = None, None
        assert isinstance(effect, StoreCall) or type(effect).__name__ == "HookCall"
        try:
            if isinstance(effect, StoreCall):
                between(effect)
            answer = effect.run()
        except Exception as raised:
            error = raised


def test_a_big_one_is_made_in_pieces_and_a_termination_comes_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystem, "_COPY_BYTES", 4)
    store = FilesystemStore(tmp_path, durability="none")
    site = Site(store)
    partials = make_partials(store, b"abc", b"defghijkl", b"m")
    final = make_final(store, partials, 13)
    sizes: list[int] = []

    def between(call: StoreCall) -> None:
        if call.function == store.concatenate:
            sizes.append(len(read(store, final.id)))
            if len(sizes) == 3:
                site.locker.request_release(final.id, "terminate")

    answer = drive(site, Request("HEAD", Headers([("Tus-Resumable", "1.0.0")]), final.id, "/files/"), between)
    assert (answer.status, sizes) == (503, [0, 4, 8])
    assert read(store, final.id) == b"abcdefghijkl"
    assert site.head(final.id).header("Upload-Offset") == "13"
    assert read(store, final.id) == b"abcdefghijklm"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("error", [StoreUnavailable, lambda: RuntimeError("unforeseen")])
def test_whatever_fails_nothing_is_damaged(tmp_path: Path, when: When, error: Callable[[], Exception]) -> None:
    for skip in range(40):
        plain = FilesystemStore(tmp_path / str(skip), durability="none")
        faults = Faults()
        site = Site(FaultyStore(plain, faults))
        ids = [site.upload_part(part) for part in PARTS]
        faults.arm(skip, when, error)
        answer = site.post_final(ids)
        faults.disarm()
        assert answer.status in (201, 500, 503)
        assert [read(plain, each) for each in ids] == PARTS
        for record in (plain.records.get(path.name.split(".")[0]) for path in plain.directory.glob("*.upload.json")):
            if record.is_final:  # left behind by what could not clean up: still right, and found by expiry
                assert record.expires_at is not None
                found = site.head(record.id)
                assert found.status in (200, 410)
                if found.status == 200:
                    assert read(plain, record.id) == b"abcdefgh"
        assert read(plain, id_in(site.post_final(ids))) == b"abcdefgh"
        if not faults.fired:
            assert skip >= 8
            return
    raise AssertionError("the sweep did not come to its end")


def test_a_process_that_was_killed_in_between_leaves_what_the_next_goes_on_with(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    partials = make_partials(store, b"abc", b"defgh")
    final = make_final(store, partials)
    script = """
import os, sys
from tus_server.stores import filesystem
filesystem._COPY_BYTES = 2
store = filesystem.FilesystemStore(sys.argv[1])
final, *partials = [store.get(upload_id) for upload_id in sys.argv[2:]]
final = store.concatenate(store.concatenate(final, partials), partials)
store._open_locked(final)
os.kill(os.getpid(), 9)
"""
    ids = [final.id, *(partial.id for partial in partials)]
    child = subprocess.run([sys.executable, "-c", script, tmp_path, *ids], check=False)
    assert child.returncode == -signal.SIGKILL
    assert read(store, final.id) == b"abcd"
    site = Site(store)
    assert site.head(final.id).header("Upload-Offset") == "8"
    assert read(store, final.id) == b"abcdefgh"
    assert site.hooks.seen == [("pre_finish", final.id), ("post_finish", final.id)]


def test_a_body_without_its_length_is_noticed(site: Site) -> None:
    upload_id = site.upload_part(b"abc")
    answer = send(site.engine, "POST", headers={"Upload-Concat": f"final;{upload_id}"}, body=ScriptedBody([b"x"]))
    assert answer.status == 400
