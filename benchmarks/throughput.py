"""Throughput of large uploads: our endpoint beside ``@tus/server`` with ``@tus/file-store``, in one interleaved run.

    python benchmarks/throughput.py [--size 256] [--rounds 5] [--chunk N] [--directory DIR] [--output FILE]

Every round uploads the same random bytes once to every server, in another order each round. What a server stored is
compared by SHA-256 after each upload; a difference voids the run. Only ratios within a round are shown: machines
drift, and seconds of different rounds do not compare. The result, with machine, versions and command lines, is also
written as JSON into ``benchmarks/results``.

Like with like: ``@tus/server`` does not sync, so the ratio to compare is that of durability ``none``. ``data`` (ours by
default: synced before an upload is called finished) stands beside it. ``discard`` and ``write`` are not servers to
use: the first shows that the load client is not what is measured, the second what Python can reach.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from load import Payload, upload
from servers import HERE, ROOT, Server, build_servers

MIB = 1024 * 1024
GIB = 1024 * MIB
PEER, CEILING = "node", "write"


@dataclass(frozen=True)
class Subject:
    """What is measured: an endpoint of a server, and the directory its bytes end up in (``None``: nowhere)."""

    name: str
    server: Server
    path: str
    files: Path | None


@dataclass(frozen=True)
class Run:
    """One upload."""

    round: int
    subject: str
    seconds: float
    cpu_seconds: float
    client_cpu_seconds: float
    verified: bool


class Mismatch(RuntimeError):
    """A server stored other bytes than were sent."""


def build_subjects(servers: dict[str, Server]) -> list[Subject]:
    """Return what is measured, ours in both durabilities."""
    subjects = []
    for name, server in servers.items():
        files = server.directory / "files"
        if name == "discard":
            subjects.append(Subject(name, server, "/files/", None))
        elif name in ("gunicorn", "uvicorn"):
            subjects += [Subject(f"{name}, {level}", server, f"/{level}/", files / level) for level in ("none", "data")]
        else:
            subjects.append(Subject(name, server, "/files", files))
    return subjects


def measure(subject: Subject, number: int, payload: Payload, chunk: int) -> Run:
    """Upload once, compare what was stored, and remove it.

    Raises:
        Mismatch: The stored bytes are not those sent.
    """
    os.sync()
    gc.collect()
    cpu, own = subject.server.cpu_seconds(), _own_cpu_seconds()
    sent = upload(subject.server.port, subject.path, payload, chunk)
    own = _own_cpu_seconds() - own
    # The server's threads are charged when they next sleep, a moment after the last answer.
    time.sleep(0.05)
    cpu = subject.server.cpu_seconds() - cpu
    verified = False
    if subject.files is not None:
        stored = subject.files / sent.location.rpartition("/")[2]
        with stored.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != payload.sha256:
                raise Mismatch(f"{subject.name} stored other bytes than were sent.")
        verified = True
        stored.unlink()
    return Run(number, subject.name, sent.seconds, cpu, own, verified)


def measure_all(subjects: list[Subject], payload: Payload, chunk: int, rounds: int, seed: int) -> Iterator[Run]:
    """Upload to every subject in every round, each time in another order, after one small upload to warm up."""
    warm_up = Payload(MIB)
    for subject in subjects:
        measure(subject, 0, warm_up, MIB)
    order = random.Random(seed)
    for number in range(1, rounds + 1):
        for subject in order.sample(subjects, len(subjects)):
            yield measure(subject, number, payload, chunk)


def summarise(subjects: list[Subject], runs: list[Run], size: int) -> list[dict[str, object]]:
    """Return a row per subject: ratios of speed to the peer and to the ceiling within rounds, CPU per GiB."""
    seconds = {(run.round, run.subject): run.seconds for run in runs}
    rounds = sorted({run.round for run in runs})
    rows = []
    for subject in subjects:
        cpu = [run.cpu_seconds for run in runs if run.subject == subject.name]
        rows.append(
            {
                "subject": subject.name,
                "to_peer": _spread([seconds[n, PEER] / seconds[n, subject.name] for n in rounds]),
                "to_ceiling": _spread([seconds[n, CEILING] / seconds[n, subject.name] for n in rounds]),
                "cpu_seconds_per_gib": _spread([each * GIB / size for each in cpu]),
                "rss_peak_mib": round(subject.server.rss_peak() / MIB, 1),
            }
        )
    return rows


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def show(rows: list[dict[str, object]]) -> str:
    """Return the rows as a table."""
    lines = [f"{'':<16}{'speed / node':>24}{'speed / write':>24}{'CPU s/GiB':>12}{'peak RSS':>12}"]
    for row in rows:
        ratios = [_show(row[key]) for key in ("to_peer", "to_ceiling")]
        cpu = row["cpu_seconds_per_gib"]["median"]
        lines.append(f"{row['subject']:<16}{ratios[0]:>24}{ratios[1]:>24}{cpu:>12.2f}{row['rss_peak_mib']:>8.0f} MiB")
    return "\n".join(lines)


def _show(spread: dict[str, float]) -> str:
    return f"{spread['median']:.2f} ({spread['min']:.2f} to {spread['max']:.2f})"


def _own_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def describe_machine(directory: Path) -> dict[str, object]:
    """Return what the figures depend on besides the code."""
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


def list_versions(packages: Path) -> dict[str, str]:
    """Return the versions of everything that took part."""
    versions = {"python": platform.python_version()}
    for name in ("Django", "gunicorn", "uvicorn", "uvloop", "httptools"):
        if importlib.util.find_spec(name.lower()) is not None:
            versions[name] = importlib.metadata.version(name)
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    versions["node"] = node.stdout.strip()
    for name in ("@tus/server", "@tus/file-store"):
        versions[name] = json.loads((packages / "node_modules" / name / "package.json").read_text())["version"]
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    versions["django-async-uploads"] = commit.stdout.strip() or "unknown"
    return versions


def install_packages() -> Path:
    """Install the Node packages below the checkout and return where."""
    sys.path.append(str(ROOT))
    from tests.servers.node import install_packages as install

    return install()


@contextmanager
def running(servers: dict[str, Server]) -> Iterator[None]:
    """Run the servers."""
    with ExitStack() as stack:
        for server in servers.values():
            stack.callback(server.stop)
            server.start()
        yield


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="MiB of the upload (256)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (5)")
    parser.add_argument("--chunk", type=float, help="MiB of one PATCH (the whole upload in one)")
    parser.add_argument("--directory", type=Path, help="where the servers store (a directory below .build)")
    parser.add_argument("--output", type=Path, help="the JSON file (a new one in benchmarks/results)")
    skippable = ("discard", "gunicorn", "uvicorn")
    parser.add_argument("--skip", action="append", default=[], choices=skippable, help="a server to leave out")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the uploads within rounds (0)")
    return parser.parse_args(arguments)


def main() -> int:
    """Measure, print the table, write the JSON; 1 when the run is void."""
    options = parse_arguments()
    packages = install_packages()
    base = options.directory or ROOT / ".build"
    directory = Path(tempfile.mkdtemp(prefix="throughput-", dir=base))
    size = options.size * MIB
    chunk = size if options.chunk is None else int(options.chunk * MIB)
    servers = build_servers(directory, packages)
    for name in options.skip:
        del servers[name]
    subjects = build_subjects(servers)
    result: dict[str, object] = {
        "script": "throughput",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "options": {"size": size, "rounds": options.rounds, "chunk": chunk, "seed": options.seed},
        "machine": describe_machine(directory),
        "versions": list_versions(packages),
        "commands": {name: server.shown_command() for name, server in servers.items()},
        "void": False,
    }
    runs: list[Run] = []
    try:
        with running(servers):
            try:
                runs.extend(measure_all(subjects, Payload(size), chunk, options.rounds, options.seed))
                result["rows"] = summarise(subjects, runs, size)
            except Mismatch as mismatch:
                result.update(void=True, reason=str(mismatch), rows=[])
    finally:
        shutil.rmtree(directory)
    result["runs"] = [asdict(run) for run in runs]
    output = options.output or HERE / "results" / f"throughput-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=1) + "\n")
    if result["void"]:
        print(f"The run is void: {result['reason']}", file=sys.stderr)
        return 1
    print(f"One upload of {options.size} MiB in PATCHes of {chunk / MIB:g} MiB, {options.rounds} rounds.")
    print(show(result["rows"]))
    print(f"Ratios are of speed within a round: median (min to max). Written: {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
