"""Azurite, Microsoft's stand-in for Azure Blob Storage: installed once into ``.build/azurite``, run in memory."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.process import ROOT, ServerFailed, find_free_port, wait_for_answer

#: The last version that runs on Debian's Node 20; 3.36 wants 21 or newer.
PACKAGE = "azurite@3.35.0"
ACCOUNT = "tests"


def install_azurite() -> Path | None:
    """Install Azurite if need be and return its program for blobs.

    ``None`` where there is no Node.js with npm, or npm cannot install it (no network): there is no Azurite then.
    """
    if shutil.which("node") is None:
        return None
    directory = ROOT / ".build" / "azurite"
    directory.mkdir(parents=True, exist_ok=True)
    stamp, program = (
        directory / "installed",
        directory / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js",
    )
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != PACKAGE:
            if shutil.which("npm") is None:
                return None
            (directory / "package.json").write_text('{"private": true}\n')
            options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--loglevel=error"]
            try:
                subprocess.run(
                    ["npm", "install", *options, PACKAGE], cwd=directory, check=True, capture_output=True, timeout=300
                )
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
                return None
            stamp.write_text(PACKAGE)
    return program


def generate_key() -> str:
    """Return an account key as the service makes them."""
    return base64.b64encode(secrets.token_bytes(64)).decode()


class AzuriteServer:
    """Starts on entering, answers requests from then on, and leaves nothing behind.

    Args:
        program: What ``install_azurite`` returned.
        certificate, key: Files for HTTPS; then bearer tokens are taken too (their signature is not looked at).
    """

    def __init__(self, program: str, *, certificate: Path | None = None, key: Path | None = None) -> None:
        self.program = program
        self.certificate, self.key = certificate, key
        self.port = find_free_port()
        self.account_key = generate_key()

    @property
    def account_url(self) -> str:
        """Where the account is; the account's name is part of the path."""
        return f"{'http' if self.certificate is None else 'https'}://127.0.0.1:{self.port}/{ACCOUNT}"

    @property
    def connection_string(self) -> str:
        """What the SDK and django-storages take."""
        return (
            f"DefaultEndpointsProtocol={self.account_url.partition(':')[0]};AccountName={ACCOUNT};"
            f"AccountKey={self.account_key};BlobEndpoint={self.account_url};"
        )

    def __enter__(self) -> Self:
        self.directory = Path(tempfile.mkdtemp(prefix="azurite-"))
        options = ["--blobPort", str(self.port), "--inMemoryPersistence", "--silent", "--disableTelemetry"]
        # The SDK speaks a newer version of the protocol than Azurite knows.
        options += ["--skipApiVersionCheck"]
        if self.certificate is not None:
            options += ["--cert", str(self.certificate), "--key", str(self.key), "--oauth", "basic"]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["node", self.program, *options],
                cwd=self.directory,
                env={**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{self.account_key}"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_for_answer(f"Azurite on port {self.port}", self._answers, self._log, self._process)
        except ServerFailed:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self.directory)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def _log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")
