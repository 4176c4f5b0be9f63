"""How bodies came into this process: a count for each way, for benchmarks and for whoever wonders.

``stream``: ``wsgi.input``. ``socket``: from the socket that gunicorn lends, into a buffer. ``splice``: from that socket
into the file, inside the kernel. ``messages``: ASGI. ``handover``: from the socket of uvicorn's transport.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import Final, Literal, TypeAlias

Way: TypeAlias = Literal["stream", "socket", "splice", "messages", "handover"]

#: Bodies that brought a byte, by the way that brought the last of them.
BODIES: Final[Counter[Way]] = Counter()

_guard = threading.Lock()


def count(way: Way) -> None:
    """Count a body."""
    with _guard:
        BODIES[way] += 1
