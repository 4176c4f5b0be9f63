"""moto, the stand-in for S3, as a process of its own: it survives the death of those who use it.

It keeps everything in memory, looks at no credentials and takes parts in any order.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.servers.process import ServerFailed, find_free_port, wait_for_answer

REGION = "us-east-1"


class MotoServer:
    """Starts on entering, answers requests from then on, and leaves nothing behind.

    Args:
        smallest_part: The fewest bytes of a part that is not the last: 5 MiB as on S3, or less for quick tests.
    """

    access_key = "tests"
    secret_key = "tests only"
    region = REGION

    def __init__(self, smallest_part: int = 5 * 1024 * 1024) -> None:
        self.port = find_free_port()
        self._smallest_part = smallest_part

    @property
    def url(self) -> str:
        """The endpoint: scheme, host and port."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="moto-")
        log = Path(self._directory.name) / "log"
        environment = {**os.environ, "S3_UPLOAD_PART_MIN_SIZE": str(self._smallest_part), "PYTHONWARNINGS": "ignore"}
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
                cwd=self._directory.name,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            place = f"moto on port {self.port}"
            wait_for_answer(place, self._answers, lambda: log.read_text(errors="replace"), self._process)
        except ServerFailed:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._directory.cleanup()

    def client(self, **options: Any) -> Any:  # Any: boto3 makes its classes at run time
        """Return a boto3 client of this server; ``options`` are members of its ``Config``."""
        return connect(self.url, **options)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/moto-api/")
            return connection.getresponse().status < 500
        return False


def connect(url: str, **options: Any) -> Any:
    """Return a boto3 client of moto at an address."""
    import boto3
    from botocore.config import Config

    checksums = {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
    return boto3.session.Session().client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=MotoServer.access_key,
        aws_secret_access_key=MotoServer.secret_key,
        region_name=REGION,
        config=Config(max_pool_connections=32, **{**checksums, **options}),  # type: ignore[arg-type]
    )
