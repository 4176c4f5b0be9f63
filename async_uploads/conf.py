"""The project's settings, ``ASYNC_UPLOADS``: one dictionary, read when needed, never at import.

Every name in ``DEFAULTS`` does something today; unknown names in the project's dictionary are a system check error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

# Any: a settings dictionary holds whatever each name says.
DEFAULTS: Mapping[str, Any] = {
    # Seconds that signed upload and download URLs are valid for.
    "UPLOAD_URL_EXPIRY": 3600,
    "DOWNLOAD_URL_EXPIRY": 3600,
    # Life of an unfinished upload after its last accepted byte: a timedelta or seconds.
    "UPLOAD_LIFETIME": timedelta(days=7),
    # Seconds after which a body that brings no byte is ended.
    "IDLE_TIMEOUT": 60,
    # Dotted path of (model, action, is_global) -> permission name.
    "RESOLVE_PERM_NAME": None,
    # Dotted path of (request) -> user or None, for clients that authenticate by token.
    "AUTHENTICATE": None,
    # "none", "data" or "strict".
    "DURABILITY": "data",
    # Whether bodies may be read from the server's socket and moved inside the kernel, where that is known to work.
    "FAST_PATH": True,
    # Whether uvicorn hands its connection over while a body comes, where that is known to work.
    "UVICORN_HANDOVER": False,
    # Prefixes of paths that are upload routes although the URL configuration shows it only behind the middleware.
    "UPLOAD_PATHS": (),
    # Middleware around HEAD, PATCH and DELETE of uploads under ASGI: dotted paths; None for the project's own.
    "UPLOAD_MIDDLEWARE": None,
    # Dotted path of (request) -> context manager, entered around database calls of uploads under ASGI.
    "DATABASE_CONTEXT": None,
    # Bytes of bodies that a process keeps in memory on their way to a cloud, of all uploads together.
    "RECEIVE_BUFFER_LIMIT": 128 * 1024 * 1024,
    # Promotion by copy of more bytes than this happens outside the request; None for never.
    "COPY_IN_BACKGROUND_ABOVE": 64 * 1024 * 1024,
    # Whether generate-upload-url/ answers the reference's GET.
    "GENERATE_URL_BY_GET": True,
}


def get_all() -> Mapping[str, Any]:
    """Return the project's dictionary as it stands, without the defaults."""
    configured = getattr(settings, "ASYNC_UPLOADS", None)
    return configured if isinstance(configured, Mapping) else {}


def get(name: str) -> Any:
    """Return one setting, its default where the project says nothing.

    Raises:
        KeyError: There is no such setting.
    """
    default = DEFAULTS[name]
    return get_all().get(name, default)


def get_duration(name: str) -> timedelta:
    """Return a setting that is a ``timedelta`` or a number of seconds as a ``timedelta``."""
    value = get(name)
    return value if isinstance(value, timedelta) else timedelta(seconds=value)


def get_callable(name: str) -> Callable[..., Any] | None:
    """Return the function that a dotted path (or the function itself) names; ``None`` where nothing is set."""
    value = get(name)
    if value is None:
        return None
    function: Callable[..., Any] = import_string(value) if isinstance(value, str) else value
    return function
