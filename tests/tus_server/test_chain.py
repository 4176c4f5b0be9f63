"""Middleware around upload requests: Django's own in the event loop, everybody else's as in the project."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.conf import global_settings
from django.contrib import messages
from django.contrib.sessions.middleware import SessionMiddleware
from django.core import signals
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest, HttpResponse
from django.middleware.common import CommonMiddleware
from django.urls import path
from pytest_django.fixtures import Settings

from tests.tus_server.test_asgi import TUS, engine, hooks, new_upload, patch, patch_headers, send_all, store
from tests.tus_server.wires import Answer, Wire
from tus_server import serving
from tus_server.asgi import UploadHandler, get_asgi_application
from tus_server.chain import inline
from tus_server.wsgi import get_urls

SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
#: What ``startproject`` writes.
USUAL = [
    "django.middleware.security.SecurityMiddleware",
    SESSIONS,
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

urlpatterns = [*get_urls("files/", engine), path("other/", lambda request: HttpResponse("other"))]

Get = Callable[[HttpRequest], Any]
ran: list[str] = []


class Theirs(CommonMiddleware):
    """A project's subclass of one of Django's: nobody knows what it waits for."""

    def process_request(self, request: HttpRequest) -> None:
        ran.append(threading.current_thread().name)


class Foreign:
    """A synchronous middleware of somebody else's."""

    def __init__(self, get_response: Get) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        ran.append(threading.current_thread().name)
        response: HttpResponse = self.get_response(request)
        response["X-Foreign"] = "seen"
        return response


class Unused:
    def __init__(self, get_response: Get) -> None:
        raise MiddlewareNotUsed("not here")


class SaysSomething(Foreign):
    def __call__(self, request: HttpRequest) -> HttpResponse:
        messages.info(request, "uploaded")
        response: HttpResponse = self.get_response(request)
        return response


class ChangesSession(Foreign):
    def __call__(self, request: HttpRequest) -> HttpResponse:
        response: HttpResponse = self.get_response(request)
        request.session["seen"] = True
        return response


class SetsTenant(Foreign):
    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.tenant = "acme"  # type: ignore[attr-defined]
        response: HttpResponse = self.get_response(request)
        return response


@pytest.fixture(autouse=True)
def _project(settings: Settings) -> Iterator[None]:
    settings.ROOT_URLCONF = __name__
    ran.clear()
    hooks.seen.clear()
    hooks.asked = lambda request: None
    yield
    hooks.asked = lambda request: None


@pytest.fixture
def decide() -> Iterator[Callable[..., None]]:
    """What the project decides about the shells, for one test."""
    (before,) = serving._sources
    yield lambda **decisions: serving.read_from(lambda: serving.Serving(**decisions))
    serving.read_from(before)


@pytest.fixture
def build(settings: Settings) -> Iterator[Callable[..., UploadHandler]]:
    handlers = []

    def build(*middleware: str | type) -> UploadHandler:
        settings.MIDDLEWARE = [each if isinstance(each, str) else f"{__name__}.{each.__name__}" for each in middleware]
        handlers.append(get_asgi_application())
        return handlers[-1]

    yield build
    for handler in handlers:
        handler.close()


@contextmanager
def threads() -> Iterator[list[str]]:
    """Note the thread of each call that leaves the event loop."""
    from concurrent.futures import ThreadPoolExecutor

    found: list[str] = []
    submit = ThreadPoolExecutor.submit

    def noted(self: ThreadPoolExecutor, *args: Any, **kwargs: Any) -> Any:
        found.append(getattr(self, "_thread_name_prefix", ""))
        return submit(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ThreadPoolExecutor, "submit", noted)
        yield found


def head(app: UploadHandler, upload_id: str, headers: dict[str, str] | None = None, **scope: Any) -> Answer:
    return send_all(app, lambda: Wire(app, "HEAD", f"/files/{upload_id}", {**TUS, **(headers or {})}, **scope), b"")


