"""What a site decides about an endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class TusConfig:
    """The limits of an endpoint.

    Attributes:
        max_size: The largest upload in bytes, announced as ``Tus-Max-Size``; ``None`` for no limit.
        lifetime: How long an unfinished upload lives after its last accepted byte; ``None`` for ever.
        idle_timeout: After how many seconds without a byte a body is ended; what came is kept.
        fast_path: Whether bodies may be read from the socket that a server lends, where that is known to work.
        uvicorn_handover: Whether uvicorn's connection may be read past uvicorn while a body comes (``handover``);
            ``fast_path`` must be on, too.
    """

    max_size: int | None = None
    lifetime: timedelta | None = timedelta(days=7)
    idle_timeout: float = 60.0
    fast_path: bool = True
    uvicorn_handover: bool = False
