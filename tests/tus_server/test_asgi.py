"""The ASGI shell in this process: the test is the server below it (``wires``)."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf.urls.i18n import i18n_patterns
from django.core import signals
from django.core.exceptions import PermissionDenied
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import path
from pytest_django.fixtures import Settings

from tests.tus_server.wires import Answer, Wire, run_timeless, until
from tus_server import served
from tus_server.asgi import UploadHandler, get_asgi_application
from tus_server.checksums import build_checksum, new_digest
from tus_server.config import TusConfig
from tus_server.engine import Engine
from tus_server.errors import BodyIdle, BodyIncomplete
from tus_server.hooks import Hooks
from tus_server.locks.memory import MemoryLocker
from tus_server.messages import Request
from tus_server.stores.base import Sink
from tus_server.stores.memory import MemoryStore
from tus_server.uploads import Upload, UploadRecord
from tus_server.wsgi import get_urls

KIB, MIB = 1024, 1024 * 1024


class SlowableStore(MemoryStore):
    """A store whose writes can be held up, and counted."""

    def __init__(self) -> None:
        super().__init__()
        self.may_write = threading.Event()
        self.may_write.set()
        self.writes: list[int] = []

    def open_sink(self, upload: Upload, offset: int, expected: int | None = None) -> Sink:
        sink = super().open_sink(upload, offset, expected)
        write = sink.write

        def held(data: memoryview) -> None:
            assert self.may_write.wait(60)
            self.writes.append(len(data))
            write(data)

        sink.write = held  # type: ignore[method-assign]
        return sink


class CuriousHooks(Hooks):
    """Asks the request for its user, as the hooks of an application do."""

    def __init__(self) -> None:
        self.asked: Callable[[HttpRequest], object] = lambda request: None
        self.seen: list[object] = []

    def pre_access(self, request: Request, upload: Upload) -> None:
        self.seen.append(self.asked(request.origin))


store = SlowableStore()
locker = MemoryLocker()
hooks = CuriousHooks()
engine = Engine(store, locker, hooks, TusConfig(idle_timeout=30))


def echo(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.body, content_type="text/x-echo")


urlpatterns = [
    *get_urls("files/", engine),
    path("echo/", echo),
    *i18n_patterns(*get_urls("local/", engine, "local")),
]


class Elsewhere:
    """The routes of another host."""

    urlpatterns = [
        path("files/<str:name>", lambda request, name: echo(request)),
        *get_urls("late/", engine),
    ]


@pytest.fixture(autouse=True)
def _project(settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
    settings.LANGUAGES = [("en", "English"), ("ru", "Russian")]
    store.may_write.set()
    store.writes.clear()
    hooks.seen.clear()
    hooks.asked = lambda request: None


@pytest.fixture
def build(settings: Settings) -> Iterator[Callable[..., UploadHandler]]:
    """Builds handlers for the middleware that a test names, the outermost first."""
    handlers = []

    def build(*middleware: Callable[..., object], upload_paths: tuple[str, ...] = ()) -> UploadHandler:
        if middleware:
            settings.MIDDLEWARE = [f"{__name__}.{each.__name__}" for each in middleware]
        handlers.append(get_asgi_application(upload_paths))
        return handlers[-1]

    yield build
    for handler in handlers:
        handler.close()


@pytest.fixture
def app(build: Callable[..., UploadHandler]) -> UploadHandler:
    return build()


def new_upload(length: int | None = 10, upload_id: str | None = None) -> str:
    record = UploadRecord(
        id=upload_id or f"upload-{len(store._data):025}",
        object_name="x",
        length=length,
        metadata="",
        created_at=engine.context.clock(),
        expires_at=None,
        finished_at=None,
    )
    store.create(record)
    return record.id


TUS = {"Tus-Resumable": "1.0.0"}


def patch_headers(length: int | None = None, offset: int = 0) -> dict[str, str]:
    headers = {**TUS, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
    framing = {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": str(length)}
    return {**headers, **framing}


def patch(
    app: UploadHandler, upload_id: str, length: int | None = None, *, prefix: str = "/files/", **scope: Any
) -> Wire:
    return Wire(app, "PATCH", prefix + upload_id, patch_headers(length), **scope)


def is_free(upload_id: str) -> bool:
    """Whether neither the lease nor the store's own fence is held."""
    lease = locker.try_acquire(upload_id)
    if lease is None:
        return False
    lease.release()
    return not store._writers[upload_id].locked()


