"""Requests and responses as plain values, so that the protocol knows no server and no framework."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tus_server.errors import TusError
from tus_server.headers import Headers


@dataclass(frozen=True)
class Request:
    """A request without its body, which only effects can reach.

    Attributes:
        method: The method of the request line, upper case.
        headers: Its headers.
        upload_id: The last segment of the path, or ``None`` for the creation endpoint.
        base_path: Path-absolute address of the creation endpoint, ending in ``/``; an upload's URL is this and its id.
        knows_end: Whether the server below tells where a body without Content-Length ends (``wsgi.input_terminated``;
            always under ASGI).
        origin: The shell's own request (a Django ``HttpRequest``), for hooks. The engine never looks inside.
    """

    method: str
    headers: Headers
    upload_id: str | None
    base_path: str
    knows_end: bool = True
    # Any: each shell has its own type here, and only that shell's hooks read it.
    origin: Any = None


@dataclass(frozen=True)
class Response:
    """An answer: status, headers in order, body; ``close`` asks the server to end the connection after it."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    close: bool = field(default=False, compare=False)

    def header(self, name: str) -> str | None:
        """Return the value of a header, whatever the case of its name."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


def build_error(error: TusError) -> Response:
    """Build the answer to an error: its status and headers, and a body ``{"error": message, "code": code}``."""
    body = json.dumps({"error": error.message, "code": error.code}, ensure_ascii=False).encode()
    headers = (*error.headers.items(), ("Content-Type", "application/json"), ("Cache-Control", "no-store"))
    return Response(error.status, headers, body)
