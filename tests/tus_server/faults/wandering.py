"""A client with bad luck, for any backend: its requests are cut, fail, and meet processes that die or change.

What must hold however that goes: all bytes are right, no offset goes back or is too large, and nothing is left behind
by the termination.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import settings

from tests.tus_server.stores.s3_kit import Sender, content_of
from tus_server.errors import StoreUnavailable
from tus_server.messages import Response
from tus_server.testing.faults import When
from tus_server.testing.s3 import Died, LockedFaults

IS_THOROUGH = settings.default.max_examples > 100
#: How many uploads are played, also over a network by `make proof`; there a few in other runs.
UPLOADS, A_FEW_UPLOADS = 320, 12


class Process(LockedFaults):
    """What the calls of one process meet."""

    def __init__(self) -> None:
        super().__init__()
        self._under_way = 0
        self._changed = threading.Condition()

    def call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """See ``Faults``."""
        with self._changed:
            self._under_way += 1
        try:
            return super().call(name, function, *args, **kwargs)
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def bury(self) -> None:
        """Wait until what other threads had sent before the death has come to the backend."""
        with self._changed:
            assert self._changed.wait_for(lambda: not self._under_way, timeout=60), "calls of a dead process go on"


class Mortal(Sender, ABC):
    """A client of processes that may die; the next request then meets another one.

    Attributes:
        faults: What the calls of the present process meet.
        fired: What failed, in all processes but the present one.
    """

    def __init__(self, content: bytes) -> None:
        self.faults = Process()
        self.fired: list[tuple[str, When]] = []
        super().__init__(self.open(), content)

    @abstractmethod
    def open(self) -> Any:
        """Open a store whose calls meet ``faults``, as a process does that starts."""

    def fly(self, method: str, headers: dict[str, str], body: Any = None) -> Response:
        try:
            return super().fly(method, headers, body)
        except Died:
            self.flight.kill()
            self.faults.bury()
            self.fired += self.faults.fired
            self.faults = Process()
            self.restart(self.open())
            return Response(503)


class Wandering(Mortal):
    """A client whose luck is drawn.

    Args:
        chance: Where it is drawn from.
        unit: The usual size of a part, in bytes; all other sizes are measured by it.
        content: What is sent.

    Attributes:
        options: Of the stores, which differ from upload to upload.
        lost_answer: Makes the error of the backend's client for a connection that breaks.
    """

    lost_answer: Callable[[], Exception]

    def __init__(self, chance: random.Random, unit: int, content: bytes) -> None:
        self.chance = chance
        self.unit = unit
        self.cuts = self.kills = 0
        # Parts are recorded once a second while they come, or at each occasion.
        ticks = itertools.count()
        clock = chance.choice([time.monotonic, lambda: float(next(ticks))])
        self.options = {"inline_limit": chance.choice([0, unit // 16, unit // 100]), "clock": clock}
        super().__init__(content)

    @abstractmethod
    def finished(self) -> bytes:
        """Return what lies in the backend for the finished upload, past the store."""

    @abstractmethod
    def check_that_nothing_is_left(self) -> None:
        """Look whether the backend is as empty as before the upload."""

    def wander(self) -> None:
        """Send everything, with trouble on the way."""
        self.create()
        chunk = self.chance.choice([self.unit // 7, self.unit // 2, self.unit, 2 * self.unit, 100 * self.unit])
        piece = max(1, self.unit // 8)
        for _ in range(400):
            if self.told == len(self.content) and self.head() == len(self.content):
                return
            size = max(1, min(chunk, len(self.content) - self.told))
            cut = self.chance.randrange(size) if self.chance.random() < 0.5 else None
            fate, when = self.chance.random(), self.chance.choice(["before", "after"])
            if fate < 0.1:
                self.faults.arm(
                    self.chance.randrange(6), when, self.chance.choice([self.lost_answer, StoreUnavailable])
                )
            elif fate < 0.2:
                self.faults.arm_death(self.chance.randrange(6), when)
            elif fate < 0.3:
                self.restart(self.open())
            before = self.faults
            if self.patch(size, cut, piece).status != 204:
                self.faults.disarm()
                self.head()
            self.cuts += cut is not None
            self.kills += self.faults is not before
        raise AssertionError("the upload does not come to its end")

    def arrive(self) -> None:
        """Compare what arrived, remove it, and look for rests."""
        self.faults.disarm()
        assert self.finished() == self.content
        assert self.fly("DELETE", {}).status == 204
        self.fired += self.faults.fired
        self.check_that_nothing_is_left()


@dataclass
class Journey:
    """What happened to many uploads."""

    uploads: int
    size: int = 0
    cuts: int = 0
    kills: int = 0
    failures: int = 0

    def __str__(self) -> str:
        return (
            f"{self.uploads} uploads of {self.size} bytes in all, {self.cuts} cuts, {self.kills} deaths,"
            f" {self.failures} failed calls"
        )


def play(start: Callable[[random.Random, bytes], Wandering], unit: int, count: int, seed: int) -> Journey:
    """Play uploads of 1 byte to 8 units.

    Args:
        start: Makes a client with its own luck and content.
        unit: See ``Wandering``.
        count: How many uploads.
        seed: Of all that is drawn.
    """
    journey = Journey(count)
    for number in range(count):
        chance = random.Random(seed * 100_000 + number)
        # As many small ones as large ones.
        size = int(2 ** (chance.random() * (8 * unit).bit_length())) % (8 * unit) + 1
        player = start(chance, content_of(size, chance.randrange(1000)))
        try:
            player.wander()
            player.arrive()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, upload {number} of {size} bytes") from error
        journey.size += size
        journey.cuts += player.cuts
        journey.kills += player.kills
        journey.failures += len(player.fired)
    return journey