SPLITS = [
    [b"0123456789"],
    [b"01234", b"56789"],
    [b"0", b"", b"123", b"", b"456789", b""],
    [bytes([48 + digit]) for digit in range(10)],
]


# --- bodies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", SPLITS, ids=len)
@pytest.mark.parametrize("length", [10, None])
def test_a_body_in_pieces_is_stored_in_order(app: UploadHandler, pieces: list[bytes], length: int | None) -> None:
    upload_id = new_upload()

    async def play() -> Answer:
        wire = patch(app, upload_id, length)
        for number, piece in enumerate(pieces, start=1):
            wire.feed(piece, more=number < len(pieces))
        return await wire.answer()

    before = served.BODIES["messages"]
    answer = run_timeless(play())
    assert (answer.status, answer.header("Upload-Offset")) == (204, "10")
    assert served.BODIES["messages"] == before + 1
    assert store.content(upload_id) == b"0123456789"
    assert is_free(upload_id)


@pytest.mark.parametrize("pieces", SPLITS, ids=len)
@pytest.mark.parametrize("length", [10, None])
@pytest.mark.parametrize("how", ["vanishes", "is cancelled"])
def test_cut_at_any_message_everything_that_came_is_kept(
    app: UploadHandler, pieces: list[bytes], length: int | None, how: str
) -> None:
    async def play(upload_id: str, count: int) -> None:
        wire = patch(app, upload_id, length)
        for piece in pieces[:count]:
            wire.feed(piece)
        if how == "vanishes":
            wire.vanish()
            await wire.end()
            return
        await until(lambda: wire.is_empty and wire.asked > count)
        wire.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wire.end()

    for count in range(len(pieces)):
        upload_id = new_upload(None if length is None else 10)
        run_timeless(play(upload_id, count))
        came = b"".join(pieces[:count])
        assert store.content(upload_id) == came
        assert is_free(upload_id)
        assert store.get(upload_id).is_finished is (length == len(came))


@pytest.mark.parametrize("when", ["at once", "while it writes"])
def test_a_cancellation_stores_what_the_listener_holds(app: UploadHandler, when: str) -> None:
    upload_id = new_upload(4 * MIB)

    async def play() -> None:
        wire = patch(app, upload_id, 4 * MIB)
        if when == "while it writes":
            store.may_write.clear()
            wire.feed(b"a" * MIB)
            await until(lambda: wire.asked > 1)
        wire.feed(b"b" * 1000)
        wire.feed(b"c" * 1000)
        await until(lambda: wire.is_empty)
        wire.task.cancel()
        await asyncio.sleep(0)
        wire.task.cancel()
        asyncio.get_running_loop().call_later(0.01, store.may_write.set)
        with pytest.raises(asyncio.CancelledError):
            await wire.end()

    asyncio.run(play())
    body = store.content(upload_id)
    assert body.lstrip(b"a") == b"b" * 1000 + b"c" * 1000
    assert is_free(upload_id)


def test_a_loop_that_closes_stores_what_came(app: UploadHandler) -> None:
    upload_id = new_upload(None)

    async def play() -> None:
        wire = patch(app, upload_id)
        wire.feed(b"01234")
        await until(lambda: wire.is_empty and wire.asked > 1)

    asyncio.run(play())
    assert store.content(upload_id) == b"01234"
    assert is_free(upload_id)


