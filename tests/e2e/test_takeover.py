"""Two server processes on one database, the files in the cloud: a frozen one is taken over from at once, and fenced."""

from __future__ import annotations

import base64
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.clouds import make_azure, make_s3
from tests.e2e.site import MIB, Cloud, served
from tests.servers import RunningServer
from tus_server.testing.conformance.client import ForeignClient, Wire, pattern

pytestmark = pytest.mark.e2e

CONTENT = pattern(28 * MIB + 5)
WRONG = b"!" * MIB
TEMPORARY = "async-temp-files/"


@pytest.fixture(params=["s3", "azure"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    if request.param == "s3":
        return make_s3(request.getfixturevalue("moto"), "tus")
    return make_azure(request.getfixturevalue("azurite"), "tus")


@contextmanager
def frozen(server: RunningServer) -> Iterator[None]:
    """Stop every process of a server, and continue them afterwards."""
    pids = server.pids()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def create(client: ForeignClient) -> str:
    values = {"field_id": "talks.Specimen.file", "filename": "film.bin"}
    pairs = [f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in values.items()]
    return client.create(len(CONTENT), {"Upload-Metadata": ",".join(pairs)})


def send_some(client: ForeignClient, url: str, wire: Wire) -> int:
    """Send two parts, and the beginning of a third in pieces, so that the server comes to record the first ones (S3).

    Returns:
        The offset that a client is told then.
    """
    wire.send(CONTENT[: 16 * MIB])
    offset = 0
    for start in range(16 * MIB, 17 * MIB, 128 * 1024):
        wire.send(CONTENT[start : start + 128 * 1024])
        offset = client.wait_for_offset(url, lambda offset: offset > 0, within=0.3)
    return offset


def go_on(client: ForeignClient, url: str, end: int, within: float) -> int:
    """Send the right bytes up to ``end``, asking for the offset first; return where the upload stood then."""
    deadline = time.monotonic() + within
    while True:
        offset = client.offset(url)
        if client.patch(url, offset, CONTENT[offset:end]).status == 204:
            return offset
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("end", [len(CONTENT), 25 * MIB], ids=["to the end", "a part further"])
def test_another_process_takes_over_from_a_frozen_one_which_is_fenced(
    cloud: Cloud, end: int, tmp_path: Path, database: Path
) -> None:
    with served("gthread", tmp_path / "site", database=database, cloud=cloud) as site:
        second = site.start_server("gthread", tmp_path / "second")
        try:
            old = ForeignClient(f"{site.url}/uploads/tus/", tmp_path)
            new = ForeignClient(f"{second.url}/uploads/tus/", tmp_path)
            url = create(old)
            with old.open_patch(url, 0, len(CONTENT)) as wire:
                told = send_some(old, url, wire)
                with frozen(site.server):
                    # A few seconds; who waited until the lease has expired would take 30.
                    assert told <= go_on(new, url, end, 20)
                # The old process goes on with other bytes, until somebody tells it.
                wire.send_until_answered(WRONG * 11)
            assert new.offset(url) == end
            if end < len(CONTENT):
                assert new.patch(url, end, CONTENT[end:]).status == 204
            assert new.offset(url) == len(CONTENT)
            [(name,)] = site.rows("SELECT object_name FROM async_uploads_asynctempfile")
            assert cloud.read(name) == CONTENT
            # Of the old process nothing counts; a tail that it left is below the upload's own folder.
            assert [one for one in cloud.names() if not one.startswith(TEMPORARY)] == [name]
        finally:
            second.stop()
            print(second.log[-4000:])
