"""What we set out to reach, and what a result says about it.

Each target reads one or two scenarios; where they were not measured, it says so. Nothing here decides whether a run is
valid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Result = Mapping[str, Any]


class Rows:
    """The rows of a scenario of a result."""

    def __init__(self, result: Result, scenario: str) -> None:
        found = result["scenarios"].get(scenario, {"rows": []})
        self._rows = {row["subject"]: row for row in found["rows"]}

    def ratio(self, subject: str, reference: str) -> float:
        """Return the median ratio of a subject to a reference.

        Raises:
            KeyError: It was not measured.
        """
        return float(self._rows[subject]["ratios"][reference]["median"])

    def median(self, subject: str, name: str) -> float:
        """Return the median of a value; raises ``KeyError`` where it was not measured."""
        return float(self._rows[subject]["medians"][name])

    def subjects(self) -> list[str]:
        """Return who was measured."""
        return list(self._rows)


@dataclass(frozen=True)
class Target:
    """Something to reach.

    Attributes:
        text: What.
        limit: The figure to reach.
        measure: Reads the figure from a result; raises ``KeyError`` where it is not there.
        is_floor: Whether the figure must be at least the limit, or at most.
        reason: What keeps it from being met, where we know; shown only when it is not.
    """

    text: str
    limit: float
    measure: Callable[[Result], float]
    is_floor: bool = True
    reason: str = ""

    def is_met(self, figure: float) -> bool:
        """Say whether a figure reaches the limit."""
        return figure >= self.limit if self.is_floor else figure <= self.limit


def _ratio(scenario: str, subject: str, reference: str) -> Callable[[Result], float]:
    return lambda result: Rows(result, scenario).ratio(subject, reference)


def _median(scenario: str, subject: str, name: str) -> Callable[[Result], float]:
    return lambda result: Rows(result, scenario).median(subject, name)


def _against_best_peer(scenario: str, subject: str, peers: tuple[str, ...]) -> Callable[[Result], float]:
    """The ratio to the best of the peers that were measured."""

    def measure(result: Result) -> float:
        rows = Rows(result, scenario)
        there = [peer for peer in peers if peer in rows.subjects()]
        if not there:
            raise KeyError(scenario)
        return rows.ratio(subject, "c") / max(rows.ratio(peer, "c") for peer in there)

    return measure


def _cpu_to_c(scenario: str, subject: str) -> Callable[[Result], float]:
    def measure(result: Result) -> float:
        rows = Rows(result, scenario)
        return rows.median(subject, "cpu_seconds_per_gib") / max(rows.median("c", "cpu_seconds_per_gib"), 0.01)

    return measure


def _share_of_node(scenario: str, subject: str) -> Callable[[Result], float]:
    """Our p95 divided by Node's."""
    return lambda result: 1 / Rows(result, scenario).ratio(subject, "node")


def _burst(subject: str) -> Callable[[Result], float]:
    """How fast a thousand creations at once are through, to Node's."""
    return lambda result: (
        Rows(result, "slow-1000").median("node", "created_seconds")
        / Rows(result, "slow-1000").median(subject, "created_seconds")
    )


def _parts(name: str, subject: str) -> Callable[[Result], float]:
    """Resident bytes per upload above an idle process, in parts of 8 MiB."""
    return lambda result: Rows(result, "s3-memory").median(subject, f"{name}_mib_per_upload") / 8


def _client_headroom(result: Result) -> float:
    """How much faster the load client is against a server that forgets than against the fastest that stores."""
    rows = Rows(result, "one")
    return rows.ratio("c discard", "c") / max(rows.ratio(name, "c") for name in rows.subjects() if name != "c discard")