def create(app: UploadHandler, body: bytes = b"0123456789", headers: dict[str, str] | None = None) -> Answer:
    fields = {**patch_headers(len(body)), "Upload-Length": str(len(body)), **(headers or {})}
    del fields["Upload-Offset"]
    return send_all(app, lambda: Wire(app, "POST", "/files/", fields), body)


# --- what a request costs -------------------------------------------------------------------------------------------


def test_a_request_changes_threads_once_before_its_body_and_once_behind_it(
    build: Callable[..., UploadHandler],
) -> None:
    app, upload_id = build(*USUAL), new_upload()
    with threads() as found:
        assert send_all(app, lambda: patch(app, upload_id, 10)).status == 204
        assert found == ["tus-admission", "tus-body"]
    with threads() as found:
        assert head(app, upload_id).status == 200
        assert found == ["tus-admission"]
    with threads() as found:
        assert create(app).status == 201
        assert found == ["tus-admission", "tus-body"]


def test_a_listener_to_the_signals_of_a_request_gets_its_thread(build: Callable[..., UploadHandler]) -> None:
    app, upload_id = build(*USUAL), new_upload()
    heard: list[str] = []

    def listener(**_: object) -> None:
        heard.append(threading.current_thread().name)

    for signal in (signals.request_started, signals.request_finished):
        signal.connect(listener)
    try:
        assert head(app, upload_id).status == 200
    finally:
        for signal in (signals.request_started, signals.request_finished):
            signal.disconnect(listener)
    assert len(heard) == 2
    assert threading.current_thread().name not in heard


# --- Django's own ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["HEAD", "PATCH", "POST"])
def test_https_is_asked_for(settings: Settings, build: Callable[..., UploadHandler], method: str) -> None:
    settings.SECURE_SSL_REDIRECT = True
    app, upload_id = build(*USUAL), new_upload()
    if method == "POST":
        answer = create(app)
    else:
        answer = send_all(app, lambda: Wire(app, method, f"/files/{upload_id}", patch_headers(10)))
    assert answer.status == 301
    assert (answer.header("Location") or "").startswith("https://testserver/files/")
    assert head(app, upload_id, scheme="https").status == 200


def test_the_host_is_checked(settings: Settings, build: Callable[..., UploadHandler]) -> None:
    settings.ALLOWED_HOSTS = ["testserver"]
    app, upload_id = build(*USUAL), new_upload()
    assert head(app, upload_id, {"Host": "evil.example"}).status == 400


def test_the_usual_headers_are_added(settings: Settings, build: Callable[..., UploadHandler]) -> None:
    settings.SECURE_HSTS_SECONDS = 60
    app, upload_id = build(*USUAL), new_upload()
    answer = head(app, upload_id, scheme="https")
    assert answer.header("X-Frame-Options") == "DENY"
    assert answer.header("X-Content-Type-Options") == "nosniff"
    assert answer.header("Strict-Transport-Security") == "max-age=60"


def test_hooks_see_the_session_s_user(
    settings: Settings, build: Callable[..., UploadHandler], transactional_db: None
) -> None:
    from django.contrib.auth.models import User
    from django.test import Client

    client = Client()
    client.force_login(User.objects.create_user("ann"))
    cookie = {"Cookie": f"{settings.SESSION_COOKIE_NAME}={client.session.session_key}"}
    hooks.asked = lambda request: request.user.get_username()
    app, upload_id = build(*USUAL), new_upload()
    with threads() as found:
        answer = head(app, upload_id, cookie)
    assert (answer.status, hooks.seen, found) == (200, ["ann"], ["tus-admission"])
    assert "Cookie" in (answer.header("Vary") or "")