@pytest.mark.parametrize(("has_more", "is_finished"), [(True, False), (False, True)])
def test_what_uvicorn_holds_of_a_vanished_client_is_kept(app: UploadHandler, has_more: bool, is_finished: bool) -> None:
    upload_id = new_upload()

    class Cycle:
        body = bytearray(b"56789")
        more_body = has_more

        def __init__(self) -> None:
            self.messages = [{"type": "http.request", "body": b"01234", "more_body": True}]

        async def receive(self) -> dict[str, Any]:
            return self.messages.pop() if self.messages else {"type": "http.disconnect"}

    async def play() -> None:
        cycle = Cycle()
        await app(patch(app, upload_id).scope, cycle.receive, lambda message: asyncio.sleep(0))

    run_timeless(play())
    assert store.content(upload_id) == b"0123456789"[: 10 if is_finished else 9]
    assert store.get(upload_id).is_finished is is_finished


def test_an_error_of_the_server_is_a_cut(app: UploadHandler) -> None:
    upload_id = new_upload()
    messages = [{"type": "http.request", "body": b"01234", "more_body": True}]

    async def receive() -> dict[str, Any]:
        if not messages:
            raise OSError("reset")
        return messages.pop()

    async def play() -> None:
        wire = Wire(app, "OPTIONS", "/files/")
        await wire.end()
        sent: list[object] = []

        async def send(message: object) -> None:
            raise OSError("gone")

        await app({**wire.scope, **patch(app, upload_id, 10).scope}, receive, send)
        assert sent == []

    run_timeless(play())
    assert store.content(upload_id) == b"01234"
    assert is_free(upload_id)


def test_large_bodies_are_written_in_large_pieces_and_memory_is_bounded(app: UploadHandler) -> None:
    upload_id = new_upload(16 * MIB)

    async def play() -> Answer:
        store.may_write.clear()
        wire = patch(app, upload_id, 16 * MIB)
        for _ in range(256):
            wire.feed(bytes(64 * KIB))
        await until(lambda: wire.asked >= 20)
        for _ in range(100):
            await asyncio.sleep(0.0001)
        # One megabyte is being written, one waits, and nobody asks for more.
        assert wire.asked * 64 * KIB <= 2 * MIB + 128 * KIB
        store.may_write.set()
        return await wire.answer()

    assert asyncio.run(play()).header("Upload-Offset") == str(16 * MIB)
    assert store.content(upload_id) == bytes(16 * MIB)


def test_a_digest_is_computed_where_sinks_may_wait(app: UploadHandler, monkeypatch: pytest.MonkeyPatch) -> None:
    upload_id, body, seen = new_upload(4 * MIB), bytes(range(256)) * (16 * KIB), []

    class Noting:
        def __init__(self, algorithm: str) -> None:
            self._digest = new_digest(algorithm)

        def update(self, data: memoryview) -> None:
            seen.append(threading.current_thread().name[:3])
            self._digest.update(data)

        def digest(self) -> bytes:
            return self._digest.digest()

    monkeypatch.setattr("tus_server.protocol.verifying.new_digest", Noting)

    async def play() -> Answer:
        headers = {**patch_headers(len(body)), "Upload-Checksum": build_checksum("sha256", body)}
        wire = Wire(app, "PATCH", f"/files/{upload_id}", headers)
        for start in range(0, len(body), 64 * KIB):
            wire.feed(body[start : start + 64 * KIB], more=start + 64 * KIB < len(body))
        return await wire.answer()

    assert asyncio.run(play()).status == 204
    assert store.content(upload_id) == body
    assert set(seen) == {"tus"}


def test_a_storage_that_holds_up_bodies_holds_up_nobody_else(app: UploadHandler) -> None:
    upload_ids = [new_upload(MIB) for _ in range(20)]

    async def play() -> None:
        store.may_write.clear()
        wires = [patch(app, upload_id, MIB) for upload_id in upload_ids]
        for wire in wires:
            wire.feed(bytes(MIB), more=False)
        await until(lambda: all(wire.asked for wire in wires))
        await asyncio.sleep(0.05)  # the pool of the bodies is full by now
        head = Wire(app, "HEAD", f"/files/{upload_ids[0]}", TUS)
        assert (await asyncio.wait_for(head.answer(), 60)).header("Upload-Offset") == "0"
        store.may_write.set()
        assert {(await wire.answer()).status for wire in wires} == {204}

    asyncio.run(play())