# What keeps targets from being met. Said on the page, and only when missed.
# Shown by counts (CPU, page faults, strace) and samples of the event loop; see what each says.
_MESSAGES = (
    "Counted: about two thirds of the CPU (0.9 to 1.0 of 1.3 to 1.5 s/GiB) is spent outside of the kernel, "
    "for messages of at most 64 KiB and a change of threads for each 256 KiB; page faults are few (1,300 to 10,000 per "
    "GiB). Writes of 128 KiB doubled the CPU, of more than 256 KiB gained nothing that could be told from noise."
)
_STREAM = (
    "Counted: gunicorn's reader gathers and copies each read (reads of 512 KiB, received exactly, are the cheapest of "
    "those from 8 KiB to 4 MiB); page faults are few (10 to 500 per GiB). A copy, 0.08 of 0.72 "
    "s/GiB, could only be saved through its private parts."
)
_REQUESTS = (
    "Counted: the bytes move in 2.2 calls that give Python's lock away per MiB, 86 % of the CPU is in the kernel (71 % "
    "in the file system's write). What is left are the 16 requests around them, 20 to 30 ms of CPU."
)
_CROWD = (
    "Traced: the largest single stalls of the event loop are Python's own collections of garbage (65 to 118 ms, every "
    "1.2 s) and the changes of threads of 1,000 bodies, about 1.3 a second each."
)
_ADMISSIONS = (
    "Counted: a creation costs 1 to 2 ms of CPU, all of them in one process under Python's lock: Django's handler, "
    "a change of threads and two files, as on Node, where the whole takes 1.3 ms."
)
_DISK = (
    "Measured beside C alone: 1.23 with 1 GiB, 1.19 with 2, 1.08 with 4, 1.38 with 8 (four to two rounds). Of 8 GiB "
    "the kernel writes 6 to the disk meanwhile and lets writers wait for it: the disk is measured, for both."
)
_ROWS = (
    "Counted: a creation with a login and a file is four statements (session, user, row and its end) and 15 other "
    "calls of the system: 1.8 ms of CPU in one thread, with Django's handler and the file, 2.4 to 3.9 ms under "
    "gunicorn, whose threads hand Python's lock to each other at every call. The Node server writes two small files."
)
_LOGIN = (
    "Counted: session, user, row, the lease and its end are five statements for each PATCH: 1.4 ms of CPU in one "
    "thread with SQLite, with Django's handler and the file; with PostgreSQL 1.9 ms, and 0.9 ms of waiting for it."
)
_CONNECTIONS = (
    "Measured: letting 1,000 requests in a few at a time took the peak from between 330 and 460 KiB each to between "
    "160 and 200. The rest was not taken apart; tuspyserver, under the same uvicorn and without Django, needs 140."
)

#: Peers that stream and speak tus; nginx does not, and stands in the tables only.
TUS_PEERS = ("tusd", "rustus", "node", "tuspyserver")

