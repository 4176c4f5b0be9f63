"""What the client with bad luck relies on."""

from __future__ import annotations

import pytest

from tests.tus_server.faults.wandering import Process
from tus_server.errors import StoreUnavailable
from tus_server.testing.s3 import Died


def test_a_death_that_was_called_off_does_not_come_with_a_later_fault() -> None:
    process = Process()
    process.arm_death(0, "before")
    process.disarm()
    process.arm(0, "before")
    with pytest.raises(StoreUnavailable):
        process.call("put", int)
    assert process.call("put", int) == 0


def test_after_a_death_no_call_has_an_effect() -> None:
    process, done = Process(), list[int]()
    process.arm_death(1, "after")
    process.call("put", done.append, 1)
    for number in (2, 3):
        with pytest.raises(Died):
            process.call("put", done.append, number)
    process.bury()
    assert done == [1, 2]
