"""Which requests are for an upload route, known before the project's middleware ran.

Best effort: middleware may choose another URL configuration or language. ``asgi`` asks again behind the chain.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import BinaryIO

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.urls import ResolverMatch, get_resolver
from django.utils import translation

from tus_server.drivers import Runner, Suspended, abandon
from tus_server.scopes import Listen, Scope, has_header, without_trailers
from tus_server.serving import get_serving
from tus_server.wsgi import TusView


class UploadRequest(ASGIRequest):
    """A request whose body is still with the server: for Django it looks empty.

    Attributes:
        listen: The server's ``receive``.
        waiting: What was admitted and waits for the body; it must be driven to its end, or abandoned.
        run, run_body: Where calls for it may wait, before and from its body on.
        match: The view behind the middleware, once it is known.
        is_read: Whether the body was read to its end.
        is_gone: Whether the client vanished before that.
    """

    def __init__(self, scope: Scope, listen: Listen) -> None:
        super().__init__(scope, io.BytesIO())
        self.listen = listen
        self.run: Runner
        self.run_body: Runner
        self.match: ResolverMatch | None = None
        self.waiting: Suspended | None = None
        self.is_read = self.META.get("CONTENT_LENGTH") in (None, "", "0") and "HTTP_TRANSFER_ENCODING" not in self.META
        self.is_gone = False

    def take_waiting(self) -> Suspended:
        """Return what waits for the body; whoever takes it drives it to its end."""
        suspended, self.waiting = self.waiting, None
        if suspended is None:
            raise RuntimeError("A middleware returned an answer that it had asked for before another one.")
        return suspended

    async def abandon(self) -> None:
        """End what waits for a body that will not be received, if anything does."""
        if self.waiting is not None:
            await abandon(self.take_waiting(), self.run)

    @property
    def comes_often(self) -> bool:
        """Whether it is no creation but one of the many requests of an upload (HEAD, PATCH, DELETE)."""
        return self.META.get("HTTP_X_HTTP_METHOD_OVERRIDE", self.method) in ("HEAD", "PATCH", "DELETE")

    @property
    def queues_up(self) -> bool:
        """Whether it waits behind others of its kind: it creates an upload, or has a body."""
        return self.method == "POST" or not self.is_read

    def give_body(self, body: BinaryIO) -> None:
        """Show Django the body after all."""
        self._stream = body
        self.is_read = True


class UploadRoutes:
    """The upload routes of a project.

    Args:
        paths: Prefixes of paths (behind the script prefix) that count as upload routes without a look at the URL
            configuration: for projects whose middleware decides about it.
    """

    def __init__(self, paths: Sequence[str] = ()) -> None:
        self._paths = tuple(paths)

    def recognise(self, scope: Scope, listen: Listen) -> UploadRequest | None:
        """Return the request of a scope if it seems to be for an upload route.

        A GET is not: tus has none, and a site's pages need not pay for the question.
        """
        if scope["type"] != "http" or (scope["method"] == "GET" and not has_header(scope, b"x-http-method-override")):
            return None
        try:
            request = UploadRequest(without_trailers(scope), listen)
        except UnicodeDecodeError:
            return None
        return request if self._contain(request.path_info) else None

    def _contain(self, path: str) -> bool:
        if path.startswith((*self._paths, *get_serving().upload_paths)):
            return True
        if leads_to_uploads(path, None):
            return True
        language = translation.get_language_from_path(path) if settings.USE_I18N else None
        if language is None:
            return False
        with translation.override(language):
            return leads_to_uploads(path, None)


def leads_to_uploads(path: str, urlconf: str | None) -> bool:
    """Say whether a path resolves to a ``TusView``, with the language that is active now.

    Args:
        urlconf: The URL configuration; the project's when ``None``.
    """
    try:
        match = get_resolver(urlconf).resolve(path)
    except Exception:
        # No such path, or a configuration that does not load: Django's own handling will tell.
        return False
    return isinstance(match.func, TusView)
