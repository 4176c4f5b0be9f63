"""Broken connections: what a client must send again, how soon it may go on, and what saving a large file costs."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import time
from urllib.parse import urlsplit

from benchmarks.client import METADATA, MIB, LoadFailed
from benchmarks.measuring import Bench, Scenario, Subject, Values
from benchmarks.processes import build_environment

#: Seconds after which a client that is still refused gives up; the result is then this.
PATIENCE = 30.0
SETTLED = 0.3


class TusClient:
    """One upload at one endpoint, over connections that the caller breaks."""

    def __init__(self, subject: Subject, size: int) -> None:
        self.port = subject.server.port
        self.headers = {"Tus-Resumable": "1.0.0"}
        if subject.endpoint.has_login:
            cookie = (subject.server.directory / "cookie").read_text()
            self.headers |= {"Cookie": cookie, "Origin": f"http://127.0.0.1:{self.port}"}
        created = self.request(
            "POST", subject.endpoint.path, {"Upload-Length": str(size), "Upload-Metadata": METADATA}, b""
        )
        if created.status != 201:
            raise LoadFailed(f"The creation was answered by {created.status}.")
        self.path = urlsplit(created.headers["Location"]).path

    def request(self, method: str, path: str, headers: dict[str, str], body: bytes) -> http.client.HTTPResponse:
        """Make a request over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body or None, {**self.headers, **headers})
            answer = connection.getresponse()
            answer.read()
            return answer
        finally:
            connection.close()

    def begin(self, data: bytes, length: int) -> socket.socket:
        """Begin a PATCH of ``length`` bytes from 0 on, send ``data`` of it, and return the open connection."""
        connection = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        lines = [f"PATCH {self.path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", "Upload-Offset: 0"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines += ["Content-Type: application/offset+octet-stream", f"Content-Length: {length}", "", ""]
        connection.sendall("\r\n".join(lines).encode() + data)
        return connection

    def offset(self) -> int | None:
        """Ask for the offset; ``None`` while the server does not tell it."""
        answer = self.request("HEAD", self.path, {}, b"")
        return int(answer.headers["Upload-Offset"]) if answer.status in (200, 204) else None


def _cut(bench: Bench, subject: Subject) -> Values:
    size = bench.pick(2, 64, 64) * MIB
    sent = size // 2 + 12_345
    client = TusClient(subject, size)
    client.begin(bench.payload.read(sent), size).close()
    started = seen_at = time.monotonic()
    offset = None
    while time.monotonic() - seen_at < SETTLED or (offset is None and time.monotonic() - started < PATIENCE):
        now = client.offset()
        if now != offset:
            offset, seen_at = now, time.monotonic()
        time.sleep(0.02)
    if offset is None:
        raise LoadFailed("The server does not tell the offset after a cut.")
    if offset > sent:
        raise LoadFailed(f"The server claims {offset} bytes, sent were {sent}.")
    bench.forget(subject)
    return {"sent": sent, "kept": offset, "resent_share": (sent - offset) / sent, "resent_mib": (sent - offset) / MIB}


def _take_over(bench: Bench, subject: Subject) -> Values:
    size, half = 2 * MIB, MIB
    data = bench.payload.read(size)
    client = TusClient(subject, size)
    with client.begin(data[:half], size):  # and never a byte more: a network that died
        time.sleep(SETTLED)
        started, refusals = time.monotonic(), 0
        while True:
            offset = client.offset()
            answer = None
            if offset is not None:
                headers = {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
                answer = client.request("PATCH", client.path, headers, data[offset:])
                if answer.status == 204:
                    break
            refusals += 1
            if time.monotonic() - started > PATIENCE:
                break
            time.sleep(0.1)
        seconds = time.monotonic() - started
    taken = seconds < PATIENCE
    if taken:
        bench.verify(subject, size, 1)
    else:
        bench.forget(subject)
    return {"seconds": seconds, "refusals": refusals, "taken_over": int(taken)}


def _save(bench: Bench, subject: Subject) -> Values:
    environment = {**subject.server.environment, "DJANGO_SETTINGS_MODULE": "benchmarks.sites.settings"}
    size = bench.pick(1, 10 * 1024, 10 * 1024) * MIB
    done = subprocess.run(
        [bench.tools.get("ours"), "-m", "benchmarks.sites.saving", str(size), str(bench.pick(2, 10, 30))],
        env=build_environment(subject.server.directory, environment),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise LoadFailed(f"Saving failed: {done.stderr[-1000:]}")
    values: Values = json.loads(done.stdout)
    return values | {"more_ms": values["large_ms"] - values["small_ms"]}


def _speaks_tus(subject: Subject) -> bool:
    endpoint = subject.endpoint
    return endpoint.durability == "none" and "tus" in subject.contestant.can and subject.contestant.kind != "ceiling"


SCENARIOS = (
    Scenario(
        "cut",
        "A connection closed in the middle of a body of 64 MiB: the share of the sent bytes that must be sent again.",
        _speaks_tus,
        _cut,
        metric="resent_share",
        references=(),
        rounds=3,
    ),
    Scenario(
        "takeover",
        "A connection that went silent in the middle of a body: seconds until another one may go on (30: never).",
        _speaks_tus,
        _take_over,
        references=("node",),
        rounds=3,
    ),
    Scenario(
        "save",
        "Saving a model whose upload has 10 GiB (sparse), against one of 1 KiB, on the file system: milliseconds more.",
        lambda subject: subject.name == "gunicorn login",
        _save,
        metric="large_ms",
        references=(),
        rounds=1,
        warms_up=False,
    ),
)
