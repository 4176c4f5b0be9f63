"""What an ASGI server hands over: its types, and the headers of a request without what is none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

# Any: what scopes and messages hold depends on their type and on the server.
Scope: TypeAlias = dict[str, Any]
#: A server's ``receive``.
Listen: TypeAlias = Callable[[], Awaitable[Mapping[str, Any]]]
#: A server's ``send``.
Send: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[None]]


def has_header(scope: Scope, wanted: bytes) -> bool:
    """Say whether a request has a header; the name in lower case."""
    return any(name == wanted for name, _ in scope["headers"])


def without_trailers(scope: Scope) -> Scope:
    """Leave out the trailers that uvicorn adds to the headers when they come with the first bytes.

    Only those that the request announces can be told from headers: of each such name the first field is kept. A
    Content-Length beside Transfer-Encoding is one too (servers refuse that in a head, RFC 9112 section 6.3).
    """
    announced = b",".join(value for name, value in scope["headers"] if name == b"trailer").lower().split(b",")
    trailing = {name.strip() for name in announced}
    seen: set[bytes] = set()
    if has_header(scope, b"transfer-encoding"):
        trailing.add(b"content-length")
        seen.add(b"content-length")
    headers = []
    for name, value in scope["headers"]:
        if name not in trailing or name not in seen:
            headers.append((name, value))
        seen.add(name)
    return {**scope, "headers": headers}
