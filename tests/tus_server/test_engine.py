"""The engine without a server: how bodies end, how uploads finish, who gets the lease."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tus_server.config import TusConfig
from tus_server.drivers import drive
from tus_server.effects import End, Pause, Receive, Received, StoreCall
from tus_server.engine import Engine
from tus_server.errors import Forbidden, StoreUnavailable, UploadNotFound
from tus_server.headers import Headers
from tus_server.hooks import Hooks
from tus_server.locks.memory import MemoryLocker
from tus_server.messages import Request, Response
from tus_server.stores.memory import MemoryStore
from tus_server.testing.bodies import ScriptedBody, send
from tus_server.uploads import Upload, UploadRecord


class Recorder(Hooks):
    """Remembers what happened, and refuses on demand."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.refusals: list[Exception] = []

    def _note(self, name: str) -> None:
        self.seen.append(name)
        if self.refusals and name == "pre_finish":
            raise self.refusals.pop()

    def pre_create(self, request: Request, record: UploadRecord) -> UploadRecord:
        self._note("pre_create")
        return replace(record, max_size=100)

    def pre_finish(self, upload: Upload) -> None:
        self._note("pre_finish")

    def post_finish(self, upload: Upload) -> None:
        self._note("post_finish")

    def response_headers(self, upload: Upload) -> Mapping[str, str]:
        return {"Async-Upload-Key": "key"}


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def hooks() -> Recorder:
    return Recorder()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine(store: MemoryStore, hooks: Recorder, clock: Clock) -> Engine:
    return Engine(store, MemoryLocker(), hooks, TusConfig(max_size=1000), clock)


def create(engine: Engine, length: int | None = 10, **headers: str) -> str:
    items = {"Upload-Defer-Length": "1"} if length is None else {"Upload-Length": str(length)}
    response = send(engine, "POST", headers={**items, **headers})
    assert response.status == 201, response
    location = response.header("Location")
    assert location is not None
    return location.removeprefix("/files/")


def patch(engine: Engine, upload_id: str, offset: int, body: ScriptedBody | bytes, **headers: str) -> Response:
    return send(engine, "PATCH", upload_id, {"Upload-Offset": str(offset), **headers}, body)


def offset(engine: Engine, upload_id: str) -> str | None:
    return send(engine, "HEAD", upload_id).header("Upload-Offset")


def code(response: Response) -> str:
    code = json.loads(response.body)["code"]
    assert isinstance(code, str)
    return code


def test_an_upload_from_creation_to_its_last_byte(engine: Engine, store: MemoryStore, hooks: Recorder) -> None:
    upload_id = create(engine)
    assert patch(engine, upload_id, 0, b"hello").header("Upload-Offset") == "5"
    last = patch(engine, upload_id, 5, b"world")
    assert (last.status, last.header("Upload-Offset")) == (204, "10")
    assert last.header("Async-Upload-Key") == "key"
    assert last.header("Upload-Expires") is None
    assert store.content(upload_id) == b"helloworld"
    assert hooks.seen == ["pre_create", "pre_finish", "post_finish"]


@pytest.mark.parametrize(
    ("end", "reason"),
    [("vanished", "body_incomplete"), ("idle", "idle"), ("draining", "draining"), ("finished", "body_incomplete")],
)
def test_a_cut_body_keeps_what_arrived_and_may_be_tried_again(
    engine: Engine, store: MemoryStore, end: End, reason: str
) -> None:
    upload_id = create(engine)
    response = patch(engine, upload_id, 0, ScriptedBody([b"abc"], end), **{"Content-Length": "10"})
    assert (response.status, code(response), response.header("Retry-After")) == (503, reason, "1")
    assert offset(engine, upload_id) == "3"
    assert patch(engine, upload_id, 3, b"defghij").status == 204
    assert store.content(upload_id) == b"abcdefghij"