TARGETS = (
    Target("load client: against `c discard`, to the fastest server that stores", 1.2, _client_headroom),
    Target("gunicorn (splice), one upload, to C", 1.05, _ratio("one", "gunicorn none", "c")),
    Target("gunicorn, one upload, to Node", 3.0, _ratio("one", "gunicorn none", "node")),
    Target("gunicorn (splice), eight uploads, to C", 1.05, _ratio("eight", "gunicorn none", "c"), reason=_REQUESTS),
    Target("gunicorn (splice), one very large upload, to C", 1.05, _ratio("huge", "gunicorn none", "c"), reason=_DISK),
    Target("gunicorn, one upload, CPU per GiB to C's", 1.3, _cpu_to_c("one", "gunicorn none"), is_floor=False),
    Target(
        "gunicorn, one upload, to the best tus peer", 1.0, _against_best_peer("one", "gunicorn none", TUS_PEERS)
    ),
    Target("gunicorn, portable path, one upload, to C", 0.4, _ratio("one", "gunicorn portable", "c"), reason=_STREAM),
    Target("gunicorn, portable path, one upload, to Node", 1.5, _ratio("one", "gunicorn portable", "node"),
           reason=_STREAM),
    Target("uvicorn, portable path, one upload, to C", 0.4, _ratio("one", "uvicorn none", "c"), reason=_MESSAGES),
    Target("uvicorn, portable path, one upload, to Node", 1.5, _ratio("one", "uvicorn none", "node"), reason=_MESSAGES),
    Target("gunicorn, SQLite, 8 MiB PATCHes with login, to a single PATCH", 0.6,
           _median("chunks", "gunicorn login", "to_single"), reason=_LOGIN),
    Target("gunicorn, PostgreSQL, 8 MiB PATCHes with login, to a single PATCH", 0.6,
           _median("chunks", "gunicorn login postgres", "to_single"), reason=_LOGIN),
    Target("gunicorn, 8 MiB PATCHes with login, to the best tus peer", 1.0,
           _against_best_peer("chunks", "gunicorn login", TUS_PEERS)),
    Target("uvicorn, 8 MiB PATCHes with login, to a single PATCH", 0.6,
           _median("chunks", "uvicorn login", "to_single"), reason=_LOGIN),
    Target("gunicorn, peak memory of the very large upload above a small one's, MiB", 5.0,
           _median("memory", "gunicorn none", "growth_mib"), is_floor=False),
    Target("uvicorn, peak memory of the very large upload above a small one's, MiB", 5.0,
           _median("memory", "uvicorn none", "growth_mib"), is_floor=False),
    Target("uvicorn, 1,000 slow clients: p95 of HEAD, share of Node's", 0.2,
           _share_of_node("slow-1000", "uvicorn none"), is_floor=False, reason=_CROWD),
    Target("uvicorn, 1,000 slow clients: start-up burst, to Node", 1.0, _burst("uvicorn none"), reason=_ADMISSIONS),
    Target("uvicorn, 1,000 slow clients: KiB of memory each", 150.0,
           _median("slow-1000", "uvicorn none", "kib_per_client"), is_floor=False, reason=_CONNECTIONS),
    Target("gunicorn, 4 KiB creations with a row (SQLite), to Node without one", 1.0,
           _ratio("create-4k", "gunicorn login", "node"), reason=_ROWS),
    Target("uvicorn, 4 KiB creations with a row (SQLite), to Node without one", 1.0,
           _ratio("create-4k", "uvicorn login", "node"), reason=_ROWS),
    Target("uvicorn, HEAD per second, to a stock Django view", 2.5, _median("head", "uvicorn none", "to_stock")),
    Target("gunicorn, share of a cut body to send again", 0.0, _median("cut", "gunicorn none", "resent_share"),
           is_floor=False),
    Target("uvicorn, share of a cut body to send again", 0.0, _median("cut", "uvicorn none", "resent_share"),
           is_floor=False),
    Target("save() with 10 GiB, milliseconds more than with 1 KiB", 20.0, _median("save", "gunicorn login", "more_ms"),
           is_floor=False),
    Target("gunicorn, S3 at 40 ms, one upload, to Node's store", 1.5, _ratio("s3-one-40", "gunicorn s3", "node s3")),
    Target("uvicorn, S3 at 40 ms, one upload, to Node's store", 1.5, _ratio("s3-one-40", "uvicorn s3", "node s3")),
    Target("uvicorn, S3, one upload: parts in memory", 4.0, _parts("one", "uvicorn s3"), is_floor=False),
    Target("uvicorn, S3, eight uploads: parts in memory each", 4.0, _parts("eight", "uvicorn s3"), is_floor=False),
    Target("S3: requests for 2 MiB in one PATCH", 1.0, _median("s3-small", "uvicorn s3", "requests.all"),
           is_floor=False),
)  # fmt: skip


def compare(result: Result) -> Iterator[tuple[Target, float | None]]:
    """Yield every target with its figure; ``None`` where the result does not have it."""
    for target in TARGETS:
        try:
            yield target, target.measure(result)
        except KeyError:
            yield target, None
