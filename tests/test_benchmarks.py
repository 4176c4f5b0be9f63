"""The benchmark script runs, proves what was stored, and writes down what it did. Nothing here looks at a clock."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.skips import need

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[1]


def test_the_throughput_script_compares_our_endpoint_with_the_node_server(tmp_path: Path) -> None:
    need("node")
    output = tmp_path / "result.json"
    script = [sys.executable, str(ROOT / "benchmarks" / "throughput.py")]
    options = ["--size", "1", "--rounds", "1", "--chunk", "0.3", "--directory", str(tmp_path), "--output", str(output)]
    run = subprocess.run([*script, *options], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    result = json.loads(output.read_text())
    assert set(result) >= {"script", "at", "options", "machine", "versions", "commands", "rows", "runs", "void"}
    assert result["void"] is False
    subjects = {row["subject"] for row in result["rows"]}
    ours = {"gunicorn, none", "gunicorn, data", "uvicorn, none", "uvicorn, data"}
    assert subjects == {"discard", "write", "node", *ours}
    for row in result["rows"]:
        for ratio in ("to_peer", "to_ceiling"):
            assert row[ratio]["min"] <= row[ratio]["median"] <= row[ratio]["max"]
        assert {"cpu_seconds_per_gib", "rss_peak_mib"} <= row.keys()
        assert row["subject"] in run.stdout
    assert {run["subject"] for run in result["runs"] if run["verified"]} == subjects - {"discard"}
    assert {"gunicorn", "uvicorn", "node", "python", "@tus/server", "@tus/file-store"} <= result["versions"].keys()
    assert str(ROOT) not in output.read_text(), "the result names no path of this machine's checkout"
