"""Small requests: creations that carry their file, and HEAD, both per second."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

from benchmarks.client import Load
from benchmarks.measuring import Bench, Scenario, Subject, Values

KIB = 1024
CONNECTIONS = 8


def _create(bench: Bench, subject: Subject, size: int, requests: int) -> Values:
    values = bench.measure_load(subject, Load("create", size, connections=CONNECTIONS, requests=requests), requests)
    return values | {"per_second": requests / values["seconds"]}


def _create_4k(bench: Bench, subject: Subject) -> Values:
    return _create(bench, subject, 4 * KIB, bench.pick(16, 400, 1000))


def _create_256k(bench: Bench, subject: Subject) -> Values:
    return _create(bench, subject, 256 * KIB, bench.pick(16, 200, 500))


def _ask(bench: Bench, subject: Subject, path: str, requests: int) -> tuple[float, float]:
    """Ask HEAD so many times; return the seconds, and the server's CPU milliseconds for each."""
    cpu = subject.server.cpu_seconds()
    measured = bench.send(subject, Load("head", connections=CONNECTIONS, requests=requests, path=path))
    time.sleep(0.03)
    return measured["seconds"], (subject.server.cpu_seconds() - cpu) * 1000 / requests


def _head(bench: Bench, subject: Subject) -> Values:
    requests = bench.pick(16, 1000, 3000)
    created = bench.send(subject, Load("upload", 4 * KIB))
    path = urlsplit(created["locations"][0]).path
    seconds, cpu = _ask(bench, subject, path, requests)
    bench.verify(subject, 4 * KIB, 1)
    values: Values = {"seconds": seconds, "per_second": requests / seconds, "cpu_ms": round(cpu, 4)}
    if subject.is_ours:
        # A view of Django's that does nothing, on the same server, in the same round.
        stock, stock_cpu = _ask(bench, subject, "/stock/", requests)
        values |= {"to_stock": stock / seconds, "stock_cpu_ms": round(stock_cpu, 4)}
    return values


def _creates(subject: Subject) -> bool:
    endpoint = subject.endpoint
    return endpoint.durability == "none" and endpoint.files is not None and "create" in subject.contestant.can


SCENARIOS = (
    Scenario(
        "create-4k",
        "Creations per second that carry a file of 4 KiB, eight connections; only ours with login has rows.",
        _creates,
        _create_4k,
        metric="per_second",
        better="more",
    ),
    Scenario(
        "create-256k",
        "Creations per second that carry a file of 256 KiB, eight connections; nobody syncs.",
        _creates,
        _create_256k,
        metric="per_second",
        better="more",
    ),
    Scenario(
        "head",
        "HEAD per second, eight connections; to_stock compares with a view of Django's that answers 204.",
        lambda subject: _creates(subject) and "tus" in subject.contestant.can,
        _head,
        metric="per_second",
        better="more",
    ),
)