def test_a_body_of_unknown_length_finishes_the_upload_only_at_its_end(
    engine: Engine, store: MemoryStore, hooks: Recorder
) -> None:
    upload_id = create(engine)
    assert patch(engine, upload_id, 0, ScriptedBody([b"hello", b"world"], "vanished")).status == 503
    assert offset(engine, upload_id) == "9"
    assert "post_finish" not in hooks.seen
    assert patch(engine, upload_id, 9, ScriptedBody([b"d"])).status == 204
    assert store.content(upload_id) == b"helloworld"
    assert hooks.seen.count("post_finish") == 1


@pytest.mark.parametrize(
    ("pieces", "kept"), [([b"hello", b"worldX"], b"hello"), ([b"hello", b"world", b"X"], b"hello"), ([b"x" * 11], b"")]
)
def test_a_body_that_is_too_long_is_refused_and_its_last_piece_dropped(
    engine: Engine, store: MemoryStore, hooks: Recorder, pieces: list[bytes], kept: bytes
) -> None:
    upload_id = create(engine)
    response = patch(engine, upload_id, 0, ScriptedBody(pieces))
    assert (response.status, code(response)) == (413, "too_large")
    assert store.content(upload_id) == kept
    assert "post_finish" not in hooks.seen


def test_a_creation_whose_body_is_too_long_leaves_no_upload(engine: Engine, store: MemoryStore) -> None:
    headers = {"Upload-Length": "3", "Content-Type": "application/offset+octet-stream"}
    assert send(engine, "POST", headers=headers, body=b"abcd").status == 413
    assert send(engine, "POST", headers=headers, body=ScriptedBody([b"ab", b"cd"])).status == 413
    assert store.records._records == {}


def test_the_hooks_limit_holds_for_a_deferred_length(engine: Engine) -> None:
    upload_id = create(engine, None)
    assert patch(engine, upload_id, 0, b"x" * 101).status == 413
    assert patch(engine, upload_id, 0, ScriptedBody([b"x" * 60, b"x" * 60])).status == 413
    assert offset(engine, upload_id) == "60"
    assert patch(engine, upload_id, 60, b"", **{"Upload-Length": "101"}).status == 413
    response = patch(engine, upload_id, 60, b"", **{"Upload-Length": "60"})
    assert (response.status, response.header("Upload-Offset")) == (204, "60")


def test_received_is_not_complete_until_finishing_came_through(engine: Engine, hooks: Recorder) -> None:
    upload_id = create(engine)
    hooks.refusals = [StoreUnavailable(), StoreUnavailable()]
    assert patch(engine, upload_id, 0, b"helloworld").status == 503
    head = send(engine, "HEAD", upload_id)
    assert (head.status, head.header("Upload-Offset"), head.header("Retry-After")) == (503, None, "1")
    head = send(engine, "HEAD", upload_id)
    assert (head.status, head.header("Upload-Offset")) == (200, "10")
    assert hooks.seen.count("post_finish") == 1


def test_an_empty_patch_also_finishes_what_is_received(engine: Engine, hooks: Recorder) -> None:
    upload_id = create(engine)
    hooks.refusals = [StoreUnavailable()]
    assert patch(engine, upload_id, 0, b"helloworld").status == 503
    assert patch(engine, upload_id, 10, b"").header("Upload-Offset") == "10"
    assert patch(engine, upload_id, 10, b"").status == 204
    assert hooks.seen.count("post_finish") == 1


def test_a_refusal_at_the_end_is_answered_and_the_upload_stays_unfinished(engine: Engine, hooks: Recorder) -> None:
    upload_id = create(engine)
    hooks.refusals = [Forbidden("Only images are accepted.", code="wrong_type")]
    response = patch(engine, upload_id, 0, b"helloworld")
    assert (response.status, code(response)) == (403, "wrong_type")
    assert "post_finish" not in hooks.seen


def test_while_somebody_else_finishes_a_head_gives_no_offset(engine: Engine, hooks: Recorder) -> None:
    upload_id = create(engine)
    hooks.refusals = [StoreUnavailable()]
    patch(engine, upload_id, 0, b"helloworld")
    lease = engine.context.locker.try_acquire(upload_id)
    assert lease is not None
    head = send(engine, "HEAD", upload_id)
    assert (head.status, head.header("Upload-Offset")) == (503, None)
    lease.release()
    assert offset(engine, upload_id) == "10"


