"""A MariaDB server of our own from the installed binaries: new data directory, free port, no password, not durable."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.process import find_free_port, wait_for_answer

OPTIONS = (
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--skip-log-bin",
    "--max-connections=200",
    # What Debian and Django's documentation set; names that differ in case alone are equal by it.
    "--character-set-server=utf8mb4",
    "--collation-server=utf8mb4_general_ci",
    # Not that of the tests: moments that the database's clock gives must only be compared with its own.
    "--default-time-zone=+05:45",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-doublewrite=0",
    "--innodb-flush-method=nosync",
    "--innodb-buffer-pool-size=64M",
    "--innodb-log-file-size=32M",
)


class MariaDBServer:
    """Starts on entering, answers connections from then on, and leaves nothing behind.

    Where we are root, everything runs as the package's own user ``mysql``. Who comes over the loopback is root there.
    """

    def __init__(self, server: str) -> None:
        self.server = Path(server)
        self.port = find_free_port()
        self.user = ["--user=mysql"] if os.geteuid() == 0 else []

    @property
    def environment(self) -> dict[str, str]:
        """The variables of MariaDB's own clients, which ``tests/settings.py`` reads too."""
        return {"MYSQL_HOST": "127.0.0.1", "MYSQL_TCP_PORT": str(self.port)}

    def __enter__(self) -> Self:
        self.directory = Path(tempfile.mkdtemp(prefix="mariadb-"))
        self.log = self.directory / "log"
        data = self.directory / "data"
        if self.user:
            shutil.chown(self.directory, "mysql", "mysql")
        try:
            with self.log.open("w") as output:
                installer = shutil.which("mariadb-install-db") or "mariadb-install-db"
                common = ["--no-defaults", f"--datadir={data}", *self.user]
                trust = ["--auth-root-authentication-method=normal", "--skip-test-db"]
                done = subprocess.run([installer, *common, *trust], stdout=output, stderr=output, check=False)
                if done.returncode:
                    raise RuntimeError(self.log.read_text())
                place = [f"--port={self.port}", f"--socket={self.directory}/socket", f"--pid-file={self.directory}/pid"]
                self.process = subprocess.Popen(
                    [self.server, *common, *place, *OPTIONS], stdout=output, stderr=output, cwd=self.directory
                )
            wait_for_answer(f"MariaDB on port {self.port}", self.greets, self.log.read_text, self.process)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def greets(self) -> bool:
        """Whether the server greets whoever connects."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=5) as connected:
            return bool(connected.recv(1))
        return False

    def stop(self) -> None:
        """End the server, which need not save anything, and remove its directory."""
        process = getattr(self, "process", None)
        if process is not None:
            process.kill()
            process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
