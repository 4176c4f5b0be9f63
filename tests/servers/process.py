"""A real server as a child process: started on a free port, killed, restarted on the same port and directory.

    with RunningServer("gthread", tmp_path) as server:
        requests.get(server.url + "/health/")
        server.kill()      # SIGKILL to every process of the server
        server.restart()   # the same port, directory and environment

The kinds: ``gthread`` (gunicorn, 1 worker of 16 threads), ``sync`` (gunicorn, 4 processes), ``uvicorn`` (1 process),
``uvicorn-2`` (2 processes), ``node`` (``@tus/server``, to try the suite itself). By default they serve
``tests.servers`` (settings ``project``); any other project is named by ``wsgi``, ``asgi`` and ``env``.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from subprocess import Popen
from typing import Literal

ROOT = Path(__file__).resolve().parents[2]
INTEROP = ROOT / "tests" / "tus_server" / "interop"

Kind = Literal["gthread", "sync", "uvicorn", "uvicorn-2", "node"]
WSGI_KINDS: tuple[Kind, ...] = ("gthread", "sync")
ASGI_KINDS: tuple[Kind, ...] = ("uvicorn", "uvicorn-2")

#: Seconds that a server may take to answer its first request, or to end after SIGTERM. Usually it takes one or two, and
#: ten where the machine has much else to do.
START_TIMEOUT = 120.0
STOP_TIMEOUT = 60.0


#: What every worker writes once, and how many there are. One that is told to end while it still begins never hears it:
#: gunicorn's have their master's handler until then, and are killed when the master's patience is over.
_WORKERS: dict[Kind, tuple[str, int]] = {"sync": ("Booting worker", 4), "uvicorn-2": ("Started server process", 2)}

_claims: deque[socket.socket] = deque()


class ServerFailed(RuntimeError):
    """The server did not start or did not answer; the message ends with its log."""


def find_free_port() -> int:
    """Return a port of 127.0.0.1 that was free a moment ago, and that no other run of the suite is given meanwhile.

    A name in Linux's abstract namespace says so, which goes with this process; the last ones are enough.
    """
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0async-uploads-port-{port}")
        except OSError:
            claim.close()
            continue
        _claims.append(claim)
        if len(_claims) > 64:
            _claims.popleft().close()
        return port


def wait_for_answer(name: str, is_up: Callable[[], bool], log: Callable[[], str], *processes: Popen[bytes]) -> None:
    """Wait until a server that was just started answers.

    Args:
        name: The server's name and place, for the error.
        is_up: Asks the server.
        log: What the server wrote so far.
        processes: Those that have to live for it.

    Raises:
        ServerFailed: One of the processes has ended, or ``START_TIMEOUT`` is over; the message ends with the log.
    """
    deadline = time.monotonic() + START_TIMEOUT
    while not is_up():
        if any(process.poll() is not None for process in processes) or time.monotonic() > deadline:
            raise ServerFailed(f"{name} does not answer:\n{log()[-4000:]}")
        time.sleep(0.02)


class RunningServer:
    """A server process, its port, and the private directory of its database and files.

    Args:
        kind: Which server; see the module.
        directory: The child's working directory; ``TEST_SERVER_DIRECTORY`` tells the project. Created if missing.
        env: Settings for the project, as environment variables.
        wsgi, asgi: The application for the kinds that need it, as ``module:name``.
        health: A path that answers anything below 500 once the server is up.
        arguments: More command line arguments for the server.
    """

    def __init__(
        self,
        kind: Kind,
        directory: Path,
        *,
        env: Mapping[str, str] | None = None,
        wsgi: str = "tests.servers.wsgi:application",
        asgi: str = "tests.servers.asgi:application",
        health: str = "/health/",
        arguments: tuple[str, ...] = (),
    ) -> None:
        self.kind = kind
        self.directory = directory
        self.port = find_free_port()
        self.log_path = directory / "server.log"
        self._env = dict(env or {})
        self._wsgi, self._asgi = wsgi, asgi
        self._health = health
        self._arguments = arguments
        self._process: Popen[bytes] | None = None
        self._starts_at = 0
        directory.mkdir(parents=True, exist_ok=True)
        self.start()

    def __enter__(self) -> RunningServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Scheme, host and port, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, for a socket."""
        return "127.0.0.1", self.port

    @property
    def pid(self) -> int:
        """The process that was started: the gunicorn master, or uvicorn itself."""
        if self._process is None:
            raise ServerFailed("The server is not running.")
        return self._process.pid

    @property
    def log(self) -> str:
        """Everything that the server wrote so far, over all its restarts."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def start(self) -> None:
        """Start the process and wait until it answers."""
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.servers.project",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "TEST_SERVER_DIRECTORY": str(self.directory),
            "TEST_SERVER_PORT": str(self.port),
            **self._env,
        }
        self._starts_at = len(self.log)
        with self.log_path.open("ab") as log:
            # A session of its own: one signal to the group reaches workers whose master is already dead.
            self._process = Popen(
                self._command(),
                cwd=self.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_for_answer(f"{self.kind} on port {self.port}", self._is_up, lambda: self.log, self._process)
        except ServerFailed:
            self.kill()
            raise

    def stop(self) -> None:
        """End the server by SIGTERM, as an operator would; by SIGKILL when it does not go."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT)
        self.kill()

    def kill(self) -> None:
        """``kill -9`` for every process of the server; returns when they are gone."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        while group_members(process.pid):
            time.sleep(0.002)

    def restart(self) -> None:
        """Start again on the same port, directory and environment; stops the server first if it runs."""
        self.stop()
        self.start()

    def pids(self) -> list[int]:
        """Return the living processes of the server, master and workers."""
        return group_members(self.pid)

    def rss_peak(self) -> int:
        """Return the highest resident size so far of the largest process of the server, in bytes (VmHWM)."""
        return max(_peak(pid) for pid in self.pids())

    def _command(self) -> list[str]:
        gunicorn = [
            *(sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{self.port}", "--no-control-socket"),
            *("--graceful-timeout", "5", "--timeout", "120", "--worker-tmp-dir", str(self.directory)),
        ]
        uvicorn = [
            *(sys.executable, "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(self.port)),
            *("--no-access-log", "--timeout-graceful-shutdown", "5"),
        ]
        commands: dict[str, list[str]] = {
            "gthread": [*gunicorn, "--worker-class", "gthread", "--threads", "16", *self._arguments, self._wsgi],
            "sync": [*gunicorn, "--worker-class", "sync", "--workers", "4", *self._arguments, self._wsgi],
            "uvicorn": [*uvicorn, *self._arguments, self._asgi],
            "uvicorn-2": [*uvicorn, "--workers", "2", *self._arguments, self._asgi],
            "node": ["node", str(INTEROP / "server.mjs"), *self._arguments],
        }
        return commands[self.kind]

    def _is_up(self) -> bool:
        line, workers = _WORKERS.get(self.kind, ("", 0))
        return self._answers() and self.log[self._starts_at :].count(line) >= workers

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(*self.address, timeout=5)
        try:
            connection.request("GET", self._health)
            with connection.getresponse() as answer:
                return answer.status < 500
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def group_members(group: int) -> list[int]:
    """Return the living processes of a group; a zombie that nobody has waited for yet is dead."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # After the name in brackets: state, parent, group.
                state, _, of_group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                if int(of_group) == group and state != "Z":
                    found.append(int(entry.name))
    return sorted(found)


def _peak(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return 0
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
