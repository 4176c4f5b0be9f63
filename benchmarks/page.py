"""Write the documentation's page of results: tables, charts and the result itself, from result files.

    python -m benchmarks.page RESULT.json [LATER.json ...] [--busy]

Everything lands in ``docs/reference``: ``measurements.md`` and, beside it, ``measurements/`` with the charts and a copy
of the result. ``--busy`` says on the page that other work ran on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.charts import Bar, draw
from benchmarks.contestants import CONTESTANTS
from benchmarks.processes import ROOT
from benchmarks.scenarios import SCENARIOS
from benchmarks.targets import Result, compare

#: The name of ours among the versions.
US = "django-async-uploads"
DOCS = ROOT / "docs" / "reference"
CHARTS = (
    *("one", "eight", "chunks", "durability", "huge", "create-4k", "create-256k", "head", "slow-1000"),
    *("s3-one-40", "s3-eight-40", "s3-chunks", "azure-chunks"),
)
#: Medians that the tables show beside ratios, where a scenario has them: name and heading.
SHOWN = {
    "cpu_seconds_per_gib": "CPU s/GiB",
    "rss_peak_mib": "peak RSS, MiB",
    "to_single": "to a single PATCH",
    "to_stock": "to a stock view",
    "cpu_ms": "CPU ms",
    "stock_cpu_ms": "CPU ms of a stock view",
    "probe.p50": "HEAD p50, ms",
    "probe.p95": "HEAD p95, ms",
    "kib_per_client": "KiB per client",
    "small_mib": "64 MiB upload: peak MiB",
    "large_mib": "large upload: peak MiB",
    "growth_mib": "growth, MiB",
    "resent_share": "share sent again",
    "refusals": "refusals",
    "taken_over": "taken over",
    "small_ms": "1 KiB, ms",
    "large_ms": "10 GiB, ms",
    "more_ms": "more, ms",
    "requests.all": "requests",
    "one_mib_per_upload": "1 upload: MiB over idle",
    "eight_mib_per_upload": "8 uploads: MiB over idle, each",
}


BUSY = (
    ":::{warning}",
    "Other work ran on this machine at the same time. Ratios within rounds hold roughly; differences below a third are",
    "noise.",
    ":::",
    "",
)


def _describe(result: Result) -> str:
    """Return when, with what and on what it was measured."""
    machine = result["machine"]
    commit, rounds = result["versions"][US], result["options"]["rounds"]
    return f"""Taken on {result["at"][:10]} with commit `{commit}` by `make bench`, {_name_sizes(result)},
{rounds} rounds, interleaved. [How to repeat and read this](../how-to/measure.md). The whole result, with every run,
every command line and every version: {{download}}`results.json <measurements/results.json>`.

