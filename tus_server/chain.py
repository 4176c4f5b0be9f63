"""The middleware around requests to upload routes, without a thread for what never waits.

Under ASGI Django runs each hook of a synchronous middleware in a thread: milliseconds for each request. Most hooks of
Django's own middleware only look at headers. Here these very classes run in the event loop, so that they do what they
always do (redirect to HTTPS, check the host, offer session and user, add headers); where a hook would wait for a
database (a session that must be saved), it gets its thread as before. Everybody else's middleware runs as in the
project, a subclass of Django's too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, MiddlewareNotUsed
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.exception import convert_exception_to_response
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.module_loading import import_string

logger = logging.getLogger(__name__)

# Any: attributes that middleware puts on requests, which the stubs do not know.
WouldWait = Callable[[Any], bool]


def _never(request: Any) -> bool:
    return False


def _saves_session(request: Any) -> bool:
    session = getattr(request, "session", None)
    return session is not None and (settings.SESSION_SAVE_EVERY_REQUEST or session.modified)


def _reads_session(request: Any) -> bool:
    return bool(settings.CSRF_USE_SESSIONS)


def _stores_messages(request: Any) -> bool:
    messages = getattr(request, "_messages", None)
    return messages is not None and (messages.used or messages.added_new)


#: Django's own middleware that waits for nothing, but where it says so.
_DJANGOS: Mapping[str, WouldWait] = {
    "django.contrib.auth.middleware.AuthenticationMiddleware": _never,
    "django.contrib.auth.middleware.LoginRequiredMiddleware": _never,
    "django.contrib.messages.middleware.MessageMiddleware": _stores_messages,
    "django.contrib.sessions.middleware.SessionMiddleware": _saves_session,
    "django.middleware.clickjacking.XFrameOptionsMiddleware": _never,
    "django.middleware.common.CommonMiddleware": _never,
    "django.middleware.csp.ContentSecurityPolicyMiddleware": _never,
    "django.middleware.csrf.CsrfViewMiddleware": _reads_session,
    "django.middleware.gzip.GZipMiddleware": _never,
    "django.middleware.http.ConditionalGetMiddleware": _never,
    "django.middleware.locale.LocaleMiddleware": _never,
    "django.middleware.security.SecurityMiddleware": _never,
}


# Any: a middleware is a class or a function, and what it makes is whatever it likes.
@cache
def inline(middleware: Any) -> Any:
    """Return a class of Django's own in a form whose hooks run in the event loop; anything else as it is."""
    name = f"{getattr(middleware, '__module__', '')}.{getattr(middleware, '__qualname__', '')}"
    if name not in _DJANGOS:
        return middleware
    members: dict[str, object] = {"would_wait": staticmethod(_DJANGOS[name])}
    if hasattr(middleware, "process_view"):
        members["process_view"] = _process_view
    return type(middleware.__name__, (_Inline, middleware), members)


class _Inline:
    """In front of one of Django's classes. Where an outer layer is synchronous, Django runs it as always."""

    would_wait: WouldWait
    # Any: the hooks are those of whichever class stands behind.
    get_response: Any

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase | None = None
        if hasattr(self, "process_request"):
            response = await self._call(self.process_request, request)
        if response is None:
            response = await self.get_response(request)
        if hasattr(self, "process_response"):
            response = await self._call(self.process_response, request, response)
        assert response is not None
        return response

    async def _call(self, hook: Callable[..., Any], request: HttpRequest, *arguments: object) -> Any:
        if self.would_wait(request):
            return await sync_to_async(hook, thread_sensitive=True)(request, *arguments)
        return hook(request, *arguments)


async def _process_view(self: Any, request: HttpRequest, view: Any, args: object, kwargs: object) -> Any:
    """Nothing to do for upload views, which say so by their attributes; else as Django does it."""
    if getattr(view, "csrf_exempt", False) and not getattr(view, "login_required", True):
        return None
    return await sync_to_async(super(type(self), self).process_view, thread_sensitive=True)(request, view, args, kwargs)


class Chain(ASGIHandler):
    """A handler with its own middleware, Django's own inline.

    Args:
        middleware: Dotted paths, the outermost first.
    """

    def __init__(self, middleware: Sequence[str]) -> None:
        self._middleware = middleware
        super().__init__()

    def load_middleware(self, is_async: bool = False) -> None:
        """Build the chain as Django's handler does, of the same private parts (the same from Django 5.2 to 6.1)."""
        # Any: the attributes belong to Django's handlers, the stubs leave them out.
        this: Any = self
        this._view_middleware = []
        this._template_response_middleware = []
        this._exception_middleware = []
        handler = convert_exception_to_response(this._get_response_async)
        handler_is_async = True
        for path in reversed(self._middleware):
            middleware = inline(import_string(path))
            can_sync, can_async = getattr(middleware, "sync_capable", True), getattr(middleware, "async_capable", False)
            if not can_sync and not can_async:
                raise RuntimeError(f"Middleware {path} must have sync_capable or async_capable set.")
            runs_async = can_async if handler_is_async or not can_sync else False
            try:
                adapted = this.adapt_method_mode(runs_async, handler, handler_is_async)
                instance = middleware(adapted)
            except MiddlewareNotUsed as reason:
                logger.debug("%s is not used for uploads: %s", path, reason)
                continue
            if instance is None:
                raise ImproperlyConfigured(f"Middleware factory {path} returned None.")
            if hasattr(instance, "process_view"):
                this._view_middleware.insert(0, this.adapt_method_mode(True, instance.process_view))
            if hasattr(instance, "process_template_response"):
                hook = this.adapt_method_mode(True, instance.process_template_response)
                this._template_response_middleware.append(hook)
            if hasattr(instance, "process_exception"):
                this._exception_middleware.append(this.adapt_method_mode(False, instance.process_exception))
            handler, handler_is_async = convert_exception_to_response(instance), runs_async
        this._middleware_chain = this.adapt_method_mode(True, handler, handler_is_async)
