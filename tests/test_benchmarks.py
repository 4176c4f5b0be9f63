"""The benchmark suite runs, proves what was stored, and writes down what it did. Nothing here looks at a clock."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import start
from benchmarks.charts import Bar, draw
from benchmarks.client import Payload
from benchmarks.contestants import CONTESTANTS as EVERYBODY
from benchmarks.contestants import choose
from benchmarks.installing import Tools
from benchmarks.measuring import Bench, Mismatch, Outcome, Scenario, Subject, WrongPath, require_fast, summarise
from benchmarks.page import main as write_page
from benchmarks.page import merge
from benchmarks.processes import Server, build_environment
from benchmarks.reporting import find_streaming_peers, judge
from benchmarks.sinks import Sink
from benchmarks.targets import TARGETS, compare
from tests.skips import need

ROOT = Path(__file__).resolve().parents[1]
#: Every scenario but those that only take long.
SCENARIOS = (
    *("one", "eight", "chunks", "durability", "huge", "create-4k", "create-256k", "head", "slow-200", "memory"),
    *("cut", "takeover", "save", "s3-one-10", "s3-eight-0", "s3-small", "s3-chunks", "s3-memory"),
    *("azure-one", "azure-eight", "azure-chunks"),
)
CONTESTANTS = (
    *("c", "c sync", "c discard", "gunicorn", "uvicorn"),
    *("s3 sink", "uvicorn s3", "gunicorn s3", "gunicorn azure"),
)


@pytest.fixture(scope="module")
def result_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A round of everything that needs no peer, in sizes that prove only that it works."""
    need("cc")
    directory = tmp_path_factory.mktemp("benchmarks")
    output = directory / "result.json"
    command = [sys.executable, "-m", "benchmarks", "--tiny", "--rounds", "1", "--this-python", "--directory", directory]
    command += [word for name in SCENARIOS for word in ("--scenario", name)]
    command += [word for name in CONTESTANTS for word in ("--contestant", name)]
    run = subprocess.run([*command, "--output", output], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout + run.stderr
    return output


@pytest.fixture
def result(result_path: Path) -> dict[str, Any]:
    """What the round wrote."""
    parsed: dict[str, Any] = json.loads(result_path.read_text())
    return parsed


@pytest.mark.e2e
def test_a_result_says_who_took_part_with_which_versions_and_command_lines(result: dict[str, Any]) -> None:
    assert {"suite", "format", "at", "options", "machine", "versions", "commands", "missing"} <= result.keys()
    assert (result["failures"], result["missing"]) == ([], {})
    assert set(result["commands"]) == set(CONTESTANTS)
    assert {"python", "Django", "gunicorn", "uvicorn", "boto3", "cc"} <= result["versions"].keys()
    assert "benchmarks.sites.wsgi:application" in result["commands"]["gunicorn"]
    assert str(ROOT) not in json.dumps(result), "the result names no path of this machine's checkout"


@pytest.mark.e2e
def test_every_scenario_has_rows_of_ratios_within_rounds(result: dict[str, Any]) -> None:
    assert tuple(result["scenarios"]) == SCENARIOS
    for name, scenario in result["scenarios"].items():
        assert scenario["problems"] == {}, name
        assert scenario["rows"], name
        for row in scenario["rows"]:
            for ratio in row["ratios"].values():
                assert ratio["min"] <= ratio["median"] <= ratio["max"]
            assert row["medians"], (name, row["subject"])
        assert {run["subject"] for run in scenario["runs"]} == {row["subject"] for row in scenario["rows"]}


@pytest.mark.e2e
def test_stored_bytes_were_compared_after_every_transfer_but_those_that_store_nothing(result: dict[str, Any]) -> None:
    for name in ("one", "eight", "chunks", "durability", "huge", "create-4k", "create-256k", "slow-200", "s3-chunks"):
        unverified = {run["subject"] for run in result["scenarios"][name]["runs"] if not run["verified"]}
        assert unverified <= {"c discard"}, name


@pytest.mark.e2e
def test_each_result_of_ours_says_by_which_path_bodies_came(result: dict[str, Any]) -> None:
    served = {row["subject"]: row["served"] for row in result["scenarios"]["one"]["rows"]}
    assert served["uvicorn none"] == ["messages"]
    assert served["gunicorn portable"] == ["stream"]
    assert set(served["gunicorn none"]) <= {"socket", "splice"} != set()
    assert served["c"] == []


@pytest.mark.e2e
def test_what_is_exact_is_exact(result: dict[str, Any]) -> None:
    small = {row["subject"]: row["medians"] for row in result["scenarios"]["s3-small"]["rows"]}
    assert small["uvicorn s3"]["requests.all"] == 1
    assert small["gunicorn s3"]["requests.PutObject"] == 1
    for row in result["scenarios"]["cut"]["rows"]:
        assert row["medians"]["resent_share"] == 0, row["subject"]
    for row in result["scenarios"]["takeover"]["rows"]:
        assert row["medians"]["taken_over"] == 1, row["subject"]


@pytest.mark.e2e
def test_a_page_with_charts_is_made_of_a_result(result_path: Path, tmp_path: Path) -> None:
    assert write_page([str(result_path), "--docs", str(tmp_path)]) == 0
    page = (tmp_path / "measurements.md").read_text()
    for name in SCENARIOS:
        assert f"\n## {name}\n" in page
    assert (tmp_path / "measurements" / "one.svg").read_text().startswith("<svg")
    assert "(measurements/one.svg)" in page
    assert json.loads((tmp_path / "measurements" / "results.json").read_text())["suite"] == "django-async-uploads"


def test_what_was_measured_again_takes_the_place_of_what_was_before_and_says_so() -> None:
    def result(commit: str, **scenarios: str) -> dict[str, Any]:
        return {
            "at": "2026-11-23T04:00:00+00:00",
            "versions": {"django-async-uploads": commit},
            "options": {"full": False, "large": ["slow-200"]},
            "scenarios": {name: {"title": title} for name, title in scenarios.items()},
        }

    merged = merge(result("aaa", one="old", eight="kept"), result("bbb", one="new"))
    assert merged["versions"] == {"django-async-uploads": "aaa"}
    assert merged["scenarios"] == {
        "one": {
            "title": "new",
            "again": "Measured again on 2026-11-23 with commit `bbb`, small sizes, those of `--full` for slow-200.",
        },
        "eight": {"title": "kept"},
    }


def test_only_who_relays_is_told_of_what_it_relays_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BENCHMARK_S3_ENDPOINT", "http://127.0.0.1:1")
    assert "BENCHMARK_S3_ENDPOINT" not in build_environment(tmp_path, {})
    relay = next(one for one in EVERYBODY if one.name == "uvicorn s3")
    monkeypatch.setattr(Tools, "get", lambda tools, part: Path(sys.executable))
    server = relay.build(Tools(tmp_path), tmp_path)
    assert server.environment["BENCHMARK_S3_ENDPOINT"] == "http://127.0.0.1:1"


def test_who_relays_brings_what_it_relays_to_before_it_and_out_of_competition() -> None:
    chosen = choose(["uvicorn s3", "gunicorn azure"])
    assert [each.name for each in chosen] == ["s3 sink", "uvicorn s3", "gunicorn azure"]
    assert [bool(each.endpoints) for each in chosen] == [False, True, True]
    assert next(each for each in choose(["s3 sink", "uvicorn s3"]) if each.name == "s3 sink").endpoints
    assert [each.name for each in choose(["c", "uvicorn"])] == ["c", "uvicorn"]
    assert {each.name for each in choose(None)} == {each.name for each in EVERYBODY}
    running: set[str] = set()
    for each in choose(None):
        assert each.needs is None or each.needs in running
        running.add(each.name)
    for each in EVERYBODY:
        assert (each.needs is not None) == any(
            each.kind != "ceiling" and endpoint.backend != "files" for endpoint in each.endpoints
        ), each.name


def test_what_needs_something_that_is_missing_is_missing_too(tmp_path: Path) -> None:
    relay = next(one for one in EVERYBODY if one.name == "uvicorn s3")
    missing = {"s3 sink": "no compiler"}
    servers: list[Server] = []
    bench = Bench(Tools(tmp_path), Payload(tmp_path, 10), rounds=1, full=False)
    with ExitStack() as stack:
        stack.callback(bench.payload.close)
        assert start(relay, bench, tmp_path, stack, servers, missing) == []
    assert (missing["uvicorn s3"], servers) == ("it needs s3 sink", [])


def test_the_sink_sees_blocks_that_are_missing_or_in_a_wrong_order(tmp_path: Path) -> None:
    need("cc")
    tools, payload = Tools(), Payload(tmp_path, 2000)
    content, sink_of = payload.read(3000), next(one for one in EVERYBODY if one.name == "s3 sink")
    with ExitStack() as stack:
        stack.callback(payload.close)
        server = stack.enter_context(sink_of.build(tools, tmp_path))
        sink = Sink(server.port, tools.get("sink"), payload.path)

        def put(query: str, body: bytes) -> int:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            with closing(connection):
                connection.request("PUT", f"/account/container/blob?{query}", body, {"x-ms-version": "2021-12-02"})
                return connection.getresponse().status

        for order, is_right in (("ab", True), ("ba", False), ("aab", False)):
            assert put("comp=block&blockid=a", content[:1800]) == 201
            assert put("comp=block&blockid=b", content[1800:]) == 201
            names = "".join(f"<Latest>{name}</Latest>" for name in order)
            assert put("comp=blocklist", f"<BlockList>{names}</BlockList>".encode()) == 201
            assert (sink.verify(3000, 1) is None) is is_right
        assert put("comp=blocklist", b"<BlockList><Latest>a</Latest></BlockList>") == 400


def test_a_void_run_makes_no_page(tmp_path: Path) -> None:
    path = tmp_path / "void.json"
    path.write_text(json.dumps({"failures": ["gunicorn none stored other bytes than were sent."]}))
    assert write_page([str(path), "--docs", str(tmp_path)]) == 1
    assert not (tmp_path / "measurements.md").exists()


@pytest.mark.parametrize(("better", "expected"), [("less", [2.0, 4.0]), ("more", [0.5, 0.25])])
def test_ratios_compare_runs_of_one_round_only(better: Any, expected: list[float]) -> None:
    scenario = Scenario("x", "", lambda subject: True, lambda bench, subject: {}, "value", better, ("c",))
    seconds = {(1, "c"): 10, (1, "ours"): 5, (2, "c"): 400, (2, "ours"): 100, (3, "ours"): 1}
    runs = [{"round": number, "subject": name, "value": value} for (number, name), value in seconds.items()]
    (ratio,) = [row["ratios"]["c"] for row in summarise(scenario, runs) if row["subject"] == "ours"]
    assert (ratio["min"], ratio["max"]) == (min(expected), max(expected))


def subject_of(name: str) -> Subject:
    contestant = next(one for one in EVERYBODY if one.name == name)
    return Subject(contestant, Server(name, (), Path("/nowhere")), contestant.endpoints[0])


def test_a_run_with_fewer_than_three_streaming_peers_is_void_and_relays_do_not_count() -> None:
    two = [
        subject_of(name) for name in ("c", "nginx", "node", "rustus", "django-tus", "node s3", "node azure", "uvicorn")
    ]
    assert find_streaming_peers(two) == {"nginx", "node"}
    assert len(judge([], frozenset(), find_streaming_peers(two), is_complete=True)) == 1
    three = [*two, subject_of("tuspyserver")]
    assert judge([], frozenset(), find_streaming_peers(three), is_complete=True) == []
    assert judge([], frozenset(), frozenset(), is_complete=False) == []


def test_a_failure_of_ours_voids_a_run_and_a_peer_s_does_not() -> None:
    scenario = Scenario("one", "", lambda subject: True, lambda bench, subject: {})
    outcome = Outcome(scenario, problems={"node": "Mismatch: x", "uvicorn none": "WrongPath: y"})
    assert judge([outcome], frozenset({"uvicorn none"}), frozenset(), is_complete=False) == [
        "one: uvicorn none: WrongPath: y"
    ]


@pytest.mark.parametrize("served", [{}, {"stream": 1}, {"splice": 1, "stream": 1}])
def test_a_fast_endpoint_whose_bodies_came_by_another_path_fails(served: dict[str, int]) -> None:
    subject = subject_of("gunicorn")
    assert subject.endpoint.fast == {"socket", "splice"}
    with pytest.raises(WrongPath):
        require_fast(subject, served)
    require_fast(subject, {"splice": 1})


def bench_of(directory: Path) -> tuple[Bench, Subject]:
    contestant = next(one for one in EVERYBODY if one.name == "c")
    (directory / "files").mkdir()
    bench = Bench(Tools(), Payload(directory, 101), rounds=1, full=False, tiny=True)
    return bench, Subject(contestant, Server("c", (), directory), contestant.endpoints[0])


def test_stored_files_are_compared_counted_and_removed(tmp_path: Path) -> None:
    bench, subject = bench_of(tmp_path)
    files = tmp_path / "files"
    try:
        (files / "a").write_bytes(bench.payload.read(1000))
        (files / "a.info").write_bytes(b"{}")
        assert bench.verify(subject, 1000, 1)
        assert list(files.iterdir()) == []
        with pytest.raises(Mismatch, match="0 files"):
            bench.verify(subject, 1000, 1)
        (files / "b").write_bytes(bench.payload.read(999) + b"?")
        with pytest.raises(Mismatch, match="other bytes"):
            bench.verify(subject, 1000, 1)
        assert list(files.iterdir()) == []
    finally:
        bench.payload.close()


def test_a_target_that_was_not_measured_has_no_figure() -> None:
    found = list(compare({"scenarios": {}}))
    assert len(found) == len(TARGETS)
    assert {figure for _, figure in found} == {None}


def test_a_target_is_a_floor_or_a_ceiling() -> None:
    floors = {target.is_floor: target for target in TARGETS}
    assert floors[True].is_met(floors[True].limit)
    assert not floors[True].is_met(floors[True].limit - 0.1)
    assert floors[False].is_met(floors[False].limit)
    assert not floors[False].is_met(floors[False].limit + 0.1)


def test_a_chart_has_a_bar_for_everybody_and_escapes_names() -> None:
    chart = draw("a < b", "ratio", [Bar("one & only", "ours", 1.0, 0.5, 1.5), Bar("c", "ceiling", 2.0, 2.0, 2.0)])
    assert chart.count("<rect") == 3
    assert "one &amp; only" in chart
    assert "a &lt; b" in chart
