"""A body whose pieces and whose end a test decides, and a request in one call, with no server in sight."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tus_server.drivers import drive
from tus_server.effects import End, Receive, Received
from tus_server.engine import Engine
from tus_server.headers import Headers
from tus_server.messages import Request, Response


class ScriptedBody:
    """A body that comes in given pieces and ends as told.

    Args:
        pieces: What each ``Receive`` brings, in order; a slice ends after each.
        end: How it ends after the last piece.
    """

    def __init__(self, pieces: Iterable[bytes] = (), end: End = "finished") -> None:
        self._pieces = [bytes(piece) for piece in pieces]
        self._end: End = end

    def receive(self, effect: Receive) -> Received:
        """Serve ``Receive``."""
        if not self._pieces:
            return Received(0, self._end)
        piece = self._pieces.pop(0)
        if effect.limit is not None and len(piece) > effect.limit:
            self._pieces.insert(0, piece[effect.limit :])
            piece = piece[: effect.limit]
        effect.sink.write(memoryview(piece))
        return Received(len(piece), "limit" if len(piece) == effect.limit else "slice")

    def read(self, limit: int) -> bytes:
        """Serve ``ReadBody``."""
        data = b"".join(self._pieces)
        self._pieces = [data[limit:]]
        return data[:limit]


def send(
    engine: Engine,
    method: str,
    upload_id: str | None = None,
    headers: Mapping[str, str] | None = None,
    body: ScriptedBody | bytes = b"",
    *,
    base_path: str = "/files/",
) -> Response:
    """Send one tus request to an engine and return its answer.

    ``Tus-Resumable`` is added; a body of plain bytes also brings ``Content-Length`` and, for PATCH, the media type.
    """
    items = {"Tus-Resumable": "1.0.0"}
    if method == "PATCH":
        items["Content-Type"] = "application/offset+octet-stream"
    if isinstance(body, bytes):
        items["Content-Length"] = str(len(body))
        body = ScriptedBody([body] if body else [])
    items.update(headers or {})
    request = Request(method, Headers(items.items()), upload_id, base_path)
    return drive(engine.handle(request), body)
