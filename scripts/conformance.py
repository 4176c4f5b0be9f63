"""Run the conformance command against our own servers and against ``@tus/server``, and print a table of what it found.

    .venv/bin/python scripts/conformance.py            # needs node and npm for @tus/server

Each server runs on a free port of 127.0.0.1 and is ended. Below the table stand the items that failed, for
``docs/how-to/check-a-server.md``.
"""

from __future__ import annotations

import contextlib
import json
import platform
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.servers import Kind, RunningServer  # noqa: E402
from tests.servers.node import PACKAGES, node_environment  # noqa: E402


def describe_servers() -> dict[Kind, str]:
    """Return the servers with their versions."""
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    packages = [f"{name} {PACKAGES[name]}" for name in ("@tus/server", "@tus/file-store")]
    return {
        "gthread": f"tus_server, gunicorn {version('gunicorn')} (gthread)",
        "sync": f"tus_server, gunicorn {version('gunicorn')} (sync, 4 processes)",
        "uvicorn": f"tus_server, uvicorn {version('uvicorn')}",
        "uvicorn-2": f"tus_server, uvicorn {version('uvicorn')} (2 processes)",
        "node": f"{', '.join(packages)}, Node {node}",
    }


def check(url: str) -> dict[str, Any]:
    """Run the command; return what it printed."""
    command = [sys.executable, "-m", "tus_server.testing.conformance", "--json", url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextlib.contextmanager
def looked_after(server: RunningServer) -> Iterator[None]:
    """Start a server again whenever its process has died, as a service manager does."""
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(0.2):
            if not server.pids():
                server.kill()
                server.start()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def main() -> None:
    """Check each server and print the table, then the items that failed."""
    failed: dict[str, list[str]] = {}
    print(f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, Django {version('django')}\n")
    print("| server | tests passed | failed | skipped | items with a failure |\n| --- | --- | --- | --- | --- |")
    for kind, name in describe_servers().items():
        environment = node_environment() if kind == "node" else {}
        with (
            tempfile.TemporaryDirectory() as directory,
            RunningServer(kind, Path(directory), env=environment) as server,
            looked_after(server),
        ):
            found = check(f"{server.url}/files/")
        failed[name] = [
            item for item, tests in found["items"].items() if any(one["outcome"] == "failed" for one in tests)
        ]
        items = f"{len(failed[name])} of {len(found['items'])}"
        print(f"| {name} | {found['passed']} | {found['failed']} | {found['skipped']} | {items} |", flush=True)
    for name, items_failed in failed.items():
        if items_failed:
            print(f"\n{name}: {', '.join(items_failed)}")


if __name__ == "__main__":
    main()
