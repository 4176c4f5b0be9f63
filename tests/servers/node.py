"""The Node packages that tests use as foreign clients and servers, installed once into ``.build/node``."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.servers.process import INTEROP, ROOT

#: Exact versions: a new release must not turn our tests red overnight.
PACKAGES = {"tus-js-client": "4.3.1", "@tus/server": "2.4.5", "@tus/file-store": "2.1.1"}


def install_packages() -> Path:
    """Install what is missing and return the directory; several test processes may ask at once."""
    directory = ROOT / ".build" / "node"
    directory.mkdir(parents=True, exist_ok=True)
    wanted = " ".join(f"{name}@{version}" for name, version in PACKAGES.items())
    stamp = directory / "installed"
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            subprocess.run(
                ["npm", "install", "--no-audit", "--no-fund", "--no-save", "--loglevel=error", *wanted.split()],
                cwd=directory,
                check=True,
                capture_output=True,
                timeout=300,
            )
            stamp.write_text(wanted)
    return directory


def node_environment() -> dict[str, str]:
    """Return the environment in which the scripts of ``interop`` find the packages."""
    return {**os.environ, "NODE_PACKAGES": str(install_packages()), "NODE_NO_WARNINGS": "1"}


class NodeUpload:
    """``interop/upload.mjs`` as a child process: one upload by tus-js-client, told by a plan.

    See the script for the plan's members. Events are read as they come; the process is ended on leaving.
    """

    def __init__(self, plan: Mapping[str, object]) -> None:
        self.events: list[dict[str, Any]] = []
        self._process = subprocess.Popen(
            ["node", str(INTEROP / "upload.mjs"), json.dumps(plan)],
            env=node_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> NodeUpload:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def wait_for(self, name: str) -> Any:
        """Read events until one has this member; return its value. The process ending before is an error."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            self.events.append(event)
            if name in event:
                return event[name]
        raise AssertionError(f"no {name} in {self.events}")


def upload_by_node(plan: Mapping[str, object]) -> dict[str, Any]:
    """Run an upload to its end and return the event ``done``: the URL, and the methods of its requests."""
    with NodeUpload(plan) as upload:
        upload.wait_for("done")
        return upload.events[-1]
