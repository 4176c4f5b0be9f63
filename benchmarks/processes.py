"""Server processes: each with a directory and a port of its own, and what it costs, read from ``/proc``."""

from __future__ import annotations

import contextlib
import getpass
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT = 60.0
STOP_TIMEOUT = 10.0


class ServerFailed(RuntimeError):
    """A server did not start, or ended by itself."""


@dataclass
class Server:
    """A server process.

    Attributes:
        name: What the tables call it.
        command: Its command line; ``{port}`` and ``{directory}`` are filled in.
        directory: Where it keeps its files; made when it starts.
        environment: Variables besides ours.
        templates: Files of its directory that are written when it starts, filled in likewise (``{user}``: who we are).
    """

    name: str
    command: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    templates: Mapping[str, str] = field(default_factory=dict)
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process and wait until it accepts connections.

        Raises:
            ServerFailed: It ended, or did not listen within a minute; with the end of its log.
        """
        self.port = find_free_port()
        self.directory.mkdir(parents=True, exist_ok=True)
        facts = {"port": self.port, "directory": self.directory, "user": getpass.getuser()}
        for name, text in self.templates.items():
            (self.directory / name).write_text(text.format(**facts))
        with (self.directory / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [part.format(**facts) for part in self.command],
                env=build_environment(self.directory, self.environment) | {"BENCHMARK_PORT": str(self.port)},
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT
        while not self._accepts():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise ServerFailed(f"{self.name} did not start:\n{self.log[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End every process of the server."""
        process, self.process = self.process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def restart(self) -> None:
        """Start it anew, with the files that it has, at another port."""
        self.stop()
        self.start()

    @property
    def log(self) -> str:
        """Everything that the server printed."""
        return (self.directory / "log").read_text(errors="replace")

    def cpu_seconds(self) -> float:
        """Return the CPU seconds, user and system, that the server has used so far."""
        return sum(_cpu_seconds(pid) for pid in self._pids())

    def forget_peak(self) -> None:
        """Let the peak of ``rss_peak`` start from what is resident now, where the kernel allows it."""
        for pid in self._pids():
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")

    def rss_peak(self) -> int:
        """Return the sum of the peak resident sizes of its processes (VmHWM), in bytes."""
        return sum(_read_size(pid, "VmHWM:") for pid in self._pids())

    def rss(self) -> int:
        """Return the sum of the resident sizes of its processes, in bytes."""
        return sum(_read_size(pid, "VmRSS:") for pid in self._pids())

    def shown_command(self) -> str:
        """Return the command line without what differs between machines."""
        shown = shlex.join(Path(part).name if part.startswith("/") else part for part in self.command)
        return " ".join([*(f"{name}={_shorten(value)}" for name, value in self.environment.items()), shown])

    def _accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def _pids(self) -> Iterator[int]:
        waiting = [self.process.pid] if self.process is not None else []
        while waiting:
            pid = waiting.pop()
            yield pid
            with contextlib.suppress(OSError):
                for children in Path(f"/proc/{pid}/task").glob("*/children"):
                    waiting += [int(child) for child in children.read_text().split()]


def build_environment(directory: Path, more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a measured process whose files lie in a directory; of ours only what it is given."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    others = {name: value for name, value in os.environ.items() if not name.startswith("BENCHMARK_")}
    return {**others, "PATH": path, "PYTHONPATH": str(ROOT), "BENCHMARK_DIRECTORY": str(directory), **more}


def find_free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _shorten(value: str) -> str:
    return Path(value).name if value.startswith("/") else shlex.quote(value)


def _cpu_seconds(pid: int) -> float:
    """Read a process's user and system time: the sum over all its threads, also of those that have ended."""
    with contextlib.suppress(OSError):
        user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _read_size(pid: int, name: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    return 0