def test_an_expired_upload_is_gone_by_the_clock_and_activity_moves_its_end(engine: Engine, clock: Clock) -> None:
    upload_id = create(engine)
    clock.now += timedelta(days=6)
    assert patch(engine, upload_id, 0, b"abc").header("Upload-Expires") == "Thu, 15 Jan 2026 03:04:05 GMT"
    clock.now += timedelta(days=6)
    assert offset(engine, upload_id) == "3"
    clock.now += timedelta(days=1)
    response = send(engine, "HEAD", upload_id)
    assert (response.status, response.header("Upload-Offset")) == (410, None)
    assert patch(engine, upload_id, 3, b"d").status == 410


def test_an_expiry_is_not_written_again_for_every_patch(engine: Engine, clock: Clock) -> None:
    upload_id = create(engine)
    clock.now += timedelta(seconds=59)
    assert patch(engine, upload_id, 0, b"a").header("Upload-Expires") == "Fri, 09 Jan 2026 03:04:05 GMT"
    clock.now += timedelta(seconds=1)
    assert patch(engine, upload_id, 1, b"b").header("Upload-Expires") == "Fri, 09 Jan 2026 03:05:05 GMT"


def test_a_finished_upload_does_not_expire(engine: Engine, clock: Clock) -> None:
    upload_id = create(engine, 0)
    clock.now += timedelta(days=700)
    head = send(engine, "HEAD", upload_id)
    assert (head.status, head.header("Upload-Expires")) == (200, None)


def test_a_stranger_learns_as_much_as_from_an_unknown_upload(engine: Engine, hooks: Recorder) -> None:
    upload_id = create(engine)

    def refuse(request: Request, upload: Upload) -> None:
        raise UploadNotFound()

    hooks.pre_access = refuse  # type: ignore[method-assign]
    answers = {
        (send(engine, method, name, {"Upload-Offset": "0"}).status, send(engine, method, name).body)
        for method in ("HEAD", "DELETE")
        for name in (upload_id, "A" * 32)
    }
    assert {status for status, _ in answers} == {404}
    assert patch(engine, upload_id, 0, b"abc").body == patch(engine, "A" * 32, 0, b"abc").body


