"""What around a request needs a thread, and what does not: Django's signals, and the thread of its middleware."""

from __future__ import annotations

from typing import Any, Final

from asgiref.sync import SyncToAsync
from django.dispatch import Signal

#: Receivers of Django's own that only look after what the present thread holds: in an event loop that is nothing.
_DJANGOS: Final = frozenset(
    {
        "django.core.cache.close_caches",
        "django.core.handlers.base.reset_urlconf",
        "django.db.close_old_connections",
        "django.db.reset_queries",
    }
)


def is_calm(signal: Signal, sender: object) -> bool:
    """Say whether nobody listens to a signal but Django itself, so that sending it waits for nothing."""
    # Private, but the only way to know; where it changes, the signal is sent as Django's own handler sends it.
    live: Any = getattr(signal, "_live_receivers", None)
    try:
        synchronous, asynchronous = live(sender)
    except (TypeError, ValueError):
        return False
    return not asynchronous and all(_name(receiver) in _DJANGOS for receiver in synchronous)


def _name(function: object) -> str:
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', '')}"


def has_thread() -> bool:
    """Say whether something ran in the thread of the present ``ThreadSensitiveContext``."""
    # Any: no documented names; without them there may be one.
    known: Any = SyncToAsync
    try:
        context = known.thread_sensitive_context.get(None)
        return context is not None and context in known.context_to_thread_executor
    except (AttributeError, TypeError):
        return True
