"""Memory: the peak resident size of a server's processes for a small and for a very large upload."""

from __future__ import annotations

from benchmarks.client import MIB, Load
from benchmarks.measuring import Bench, Scenario, Subject, Values


def _memory(bench: Bench, subject: Subject) -> Values:
    small, large = bench.pick(1, 64, 64) * MIB, bench.pick(4, 512, 8192) * MIB
    values: Values = {"idle_rss_mib": round(subject.server.rss() / MIB, 1)}
    peaks = []
    for size in (small, large):
        measured = bench.measure_load(subject, Load("upload", size))
        peaks.append(measured["rss_peak_mib"])
        values["served"] = measured["served"]
    values |= {"small_mib": peaks[0], "large_mib": peaks[1], "growth_mib": round(peaks[1] - peaks[0], 1)}
    return values


SCENARIOS = (
    Scenario(
        "memory",
        "Peak resident size of all processes, for one upload of 64 MiB and one many times larger, in one PATCH each.",
        lambda subject: (
            subject.endpoint.durability == "none"
            and not subject.endpoint.has_login
            and subject.name != "c discard"
            and subject.contestant.streams
        ),
        _memory,
        metric="large_mib",
        rounds=1,
        warms_up=False,
        is_fresh=True,
    ),
)
