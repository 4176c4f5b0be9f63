"""The result: a JSON file with everything that the figures depend on."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.client import MIB
from benchmarks.installing import TUSD_VERSION, Tools
from benchmarks.measuring import Outcome, Subject
from benchmarks.processes import ROOT, Server

#: Fewer streaming peers than this beside C make a run worthless.
STREAMING_PEERS = 3


def describe_machine(directory: Path) -> dict[str, Any]:
    """Return what the figures depend on besides the code. The host's name is nobody's business."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    mount = subprocess.run(["df", "--output=fstype", directory], capture_output=True, text=True, check=True)
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": model or platform.machine(),
        "processors": os.cpu_count(),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MIB,
        "file_system": mount.stdout.split()[-1],
        "load_average_before": os.getloadavg(),
    }


_PYTHON_VERSIONS = """
import importlib.metadata, json, platform, sys
found = {"python": platform.python_version()}
for name in sys.argv[1:]:
    try: found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError: pass
print(json.dumps(found))
"""


def list_versions(tools: Tools) -> dict[str, str]:
    """Return the versions of everything that took part, as far as it could be installed."""
    versions: dict[str, str] = {}
    for part, names in (
        ("ours", ("Django", "gunicorn", "uvicorn", "uvloop", "httptools", "granian", "boto3", "azure-storage-blob")),
        ("tuspyserver", ("tuspyserver", "fastapi")),
        ("django-tus", ("django-tus",)),
    ):
        if part in tools.found:
            found = json.loads(_ask([str(tools.found[part]), "-c", _PYTHON_VERSIONS, *names]))
            versions |= found if part == "ours" else {name: found[name] for name in names if name in found}
    if "node" in tools.found:
        versions["node"] = _ask(["node", "--version"])
        for package in sorted((tools.found["node"] / "node_modules" / "@tus").glob("*/package.json")):
            described = json.loads(package.read_text())
            versions[described["name"]] = described["version"]
    if "tusd" in tools.found:  # what is built here does not know its own
        versions["tusd"] = TUSD_VERSION.removeprefix("v")
    for part, option in (("rustus", "--version"), ("nginx", "-v")):
        if part in tools.found:
            match = re.search(r"\d+\.\d+(\.\d+)?", _ask([str(tools.found[part]), option]))
            versions[part] = match.group() if match else "unknown"
    versions["cc"] = _ask([os.environ.get("CC", "cc"), "--version"]).splitlines()[0]
    versions["django-async-uploads"] = _ask(["git", "describe", "--always", "--dirty"], cwd=ROOT) or "unknown"
    return versions


def _ask(command: Sequence[str], cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    return (done.stdout or done.stderr).strip()


class Report:
    """The result of a run. Machine and versions are those at its beginning.

    Args:
        tools: What was installed.
        directory: Where the servers store.
        servers: Who was started.
        missing: Who was not, and why.
        options: The run's.
    """

    def __init__(
        self,
        tools: Tools,
        directory: Path,
        servers: Sequence[Server],
        missing: Mapping[str, str],
        options: Mapping[str, Any],
    ) -> None:
        self._constant = {
            "suite": "django-async-uploads",
            "format": 1,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "options": dict(options),
            "machine": describe_machine(directory),
            "versions": list_versions(tools),
            "commands": {server.name: server.shown_command() for server in servers},
            "missing": dict(missing),
        }

    def build(self, outcomes: Sequence[Outcome], verdict: Sequence[str]) -> dict[str, Any]:
        """Return the result as plain values.

        Args:
            verdict: Why the run is void; see ``judge``.
        """
        scenarios = {outcome.scenario.name: outcome.to_json() for outcome in outcomes}
        return {**self._constant, "failures": list(verdict), "scenarios": scenarios}


def find_streaming_peers(subjects: Sequence[Subject]) -> frozenset[str]:
    """Return the names of the peers that were started, stream, and store files; relays do not count."""
    return frozenset(
        subject.contestant.name
        for subject in subjects
        if subject.contestant.kind == "peer" and subject.contestant.streams and subject.endpoint.backend == "files"
    )


def judge(
    outcomes: Sequence[Outcome], ours: frozenset[str], streaming_peers: frozenset[str], *, is_complete: bool
) -> list[str]:
    """Return why a run is worthless: one of ours failed, or too few peers could be measured.

    Args:
        ours: The names of our subjects.
        streaming_peers: The peers that were started and stream.
        is_complete: Whether the run had everybody in it.
    """
    reasons = [
        f"{outcome.scenario.name}: {name}: {problem}"
        for outcome in outcomes
        for name, problem in outcome.problems.items()
        if name in ours
    ]
    if is_complete and len(streaming_peers) < STREAMING_PEERS:
        reasons.append(f"Only {len(streaming_peers)} streaming peers could be measured: {sorted(streaming_peers)}.")
    return reasons
