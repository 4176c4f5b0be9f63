"""What a request's generator may ask its driver for. A driver answers each with a value or throws an exception in.

The generators contain the protocol and wait for nothing; the drivers (``drivers.drive``, ``drivers.drive_async``) wait
and know no protocol. In tests, be the driver: send values, look at the effects.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar

from tus_server.stores.base import Sink

T = TypeVar("T")

#: Why a body stopped: the limit of bytes was reached; a slice is over and the generator may look around; the body's
#: end was seen; the client vanished; it brought nothing for the idle timeout; the server is shutting down.
End: TypeAlias = Literal["limit", "slice", "finished", "vanished", "idle", "draining"]


class Call:
    """Run a function that may wait for a store, a database or a lock; answered with what it returns.

    ``StoreCall`` and ``HookCall`` say whose function it is.
    """

    __slots__ = ("args", "function")

    # Any: what a call takes and gives is checked where the call is written, through the generator's annotations.
    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.function = function
        self.args = args

    def run(self) -> Any:
        """Call the function."""
        return self.function(*self.args)

    def refuse(self, error: Exception) -> Any:
        """Be told that it cannot be run because of an error; raises that."""
        raise error

    def __repr__(self) -> str:
        return f"{type(self).__name__}({getattr(self.function, '__qualname__', self.function)})"


class StoreCall(Call):
    """A call to a store, a sink, a locker or a lease."""


class HookCall(Call):
    """A call to a hook."""


@dataclass(frozen=True)
class ReadBody:
    """Read the body into memory; answered with its bytes, at most ``limit`` of them, fewer only at its end."""

    limit: int


@dataclass(frozen=True)
class Receive:
    """Move body bytes into a sink; answered with ``Received``.

    The driver returns after ``limit`` bytes, at the body's end, and in any case at least once a second or every 64 MiB
    (end ``slice``), so that the generator can look at its lease. Everything counted has been given to ``sink.write``.

    Attributes:
        sink: Where the bytes go.
        limit: How many bytes at most; ``None`` for as many as come.
        idle_timeout: Seconds without a byte after which the end is ``idle``.
        content_length: The body's declared length in bytes, by which a short body is known as cut; ``None`` if unknown.
    """

    sink: Sink
    limit: int | None
    idle_timeout: float
    content_length: int | None = None


@dataclass(frozen=True)
class Received:
    """How many bytes one ``Receive`` brought, why it stopped, and how long ago (seconds) the last byte came."""

    count: int
    end: End
    quiet_for: float = 0.0


@dataclass(frozen=True)
class Pause:
    """Wait for so many seconds."""

    seconds: float


Effect: TypeAlias = StoreCall | HookCall | ReadBody | Receive | Pause
# Any: the type of what comes back depends on the effect; each step annotates what it receives.
Steps: TypeAlias = Generator[Effect, Any, T]
