"""The conformance suite rejects engines with one mistake each, and names the item of the checklist that they break."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.servers import RunningServer
from tests.servers.broken import MISTAKES
from tests.tus_server import conformance
from tests.tus_server.conformance.client import NoAnswer, TusClient, Wire

#: The items of the checklist that each mistake violates.
VIOLATED = {
    "takes-plus-zero": ("CORE-17",),
    "finishes-on-a-cut": ("CORE-20",),
    "takes-a-cut-for-the-end": ("CORE-20",),
    "keeps-an-unverified-chunk": ("CHK-03", "CHK-06"),
    "moves-the-offset-on-409": ("CORE-16",),
    "takes-an-over-long-body": ("CORE-22", "CORE-23"),
    "loses-the-metadata-echo": ("META-01",),
}
ITEMS = [(mistake, item) for mistake, items in VIOLATED.items() for item in items]

Check = Callable[[TusClient], object]


class HurriedClient(TusClient):
    """A client that does not wait long for what a right server does at once."""

    def connect(self, timeout: float = 1.5) -> Wire:
        return super().connect(timeout)

    def wait_for_offset(self, url: str, wanted: Callable[[int], bool] | int, within: float = 1.5) -> int:
        return super().wait_for_offset(url, wanted, min(within, 1.5))

    def resume(self, url: str, content: bytes, within: float = 1.5) -> None:
        super().resume(url, content, min(within, 1.5))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer("gthread", tmp_path_factory.mktemp("broken")) as server:
        yield server


def checks_of(item: str) -> dict[str, Check]:
    """Return every case of every conformance test of an item that needs the client ``tus`` alone."""
    checks: dict[str, Check] = {}
    for path in sorted(Path(conformance.__path__[0]).glob("test_*.py")):
        for name, test in vars(import_module(f"{conformance.__name__}.{path.stem}")).items():
            marks = getattr(test, "pytestmark", []) if name.startswith("test_") else []
            if any(mark.name == "checklist" and item in mark.args for mark in marks):
                for values in _cases([mark for mark in marks if mark.name == "parametrize"]):
                    if set(inspect.signature(test).parameters) != {"tus", *values}:
                        continue
                    checks[f"{path.stem}::{name}{list(values.values()) or ''}"] = _bind(test, values)
    return checks


def _cases(marks: list[pytest.Mark]) -> Iterator[dict[str, Any]]:
    choices = []
    for mark in marks:
        names = mark.args[0].replace(" ", "").split(",") if isinstance(mark.args[0], str) else list(mark.args[0])
        choices.append([dict(zip(names, (one,) if len(names) == 1 else one, strict=True)) for one in mark.args[1]])
    for chosen in itertools.product(*choices):
        yield {name: value for one in chosen for name, value in one.items()}


def _bind(test: Callable[..., object], values: dict[str, Any]) -> Check:
    return lambda client: test(client, **values)


def test_every_mistake_has_its_items() -> None:
    assert set(VIOLATED) == set(MISTAKES)


@pytest.mark.parametrize(("mistake", "item"), ITEMS, ids=[f"{mistake}-{item}" for mistake, item in ITEMS])
def test_the_suite_rejects_an_engine_with_a_mistake(server: RunningServer, mistake: str, item: str) -> None:
    for name, check in checks_of(item).items():
        try:
            check(HurriedClient(server.address, server.directory, mistake))
        except (AssertionError, NoAnswer, TimeoutError):
            print(name)  # shown by pytest -rP
            check(TusClient(server.address, server.directory))
            return
    pytest.fail(f"no test of {item} rejects the engine that {mistake}")


@pytest.mark.parametrize("item", sorted({item for _, item in ITEMS}))
def test_the_same_tests_pass_without_a_mistake(server: RunningServer, item: str) -> None:
    checks = checks_of(item)
    assert checks
    for check in checks.values():
        check(TusClient(server.address, server.directory))