def test_many_bodies_at_once_gather_less_each(app: UploadHandler) -> None:
    """32 KiB each at the least; one alone is written in pieces of 256 KiB and more."""
    upload_ids = [new_upload(None) for _ in range(600)]

    async def play() -> None:
        wires = [patch(app, upload_id) for upload_id in upload_ids]
        await until(lambda: all(wire.asked for wire in wires))
        store.writes.clear()
        wires[0].feed(bytes(64 * KIB))
        await until(lambda: store.writes)
        assert store.content(upload_ids[0]) == bytes(64 * KIB)
        for wire in wires:
            wire.feed(more=False)
        assert {(await wire.answer()).status for wire in wires} == {204}

    asyncio.run(play())


def test_a_slow_client_is_stored_within_a_second(app: UploadHandler) -> None:
    upload_id = new_upload(None)

    async def play() -> None:
        wire = patch(app, upload_id)
        for number in range(50):
            wire.feed(b"x")
            await asyncio.sleep(0.1)
            # What came more than a second ago is stored.
            assert len(store.content(upload_id)) >= number - 11
        wire.feed(more=False)
        assert (await wire.answer()).status == 204

    run_timeless(play())
    assert store.content(upload_id) == b"x" * 50
    assert len(store.writes) <= 15


def test_a_silent_client_is_ended_after_the_idle_timeout(app: UploadHandler) -> None:
    upload_id = new_upload()

    async def play() -> tuple[Answer, float]:
        wire = patch(app, upload_id, 10)
        wire.feed(b"01234")
        answer = await wire.answer()
        return answer, asyncio.get_running_loop().time()

    answer, seconds = run_timeless(play())
    assert answer.status == BodyIdle.status
    assert 30 <= seconds <= 33
    assert store.content(upload_id) == b"01234"
    assert is_free(upload_id)


@pytest.mark.parametrize("pieces", [[b"0123456789ab"], [b"01234", b"56789ab"], [b"0123456789", b"ab"]])
def test_a_body_of_unknown_length_may_not_go_over_the_end(app: UploadHandler, pieces: list[bytes]) -> None:
    upload_id = new_upload()

    async def play() -> Answer:
        wire = patch(app, upload_id)
        for number, piece in enumerate(pieces, start=1):
            wire.feed(piece, more=number < len(pieces))
        return await wire.answer()

    assert run_timeless(play()).status == 413
    upload = store.get(upload_id)
    assert upload.offset < 10
    assert not upload.is_finished
    assert is_free(upload_id)


def test_a_creation_may_bring_its_bytes(app: UploadHandler) -> None:
    async def play() -> Answer:
        headers = {**patch_headers(10), "Upload-Length": "10"}
        del headers["Upload-Offset"]
        wire = Wire(app, "POST", "/files/", headers)
        wire.feed(b"01234")
        wire.feed(b"56789", more=False)
        return await wire.answer()

    answer = run_timeless(play())
    assert (answer.status, answer.header("Upload-Offset"), answer.header("Content-Length")) == (201, "10", "0")
    assert store.content((answer.header("Location") or "").rpartition("/")[2]) == b"0123456789"


@pytest.mark.parametrize(("body", "status"), [(b"", 201), (b"x", 415)])
def test_a_body_of_another_type_is_looked_at(app: UploadHandler, body: bytes, status: int) -> None:
    async def play() -> Answer:
        wire = Wire(app, "POST", "/files/", {**TUS, "Upload-Length": "5", "Transfer-Encoding": "chunked"})
        wire.feed(body, more=False)
        return await wire.answer()

    assert run_timeless(play()).status == status


@pytest.mark.parametrize(("how", "status"), [("silent", BodyIdle.status), ("vanished", BodyIncomplete.status)])
def test_a_body_that_is_only_looked_at_may_be_cut_too(app: UploadHandler, how: str, status: int) -> None:
    async def play() -> Wire:
        wire = Wire(app, "POST", "/files/", {**TUS, "Upload-Length": "5", "Transfer-Encoding": "chunked"})
        if how == "vanished":
            wire.vanish()
        await wire.end()
        return wire

    assert run_timeless(play()).sent[0]["status"] == status