@pytest.mark.parametrize("how", ["changed by middleware", "saved every time"])
def test_a_session_is_saved_in_a_thread(
    settings: Settings, build: Callable[..., UploadHandler], transactional_db: None, how: str
) -> None:
    settings.SESSION_SAVE_EVERY_REQUEST = how == "saved every time"
    middleware = [*USUAL, ChangesSession] if how == "changed by middleware" else USUAL
    app, upload_id = build(*middleware), new_upload()
    from django.contrib.sessions.backends.db import SessionStore

    session = SessionStore()
    session["mine"] = 1
    session.save()
    hooks.asked = lambda request: request.session.get("mine")
    answer = head(app, upload_id, {"Cookie": f"{settings.SESSION_COOKIE_NAME}={session.session_key}"})
    assert (answer.status, hooks.seen) == (200, [1])
    assert "sessionid" in (answer.header("Set-Cookie") or "")
    stored = SessionStore(session.session_key)
    assert stored.get("seen") is (True if how == "changed by middleware" else None)


def test_a_csrf_secret_in_the_session_is_read_in_a_thread(
    settings: Settings, build: Callable[..., UploadHandler], transactional_db: None
) -> None:
    settings.CSRF_USE_SESSIONS = True
    app, upload_id = build(*USUAL), new_upload()
    assert head(app, upload_id, {"Cookie": f"{settings.SESSION_COOKIE_NAME}=unknown"}).status == 200


def test_a_message_is_kept(settings: Settings, build: Callable[..., UploadHandler]) -> None:
    settings.MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"
    app, upload_id = build(*USUAL, SaysSomething), new_upload()
    assert "messages=" in (head(app, upload_id).header("Set-Cookie") or "")


def test_a_login_is_not_required_of_an_upload_whose_hooks_decide(build: Callable[..., UploadHandler]) -> None:
    app, upload_id = build(*USUAL, "django.contrib.auth.middleware.LoginRequiredMiddleware"), new_upload()
    assert head(app, upload_id).status == 200


def test_another_view_behind_an_upload_path_is_served_as_by_django(
    build: Callable[..., UploadHandler], decide: Callable[..., None], transactional_db: None
) -> None:
    """Its login is asked for, its CSRF token too."""
    decide(upload_paths=["/other/"])
    app = build(*USUAL, "django.contrib.auth.middleware.LoginRequiredMiddleware")
    wire = {"Cookie": "sessionid=unknown"}
    assert send_all(app, lambda: Wire(app, "HEAD", "/other/", wire), b"").status == 302
    app = build(*USUAL)
    assert send_all(app, lambda: Wire(app, "HEAD", "/other/", wire), b"").status == 200
    assert send_all(app, lambda: Wire(app, "DELETE", "/other/", wire), b"").status == 403


def test_each_of_django_s_middlewares_has_an_inline_form_or_waits_as_before() -> None:
    assert inline(SessionMiddleware) is not SessionMiddleware
    assert inline(SessionMiddleware) is inline(SessionMiddleware)
    assert issubclass(inline(SessionMiddleware), SessionMiddleware)
    assert inline(Theirs) is Theirs
    assert inline(len) is len
    assert global_settings.MIDDLEWARE == []


# --- everybody else's -----------------------------------------------------------------------------------------------


def test_a_subclass_of_django_s_runs_in_its_thread(build: Callable[..., UploadHandler]) -> None:
    app, upload_id = build(Theirs), new_upload()
    assert head(app, upload_id).status == 200
    assert len(ran) == 1
    assert ran[0] != threading.current_thread().name


@pytest.mark.parametrize("place", range(len(USUAL) + 1))
def test_synchronous_middleware_may_stand_anywhere(build: Callable[..., UploadHandler], place: int) -> None:
    app, upload_id = build(*USUAL[:place], Foreign, *USUAL[place:]), new_upload()
    answer = send_all(app, lambda: patch(app, upload_id, 10))
    assert (answer.status, answer.header("X-Foreign"), answer.header("X-Frame-Options")) == (204, "seen", "DENY")
    assert store.content(upload_id) == b"0123456789"


