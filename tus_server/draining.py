"""Whether this process was told to end, so that running bodies end within a second and what came is stored.

Servers tell nobody: their handlers of SIGTERM only stop accepting, and an upload may go on for long after that.

* ``install`` puts a handler of ours in front of the server's, which is called as before. Python lets only the main
  thread do so, and only a server that has a handler ends by it; with the kernel's default there is nothing to wait for.
* gunicorn serves requests in other threads, and sets its handlers anew in each worker (after the application was loaded
  with ``--preload``, before that without). So we look at its worker instead, which its handler is bound to.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, Protocol
from weakref import WeakSet


class Drains(Protocol):
    """What wants to know at once that the process is to end."""

    def drain_soon(self) -> None:
        """Learn it, in the main thread, between any two of its instructions: do no more than wake somebody up."""


#: What makes a server end gracefully, where it has a handler for it.
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

_listeners: WeakSet[Drains] = WeakSet()


class _State:
    """No lock: a handler may interrupt whoever holds one."""

    was_told = False


def is_draining() -> bool:
    """Say whether this process was told to end. Cheap; may be asked from any thread."""
    return _State.was_told or _is_gunicorn_stopping(signal.getsignal(signal.SIGTERM))


def install() -> None:
    """Put our handlers in front of the server's. May be repeated; changes nothing then.

    The shells do it at each upload that they serve in the main thread. A server that serves uploads in other threads,
    and is not gunicorn, needs it called once in the main thread, after it has set its own handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in _SIGNALS:
        handler = signal.getsignal(number)
        if callable(handler) and not isinstance(handler, _Chained) and handler is not signal.default_int_handler:
            signal.signal(number, _Chained(handler))
            # As servers have it: a signal does not interrupt what the libraries below wait for.
            signal.siginterrupt(number, False)


def listen(listener: Drains) -> None:
    """Have a listener told when the process is to end. It is not kept alive by this."""
    _listeners.add(listener)
    if is_draining():
        listener.drain_soon()


class _Chained:
    """A signal handler in front of another."""

    def __init__(self, handler: Callable[[int, FrameType | None], Any]) -> None:
        self.handler = handler

    def __call__(self, number: int, frame: FrameType | None) -> Any:
        """Tell everybody, then do what the server does."""
        _State.was_told = True
        for listener in list(_listeners):
            listener.drain_soon()
        return self.handler(number, frame)


def _is_gunicorn_stopping(handler: object) -> bool:
    """Say whether a handler belongs to a gunicorn worker that is going down.

    Not for one that only has served its ``max_requests``: it finishes the requests that it has.
    """
    while isinstance(handler, _Chained):
        handler = handler.handler
    worker = getattr(handler, "__self__", None)
    if not type(worker).__module__.startswith("gunicorn."):
        return False
    is_worn_out = getattr(worker, "nr", 0) >= getattr(worker, "max_requests", float("inf"))
    return getattr(worker, "alive", True) is False and not is_worn_out
