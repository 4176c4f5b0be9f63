"""Interleaved runs: every round measures every subject once, in another order; only ratios within a round are shown.

Machines drift, so seconds of different rounds do not compare. What a server stored is compared by SHA-256 after each
run; a subject that stored something else is out, and a run in which that is one of ours is void.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.client import MIB, Load, LoadFailed, Payload, send
from benchmarks.contestants import Contestant, Endpoint
from benchmarks.installing import Tools
from benchmarks.processes import Server, ServerFailed
from benchmarks.sinks import Sink

#: What one run of one subject gave, by name.
Values = dict[str, Any]


class Mismatch(RuntimeError):
    """A server stored other bytes than were sent."""


class WrongPath(RuntimeError):
    """Bodies came by another path than the scenario is about."""


@dataclass(frozen=True)
class Subject:
    """An endpoint of a running server."""

    contestant: Contestant
    server: Server
    endpoint: Endpoint

    @property
    def name(self) -> str:
        """What the tables call it."""
        return self.endpoint.name

    @property
    def is_ours(self) -> bool:
        """Whether it is what this checkout is about."""
        return self.contestant.kind == "ours"


@dataclass
class Bench:
    """What every scenario needs.

    Attributes:
        full: Sizes as in the issue, instead of small ones.
    """

    tools: Tools
    payload: Payload
    rounds: int
    full: bool
    tiny: bool = False
    seed: int = 0
    sink: Sink | None = None

    def get_sink(self) -> Sink:
        """Return the stand-in for object storage.

        Raises:
            ServerFailed: It did not start.
        """
        if self.sink is None:
            raise ServerFailed("The sink does not run.")
        return self.sink

    def pick(self, tiny: int, small: int, full: int) -> int:
        """Return the size for this run."""
        return tiny if self.tiny else full if self.full else small

    def send(self, subject: Subject, load: Load) -> dict[str, Any]:
        """Send a load to a subject; see ``client.send``."""
        return send(self.tools.get("load"), subject.server, subject.endpoint, self.payload, load)

    def measure_load(self, subject: Subject, load: Load, count: int | None = None) -> Values:
        """Send a load, say what it cost, compare what was stored, and remove it.

        Args:
            count: How many files of the load's size must be there afterwards; ``None`` for one per connection.

        Raises:
            Mismatch: Other files are there than were sent.
            LoadFailed: An answer was not the expected one.
            WrongPath: See ``Endpoint.fast``.
        """
        server = subject.server
        if not self.tiny:
            os.sync()  # what others have written is not to be paid for by this one
        server.forget_peak()
        before, cpu = read_served(subject), server.cpu_seconds()
        measured = self.send(subject, load)
        # The kernel charges threads when they next sleep, a moment after the last answer.
        time.sleep(0.03)
        total = load.size * (load.connections if count is None else count)
        values: Values = {
            "seconds": measured["seconds"],
            "cpu_seconds": round(server.cpu_seconds() - cpu, 4),
            "client_cpu_seconds": measured["cpu_seconds"],
            "rss_peak_mib": round(server.rss_peak() / MIB, 1),
        }
        if total >= MIB:
            values["cpu_seconds_per_gib"] = round(values["cpu_seconds"] * 1024 * MIB / total, 4)
        values |= {name: measured[name] for name in ("created_seconds", "probe") if measured.get(name)}
        served = {path: now - before.get(path, 0) for path, now in read_served(subject).items()}
        values["served"] = {path: bodies for path, bodies in served.items() if bodies}
        if subject.endpoint.backend != "files":
            requests = self.get_sink().state()["requests"]
            values["requests"] = {**requests, "all": sum(requests.values())}
        values["verified"] = self.verify(subject, load.size, load.connections if count is None else count)
        if subject.endpoint.fast and load.size >= MIB:
            require_fast(subject, values["served"])
        return values

    @staticmethod
    def forget(subject: Subject) -> None:
        """Remove every file that a subject has stored: also what a broken upload before left, or wrote late."""
        if subject.endpoint.files is not None:
            for path in (subject.server.directory / subject.endpoint.files).rglob("*"):
                if path.is_file() and path.name != "keep":
                    path.unlink()

    def verify(self, subject: Subject, size: int, count: int) -> bool:
        """Compare every stored file of a size with what was sent, and remove everything that was stored.

        Raises:
            Mismatch: They are not as many as were sent, or one differs.
        """
        if subject.endpoint.backend != "files":
            if problem := self.get_sink().verify(size, count):
                raise Mismatch(f"{subject.name} stored {problem}.")
            return True
        if subject.endpoint.files is None:
            return False
        directory = subject.server.directory / subject.endpoint.files
        stored = [path for path in directory.rglob("*") if path.is_file()]
        wanted, found = self.payload.sha256(size), 0
        try:
            for path in stored:
                if path.stat().st_size == size:
                    with path.open("rb") as file:
                        if hashlib.file_digest(file, "sha256").hexdigest() != wanted:
                            raise Mismatch(f"{subject.name} stored other bytes than were sent.")
                    found += 1
            if found != count:
                raise Mismatch(f"{subject.name} stored {found} files of {size} bytes, sent were {count}.")
        finally:
            for path in stored:
                path.unlink()
        return True


def read_served(subject: Subject) -> dict[str, int]:
    """Ask one of ours how many bodies have come by which path; see ``tus_server.served``.

    Raises:
        ServerFailed: It does not answer; with the end of its log.
    """
    if not subject.is_ours:
        return {}
    connection = http.client.HTTPConnection("127.0.0.1", subject.server.port, timeout=10)
    try:
        connection.request("GET", "/served/")
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise ServerFailed(f"/served/ answered {answer.status}:\n{subject.server.log[-2000:]}")
        counts: dict[str, int] = json.loads(text)
        return counts
    finally:
        connection.close()


def require_fast(subject: Subject, served: Mapping[str, int]) -> None:
    """Check that a fast endpoint took its bodies by its fast path.

    Raises:
        WrongPath: It did not.
    """
    if not served or not set(served) <= subject.endpoint.fast:
        raise WrongPath(
            f"{subject.name} took bodies by {dict(served) or 'no known path'}, not by {set(subject.endpoint.fast)}."
        )


@dataclass(frozen=True)
class Scenario:
    """Something that is measured.

    Attributes:
        name: On the command line and in the result.
        title: One sentence for the tables.
        chooses: Which subjects take part.
        measure: Measures one subject once.
        metric: The value that is compared.
        better: Whether less of it is better, or more.
        references: The subjects to which ratios are shown, where they took part.
        rounds: At most so many, where a round takes long.
        warms_up: Whether a small upload comes before the first round.
        backend: Only subjects that store there take part.
        is_fresh: Each server is started anew before each run: its memory must not be that of what came before.
        is_large: It is about the transfer of large files; see ``Endpoint.only_large``.
    """

    name: str
    title: str
    chooses: Callable[[Subject], bool]
    measure: Callable[[Bench, Subject], Values]
    metric: str = "seconds"
    better: Literal["less", "more"] = "less"
    references: tuple[str, ...] = ("c", "node")
    rounds: int | None = None
    warms_up: bool = True
    backend: Literal["files", "s3", "azure"] = "files"
    is_large: bool = False
    is_fresh: bool = False

    def takes(self, subject: Subject) -> bool:
        """Whether a subject takes part."""
        endpoint = subject.endpoint
        return endpoint.backend == self.backend and self.is_large >= endpoint.only_large and self.chooses(subject)


@dataclass
class Outcome:
    """What a scenario gave."""

    scenario: Scenario
    runs: list[Values] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "title": self.scenario.title,
            "metric": self.scenario.metric,
            "better": self.scenario.better,
            "rows": summarise(self.scenario, self.runs),
            "problems": self.problems,
            "runs": self.runs,
        }


def measure(bench: Bench, scenario: Scenario, subjects: Iterable[Subject]) -> Outcome:
    """Measure a scenario. A subject that fails is out of it, with the reason."""
    outcome = Outcome(scenario)
    taking_part = {subject.name: subject for subject in subjects if scenario.takes(subject)}
    order = random.Random(bench.seed)
    rounds = min(scenario.rounds or bench.rounds, bench.rounds)
    for number in range(0 if scenario.warms_up else 1, rounds + 1):
        for name in order.sample(sorted(taking_part), len(taking_part)):
            subject = taking_part[name]
            try:
                bench.forget(subject)
                if scenario.is_fresh and number:
                    subject.server.restart()
                    warm_up(bench, subject)
                values = scenario.measure(bench, subject) if number else warm_up(bench, subject)
            except (Mismatch, LoadFailed, WrongPath, ServerFailed, OSError, http.client.HTTPException) as problem:
                outcome.problems[name] = f"{type(problem).__name__}: {problem}"
                outcome.runs = [run for run in outcome.runs if run["subject"] != name]
                del taking_part[name]
                print(f"  {name}: {outcome.problems[name]}", file=sys.stderr)
                continue
            if number:
                outcome.runs.append({"round": number, "subject": name, **values})
    return outcome


def warm_up(bench: Bench, subject: Subject) -> Values:
    """Upload a little, so that nobody pays for imports and empty caches in the first round."""
    return bench.measure_load(subject, Load("upload", MIB))


def summarise(scenario: Scenario, runs: list[Values]) -> list[Values]:
    """Return a row per subject: ratios within rounds (more is better), and medians of everything else measured."""
    by_round = {(run["round"], run["subject"]): run for run in runs}
    rows = []
    for name in dict.fromkeys(run["subject"] for run in sorted(runs, key=lambda run: run["subject"])):
        own = [run for run in runs if run["subject"] == name]
        row: Values = {"subject": name, "rounds": len(own), "ratios": {}, "medians": dict(_medians(own))}
        for reference in scenario.references:
            pairs = [(run, by_round.get((run["round"], reference))) for run in own]
            found = (_ratio(scenario, run, other) for run, other in pairs if other is not None)
            ratios = [ratio for ratio in found if ratio is not None]
            if ratios:
                row["ratios"][reference] = spread(ratios)
        row["served"] = sorted({path for run in own for path in run.get("served", {})})
        rows.append(row)
    return rows


def _ratio(scenario: Scenario, run: Values, other: Values) -> float | None:
    ours, theirs = read_metric(run, scenario.metric), read_metric(other, scenario.metric)
    above, below = (theirs, ours) if scenario.better == "less" else (ours, theirs)
    return above / below if below else None


def read_metric(run: Values, metric: str) -> float:
    """Return a value by its name; ``probe.p95`` names one within another."""
    value: Any = run
    for part in metric.split("."):
        value = value[part]
    return float(value)


def _medians(runs: list[Values]) -> Iterator[tuple[str, float]]:
    flat = [dict(_flatten(run)) for run in runs]
    for name in flat[0]:
        values = [each[name] for each in flat if name in each]
        yield name, round(statistics.median(values), 4)


def _flatten(run: Values, prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in run.items():
        if isinstance(value, dict) and name != "served":
            yield from _flatten(value, f"{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool) and name != "round":
            yield prefix + name, value


def spread(values: list[float]) -> dict[str, float]:
    """Return median, least and greatest."""
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def show(outcome: Outcome) -> str:
    """Return the rows as a table of ratios."""
    rows = summarise(outcome.scenario, outcome.runs)
    references = [name for name in outcome.scenario.references if any(name in row["ratios"] for row in rows)]
    shown = [name for name in ("cpu_seconds_per_gib", "rss_peak_mib") if any(name in row["medians"] for row in rows)]
    width = max([len(row["subject"]) for row in rows], default=8) + 2
    lines = [" " * width + "".join(f"{'to ' + name:>26}" for name in references) + "".join(f"{n:>22}" for n in shown)]
    for row in rows:
        line = f"{row['subject']:<{width}}"
        for name in references:
            ratio = row["ratios"].get(name)
            line += f"{_show(ratio) if ratio else '':>26}"
        for name in shown:
            value = row["medians"].get(name)
            line += f"{'' if value is None else f'{value:.2f}':>22}"
        lines.append(line + ("  by " + ", ".join(row["served"]) if row["served"] else ""))
    lines += [f"{name}: out: {reason.splitlines()[0][:150]}" for name, reason in outcome.problems.items()]
    return "\n".join(lines)


def _show(ratio: Mapping[str, float]) -> str:
    return f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"
