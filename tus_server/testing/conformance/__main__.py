"""``python -m tus_server.testing.conformance URL``: the checklist against any tus server, from outside."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from tus_server.testing.conformance.client import ForeignClient
from tus_server.testing.conformance.foreign import ForeignServer, Result


def main(arguments: list[str] | None = None) -> int:
    """Run the checks and print what they found; returns 0 when none failed, 1 when one did, 2 for no such server."""
    parser = argparse.ArgumentParser(prog="python -m tus_server.testing.conformance", description=__doc__)
    parser.add_argument("url", help="the creation endpoint, as http://host:port/path/")
    parser.add_argument("--only", action="append", default=[], metavar="ID", help="an item or a section: CORE-14, CRE")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        try:
            client = ForeignClient(options.url, Path(directory))
            extensions = client.extensions()
        except (ValueError, OSError) as error:
            print(f"{options.url}: {error}", file=sys.stderr)
            return 2
        server = ForeignServer(client, extensions, options.only)
        run(server, directory)
    if not server.results:
        print(f"no test covers {', '.join(options.only)}", file=sys.stderr)
        return 2
    print(as_json(options.url, server) if options.json else as_text(server))
    return int(any(result.outcome == "failed" for result in server.results))


def run(server: ForeignServer, directory: str) -> None:
    """Run the modules of this package with pytest, whose own output nobody sees."""
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        pytest.main(
            [
                *("--pyargs", "tus_server.testing.conformance", "--noconftest", "--import-mode=importlib"),
                *("-c", os.devnull, "--rootdir", directory, "-p", "no:cacheprovider", "--tb=short"),
            ],
            plugins=[server],
        )


def as_text(server: ForeignServer) -> str:
    """Return a line for each item of the checklist, and below it what failed."""
    lines = []
    for item, results in server.by_item().items():
        counts = Counter(result.outcome for result in results)
        told = ", ".join(
            f"{counts[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped") if counts[outcome]
        )
        lines.append(f"{item}: {told}")
        lines += [f"    {result.test}: {result.reason}" for result in results if result.outcome == "failed"]
        lines[-1 - counts["failed"]] += _why_skipped(results)
    totals = Counter(result.outcome for result in server.results)
    lines.append(f"{totals['passed']} passed, {totals['failed']} failed, {totals['skipped']} skipped")
    return "\n".join(lines)


def _why_skipped(results: list[Result]) -> str:
    reasons = sorted({result.reason for result in results if result.outcome == "skipped"})
    return f" ({'; '.join(reasons)})" if reasons else ""


def as_json(url: str, server: ForeignServer) -> str:
    """Return the same as an object: ``url``, ``extensions``, ``passed``, ``failed``, ``skipped``, ``items``."""
    totals = Counter(result.outcome for result in server.results)
    items = {
        item: [{"test": result.test, "outcome": result.outcome, "reason": result.reason} for result in results]
        for item, results in server.by_item().items()
    }
    found = {"url": url, "extensions": sorted(server.extensions), **{name: totals[name] for name in Result.OUTCOMES}}
    return json.dumps({**found, "items": items}, indent=1)


if __name__ == "__main__":
    sys.exit(main())
