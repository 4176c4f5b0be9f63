"""Slow clients: a few hundred or a thousand that send 64 KiB a second each, and one beside them that asks HEAD."""

from __future__ import annotations

from urllib.parse import urlsplit

from benchmarks.client import MIB, Load
from benchmarks.measuring import Bench, Scenario, Subject, Values

RATE = 64 * 1024


def _slow(bench: Bench, subject: Subject, clients: int, seconds: int) -> Values:
    idle = subject.server.rss() / MIB
    created = bench.send(subject, Load("upload", 1))
    probe = urlsplit(created["locations"][0]).path
    load = Load("slow", RATE * seconds, connections=clients, rate=RATE, probe=probe)
    values = bench.measure_load(subject, load)
    values["idle_rss_mib"] = round(idle, 1)
    values["kib_per_client"] = round((values["rss_peak_mib"] - idle) * 1024 / clients, 1)
    values["overdue_seconds"] = round(values["seconds"] - seconds, 3)
    return values


def _two_hundred(bench: Bench, subject: Subject) -> Values:
    return _slow(bench, subject, bench.pick(20, 200, 200), bench.pick(1, 4, 10))


def _thousand(bench: Bench, subject: Subject) -> Values:
    return _slow(bench, subject, bench.pick(40, 1000, 1000), bench.pick(1, 8, 16))


def _takes_part(subject: Subject) -> bool:
    endpoint = subject.endpoint
    is_plain = endpoint.durability == "none" and not endpoint.has_login and endpoint.files is not None
    return is_plain and {"slow", "tus"} <= subject.contestant.can


SCENARIOS = (
    Scenario(
        "slow-200",
        "200 clients of 64 KiB/s in one process, and a HEAD every 50 ms beside them (p95 of the answers' times).",
        lambda subject: _takes_part(subject) or subject.name == "gunicorn none",
        _two_hundred,
        metric="probe.p95",
        references=("node", "c"),
        rounds=1,
        warms_up=False,
        is_fresh=True,
    ),
    Scenario(
        "slow-1000",
        "1,000 clients of 64 KiB/s in one process, and a HEAD every 50 ms beside them (p95 of the answers' times).",
        _takes_part,
        _thousand,
        metric="probe.p95",
        references=("node", "c"),
        rounds=1,
        warms_up=False,
        is_fresh=True,
    ),
)
