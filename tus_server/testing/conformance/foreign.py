"""The checklist's fixtures for a server of which nothing is known but its address: a plugin for pytest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

import pytest

from tus_server.testing.conformance.client import ForeignClient, TusClient

#: The extension that a section of the checklist speaks of.
EXTENSIONS = {
    "CRE": "creation",
    "META": "creation",
    "CWU": "creation-with-upload",
    "DEF": "creation-defer-length",
    "EXP": "expiration",
    "CHK": "checksum",
    "TERM": "termination",
    "CAT": "concatenation",
}
#: Tests of what we answer to a header of an extension that is not announced; the other way round, in their module.
_NOT_ANNOUNCED = "test_not_announced"
#: How long a server may take to be restarted by whoever looks after it, in seconds.
RESTART = 5.0


@dataclass(frozen=True)
class Result:
    """How one test ended, for which items of the checklist, and why if it did not pass."""

    OUTCOMES: ClassVar[tuple[str, ...]] = ("passed", "failed", "skipped")

    test: str
    items: tuple[str, ...]
    outcome: str
    reason: str


class ForeignServer:
    """The pytest plugin: offers ``tus``, skips what the server does not claim to do, and keeps the results."""

    def __init__(self, client: ForeignClient, extensions: frozenset[str], only: Iterable[str]) -> None:
        self.client = client
        self.extensions = extensions
        self.results: list[Result] = []
        self._only = tuple(only)
        self._items: dict[str, tuple[str, ...]] = {}
        self._last = ""
        self._is_gone = False

    def by_item(self) -> dict[str, list[Result]]:
        """Return the results of each item that was asked for; a test may stand under several."""
        found: dict[str, list[Result]] = {}
        for result in self.results:
            for item in result.items:
                if self._is_asked(item):
                    found.setdefault(item, []).append(result)
        return dict(sorted(found.items()))

    def _is_asked(self, item: str) -> bool:
        return not self._only or any(item == one or item.startswith(f"{one}-") for one in self._only)

    def pytest_configure(self, config: pytest.Config) -> None:
        """Register the mark."""
        config.addinivalue_line("markers", "checklist(*ids): the items of the tus checklist that a test covers")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the tests that were asked for, and mark those to skip."""
        for item in items:
            self._items[item.nodeid] = tuple(one for mark in item.iter_markers("checklist") for one in mark.args)
        items[:] = [item for item in items if any(map(self._is_asked, self._items[item.nodeid]))]
        for item in items:
            sections = {one.partition("-")[0] for one in self._items[item.nodeid]}
            needed = {EXTENSIONS.get(section) for section in sections}
            if _NOT_ANNOUNCED not in item.nodeid and None not in needed and not needed & self.extensions:
                item.add_marker(pytest.mark.skip(f"the server does not announce {', '.join(sorted(map(str, needed)))}"))

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Note when a test has brought the server down; what comes after would tell nothing of it."""
        last, self._last = self._last, item.nodeid
        if not self._is_gone and not self.client.is_there():
            if last:
                self._keep(last, "failed", "the server is gone after it")
            self._is_gone = not self.client.is_there(RESTART)
        if self._is_gone:
            pytest.skip("the server is gone")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep how a test ended."""
        if report.when != "call" and report.passed:
            return
        reason = ""
        if report.skipped and isinstance(report.longrepr, tuple):
            reason = report.longrepr[2].removeprefix("Skipped: ")
        elif report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            reason = str(crash.message if crash else report.longrepr).partition("\n")[0]
        self._keep(report.nodeid, report.outcome, reason)

    def _keep(self, node: str, outcome: str, reason: str) -> None:
        self.results.append(Result(node.rpartition("/")[2], self._items[node], outcome, reason))

    @pytest.fixture
    def tus(self) -> TusClient:
        """The server's endpoint."""
        return self.client


def _missing(name: str) -> Callable[[ForeignServer], TusClient]:
    """Make the fixture of an endpoint that only our own test site has."""

    def endpoint(self: ForeignServer) -> TusClient:
        pytest.skip(f"the server has no endpoint {name}")

    return pytest.fixture(endpoint, name=name)


for _name in ("limited", "clocked", "eternal", "impatient", "guarded", "plain", "broken"):
    setattr(ForeignServer, _name, _missing(_name))
