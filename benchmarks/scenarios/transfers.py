"""Large uploads: one in one body, eight at once, one in many PATCHes, and what durability costs."""

from __future__ import annotations

from benchmarks.client import MIB, Load
from benchmarks.measuring import Bench, Scenario, Subject, Values

CHUNK = 8 * MIB


def _one(bench: Bench, subject: Subject) -> Values:
    return bench.measure_load(subject, Load("upload", bench.pick(2, 128, 512) * MIB))


def _eight(bench: Bench, subject: Subject) -> Values:
    return bench.measure_load(subject, Load("upload", bench.pick(1, 32, 128) * MIB, connections=8))


def _in_chunks(bench: Bench, subject: Subject) -> Values:
    chunk = MIB if bench.tiny else CHUNK
    size = bench.pick(3, 128, 512) * MIB
    values = bench.measure_load(subject, Load("upload", size, chunk=chunk))
    if subject.endpoint.has_login:
        # The same upload in one PATCH, to the same address, in the same round.
        values["to_single"] = bench.measure_load(subject, Load("upload", size))["seconds"] / values["seconds"]
    return values


def _huge(bench: Bench, subject: Subject) -> Values:
    return bench.measure_load(subject, Load("upload", bench.pick(4, 1024, 8192) * MIB))


def _is_plain(subject: Subject) -> bool:
    return not subject.endpoint.has_login


def _syncs_nothing(subject: Subject) -> bool:
    return _is_plain(subject) and subject.endpoint.durability == "none"


SCENARIOS = (
    Scenario(
        "one",
        "One large upload in one PATCH; nobody syncs.",
        lambda subject: _syncs_nothing(subject) and subject.name != "c sync",
        _one,
        is_large=True,
    ),
    Scenario(
        "eight",
        "Eight large uploads at once, each in one PATCH; nobody syncs.",
        _syncs_nothing,
        _eight,
        is_large=True,
    ),
    Scenario(
        "chunks",
        "One large upload in PATCHes of 8 MiB; ours also with session, lease and row (login), beside a single PATCH.",
        lambda subject: (
            subject.endpoint.durability == "none"
            and subject.name != "c discard"
            and (subject.contestant.can >= {"chunks"} or subject.contestant.kind != "ours")
        ),
        _in_chunks,
        is_large=True,
    ),
    Scenario(
        "durability",
        "One large upload in PATCHes of 8 MiB, by what is synced: nothing, the whole at its end, every PATCH.",
        lambda subject: subject.name in ("c", "c sync") or (subject.is_ours and _is_plain(subject)),
        _in_chunks,
        references=("c", "c sync"),
    ),
    Scenario(
        "huge",
        "One very large upload in one PATCH; nobody syncs.",
        lambda subject: _syncs_nothing(subject) and subject.contestant.streams and subject.name != "c discard",
        _huge,
        rounds=3,
        is_large=True,
    ),
)
