"""The shell for Django under ASGI: admission inside the project's middleware, the body outside of it.

Django's own handler spools a body into a file before any view runs, and forgets it when the client vanishes. Here, for
routes of ``TusView`` only, the middleware chain runs around the admission: permissions, limits, the upload's state.
A request that needs its body is answered to the chain by ``Proceed``, whose headers and cookies are merged into the
real answer; the body is received when no middleware, and no thread of its, waits any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any, BinaryIO, cast

import django
from asgiref.sync import ThreadSensitiveContext, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.db import close_old_connections
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.http.response import HttpResponseBase
from django.urls import ResolverMatch, set_script_prefix

from tus_server import draining
from tus_server.chain import Chain
from tus_server.door import Door, Turnstile
from tus_server.drivers import Suspended, admit, drive_async
from tus_server.effects import Call
from tus_server.handed import HandedBody
from tus_server.handover import borrow
from tus_server.lingering import DRAINING_SECONDS, LINGER_SECONDS, LateEnd, linger
from tus_server.lulls import Clock
from tus_server.pool import ADMISSION_THREADS, BODY_THREADS, CallPool
from tus_server.routing import UploadRequest, UploadRoutes
from tus_server.scopes import Listen, Scope, Send
from tus_server.serving import get_serving
from tus_server.signalling import has_thread, is_calm
from tus_server.streams import BUDGET_BYTES, StreamedBody
from tus_server.wsgi import TusView, build_answer, build_request

logger = logging.getLogger(__name__)


def get_asgi_application(upload_paths: Sequence[str] = ()) -> UploadHandler:
    """Return an ASGI application like ``django.core.asgi.get_asgi_application``, which streams uploads.

    Args:
        upload_paths: Prefixes of paths that are upload routes although the URL configuration does not show it before
            the project's middleware has run (behind the script prefix, beginning with ``/``).
    """
    django.setup(set_prefix=False)
    return UploadHandler(upload_paths)


class Proceed(HttpResponse):
    """Admitted, the body is to follow. Travels back through the middleware chain and never reaches a client."""


class Admission:
    """Stands for a ``TusView`` inside the chain: asynchronous, and has the view's attributes for middleware."""

    def __init__(self, view: TusView) -> None:
        self._view = view
        markcoroutinefunction(self)

    # Any: attributes that middleware puts on views and reads from them.
    def __getattr__(self, name: str) -> Any:
        return getattr(self._view, name)

    async def __call__(self, request: UploadRequest, upload_id: str | None = None) -> HttpResponse:
        """Admit a request, or answer it where it needs no body."""
        # A middleware that asks again will not come back to its first answer.
        await request.abandon()
        outcome = await admit(self._view.engine.handle(build_request(request, upload_id)), request.run)
        if not isinstance(outcome, Suspended):
            return build_answer(outcome)
        request.waiting = outcome
        return Proceed()


class AdmittingHandler(ASGIHandler):
    """Django's handler, whose innermost part admits requests to upload routes instead of serving them."""

    has_warned = False

    async def _get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        """Behind the middleware. A route that only seemed to be ours gets its body as Django would give it."""
        if isinstance(request, UploadRequest) and not self._leads_to_uploads(request):
            try:
                request.give_body(cast(BinaryIO, await self.read_body(request.listen)))
            except RequestAborted:
                return HttpResponseBadRequest()
        # Private, but the one place behind all middleware and before the view; the stubs leave it out.
        response: HttpResponseBase = await super()._get_response_async(request)  # type: ignore[misc]
        return response

    def _leads_to_uploads(self, request: UploadRequest) -> bool:
        """Find the view, once and for all: no middleware comes between this and ``resolve_request``."""
        request.match = None
        try:
            request.match = super().resolve_request(request)
        except Exception:
            # Django asks again and reports it.
            return False
        return isinstance(request.match.func, TusView)

    def resolve_request(self, request: HttpRequest) -> ResolverMatch:
        """Find the view, as Django does; an upload's request meets the view's admission instead."""
        known = request.match if isinstance(request, UploadRequest) else None
        match = super().resolve_request(request) if known is None else known
        if not isinstance(match.func, TusView):
            return match
        if isinstance(request, UploadRequest):
            # Django unpacks what we return; ``request.resolver_match`` keeps telling the truth.
            return cast(ResolverMatch, (Admission(match.func), match.args, match.kwargs))
        if request.method != "GET" and not self.has_warned:
            self.has_warned = True
            logger.warning(
                "%s leads to an upload route only behind the middleware, so bodies are stored by Django first and cut "
                "ones are lost. Name its prefix in ASYNC_UPLOADS['UPLOAD_PATHS'] or "
                "get_asgi_application(upload_paths=...).",
                request.path,
            )
        return match


class InlineHandler(AdmittingHandler, Chain):
    """The same, with Django's own middleware in the event loop."""


