"""How many uploads begin or go on at the same time."""

from __future__ import annotations

import asyncio

import pytest

from tests.tus_server.wires import run_timeless
from tus_server.door import LISTENING_SECONDS, Door, Turnstile


class Visitor:
    """Somebody who goes through a door and stays inside until told to leave."""

    def __init__(self, door: Door) -> None:
        self.is_inside = False
        self._may_leave = asyncio.Event()
        self.task = asyncio.ensure_future(self._visit(door))

    async def _visit(self, door: Door) -> None:
        async with door.passing():
            self.is_inside = True
            await self._may_leave.wait()

    async def leave(self) -> None:
        """Leave, and let the others see it."""
        self._may_leave.set()
        await self.task
        await settle()


async def settle() -> None:
    """Let everybody do what they can do without time passing."""
    for _ in range(5):
        await asyncio.sleep(0)


async def invite(door: Door, count: int) -> list[Visitor]:
    """Have some come, one after the other."""
    visitors = [Visitor(door) for _ in range(count)]
    await settle()
    return visitors


def test_a_few_are_inside_and_the_next_goes_in_when_one_leaves() -> None:
    async def scenario() -> None:
        one, two, three, four = await invite(Door(2), 4)
        assert [each.is_inside for each in (one, two, three, four)] == [True, True, False, False]
        await two.leave()
        assert (three.is_inside, four.is_inside) == (True, False)
        for each in (one, three, four):
            await each.leave()
        assert four.is_inside

    asyncio.run(scenario())


def test_who_stays_for_long_does_not_keep_the_others_out() -> None:
    async def scenario() -> None:
        visitors = await invite(Door(1), 3)
        assert [each.is_inside for each in visitors] == [True, False, False]
        await asyncio.sleep(1)
        assert all(each.is_inside for each in visitors)
        for each in visitors:
            await each.leave()

    run_timeless(scenario())


@pytest.mark.parametrize("is_let_in", [False, True], ids=["waiting", "let in just now"])
def test_who_is_cancelled_at_the_door_takes_no_place(is_let_in: bool) -> None:
    async def scenario() -> None:
        door = Door(1)
        one, two, three = await invite(door, 3)
        if is_let_in:
            door.let_in()
        two.task.cancel()
        await settle()
        assert two.task.cancelled()
        assert not two.is_inside
        assert three.is_inside is is_let_in
        await one.leave()
        assert three.is_inside
        await three.leave()

    asyncio.run(scenario())


def test_a_place_is_free_again_when_everybody_has_left() -> None:
    async def scenario() -> None:
        door = Door(2)
        for each in await invite(door, 5):
            await each.leave()
        visitors = await invite(door, 3)
        assert [each.is_inside for each in visitors] == [True, True, False]
        for each in visitors:
            await each.leave()

    asyncio.run(scenario())


class Queue:
    """Some who come through a turnstile."""

    def __init__(self, places: int) -> None:
        self.turnstile = Turnstile(places)
        self.through: list[int] = []
        self.tasks: list[asyncio.Task[None]] = []

    def come(self) -> None:
        """One more comes."""
        self.tasks.append(asyncio.ensure_future(self._come(len(self.tasks))))

    async def _come(self, number: int) -> None:
        await self.turnstile.come_through()
        self.through.append(number)


def test_a_few_in_each_turn_come_through_the_turnstile_in_their_order() -> None:
    async def scenario() -> None:
        queue = Queue(3)
        for _ in range(8):
            queue.come()
        seen = []
        while len(queue.through) < 8:
            seen.append(len(queue.through))
            await asyncio.sleep(0)
        assert sorted(set(seen)) == [0, 3, 6]
        assert queue.through == list(range(8))

    run_timeless(scenario())


def test_nobody_comes_through_while_others_keep_coming_but_not_for_long() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        queue, began = Queue(3), loop.time()
        while not queue.through:
            queue.come()
            await asyncio.sleep(0)
            if len(queue.tasks) % 10 == 0:
                # Here time passes only while everybody waits.
                loop._jumped += 0.01  # type: ignore[attr-defined]
        assert LISTENING_SECONDS <= loop.time() - began <= LISTENING_SECONDS + 0.02
        await asyncio.wait(queue.tasks)
        assert queue.through == list(range(len(queue.tasks)))

    run_timeless(scenario())


def test_who_is_cancelled_at_the_turnstile_holds_up_nobody() -> None:
    async def scenario() -> None:
        queue = Queue(1)
        for _ in range(3):
            queue.come()
        await asyncio.sleep(0)
        queue.tasks[0].cancel()
        await asyncio.wait(queue.tasks)
        assert queue.through == [1, 2]
        queue.come()
        await queue.tasks[3]

    run_timeless(scenario())


def test_another_loop_finds_a_turnstile_at_which_nobody_waits() -> None:
    queue = Queue(1)

    async def leave_waiting() -> None:
        queue.come()
        await asyncio.sleep(0)

    async def come() -> None:
        queue.come()
        await queue.tasks[-1]

    asyncio.run(leave_waiting())
    asyncio.run(come())
    assert queue.through[-1:] == [1]