def test_middleware_that_is_not_used_is_left_out(build: Callable[..., UploadHandler]) -> None:
    assert head(build(Unused, *USUAL), new_upload()).status == 200


def test_middleware_that_can_do_neither_is_an_error(
    build: Callable[..., UploadHandler], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Foreign, "sync_capable", False, raising=False)
    with pytest.raises(RuntimeError, match="sync_capable"):
        build(Foreign)


# --- what a project decides -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "override", "is_foreign"),
    [
        ("HEAD", None, False),
        ("PATCH", None, False),
        ("DELETE", None, False),
        ("POST", "PATCH", False),
        ("POST", None, True),
        ("OPTIONS", None, True),
        # A creation never goes around the project's middleware.
        ("PATCH", "POST", True),
    ],
)
def test_a_chain_of_its_own_is_for_what_comes_often_only(
    build: Callable[..., UploadHandler],
    decide: Callable[..., None],
    method: str,
    override: str | None,
    is_foreign: bool,
) -> None:
    decide(upload_middleware=["django.middleware.common.CommonMiddleware"])
    app = build(Foreign, *USUAL)
    headers = {**patch_headers(10), "Upload-Length": "10", **({"X-HTTP-Method-Override": override} if override else {})}
    target = "/files/" if "POST" in (method, override) and override != "PATCH" else f"/files/{new_upload()}"
    answer = send_all(app, lambda: Wire(app, method, target, headers))
    assert answer.status < 400
    assert (answer.header("X-Foreign") == "seen") is is_foreign


def test_named_paths_are_streamed(
    settings: Settings, build: Callable[..., UploadHandler], decide: Callable[..., None]
) -> None:
    decide(upload_paths=["/late/"])
    settings.ROOT_URLCONF = "tests.tus_server.test_asgi"
    settings.MIDDLEWARE = ["tests.tus_server.test_asgi.RouteElsewhere"]
    app, upload_id = get_asgi_application(), new_upload()

    async def play() -> None:
        wire = patch(app, upload_id, 10, prefix="/late/")
        wire.feed(b"01234")
        wire.vanish()
        await wire.end()

    async_to_sync(play)()
    app.close()
    assert store.content(upload_id) == b"01234"


def test_calls_run_inside_the_context_of_their_request(
    build: Callable[..., UploadHandler], decide: Callable[..., None]
) -> None:
    entered: list[str] = []
    inside = threading.local()

    @contextmanager
    def tenant(request: Any) -> Iterator[None]:
        entered.append(request.tenant)
        inside.tenant = request.tenant
        try:
            yield
        finally:
            del inside.tenant

    decide(database_context=tenant)
    hooks.asked = lambda request: inside.tenant
    app, upload_id = build(SetsTenant), new_upload()
    assert send_all(app, lambda: patch(app, upload_id, 10)).status == 204
    assert (hooks.seen, set(entered)) == (["acme"], {"acme"})
    assert not hasattr(inside, "tenant")


@pytest.mark.parametrize("when", ["at once", "behind the body", "at the end"])
def test_a_context_that_fails_leaves_nothing_locked(
    build: Callable[..., UploadHandler], decide: Callable[..., None], when: str
) -> None:
    from tests.tus_server.test_asgi import is_free

    calls: list[object] = []

    @contextmanager
    def failing(request: object) -> Iterator[None]:
        calls.append(request)
        if (when == "at once") or (when == "behind the body" and len(calls) > 1):
            raise RuntimeError("the tenant's database is away")
        yield
        if when == "at the end":
            raise RuntimeError("what was done stays done")

    decide(database_context=failing)
    app, upload_id = build(*USUAL), new_upload()
    answer = send_all(app, lambda: patch(app, upload_id, 10))
    assert answer.status == (204 if when == "at the end" else 500)
    assert is_free(upload_id)
    assert store.get(upload_id).offset == (10 if when == "at the end" else 0)
