"""OPTIONS: what the endpoint can do (tus 1.0, section "OPTIONS"). Answered without ``Tus-Resumable``."""

from __future__ import annotations

from tus_server.checksums import ALGORITHMS
from tus_server.effects import Steps
from tus_server.headers import TUS_VERSION
from tus_server.messages import Request, Response
from tus_server.protocol.context import Context
from tus_server.stores.base import extensions_of


def discover(request: Request, context: Context) -> Steps[Response]:
    """Answer 204 with versions, extensions, algorithms and the largest size."""
    headers = [
        ("Tus-Version", TUS_VERSION),
        ("Tus-Extension", ",".join(extensions_of(context.store))),
        ("Tus-Checksum-Algorithm", ",".join(ALGORITHMS)),
    ]
    if context.config.max_size is not None:
        headers.append(("Tus-Max-Size", str(context.config.max_size)))
    yield from ()  # a step like the others, though it needs nothing
    return Response(204, tuple(headers))
