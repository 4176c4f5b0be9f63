"""A PostgreSQL server of our own from the installed binaries: new cluster, free port, trusted, not durable."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.process import find_free_port

SETTINGS = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200"}


class PostgresServer:
    """Starts on entering, answers connections from then on, and leaves nothing behind.

    PostgreSQL refuses to run as root; there, everything runs as the package's own user ``postgres``.
    """

    def __init__(self, binaries: str) -> None:
        self.binaries = Path(binaries)
        self.port = find_free_port()
        self.user = "postgres" if os.geteuid() == 0 else None

    @property
    def environment(self) -> dict[str, str]:
        """libpq's variables: with them psql, psycopg and Django find this server without further settings."""
        return {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": "postgres", "PGPASSWORD": ""}

    def __enter__(self) -> Self:
        self.directory = Path(tempfile.mkdtemp(prefix="postgres-"))
        self.data = self.directory / "data"
        if self.user:
            entry = pwd.getpwnam(self.user)
            os.chown(self.directory, entry.pw_uid, entry.pw_gid)
        try:
            self.run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
            options = [f"-c {name}={value}" for name, value in SETTINGS.items()]
            options += [f"-p {self.port}", "-c listen_addresses=127.0.0.1", f"-k {self.directory}"]
            self.control("start", "-l", self.directory / "log", "-o", " ".join(options))
        except BaseException:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.control("stop", "-m", "immediate")
        shutil.rmtree(self.directory)

    def control(self, verb: str, *arguments: str | Path) -> None:
        """Run ``pg_ctl`` and wait until it has happened."""
        self.run("pg_ctl", verb, "-D", self.data, "-w", "-s", *arguments)

    def run(self, program: str, *arguments: str | Path) -> None:
        """Run one of the server's programs; an error carries what it printed, and the server's log."""
        log = self.directory / "output"
        with log.open("w") as output:  # not a pipe: the server inherits it and would keep it open
            done = subprocess.run(
                [self.binaries / program, *arguments],
                user=self.user,
                group=self.user,
                extra_groups=[] if self.user else None,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
                check=False,
            )
        if done.returncode:
            server_log = self.directory / "log"
            raise RuntimeError(log.read_text() + (server_log.read_text() if server_log.exists() else ""))
