"""Every skip that this suite may make, with its reason. A skip that is not listed here fails the run.

A test that needs something of the machine says so and gets what was found::

    chromium = need("chromium")     # the path; skips where there is none, fails where REQUIRE names it

``REQUIRE=chromium,node make test`` turns the skips for these two into failures; CI requires all of them. Other skips
(a store that lacks a capability) are made by ``pytest.skip`` as usual, with a reason that an entry here matches.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests.servers.azurite import install_azurite
from tests.servers.rgw import find_rgw


@dataclass(frozen=True)
class Skip:
    """One allowed skip. ``reason`` may hold ``*``; ``find`` answers what a requirement found, or None."""

    id: str
    reason: str
    find: Callable[[], str | None] | None = None

    def allows(self, reason: str) -> bool:
        """Whether this entry speaks of that reason."""
        return fnmatchcase(reason, self.reason)


def find_chromium() -> str | None:
    """The system's browser; Playwright's own is never downloaded."""
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )


def find_postgres() -> str | None:
    """The directory with ``initdb`` and ``postgres``: the newest of Debian's, or the PATH's."""
    if found := shutil.which("initdb"):
        return str(Path(found).parent)
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    return str(debian[-1].parent) if debian else None


def find_mariadb() -> str | None:
    """The server's program, which Debian keeps out of users' PATH."""
    for directory in (None, "/usr/sbin"):
        if (found := shutil.which("mariadbd", path=directory)) and shutil.which("mariadb-install-db"):
            return found
    return None


def find_moto() -> str | None:
    """moto, the stand-in for S3."""
    spec = importlib.util.find_spec("moto")
    return spec.origin if spec else None


def find_azurite() -> str | None:
    """Azurite's program for blobs, installed into ``.build`` by npm when it is not there yet."""
    program = install_azurite()
    return str(program) if program else None


#: The one list.
SKIPS = (
    Skip("chromium", "no Chromium on the PATH", find_chromium),
    Skip("cc", "no C compiler on the PATH", lambda: shutil.which("cc")),
    Skip("node", "no Node.js on the PATH", lambda: shutil.which("node")),
    Skip("postgres", "no PostgreSQL server is installed", find_postgres),
    Skip("mariadb", "no MariaDB server is installed", find_mariadb),
    Skip("rgw", "Ceph's S3 gateway (radosgw, ceph-mon, ceph-osd) is not installed", find_rgw),
    Skip("moto", "moto is not installed", find_moto),
    Skip("azurite", "no Azurite is installed, and npm cannot install it", find_azurite),
    Skip("tasks", "this Django has no tasks framework"),  # 5.2
    Skip("glibc", "other allocators keep what they like"),
    Skip("endpoint", "the peer has no endpoint *"),  # conformance run against a foreign server
)


def required(environ: str | None = None) -> frozenset[str]:
    """The names in the environment variable REQUIRE; raises ``pytest.UsageError`` for one that no requirement has."""
    names = os.environ.get("REQUIRE", "") if environ is None else environ
    asked = frozenset(name.strip() for name in names.split(",") if name.strip())
    known = {skip.id for skip in SKIPS if skip.find}
    if unknown := asked - known:
        raise pytest.UsageError(f"REQUIRE names {', '.join(sorted(unknown))}; known are {', '.join(sorted(known))}.")
    return asked


def need(name: str) -> str:
    """What the requirement found. Where there is nothing: a skip, or a failure when REQUIRE names it."""
    skip = next(skip for skip in SKIPS if skip.id == name and skip.find)
    found = skip.find() if skip.find else None
    if found is not None:
        return found
    if name in required():
        pytest.fail(f"REQUIRE names {name}, but there is {skip.reason}.", pytrace=False)
    pytest.skip(skip.reason, allow_module_level=True)


class SkipPolicy:
    """The pytest plugin that lets a run fail for a skip that is not listed, or is listed and required."""

    def __init__(self, skips: tuple[Skip, ...], required: frozenset[str]) -> None:
        self.skips = skips
        self.required = required
        self.offences: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.judge(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.judge(report)

    def judge(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        """Note an offence; an expected failure (xfail) is reported as skipped too, and is none."""
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        assert isinstance(report.longrepr, tuple)
        reason = report.longrepr[2].removeprefix("Skipped: ")
        entry = next((skip for skip in self.skips if skip.allows(reason)), None)
        if entry is None:
            self.offences.append(f"{report.nodeid}: tests/skips.py does not list the reason {reason!r}")
        elif entry.id in self.required:
            self.offences.append(f"{report.nodeid}: skipped although REQUIRE names {entry.id}")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.offences:
            terminalreporter.section("skips that are not allowed", red=True)
            for offence in self.offences:
                terminalreporter.line(offence)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.offences and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
