"""What a project decides about the shells. An application says where its settings come from; they are read late."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any


# Any: the request of a shell, which only the project looks at.
def no_context(request: Any) -> AbstractContextManager[object]:
    """Enter nothing."""
    return nullcontext()


@dataclass(frozen=True)
class Serving:
    """What a project decides about the shells.

    Attributes:
        upload_paths: Prefixes of paths that are upload routes although the URL configuration does not show it.
        upload_middleware: The middleware around HEAD, PATCH and DELETE of uploads under ASGI, as dotted paths, the
            outermost first; ``None`` for the project's own.
        database_context: Takes a request and returns what is entered around its calls to the database under ASGI, in
            their thread: where middleware that chose a database for its own thread does not reach.
    """

    upload_paths: Sequence[str] = ()
    upload_middleware: Sequence[str] | None = None
    database_context: Callable[[Any], AbstractContextManager[object]] = no_context


_sources: list[Callable[[], Serving]] = [Serving]


def read_from(source: Callable[[], Serving]) -> None:
    """Name who knows what the project decides; asked at each start of a shell and for each request."""
    _sources[:] = [source]


def get_serving() -> Serving:
    """Return what the project decides at this moment."""
    return _sources[0]()