Machine: {machine["processors"]} processors ({machine["processor"]}), {machine["memory_mib"] // 1024} GiB of memory,
files on {machine["file_system"]}, {machine["system"]}. Client and server share the processors."""


def _name_sizes(result: Result) -> str:
    options = result["options"]
    large = ", ".join(options["large"])
    if options["full"]:
        return "the sizes of `--full`"
    return "small sizes" + (f", those of `--full` for {large}" if large else "")


def build_page(result: Result, *, is_busy: bool) -> str:
    """Return the page's Markdown."""
    lines = ["# Measurements", "", "<!-- Written by `python -m benchmarks.page`; do not edit. -->", ""]
    lines += [_describe(result), "", *(BUSY if is_busy else [])]
    lines += ["## Targets", "", "| what | target | measured | |", "| --- | --- | --- | --- |"]
    for target, figure in compare(result):
        sign = "at least" if target.is_floor else "at most"
        verdict = "not measured" if figure is None else "met" if target.is_met(figure) else "**not met**"
        shown = "" if figure is None else _show(figure)
        lines.append(f"| {target.text} | {sign} {target.limit:g} | {shown} | {verdict} |")
    missed = [target for target, figure in compare(result) if figure is not None and not target.is_met(figure)]
    reasons = dict.fromkeys(target.reason for target in missed if target.reason)
    if reasons:
        lines += [
            "",
            "What keeps the missed ones from being met; where it does not say how that was seen, it is supposed:",
            "",
        ]
        for reason in reasons:
            lines += [f"* {'; '.join(target.text for target in missed if target.reason == reason)}. {reason}"]
    lines += ["", "Ratios: more is better, 1 is as fast as what is compared with.", ""]
    for name, scenario in result["scenarios"].items():
        lines += _build_section(name, scenario)
    if result["missing"]:
        lines += ["## Not measured", ""]
        lines += [
            f"* {name}: `{reason.strip().splitlines()[-1].strip()}`" for name, reason in result["missing"].items()
        ]
        lines.append("")
    lines += ["## Versions", "", "| what | version |", "| --- | --- |"]
    lines += [f"| {name} | {version} |" for name, version in result["versions"].items()]
    return "\n".join([*lines, ""])


def merge(first: Result, *later: Result) -> Result:
    """Return a result with the scenarios of all: of each the latest, which says when and with which commit."""
    scenarios = dict(first["scenarios"])
    for result in later:
        again = f"Measured again on {result['at'][:10]} with commit `{result['versions'][US]}`, {_name_sizes(result)}."
        scenarios |= {name: {**scenario, "again": again} for name, scenario in result["scenarios"].items()}
    return {**first, "scenarios": scenarios}


def _build_section(name: str, scenario: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"## {name}", "", scenario["title"], "")
    if again := scenario.get("again"):
        yield from (again, "")
    rows = scenario["rows"]
    if not rows:
        return
    if name in CHARTS:
        yield from (f"![{scenario['title']}](measurements/{name}.svg)", "")
    references = [ref for ref in SCENARIOS[name].references if any(ref in row["ratios"] for row in rows)]
    shown = [key for key in SHOWN if any(key in row["medians"] for row in rows)]
    has_paths = any(row["served"] for row in rows)
    heads = [
        "",
        *(f"to {ref}" for ref in references),
        *(SHOWN[key] for key in shown),
        *(["came by"] if has_paths else []),
    ]
    yield "| " + " | ".join(heads) + " |"
    yield "|" + " --- |" * len(heads)
    for row in rows:
        cells = [row["subject"]]
        for ref in references:
            ratio = row["ratios"].get(ref)
            cells.append(f"{_show(ratio['median'])} ({_show(ratio['min'])} to {_show(ratio['max'])})" if ratio else "")
        cells += [_show(row["medians"][key]) if key in row["medians"] else "" for key in shown]
        if has_paths:
            cells.append(", ".join(row["served"]))
        yield "| " + " | ".join(cells) + " |"
    yield ""
    for subject, problem in scenario["problems"].items():
        yield f"Out: {subject}: {' '.join(problem.split())[:200]}"
        yield ""


def draw_charts(result: Result) -> Iterator[tuple[str, str]]:
    """Yield the charts: name and SVG."""
    kinds = {endpoint.name: one.kind for one in CONTESTANTS for endpoint in one.endpoints}
    for name in CHARTS:
        rows = result["scenarios"].get(name, {}).get("rows", [])
        reference = (
            next((ref for ref in SCENARIOS[name].references if any(ref in row["ratios"] for row in rows)), None)
            if name in SCENARIOS
            else None
        )
        if reference is None:
            continue
        bars = []
        for row in rows:
            if ratio := row["ratios"].get(reference):
                kind = kinds.get(row["subject"], "ours")
                bars.append(Bar(row["subject"], kind, ratio["median"], ratio["min"], ratio["max"]))
        yield name, draw(f"{name}: {SCENARIOS[name].title}"[:100], f"ratio to {reference}; longer is better", bars)


def _show(figure: float) -> str:
    return f"{figure:.0f}" if figure >= 100 or figure == int(figure) else f"{figure:.2f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write page, charts and the copy."""
    parser = argparse.ArgumentParser("python -m benchmarks.page", description=__doc__)
    parser.add_argument(
        "result", type=Path, nargs="+", help="a whole run; later ones replace the scenarios that they measured again"
    )
    parser.add_argument("--busy", action="store_true", help="other work ran on the machine")
    parser.add_argument("--docs", type=Path, default=DOCS, help="where to (docs/reference)")
    options = parser.parse_args(arguments)
    results = [json.loads(path.read_text()) for path in options.result]
    if failures := [failure for each in results for failure in each["failures"]]:
        print("The run is void; nothing was written.", *failures, sep="\n", file=sys.stderr)
        return 1
    result = merge(*results)
    beside = options.docs / "measurements"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    (beside / "results.json").write_text(json.dumps(result) + "\n")
    for name, chart in draw_charts(result):
        (beside / f"{name}.svg").write_text(chart)
    (options.docs / "measurements.md").write_text(build_page(result, is_busy=options.busy))
    print(f"Written: {options.docs / 'measurements.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
