"""The shell for Django under WSGI: translates a request in, drives the engine in place, translates the answer out.

The body is read from the raw input stream, never through ``request.body`` or ``request.POST``. The worker's thread is
held while a client sends: that is WSGI; ``tus_server.asgi`` holds none.
"""

from __future__ import annotations

import re

from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import URLPattern, re_path
from django.utils.encoding import escape_uri_path

from tus_server import draining
from tus_server.bodies import SocketBody, StreamBody, open_body
from tus_server.drivers import drive
from tus_server.engine import Engine
from tus_server.headers import Headers
from tus_server.messages import Request, Response


class EveryAlias(frozenset[str]):
    """The set of all database aliases, whichever a project has."""

    def __contains__(self, alias: object) -> bool:
        return True


class TusView:
    """A tus endpoint as a Django view, for the creation endpoint and for uploads alike.

    Exempt from CSRF (a tus request carries a header that no foreign form can send), from ``ATOMIC_REQUESTS`` of every
    database (no transaction may be open while a body arrives) and from ``LoginRequiredMiddleware`` (hooks decide).
    ``tus_server.asgi`` streams into it; Django's own handlers call it with the body in a stream.

    Args:
        engine: The endpoint.
    """

    csrf_exempt = True
    login_required = False
    should_append_slash = False

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        # Django reads this attribute of views in BaseHandler.make_view_atomic.
        self._non_atomic_requests = EveryAlias()

    def __call__(self, request: HttpRequest, upload_id: str | None = None) -> HttpResponseBase:
        """Serve a request whose body can be read in this thread."""
        draining.install()
        body = _open_body(request, self.engine.context.config.fast_path)
        try:
            return build_answer(drive(self.engine.handle(build_request(request, upload_id)), body))
        finally:
            body.close()


def build_request(request: HttpRequest, upload_id: str | None) -> Request:
    """Translate Django's request into ours."""
    path = request.path
    if upload_id is not None:
        path = path.rstrip("/").rpartition("/")[0]
    return Request(
        method=request.method or "",
        headers=Headers(_headers(request)),
        upload_id=upload_id,
        base_path=escape_uri_path(path.rstrip("/")) + "/",
        knows_end=not isinstance(request, WSGIRequest) or bool(request.META.get("wsgi.input_terminated")),
        origin=request,
    )


def build_answer(response: Response) -> HttpResponse:
    """Translate our response into Django's. An answer without a body has no Content-Type."""
    answer = HttpResponse(response.body, status=response.status)
    if not response.body:
        del answer["Content-Type"]
    for name, value in response.headers:
        answer[name] = value
    # The engine has logged what matters; Django would mail the admins for every client that went away.
    answer._has_been_logged = True  # type: ignore[attr-defined]  # read by django.utils.log.log_response
    return answer


def _headers(request: HttpRequest) -> list[tuple[str, str]]:
    headers = []
    for key, value in request.META.items():
        if key.startswith("HTTP_"):
            headers.append((key[5:].replace("_", "-"), str(value)))
        elif key in ("CONTENT_TYPE", "CONTENT_LENGTH") and value:
            headers.append((key.replace("_", "-"), str(value)))
    return headers


def _open_body(request: HttpRequest, fast_path: bool) -> StreamBody | SocketBody:
    length = request.META.get("CONTENT_LENGTH") or ""
    # Longer ones are refused by the engine; Python's int() would raise for some of them.
    declared = int(length) if length.isascii() and length.isdigit() and len(length) < 20 else None
    if isinstance(request, WSGIRequest):
        if declared is None and not request.META.get("wsgi.input_terminated"):
            declared = 0
        return open_body(request.environ, declared, fast_path=fast_path)
    return StreamBody(request, declared)


def get_urls(prefix: str, engine: Engine, name: str = "tus") -> list[URLPattern]:
    """Return the routes of an endpoint, with and without a slash at the end.

    Args:
        prefix: Where the endpoint lies, such as ``files/``.
        engine: The endpoint.
        name: The URL name of the creation endpoint; an upload's is this with ``-upload`` behind it.
    """
    view, start = TusView(engine), f"^{re.escape(prefix.strip('/'))}"
    return [
        re_path(rf"{start}/?$", view, name=name),
        # Whatever lies below the endpoint is answered by it, so that its 404 speaks tus too.
        re_path(rf"{start}/(?P<upload_id>.+?)/?$", view, name=f"{name}-upload"),
    ]
