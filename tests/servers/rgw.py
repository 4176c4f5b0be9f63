"""Ceph's S3 gateway on a cluster of one in memory: a real S3 implementation, from Debian's packages.

    python -m tests.servers.rgw      # starts one, says where it is, and ends it at Ctrl+C

It looks at credentials, policies and the order of parts, which moto does not. It ignores conditions on CopyObject and
on CompleteMultipartUpload, and answers the first Complete without an ETag.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.servers.process import START_TIMEOUT, ServerFailed, find_free_port, wait_for_answer

PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
REGION = "us-east-1"
#: Bytes that the memory of the cluster takes at most.
CAPACITY = 4 * 2**30

CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon_v2},v1:127.0.0.1:{mon_v1}]
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
keyring = {directory}/keyring
run dir = {directory}
log file = {directory}/$name.log
pid file =
admin socket =
mon data = {directory}/mon
osd data = {directory}/osd
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
# One of each, in memory, and no wait for others.
mon allow pool size one = true
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon max pg per osd = 1000
osd objectstore = memstore
memstore device bytes = {capacity}
paxos propose interval = 0.05
paxos min wait = 0.01
# The gateway alone: nothing that runs from time to time.
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw enable apis = s3
rgw multipart min part size = {smallest_part}
rgw enable usage log = false
rgw enable gc threads = false
rgw enable lc threads = false
rgw enable quota threads = false
rgw run sync thread = false
rgw dynamic resharding = false
debug mon = 0
debug osd = 0
debug ms = 0
debug paxos = 0
debug rocksdb = 0
"""


def find_rgw() -> str | None:
    """Return the gateway's program where everything that it needs is installed."""
    return shutil.which("radosgw") if all(map(shutil.which, PROGRAMS)) else None


def version() -> str:
    """Return the version of the installed gateway, such as ``16.2.15``."""
    output = subprocess.run(["radosgw", "--version"], capture_output=True, text=True, check=True).stdout
    return output.split()[2]


class RgwServer:
    """Starts on entering, answers requests from then on, and leaves nothing behind.

    Args:
        smallest_part: The fewest bytes of a part that is not the last: 5 MiB as on S3, or less for quick tests.
    """

    access_key = "tests"
    secret_key = "tests only"
    region = REGION

    def __init__(self, smallest_part: int = 5 * 1024 * 1024) -> None:
        self._smallest_part = smallest_part
        self.port = find_free_port()
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        """The endpoint: scheme, host and port."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.directory = Path(tempfile.mkdtemp(prefix="rgw-"))
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()
        shutil.rmtree(self.directory)

    def client(self, **options: Any) -> Any:  # Any: boto3 makes its classes at run time
        """Return a boto3 client of this gateway; ``options`` are members of its ``Config``."""
        import boto3
        from botocore.config import Config

        checksums = {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=Config(signature_version="s3v4", **{**checksums, **options}),  # type: ignore[arg-type]
        )

    def _start(self) -> None:
        fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
        ports = {"mon_v2": find_free_port(), "mon_v1": find_free_port(), "port": self.port}
        options = {"capacity": CAPACITY, "smallest_part": self._smallest_part, **ports}
        text = CONFIGURATION.format(fsid=fsid, directory=self.directory, **options)
        (self.directory / "ceph.conf").write_text(text)
        for name in ("mon", "osd"):
            (self.directory / name).mkdir()
        addresses = f"[v2:127.0.0.1:{ports['mon_v2']},v1:127.0.0.1:{ports['mon_v1']}]"
        self._run("monmaptool", "--create", "--addv", "a", addresses, "--fsid", fsid, "monmap")
        key = self._run("ceph-authtool", "--gen-print-key").strip()
        everything = ["--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *"]
        self._run("ceph-authtool", "--create-keyring", "keyring", "--gen-key", "-n", "mon.", *everything[:3])
        self._run("ceph-authtool", "keyring", "--gen-key", "-n", "client.admin", *everything)
        self._run("ceph-mon", *self._common, "--mkfs", "-i", "a", "--monmap", "monmap", "--keyring", "keyring")
        self._spawn("ceph-mon", "-i", "a")
        (self.directory / "secrets.json").write_text(json.dumps({"cephx_secret": key}))
        self._run("ceph", *self._common, "osd", "new", osd, "0", "-i", "secrets.json")
        self._run("ceph-authtool", "keyring", "-n", "osd.0", "--add-key", key, *everything)
        self._run("ceph-osd", *self._common, "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._spawn("ceph-osd", "-i", "0")
        self._spawn("radosgw", "-n", "client.admin")
        place = f"The gateway on port {self.port}"
        wait_for_answer(place, self._answers, self._logs, *self._processes)
        keys = ["--access-key", self.access_key, "--secret-key", self.secret_key]
        admin = [*self._common, "-n", "client.admin", "user", "create", "--uid", "tests", "--display-name", "tests"]
        self._run("radosgw-admin", *admin, *keys)

    @property
    def _common(self) -> tuple[str, str]:
        return "-c", "ceph.conf"

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [program, *arguments],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT,
            env=self._environment,
            check=False,
        )
        if done.returncode:
            raise ServerFailed(f"{program} {' '.join(arguments)}: {done.stderr}\n{self._logs()}")
        return done.stdout

    def _spawn(self, program: str, *arguments: str) -> None:
        with (self.directory / "output").open("ab") as output:
            self._processes.append(
                subprocess.Popen(
                    [program, *self._common, "-f", *arguments],
                    cwd=self.directory,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=self._environment,
                )
            )

    @property
    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/")
            return connection.getresponse().status < 500
        return False

    def _logs(self) -> str:
        names = [self.directory / "output", *sorted(self.directory.glob("*.log"))]
        return "\n".join(f"{path.name}: {path.read_text(errors='replace')[-2000:]}" for path in names if path.exists())


def main() -> None:
    """Run a gateway until Ctrl+C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with RgwServer() as server, contextlib.suppress(KeyboardInterrupt):
        print(f"Ceph RGW {version()}: {server.url}  access key {server.access_key!r}, secret key {server.secret_key!r}")
        signal.pause()


if __name__ == "__main__":
    main()
