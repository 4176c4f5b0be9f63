"""Breaks each scenario at its points, each in a child process; prints what it did as one line of JSON.

``python -m tests.async_uploads.faults sweep COUNT SEED``: so many faults by lot, all for 0. The database is given by
TEST_DATABASE and FAULTS_DATABASE, the directory by TEST_RUN_DIRECTORY.
"""

from __future__ import annotations

import json
import os
import random
import signal
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

from django.utils import timezone

from async_uploads.cleanup import reconcile
from tests.async_uploads.doubles import reference_design
from tests.async_uploads.faults import clouds, world
from tests.async_uploads.faults.census import Census
from tests.async_uploads.faults.oracle import Facts, Violation
from tests.async_uploads.faults.points import Fault, Points
from tests.async_uploads.faults.scenarios import Scenario, choose
from tests.testapp.models import Document

CONTENTS = {b"new", b"old", b"first", b"second", b"third"}


def fork(operation: Callable[[], Any]) -> int:
    """Run in a child process; returns its status, negative for a signal."""
    world.close()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        if clouds.current is not None:
            clouds.current.be_child()
        operation()
        os._exit(0)
    except Violation:
        traceback.print_exc()
        os._exit(2)
    except BaseException:
        os._exit(1)


def take_census(scenario: Scenario) -> Census:
    """Run it unbroken, and count what happens by other means than the points."""
    world.reset()
    keys = scenario.prepare()
    census = Census()
    with census.taken():
        scenario.act(keys)
    return census


def count_points(scenario: Scenario, census: Census) -> list[str]:
    """Run it unbroken, here, and look at every moment; returns the names of its points."""
    world.reset()
    keys = scenario.prepare()
    points = Points(look=lambda: Facts(world.MEDIA).require_readable(CONTENTS))
    with points.installed():
        scenario.act(keys)
    check_end(scenario, keys, is_adopted=scenario.adopts)
    if missed := census.find_missed(points):
        raise Violation(f"nothing was broken at {missed}")
    return points.names


def strike(scenario: Scenario, fault: Fault) -> bool:
    """Break it once and judge; returns whether a record had the uploads."""
    world.reset()
    keys = scenario.prepare()
    before = Facts(world.MEDIA)

    def act() -> None:
        with Points(fault).installed():
            scenario.act(keys)

    status = fork(act)
    if (status == -signal.SIGKILL) != (fault.mode == "kill") or status == 2:
        raise Violation(f"the child ended with {status}")
    after = Facts(world.MEDIA)
    after.require_readable(CONTENTS)
    for document in Document.objects.exclude(file=""):
        with document.file.open() as file:
            if file.read() not in CONTENTS:
                raise Violation(f"{document.file.name} is read wrongly")
    names = {row["moved_to_location"] for row in after.rows if row["key"] in keys} | set(keys)
    is_adopted = any(value and value in names for value in after.columns.values())
    if not is_adopted and scenario.is_undone:
        if after.tree != before.tree:
            raise Violation(f"rolled back, but {sorted(before.tree)} became {sorted(after.tree)}")
        if after.rows != before.rows:
            raise Violation(f"rolled back, but {before.rows} became {after.rows}")
    check_end(scenario, keys, is_adopted)
    return is_adopted


def check_end(scenario: Scenario, keys: list[str], is_adopted: bool) -> None:
    """Let the cleanup finish, and look at everything; then let what is left expire."""
    facts = Facts(world.MEDIA)
    untaken = {}
    for row in facts.rows if not is_adopted else ():
        if row["key"] in keys and (data := facts.find(row["key"])) is not None:
            untaken[row["object_name"] or row["key"]] = data
    report = reconcile(timedelta(days=3), now=timezone.now() + timedelta(days=2))
    if report.problems:
        raise Violation(str(report.problems))
    if scenario.prepare.__name__ == "prepare_abandoned":
        untaken = {}
    # Zero copy gives old files names by lot.
    old = set(scenario.stays.values()) if is_adopted else set()
    stays = {name: data for name, data in facts.tree.items() if data in old and name not in facts.keys}
    Facts(world.MEDIA).require_settled({**untaken, **stays})
    reconcile(timedelta(days=3), now=timezone.now() + timedelta(days=30))
    facts = Facts(world.MEDIA)
    facts.require_settled(stays)
    if facts.rows:
        raise Violation(f"rows are left: {facts.rows}")


def main(count: float, seed: float, is_double: float = False) -> int:
    """Sweep, over the reference's design where told so; returns the number of violations."""
    world.build()
    with reference_design() if is_double else nullcontext():
        return sweep(int(count), int(seed))


def sweep(count: int, seed: int) -> int:
    """Count the points of clean runs, break all or some of them, and print the result."""
    scenarios = choose()
    if count and clouds.current is not None:
        scenarios = dict(random.Random(seed).sample(sorted(scenarios.items()), 3))
    clean, counted, faults, violations, kept = 0, 0, [], list[str](), 0
    for name, scenario in scenarios.items():
        try:
            census = take_census(scenario)
            counted += census.count
            found = count_points(scenario, census)
        except Violation as error:
            violations.append(f"{name}, unbroken: {error!r}")
            continue
        clean += len(found)
        for number, point in enumerate(found):
            for mode in ("kill", "error"):
                faults += [(name, point, Fault(number, side, mode)) for side in ("before", "after")]  # type: ignore[arg-type]
    chosen = random.Random(seed).sample(faults, min(count, len(faults))) if count else faults
    for name, point, fault in chosen:
        try:
            kept += strike(scenarios[name], fault)
        except Exception as error:
            violations.append(f"{name}, {fault}, {point}: {error!r}")
    world.reset()
    world.close()
    result = {"counted": counted, "clean": clean, "points": len(faults), "struck": len(chosen), "kept": kept}
    result |= {"violations": violations}
    print(json.dumps(result))
    return len(violations)