class UploadHandler(AdmittingHandler):
    """Django's handler, but requests to upload routes are streamed.

    Args:
        upload_paths: See ``get_asgi_application``.
    """

    def __init__(self, upload_paths: Sequence[str] = ()) -> None:
        super().__init__()
        self._admissions = CallPool(ADMISSION_THREADS, "tus-admission")
        self._transfers = CallPool(BODY_THREADS, "tus-body")
        # More at a time than there are threads would only wait for them, in front of those that ask something.
        self._door = Door(ADMISSION_THREADS)
        self._turnstile = Turnstile(ADMISSION_THREADS)
        self._clock = Clock()
        middleware = get_serving().upload_middleware
        self._inline = InlineHandler(settings.MIDDLEWARE)
        self._often = self._inline if middleware is None else InlineHandler(middleware)
        self._routes = UploadRoutes(upload_paths)
        self._bodies: set[StreamedBody | HandedBody] = set()
        self._is_draining = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def close(self) -> None:
        """Wait for the calls under way and end the threads."""
        self._admissions.close()
        self._transfers.close()

    def drain(self) -> None:
        """The server is going down: end every body now, and those to come; to be called in the loop's thread."""
        self._is_draining = True
        for body in self._bodies:
            body.drain()

    def drain_soon(self) -> None:
        """See ``draining.Drains``."""
        if self._loop is not None:
            # A loop that is closed has nothing to drain.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self.drain)

    async def __call__(self, scope: Scope, receive: Listen, send: Send) -> None:
        """Serve a connection of the ASGI server."""
        request = self._routes.recognise(scope, receive)
        if request is None:
            await super().__call__(scope, receive, send)
            return
        if request.queues_up:
            await self._turnstile.come_through()
        await self._stream(request, send)

    async def _stream(self, request: UploadRequest, send: Send) -> None:
        late = LateEnd(send)
        around = partial(get_serving().database_context, request)
        request.run = partial(self._admissions.run, around=around)
        request.run_body = partial(self._transfers.run, around=around)
        handler = self._often if request.comes_often else self._inline
        try:
            async with ThreadSensitiveContext():
                set_script_prefix(get_script_prefix(request.scope))
                await self._start(request)
                async with self._door.passing() if request.queues_up else nullcontext():
                    response = await handler.run_get_response(request)
                cast(Any, response)._handler_class = self.__class__
                if isinstance(response, Proceed):
                    if has_thread():
                        await sync_to_async(close_old_connections)()
                else:
                    await request.abandon()
                    await self._answer(request, response, late)
                    await self._close(response, has_thread(), sync_to_async(response.close))
            if isinstance(response, Proceed):
                answer = await self._receive(request, response)
                await self._answer(request, answer, late)
                await self._close(answer, False, partial(request.run, Call(answer.close)))
        except asyncio.CancelledError:
            await signals.request_finished.asend(sender=self.__class__)
            raise
        finally:
            await request.abandon()
        if not (request.is_read or request.is_gone or "HTTP_EXPECT" in request.META):
            await linger(request.listen, DRAINING_SECONDS if self._is_draining else LINGER_SECONDS)
        with suppress(OSError):
            await late.end()

    async def _start(self, request: UploadRequest) -> None:
        """Send Django's signal, in the event loop where everybody who listens is Django's own and waits for nothing."""
        if is_calm(signals.request_started, self.__class__):
            signals.request_started.send(sender=self.__class__, scope=request.scope)
        else:
            await signals.request_started.asend(sender=self.__class__, scope=request.scope)

    # Any: nobody looks at what closing gives.
    async def _close(self, response: HttpResponseBase, may_wait: bool, elsewhere: Callable[[], Awaitable[Any]]) -> None:
        """Close a response, which sends Django's other signal."""
        # Private, but how Django's own handlers add to it; the stubs leave it out.
        has_others = len(cast(Any, response)._resource_closers) > 1
        if may_wait or has_others or not is_calm(signals.request_finished, self.__class__):
            await elsewhere()
        else:
            response.close()

    async def _receive(self, request: UploadRequest, proceed: Proceed) -> HttpResponse:
        """Receive the body and build the answer."""
        self._watch()
        body = self._open_body(request)
        self._bodies.add(body)
        if self._is_draining:
            body.drain()
        try:
            answer = build_answer(await drive_async(request.take_waiting(), request.run_body, body))
        finally:
            self._bodies.discard(body)
            await body.close()
        request.is_read = body.end == "finished" or str(body.count) == request.META.get("CONTENT_LENGTH")
        request.is_gone = body.end == "vanished"
        _merge(proceed, answer)
        return answer

    def _open_body(self, request: UploadRequest) -> StreamedBody | HandedBody:
        """Return the best way to receive a body that was asked for; behind the chain its view is known."""
        ordinary = partial(
            StreamedBody,
            request.listen,
            request.run_body,
            share=lambda: BUDGET_BYTES // max(len(self._bodies), 1),
            clock=self._clock,
        )
        view = request.match and request.match.func
        config = view.engine.context.config if isinstance(view, TusView) else None
        lent = None
        if config is not None and config.uvicorn_handover and config.fast_path:
            lent = borrow(request.listen, request.scope)
        if lent is None:
            return ordinary()
        return HandedBody(lent, request.listen, ordinary, lambda: len(self._bodies) <= BODY_THREADS // 2)

    def _watch(self) -> None:
        """Have ``drain`` called when the process is told to end. The server has its own handlers by now."""
        draining.install()
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            draining.listen(self)

    async def _answer(self, request: UploadRequest, response: HttpResponseBase, late: LateEnd) -> None:
        """Send an answer. A body that was not read must never become the next request of its connection."""
        if isinstance(response, HttpResponse) and request.method != "HEAD" and response.status_code not in (204, 304):
            response.headers.setdefault("Content-Length", str(len(response.content)))
        if request.is_read:
            late.keep = False
        elif str(request.scope.get("http_version", "1.1")).startswith("1."):
            response.headers["Connection"] = "close"
        with suppress(OSError):
            await self.send_response(response, late)


# Any: the two attributes belong to Django's handlers, the stubs leave them out.
def _merge(proceed: Any, answer: Any) -> None:
    """Keep what the middleware gave to the stand-in of an answer."""
    for name, value in proceed.items():
        if name.lower() not in ("content-length", "content-type") and not answer.has_header(name):
            answer[name] = value
    answer.cookies.update(proceed.cookies)
    answer._resource_closers.extend(proceed._resource_closers)
    answer._handler_class = proceed._handler_class
