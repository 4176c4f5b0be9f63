"""Measure uploads: ours beside every peer, interleaved, as ratios.

    python -m benchmarks [--full] [--scenario NAME ...] [--contestant NAME ...] [--rounds 5] [--output FILE]

Installs what it needs below ``.build/bench``; compilers, Node.js, Go, Cargo, nginx and PostgreSQL are the machine's.
A contestant that cannot be had is listed with the end of its error. Exit status 1: the run is void, one of ours failed
or fewer than three streaming peers took part.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.client import PERIOD, Payload
from benchmarks.contestants import (
    AZURE_CONNECTION,
    AZURE_KEY,
    CONTESTANTS,
    S3_ENDPOINT,
    SINK,
    Contestant,
    choose,
    on_postgres,
)
from benchmarks.installing import Tools, Unavailable
from benchmarks.measuring import Bench, Outcome, Subject, measure, show
from benchmarks.processes import ROOT, Server, ServerFailed
from benchmarks.reporting import Report, find_streaming_peers, judge
from benchmarks.scenarios import SCENARIOS
from benchmarks.sinks import Sink

#: The options that a result shows.
SHOWN = ("full", "large", "tiny", "rounds", "seed")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="the sizes of the documentation: gigabytes, about an hour")
    parser.add_argument(
        "--large",
        action="append",
        default=[],
        choices=sorted(SCENARIOS),
        help="this scenario with the sizes of --full (repeatable)",
    )
    parser.add_argument("--tiny", action="store_true", help="sizes that only prove that everything works")
    parser.add_argument("--scenario", action="append", choices=sorted(SCENARIOS), help="only this (repeatable)")
    names = sorted(contestant.name for contestant in CONTESTANTS)
    parser.add_argument(
        "--contestant", action="append", choices=names, help="only this (repeatable); fewer peers are fine"
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds (5)")
    parser.add_argument("--seed", type=int, default=0, help="of the order within rounds (0)")
    parser.add_argument("--directory", type=Path, help="where servers store; a directory below .build")
    parser.add_argument("--output", type=Path, help="the JSON file; a new one in benchmarks/results")
    parser.add_argument("--this-python", action="store_true", help="measure ours with the Python that runs this")
    parser.add_argument("--postgres", action="store_true", help="also measure our site on PostgreSQL (starts a server)")
    parser.add_argument("--install", action="store_true", help="install everything, measure nothing")
    return parser.parse_args(arguments)


def start_postgres(stack: ExitStack) -> None:
    """Start a PostgreSQL server of the run's own; libpq's variables lead every child to it.

    Raises:
        Unavailable: There is none on this machine.
    """
    from tests.servers.postgres import PostgresServer
    from tests.skips import find_postgres

    binaries = find_postgres()
    if binaries is None:
        raise Unavailable("no PostgreSQL server is installed")
    server = stack.enter_context(PostgresServer(binaries))
    os.environ.update(server.environment)


def main(arguments: Sequence[str] | None = None) -> int:
    """Install, measure, print the tables, write the JSON."""
    options = parse_arguments(arguments)
    tools = Tools(interpreter=Path(sys.executable) if options.this_python else None)
    chosen = choose(options.contestant)
    scenarios = [SCENARIOS[name] for name in options.scenario or SCENARIOS]
    base = options.directory or ROOT / ".build"
    base.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=base))
    missing: dict[str, str] = {}
    subjects: list[Subject] = []
    servers: list[Server] = []
    outcomes: list[Outcome] = []
    payload = Payload(directory, 1_048_583 if options.tiny else PERIOD)
    bench = Bench(tools, payload, options.rounds, options.full, options.tiny, options.seed)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        stack.callback(payload.close)
        if options.postgres:
            try:
                start_postgres(stack)
                chosen += [on_postgres(one) for one in chosen if any(each.has_login for each in one.endpoints)]
            except Unavailable as problem:
                missing["postgres"] = str(problem)
        for contestant in chosen:
            subjects += start(contestant, bench, directory, stack, servers, missing)
        if options.install:
            print("\n".join(f"{name}: not to be had: {reason}" for name, reason in missing.items()) or "All there.")
            return 0
        output = options.output or ROOT / "benchmarks" / "results" / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
        output.parent.mkdir(parents=True, exist_ok=True)
        report = Report(tools, directory, servers, missing, {name: getattr(options, name) for name in SHOWN})
        ours = frozenset(subject.name for subject in subjects if subject.is_ours)
        verdict: list[str] = []
        try:
            for scenario in scenarios:
                print(f"\n## {scenario.name}: {scenario.title}", flush=True)
                bench.full = options.full or scenario.name in options.large
                outcomes.append(measure(bench, scenario, subjects))
                print(show(outcomes[-1]), flush=True)
                verdict = judge(outcomes, ours, find_streaming_peers(subjects), is_complete=options.contestant is None)
                # After each scenario: a run that is interrupted has what it had measured.
                output.write_text(json.dumps(report.build(outcomes, verdict), indent=1) + "\n")
        except KeyboardInterrupt:
            print("Interrupted; the result has the scenarios before.", file=sys.stderr)
    for name, reason in missing.items():
        print(f"Not measured: {name}: {reason.splitlines()[-1] if reason else ''}")
    for reason in verdict:
        print(f"VOID: {reason}", file=sys.stderr)
    print(f"\nRatios are within rounds, more is better: median (min to max). Written: {output}")
    return 1 if verdict else 0


def start(
    contestant: Contestant,
    bench: Bench,
    directory: Path,
    stack: ExitStack,
    servers: list[Server],
    missing: dict[str, str],
) -> list[Subject]:
    """Start a contestant and return its endpoints; none where it cannot be had, with the reason in ``missing``."""
    if contestant.needs in missing:
        missing[contestant.name] = f"it needs {contestant.needs}"
        return []
    print(f"{contestant.name} ...", file=sys.stderr, flush=True)
    try:
        server = contestant.build(bench.tools, directory)
        stack.enter_context(server)
    except (Unavailable, ServerFailed) as problem:
        missing[contestant.name] = str(problem)[-1500:]
        return []
    servers.append(server)
    if contestant.name == SINK:
        os.environ[S3_ENDPOINT] = f"http://127.0.0.1:{server.port}"
        os.environ[AZURE_CONNECTION] = (
            f"DefaultEndpointsProtocol=http;AccountName=measured;AccountKey={AZURE_KEY};"
            f"BlobEndpoint=http://127.0.0.1:{server.port}/measured;"
        )
        bench.sink = Sink(server.port, bench.tools.get("sink"), bench.payload.path)
    return [Subject(contestant, server, endpoint) for endpoint in contestant.endpoints]


if __name__ == "__main__":
    sys.exit(main())