# --- connections ----------------------------------------------------------------------------------------------------


def test_a_refused_request_is_answered_without_asking_for_its_body(app: UploadHandler) -> None:
    async def play() -> tuple[Answer, int]:
        wire = Wire(app, "PATCH", "/files/" + new_upload(), {**patch_headers(10, offset=3), "Expect": "100-continue"})
        return await wire.answer(), wire.asked

    answer, asked = run_timeless(play())
    assert (answer.status, answer.header("Connection"), asked) == (409, "close", 0)


def test_the_rest_of_a_refused_body_is_thrown_away_before_the_connection_closes(app: UploadHandler) -> None:
    async def play() -> Answer:
        wire = Wire(app, "PATCH", "/files/" + new_upload(None), patch_headers(MIB, offset=3))
        await until(lambda: wire.asked)
        # The whole answer is out, but for its end.
        assert [message.get("more_body") for message in wire.sent[1:]] == [True]
        wire.feed(bytes(MIB // 2))
        await until(lambda: wire.asked > 1)
        assert not wire.task.done()
        wire.feed(bytes(MIB // 2), more=False)
        return await wire.answer()

    assert run_timeless(play()).status == 409


@pytest.mark.parametrize("dripping", [True, False])
def test_nobody_throws_away_for_ever(app: UploadHandler, dripping: bool) -> None:
    async def play() -> float:
        wire = Wire(app, "PATCH", "/files/" + new_upload(None), patch_headers(MIB, offset=3))
        while dripping and not wire.task.done():
            wire.feed(b"x")
            await asyncio.sleep(0.5)
        await wire.end()
        return asyncio.get_running_loop().time()

    assert run_timeless(play()) <= (11 if dripping else 1.5)


def test_a_connection_is_kept_where_the_body_was_read(app: UploadHandler) -> None:
    async def play() -> Answer:
        wire = patch(app, new_upload(), 4)
        wire.feed(b"0123", more=False)
        return await wire.answer()

    assert run_timeless(play()).header("Connection") is None


def test_http_2_knows_no_connection_header(app: UploadHandler) -> None:
    async def play() -> Answer:
        upload_id = new_upload()
        wire = Wire(app, "PATCH", "/files/" + upload_id, patch_headers(10, offset=3), http_version="2")
        wire.vanish()
        return await wire.answer()

    answer = run_timeless(play())
    assert (answer.status, answer.header("Connection")) == (409, None)


@pytest.mark.parametrize("name", [b"upload-offset", b"content-length"])
def test_trailers_are_no_headers(app: UploadHandler, name: bytes) -> None:
    async def play() -> Answer:
        wire = patch(app, new_upload())
        wire.scope["headers"] += [(b"trailer", b"Upload-Offset, X"), (name, b"9")]
        wire.feed(b"01234", more=False)
        return await wire.answer()

    assert run_timeless(play()).header("Upload-Offset") == "5"


# --- the middleware chain -------------------------------------------------------------------------------------------

Get = Callable[[HttpRequest], Any]


class SyncStamp:
    """A synchronous middleware that adds a header and a cookie."""

    def __init__(self, get_response: Get) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = self.get_response(request)
        response["X-Stamp"] = "seen"
        response.set_cookie("stamp", "seen")
        return response


class AsyncStamp:
    """The same, asynchronous."""

    sync_capable, async_capable = False, True

    def __init__(self, get_response: Get) -> None:
        self.get_response = get_response
        assert iscoroutinefunction(get_response)
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = await self.get_response(request)
        response["X-Stamp"] = "seen"
        response.set_cookie("stamp", "seen")
        return response


class RefuseBefore(SyncStamp):
    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return HttpResponse("no entry", status=403)


class RefuseAfter(SyncStamp):
    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        self.get_response(request)
        return HttpResponse("no way", status=403)


class RaiseAfter(SyncStamp):
    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        self.get_response(request)
        raise PermissionDenied


class AskTwice(SyncStamp):
    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        self.get_response(request)
        response: HttpResponseBase = self.get_response(request)
        return response


class LookAtViews(SyncStamp):
    seen: dict[str, object] = {}

    def process_view(self, request: HttpRequest, view: Any, args: object, kwargs: dict[str, object]) -> None:
        self.seen.update(exempt=view.csrf_exempt, login=view.login_required, **kwargs)


class RouteElsewhere(SyncStamp):
    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request.urlconf = Elsewhere  # type: ignore[attr-defined]
        response: HttpResponseBase = self.get_response(request)
        return response


def send_all(app: UploadHandler, wire_of: Callable[[], Wire], body: bytes = b"0123456789") -> Answer:
    async def play() -> Answer:
        wire = wire_of()
        wire.feed(body[:5])
        wire.feed(body[5:], more=False)
        return await wire.answer()

    return run_timeless(play())


@pytest.mark.parametrize(
    "middleware", [(SyncStamp,), (AsyncStamp,), (SyncStamp, AsyncStamp), (AsyncStamp, SyncStamp, AsyncStamp)]
)
def test_what_middleware_adds_reaches_the_client(
    build: Callable[..., UploadHandler], middleware: tuple[type, ...]
) -> None:
    app, upload_id = build(*middleware), new_upload()
    answer = send_all(app, lambda: patch(app, upload_id, 10))
    assert (answer.status, answer.header("Upload-Offset"), answer.header("X-Stamp")) == (204, "10", "seen")
    assert (answer.header("Set-Cookie") or "").startswith("stamp=seen")
    assert answer.header("Content-Type") is None
    assert answer.header("Content-Length") is None


def test_no_thread_of_the_chain_waits_for_the_body(build: Callable[..., UploadHandler]) -> None:
    app = build(SyncStamp)

    async def play() -> None:
        upload_ids = [new_upload() for _ in range(20)]
        wires = [patch(app, upload_id, 10) for upload_id in upload_ids]
        await until(lambda: all(wire.asked for wire in wires))
        assert sum(not thread.name.startswith("tus") for thread in threading.enumerate()) <= before + 2
        head = Wire(app, "HEAD", "/files/" + upload_ids[0], TUS)
        assert (await head.answer()).header("Upload-Offset") == "0"
        for wire in wires:
            wire.feed(b"0123456789", more=False)
        assert {(await wire.answer()).status for wire in wires} == {204}

    before = threading.active_count()
    asyncio.run(play())


@pytest.mark.parametrize(
    ("middleware", "body"), [(RefuseBefore, b"no entry"), (RefuseAfter, b"no way"), (RaiseAfter, None)]
)
def test_middleware_may_refuse(build: Callable[..., UploadHandler], middleware: type, body: bytes | None) -> None:
    app, upload_id = build(middleware), new_upload()
    answer = send_all(app, lambda: patch(app, upload_id, 10))
    assert (answer.status, answer.header("Connection")) == (403, "close")
    assert body is None or answer.body == body
    assert store.content(upload_id) == b""
    assert is_free(upload_id)


def test_middleware_may_ask_twice(build: Callable[..., UploadHandler]) -> None:
    app, upload_id = build(AskTwice), new_upload()
    assert send_all(app, lambda: patch(app, upload_id, 10)).status == 204
    assert store.content(upload_id) == b"0123456789"
    assert is_free(upload_id)


def test_middleware_sees_the_attributes_of_the_view(build: Callable[..., UploadHandler]) -> None:
    app, upload_id = build(LookAtViews), new_upload()
    assert send_all(app, lambda: patch(app, upload_id, 10)).status == 204
    assert LookAtViews.seen == {"exempt": True, "login": False, "upload_id": upload_id}


def test_a_cancellation_in_the_chain_abandons_what_was_admitted(build: Callable[..., UploadHandler]) -> None:
    app, upload_id = build(HoldOn), new_upload()

    async def play() -> None:
        HoldOn.is_reached, HoldOn.may_go = asyncio.Event(), asyncio.Event()
        wire = patch(app, upload_id, 10)
        await HoldOn.is_reached.wait()
        assert not is_free(upload_id)
        wire.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wire.end()
        assert wire.sent == []

    asyncio.run(play())
    assert is_free(upload_id)


class HoldOn(AsyncStamp):
    is_reached: asyncio.Event
    may_go: asyncio.Event

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = await self.get_response(request)
        self.is_reached.set()
        await self.may_go.wait()
        return response


def test_atomic_requests_do_not_matter(app: UploadHandler, monkeypatch: pytest.MonkeyPatch) -> None:
    for alias in connections.settings:
        monkeypatch.setitem(connections.settings[alias], "ATOMIC_REQUESTS", True)
    upload_id = new_upload()
    assert send_all(app, lambda: patch(app, upload_id, 10)).status == 204


def test_hooks_see_the_user_of_the_session(
    settings: Settings, build: Callable[..., UploadHandler], transactional_db: None
) -> None:
    from django.contrib.auth.models import User
    from django.test import Client

    user = User.objects.create_user("ann")
    client = Client()
    client.force_login(user)
    settings.MIDDLEWARE = [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ]
    hooks.asked = lambda request: (request.user.get_username(), threading.current_thread().name[:3])
    app, upload_id = build(), new_upload()
    cookie = {"Cookie": f"{settings.SESSION_COOKIE_NAME}={client.session.session_key}"}
    answer = send_all(app, lambda: Wire(app, "PATCH", f"/files/{upload_id}", {**patch_headers(10), **cookie}))
    assert answer.status == 204
    assert hooks.seen == [("ann", "tus")]


# --- routes ---------------------------------------------------------------------------------------------------------


def test_other_routes_are_django_s(app: UploadHandler) -> None:
    answer = send_all(app, lambda: Wire(app, "POST", "/echo/", {"Content-Length": "10"}), b"abcdefghij")
    assert (answer.status, answer.body, answer.header("Content-Type")) == (200, b"abcdefghij", "text/x-echo")


@pytest.mark.parametrize(("target", "tus"), [("/nowhere/", None), ("/files/unknown", "1.0.0"), ("/files/a/b", "1.0.0")])
def test_what_is_not_there_is_404(app: UploadHandler, target: str, tus: str | None) -> None:
    answer = send_all(app, lambda: Wire(app, "PATCH", target, patch_headers(10)))
    assert (answer.status, answer.header("Tus-Resumable")) == (404, tus)


def test_a_get_is_answered_by_django(app: UploadHandler, caplog: pytest.LogCaptureFixture) -> None:
    answer = send_all(app, lambda: Wire(app, "GET", "/files/"), b"")
    assert answer.status == 405
    assert "upload_paths" not in caplog.text


def test_a_get_with_an_overriding_method_is_streamed(app: UploadHandler) -> None:
    upload_id = new_upload()
    headers = {**patch_headers(10), "X-HTTP-Method-Override": "PATCH"}
    assert send_all(app, lambda: Wire(app, "GET", f"/files/{upload_id}", headers)).status == 204


def test_a_route_below_a_script_prefix_is_streamed(app: UploadHandler) -> None:
    headers = {**TUS, "Upload-Length": "5"}
    answer = send_all(app, lambda: Wire(app, "POST", "/site/files/", headers, root_path="/site"), b"")
    assert (answer.header("Location") or "").startswith("/site/files/")
    upload_id = new_upload()
    assert send_all(app, lambda: patch(app, upload_id, 10, prefix="/site/files/", root_path="/site")).status == 204
    assert len(store.writes) == 1


@pytest.mark.parametrize("language", ["en", "ru"])
def test_a_route_below_a_language_prefix_is_streamed(
    settings: Settings, build: Callable[..., UploadHandler], caplog: pytest.LogCaptureFixture, language: str
) -> None:
    settings.MIDDLEWARE = ["django.middleware.locale.LocaleMiddleware"]
    app, upload_id = build(), new_upload()
    answer = send_all(app, lambda: patch(app, upload_id, 10, prefix=f"/{language}/local/"))
    assert (answer.status, answer.header("Content-Language")) == (204, language)
    assert "upload_paths" not in caplog.text


def test_a_route_that_shows_only_behind_the_middleware_is_served_and_logged_once(
    build: Callable[..., UploadHandler], caplog: pytest.LogCaptureFixture
) -> None:
    app = build(RouteElsewhere)
    for upload_id in (new_upload(), new_upload()):
        assert send_all(app, partial(patch, app, upload_id, 10, prefix="/late/")).status == 204
        assert store.content(upload_id) == b"0123456789"
    assert caplog.text.count("upload_paths") == 1


def test_a_named_prefix_needs_no_look_at_the_routes(
    build: Callable[..., UploadHandler], caplog: pytest.LogCaptureFixture
) -> None:
    app, upload_id = build(RouteElsewhere, upload_paths=("/late/",)), new_upload()

    async def play() -> None:
        wire = patch(app, upload_id, 10, prefix="/late/")
        wire.feed(b"01234")
        wire.vanish()
        await wire.end()

    run_timeless(play())
    assert store.content(upload_id) == b"01234"
    assert "upload_paths" not in caplog.text


def test_a_route_that_only_seemed_ours_gets_its_body(build: Callable[..., UploadHandler]) -> None:
    app, upload_id = build(RouteElsewhere), new_upload()
    answer = send_all(app, lambda: patch(app, upload_id, 10))
    assert (answer.status, answer.body, answer.header("Connection")) == (200, b"0123456789", None)
    assert store.content(upload_id) == b""


def test_a_client_that_leaves_a_route_that_only_seemed_ours(build: Callable[..., UploadHandler]) -> None:
    app = build(RouteElsewhere)

    async def play() -> None:
        wire = patch(app, new_upload(), 10)
        wire.feed(b"01234")
        wire.vanish()
        await wire.end()

    run_timeless(play())


def test_other_scopes_are_refused_as_by_django(app: UploadHandler) -> None:
    async def nothing(*_: object) -> Any: ...

    with pytest.raises(ValueError, match="lifespan"):
        asyncio.run(app({"type": "lifespan"}, nothing, nothing))


# --- the life of a process ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["answered", "refused", "vanished", "cancelled"])
def test_every_request_starts_and_finishes_once(app: UploadHandler, how: str) -> None:
    seen: list[str] = []

    def started(**_: object) -> None:
        seen.append("started")

    def finished(**_: object) -> None:
        seen.append("finished")

    async def play() -> None:
        wire = patch(app, new_upload() if how != "refused" else "unknown", 10)
        wire.feed(b"01234")
        if how == "vanished":
            wire.vanish()
        elif how == "cancelled":
            await until(lambda: wire.asked > 1)
            wire.task.cancel()
        else:
            wire.feed(b"56789", more=False)
        await asyncio.wait([wire.task])

    signals.request_started.connect(started)
    signals.request_finished.connect(finished)
    try:
        run_timeless(play())
    finally:
        signals.request_started.disconnect(started)
        signals.request_finished.disconnect(finished)
    assert seen == ["started", "finished"]


def test_a_failing_store_is_500_and_logged_once(
    app: UploadHandler, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = new_upload()

    def broken(upload: Upload, now: object) -> Upload:
        raise RuntimeError("broken")

    monkeypatch.setattr(store, "finish", broken)
    with caplog.at_level(logging.WARNING):
        assert send_all(app, lambda: patch(app, upload_id, 10)).status == 500
    assert [record.name for record in caplog.records] == ["tus_server.engine"]
    assert is_free(upload_id)


def test_a_server_that_drains_ends_bodies_and_keeps_what_came(app: UploadHandler) -> None:
    async def play() -> None:
        first, second = new_upload(), new_upload()
        wire = patch(app, first, 10)
        wire.feed(b"01234")
        await until(lambda: wire.is_empty and wire.asked > 1)
        app.drain()
        wire.vanish()
        answer = await wire.answer()
        assert (answer.status, answer.header("Retry-After") is not None) == (503, True)
        assert store.content(first) == b"01234"
        late = patch(app, second, 10)
        late.vanish()
        assert (await late.answer()).status == 503
        head = Wire(app, "HEAD", f"/files/{first}", TUS)
        assert (await head.answer()).header("Upload-Offset") == "5"

    run_timeless(play())
