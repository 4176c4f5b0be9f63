"""Relays to object storage, against a sink that answers after a latency: throughput, requests and memory."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.client import GIB, MIB, Load
from benchmarks.measuring import Bench, Scenario, Subject, Values

CHUNK = 8 * MIB
#: Our parts, for files up to 75 GiB.
PART = 8 * MIB


def _relay(bench: Bench, subject: Subject, load: Load, latency: int) -> Values:
    sink = bench.get_sink()
    sink.reset()
    sink.set_latency(latency)
    try:
        values = bench.measure_load(subject, load)
    finally:
        sink.set_latency(0)
    return values | {"latency_ms": latency}


def _one(bench: Bench, subject: Subject, latency: int) -> Values:
    return _relay(bench, subject, Load("upload", bench.pick(12, 64, 512) * MIB), latency)


def _eight(bench: Bench, subject: Subject, latency: int) -> Values:
    return _relay(bench, subject, Load("upload", bench.pick(9, 32, 128) * MIB, connections=8), latency)


def _small(bench: Bench, subject: Subject) -> Values:
    return _relay(bench, subject, Load("upload", 2 * MIB), 10)


def _in_chunks(bench: Bench, subject: Subject) -> Values:
    return _relay(bench, subject, Load("upload", bench.pick(20, 256, 1024) * MIB, chunk=CHUNK), 10)


def _memory(bench: Bench, subject: Subject) -> Values:
    """The peak for one and for eight uploads of 1 GiB, and what that is above an idle process that has served one.

    ``one_parts`` and ``eight_parts`` are that share of an upload in parts of 8 MiB; at most 4 are wanted.
    """
    size = bench.pick(12 * MIB, 256 * MIB, GIB)
    _relay(bench, subject, Load("upload", 2 * MIB), 0)
    values: Values = {"idle_rss_mib": round(subject.server.rss() / MIB, 1)}
    for name, connections in (("one", 1), ("eight", 8)):
        measured = _relay(bench, subject, Load("upload", size, connections=connections), 40)
        values[f"{name}_mib"] = measured["rss_peak_mib"]
        share = (measured["rss_peak_mib"] - values["idle_rss_mib"]) / connections
        values[f"{name}_mib_per_upload"] = round(share, 1)
        values[f"{name}_parts"] = round(share * MIB / PART, 2)
        values["served"] = measured["served"]
    return values


def _all(subject: Subject) -> bool:
    return True


def _relays(subject: Subject) -> bool:
    return subject.contestant.kind != "ceiling"


def _scenario(name: str, title: str, measure: Any, chooses: Any = _relays, **options: Any) -> Scenario:
    return Scenario(name, title, chooses, measure, references=("node s3", "s3 sink"), backend="s3", **options)


def _azure(name: str, title: str, measure: Any) -> Scenario:
    return Scenario(name, title, _relays, measure, references=("node azure",), backend="azure")


SCENARIOS = (
    *(
        _scenario(
            f"s3-one-{latency}",
            f"One large upload in one PATCH, relayed to an S3 that answers after {latency} ms.",
            partial(_one, latency=latency),
            _all,
        )
        for latency in (0, 10, 40)
    ),
    *(
        _scenario(
            f"s3-eight-{latency}",
            f"Eight large uploads at once, relayed to an S3 that answers after {latency} ms.",
            partial(_eight, latency=latency),
        )
        for latency in (0, 40)
    ),
    _scenario(
        "s3-small",
        "2 MiB in one PATCH, relayed to an S3 that answers after 10 ms, by the number of requests.",
        _small,
        metric="requests.all",
    ),
    _scenario(
        "s3-chunks",
        "One large upload in PATCHes of 8 MiB, relayed to an S3 that answers after 10 ms.",
        _in_chunks,
    ),
    _scenario(
        "s3-memory",
        "Peak resident size for one and for eight uploads of 1 GiB, relayed to an S3 that answers after 40 ms.",
        _memory,
        metric="eight_mib",
        rounds=2,
        warms_up=False,
        is_fresh=True,
    ),
    _azure(
        "azure-one",
        "One large upload in one PATCH, relayed to an Azure that answers after 40 ms.",
        partial(_one, latency=40),
    ),
    _azure(
        "azure-eight",
        "Eight large uploads at once, relayed to an Azure that answers after 40 ms.",
        partial(_eight, latency=40),
    ),
    _azure(
        "azure-chunks",
        "One large upload in PATCHes of 8 MiB, relayed to an Azure that answers after 10 ms.",
        _in_chunks,
    ),
)