def test_an_error_nobody_foresaw_is_500_with_the_tus_header_and_a_log_line(
    engine: Engine, hooks: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    upload_id = create(engine)
    hooks.refusals = [ZeroDivisionError("hidden from the client")]
    response = patch(engine, upload_id, 0, b"helloworld")
    assert (response.status, code(response), response.header("Tus-Resumable")) == (500, "internal", "1.0.0")
    assert b"hidden" not in response.body
    assert "hidden from the client" in caplog.text


def run_with_pauses(engine: Engine, request: Request, body: ScriptedBody) -> tuple[Response, float]:
    """Run a request without sleeping; return its answer and how long it would have slept."""
    steps, slept = engine.handle(request), 0.0
    effect = next(steps)
    while True:
        try:
            if isinstance(effect, Pause):
                slept += effect.seconds
                effect = steps.send(None)
            elif isinstance(effect, Receive):
                effect = steps.send(body.receive(effect))
            else:
                assert isinstance(effect, StoreCall) or hasattr(effect, "run")
                try:
                    answer = effect.run()  # type: ignore[union-attr]
                except Exception as error:
                    effect = steps.throw(error)
                else:
                    effect = steps.send(answer)
        except StopIteration as stop:
            return stop.value, slept


PATCH_HEADERS = {
    "Tus-Resumable": "1.0.0",
    "Content-Type": "application/offset+octet-stream",
    "Upload-Offset": "0",
    "Content-Length": "10",
}


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_a_lease_that_nobody_gives_back_is_423_after_two_seconds(engine: Engine, method: str) -> None:
    upload_id = create(engine)
    lease = engine.context.locker.try_acquire(upload_id)
    assert lease is not None
    request = Request(method, Headers(PATCH_HEADERS.items()), upload_id, "/files/")
    response, slept = run_with_pauses(engine, request, ScriptedBody([b"helloworld"]))
    assert (response.status, code(response), response.header("Retry-After")) == (423, "locked", "1")
    assert 1.9 < slept < 2.1
    assert lease.wanted() == ("terminate" if method == "DELETE" else "append")
    lease.release()
    assert offset(engine, upload_id) == "0"


def test_a_frozen_writer_behind_a_free_lease_is_423_too(engine: Engine, store: MemoryStore) -> None:
    upload_id = create(engine)
    sink = store.open_sink(store.get(upload_id), 0)
    request = Request("PATCH", Headers(PATCH_HEADERS.items()), upload_id, "/files/")
    response, slept = run_with_pauses(engine, request, ScriptedBody([b"helloworld"]))
    assert (response.status, round(slept, 1)) == (423, 2.0)
    sink.settle()
    assert patch(engine, upload_id, 0, b"helloworld").status == 204


class Waiting(ScriptedBody):
    """A body that stands still after its first piece, while somebody asks for the upload."""

    def __init__(self, engine: Engine, upload_id: str, wanted: str, quiet_for: float) -> None:
        super().__init__([b"abc"])
        self._wish = (engine.context.locker, upload_id, wanted)
        self._quiet_for = quiet_for
        self._slices = 5

    def receive(self, effect: Receive) -> Received:
        received = super().receive(effect)
        if received.count:
            return received
        locker, upload_id, wanted = self._wish
        locker.request_release(upload_id, wanted)  # type: ignore[arg-type]
        self._slices -= 1
        return Received(0, "slice" if self._slices else "vanished", self._quiet_for)


@pytest.mark.parametrize(
    ("wanted", "quiet_for", "status"),
    [("append", 1.5, 409), ("append", 0.5, 503), ("terminate", 0.0, 409), ("terminate", 1.5, 409)],
)
def test_a_holder_lets_go_when_its_client_is_quiet_or_the_upload_is_to_end(
    engine: Engine, wanted: str, quiet_for: float, status: int
) -> None:
    upload_id = create(engine)
    body = Waiting(engine, upload_id, wanted, quiet_for)
    response = patch(engine, upload_id, 0, body, **{"Content-Length": "10"})
    assert response.status == status
    if status == 409:
        assert (code(response), response.header("Upload-Offset")) == ("taken_over", "3")
    assert offset(engine, upload_id) == "3"


def test_the_lease_is_given_back_after_every_kind_of_end(engine: Engine) -> None:
    upload_id = create(engine)

    class Broken(ScriptedBody):
        def receive(self, effect: Receive) -> Received:
            effect.sink.write(memoryview(b"ab"))
            raise StoreUnavailable()

    assert patch(engine, upload_id, 0, Broken(), **{"Content-Length": "5"}).status == 503
    assert offset(engine, upload_id) == "2"
    headers = Headers({**PATCH_HEADERS, "Upload-Offset": "2", "Content-Length": "8"}.items())
    with pytest.raises(KeyboardInterrupt):
        drive(engine.handle(Request("PATCH", headers, upload_id, "/files/")), Interrupted())
    assert patch(engine, upload_id, 4, b"efghij").status == 204


class Interrupted(ScriptedBody):
    """A body during which the process is told to go."""

    def receive(self, effect: Receive) -> Received:
        effect.sink.write(memoryview(b"cd"))
        raise KeyboardInterrupt


def test_options_announces_what_the_store_can_do(engine: Engine) -> None:
    response = send(engine, "OPTIONS", headers={"Tus-Resumable": "9.9.9"})
    assert response.status == 204
    assert response.header("Tus-Extension") == (
        "creation,creation-with-upload,checksum,concatenation,concatenation-unfinished,"
        "creation-defer-length,expiration,termination"
    )
    assert response.header("Tus-Max-Size") == "1000"
