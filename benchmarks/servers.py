"""The servers that are measured, each a process of its own with a directory of its own."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
START_TIMEOUT = 30.0


@dataclass
class Server:
    """A server process.

    Attributes:
        name: What the tables call it.
        command: Its command line; ``{port}`` and ``{directory}`` are filled in.
        directory: Where it keeps its files.
        environment: Variables besides ours.
    """

    name: str
    command: list[str]
    directory: Path
    environment: dict[str, str] = field(default_factory=dict)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process and wait until it accepts connections."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.directory.mkdir(parents=True)
        environment = {
            **os.environ,
            **self.environment,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}",
            "BENCHMARK_DIRECTORY": str(self.directory),
            "BENCHMARK_PORT": str(self.port),
        }
        with (self.directory / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [part.format(port=self.port, directory=self.directory) for part in self.command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT
        while not self._accepts():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self.name} did not start:\n{(self.directory / 'log').read_text()[-4000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End every process of the server."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def cpu_seconds(self) -> float:
        """Return the CPU seconds, user and system, that the server has used so far."""
        return sum(_cpu_seconds(pid) for pid in self._pids())

    def rss_peak(self) -> int:
        """Return the highest resident size so far of its largest process, in bytes."""
        return max(_rss_peak(pid) for pid in self._pids())

    def shown_command(self) -> str:
        """Return the command line without what differs between machines."""
        return shlex.join(Path(part).name if part == sys.executable else part for part in self.command).replace(
            f"{HERE}{os.sep}", ""
        )

    def _accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def _pids(self) -> list[int]:
        assert self.process is not None
        found, waiting = [], [self.process.pid]
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            with contextlib.suppress(OSError):
                for children in Path(f"/proc/{pid}/task").glob("*/children"):
                    waiting += [int(child) for child in children.read_text().split()]
        return found


def _cpu_seconds(pid: int) -> float:
    """Sum the run time of a process's threads: nanoseconds from ``schedstat``, or clock ticks where there is none."""
    total = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):
            total += int(path.read_text().split()[0])
    if total:
        return total / 1e9
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _rss_peak(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def build_servers(directory: Path, packages: Path) -> dict[str, Server]:
    """Return the servers by name, not yet started.

    Args:
        directory: Each gets a directory of its own in it.
        packages: Where the Node packages are installed.
    """
    raw = [sys.executable, str(HERE / "raw_server.py")]
    gunicorn = [
        *(sys.executable, "-m", "gunicorn", "--worker-class", "gthread", "--threads", "8"),
        *(
            "--bind",
            "127.0.0.1:{port}",
            "--worker-tmp-dir",
            "{directory}",
            "--no-control-socket",
            "endpoint_wsgi:application",
        ),
    ]
    uvicorn = [
        *(sys.executable, "-m", "uvicorn", "--host", "127.0.0.1", "--port", "{port}"),
        *("--no-access-log", "--log-level", "warning", "endpoint_asgi:application"),
    ]
    return {
        "discard": Server("discard", [*raw, "discard", "{port}", "{directory}/files"], directory / "discard"),
        "write": Server("write", [*raw, "write", "{port}", "{directory}/files"], directory / "write"),
        "node": Server(
            "node", ["node", str(HERE / "node_server.mjs")], directory / "node", {"PACKAGES": str(packages)}
        ),
        "gunicorn": Server("gunicorn", gunicorn, directory / "gunicorn"),
        "uvicorn": Server("uvicorn", uvicorn, directory / "uvicorn"),
    }
