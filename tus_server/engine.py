"""An endpoint: what every request shares before and after its own step.

The method override acts first, then the version is checked, then the method; only then does a step see the request.
Every answer carries ``Tus-Resumable``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeAlias

from tus_server.config import TusConfig
from tus_server.effects import Steps
from tus_server.errors import (
    BadRequest,
    BodyIdle,
    BodyIncomplete,
    Draining,
    InternalError,
    MethodNotAllowed,
    TusError,
    VersionMismatch,
)
from tus_server.headers import TUS_VERSION
from tus_server.hooks import Hooks
from tus_server.locks.base import Locker
from tus_server.messages import Request, Response, build_error
from tus_server.protocol.append import append
from tus_server.protocol.context import Context
from tus_server.protocol.create import create
from tus_server.protocol.discover import discover
from tus_server.protocol.retrieve import retrieve
from tus_server.protocol.terminate import terminate
from tus_server.stores.base import Terminates, UploadStore

logger = logging.getLogger(__name__)

Step: TypeAlias = Callable[[Request, Context], Steps[Response]]

_METHODS = frozenset({"OPTIONS", "POST", "HEAD", "PATCH", "DELETE", "GET"})


def utc_now() -> datetime:
    """Return the present time, aware."""
    return datetime.now(UTC)


class Engine:
    """A tus endpoint over one store. Holds no state of requests; threads and event loops may share it.

    Args:
        store: Keeps the uploads.
        locker: Shared by everything that serves the same uploads.
        hooks: What the site decides; everything is allowed when ``None``.
        config: The site's limits.
        clock: Returns the present time, aware.
    """

    def __init__(
        self,
        store: UploadStore,
        locker: Locker,
        hooks: Hooks | None = None,
        config: TusConfig | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.context = Context(store, locker, hooks or Hooks(), config or TusConfig(), clock)

    def handle(self, request: Request) -> Steps[Response]:
        """Serve a request: a generator of effects that always returns an answer, whatever happens."""
        try:
            request = _override_method(request)
            response = yield from self._step(request)(request, self.context)
        except TusError as error:
            if error.status >= 500:
                level = logging.INFO if isinstance(error, BodyIncomplete | BodyIdle | Draining) else logging.WARNING
                logger.log(level, "%s %s: %s", request.method, request.upload_id, error, exc_info=error.__cause__)
            response = build_error(error)
        except Exception:
            logger.exception("%s %s failed", request.method, request.upload_id)
            response = build_error(InternalError())
        return self._complete(request, response)

    def _step(self, request: Request) -> Step:
        steps: dict[str, Step] = {"OPTIONS": discover}
        if request.upload_id is None:
            steps["POST"] = create
        else:
            steps.update({"HEAD": retrieve, "PATCH": append})
            if isinstance(self.context.store, Terminates):
                steps["DELETE"] = terminate
        if request.method not in ("OPTIONS", "GET") and request.headers.get("Tus-Resumable") != TUS_VERSION:
            raise VersionMismatch()
        if request.method not in steps:
            raise MethodNotAllowed(request.method, tuple(sorted(steps)))
        return steps[request.method]

    def _complete(self, request: Request, response: Response) -> Response:
        headers = (("Tus-Resumable", TUS_VERSION), *response.headers)
        # An unread rest of the body must never become the next request of this connection.
        refused_body = response.status >= 400 and request.method in ("POST", "PATCH")
        body = b"" if request.method == "HEAD" else response.body
        return replace(response, headers=headers, body=body, close=refused_body)


def _override_method(request: Request) -> Request:
    """Apply ``X-HTTP-Method-Override`` (tus 1.0): the real method is then ignored.

    Raises:
        BadRequest: It names no method of ours, in upper case.
    """
    name = request.headers.get("X-HTTP-Method-Override")
    if name is None:
        return request
    if name not in _METHODS:
        raise BadRequest(f"X-HTTP-Method-Override must be one of {', '.join(sorted(_METHODS))}.", code="bad_override")
    return replace(request, method=name)
