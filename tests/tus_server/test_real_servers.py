"""What depends on the server below: cuts, half-close, processes beside each other, kills, signals.

The rest of the protocol is the conformance suite's, which runs over one server of each shell.
"""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Literal

import pytest

from tests.servers import Kind, RunningServer
from tests.tus_server.conformance.client import TIMEOUT, NoAnswer, TusClient, at_once, pattern
from tus_server.checksums import build_checksum

pytestmark = pytest.mark.e2e

#: A server, and its way of getting at bodies.
KINDS: dict[str, tuple[Kind, str]] = {
    "gthread": ("gthread", "on"),
    "gthread-socket": ("gthread", "socket"),
    "gthread-stream": ("gthread", "off"),
    "sync": ("sync", "on"),
    "uvicorn": ("uvicorn", "on"),
    "uvicorn-2": ("uvicorn-2", "on"),
    "uvicorn-handover": ("uvicorn", "handover"),
}
WAYS = {
    "gthread": "splice",
    "gthread-socket": "socket",
    "gthread-stream": "stream",
    "uvicorn": "messages",
    "uvicorn-handover": "handover",
}
CONTENT = pattern(3_000_017)


#: ``wsgi.input`` cannot look around while a read waits (conformance.NOT_PORTABLE); its cuts are the suite's.
LOOKING_AROUND = [kind for kind in KINDS if kind != "gthread-stream"]


@pytest.fixture(scope="module", params=LOOKING_AROUND)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    kind, fast_path = KINDS[request.param]
    directory = tmp_path_factory.mktemp(request.param)
    with RunningServer(kind, directory, env={"TEST_SERVER_FAST_PATH": fast_path}) as server:
        yield server


@pytest.fixture
def tus(server: RunningServer) -> TusClient:
    return TusClient(server.address, server.directory)


def test_an_upload_is_stored_whole(tus: TusClient) -> None:
    for body in (CONTENT, iter([CONTENT[:1_000_000], CONTENT[1_000_000:]])):
        url = tus.create(len(CONTENT))
        answer = tus.patch(url, 0, body)
        assert (answer.status, answer.offset) == (204, len(CONTENT))
        assert tus.stored_bytes(url) == CONTENT


@pytest.mark.parametrize(("kind", "way"), WAYS.items())
def test_a_body_comes_the_way_it_should(tmp_path: Path, kind: str, way: str) -> None:
    """Only the whole body of a request that needs no look at its bytes is spliced; see ``test_splicing`` for TLS."""
    base, fast_path = KINDS[kind]
    with RunningServer(base, tmp_path, env={"TEST_SERVER_FAST_PATH": fast_path}) as server:
        tus = TusClient(server.address, server.directory)
        url = tus.create(len(CONTENT))
        assert tus.patch(url, 0, CONTENT).status == 204
        assert served_by(server) == {way: 1}
        if kind == "gthread":
            checksum = {"Upload-Checksum": build_checksum("sha1", CONTENT)}
            assert tus.patch(tus.create(len(CONTENT)), 0, CONTENT, headers=checksum).status == 204
            assert tus.patch(tus.create(len(CONTENT)), 0, iter([CONTENT])).status == 204
            assert served_by(server) == {"splice": 1, "socket": 1, "stream": 1}


def served_by(server: RunningServer) -> dict[str, int]:
    with urllib.request.urlopen(f"{server.url}/served/") as answer:
        ways: dict[str, int] = json.load(answer)
    return ways


@pytest.mark.parametrize("count", [0, 1, 65536, 1_500_000, len(CONTENT) - 1])
@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_cut_keeps_what_arrived(tus: TusClient, framing: str, how: Literal["fin", "rst"], count: int) -> None:
    url = tus.create(len(CONTENT))
    wire = tus.open_patch(url, 0, None if framing == "chunked" else len(CONTENT))
    if framing == "chunked":
        wire.send_chunk(CONTENT[:count])
    else:
        wire.send(CONTENT[:count])
    wire.cut(how)
    if how == "fin":
        assert tus.wait_for_offset(url, count) == count
    else:
        assert 0 <= tus.offset(url) <= count
    tus.resume(url, CONTENT)
    assert tus.finishes(url) == 1


def test_a_half_closed_request_keeps_what_arrived(tus: TusClient) -> None:
    url = tus.create(len(CONTENT))
    with tus.open_patch(url, 0, len(CONTENT)) as wire:
        wire.send(CONTENT[:1_000_000])
        wire.half_close()
        assert wire.is_closed()
    assert tus.wait_for_offset(url, 1_000_000) == 1_000_000
    tus.resume(url, CONTENT)


@pytest.mark.parametrize("size", [100, 1_000_000])
def test_of_patches_at_one_offset_at_most_one_is_applied(tus: TusClient, size: int) -> None:
    for _ in range(5):
        url = tus.create(2 * size)
        contents = [bytes([letter]) * size for letter in b"abcdef"]
        answers = at_once(*(partial(tus.patch, url, 0, content) for content in contents))
        winners = [content for content, answer in zip(contents, answers, strict=True) if answer.status == 204]
        assert len(winners) <= 1
        assert {answer.status for answer in answers} <= {204, 409, 423}
        assert not winners or tus.stored_bytes(url) == winners[0]
        assert tus.offset(url) == len(tus.stored_bytes(url) or b"")


def test_a_dead_client_is_taken_over_from(tus: TusClient) -> None:
    url = tus.create(len(CONTENT))
    with tus.open_patch(url, 0, len(CONTENT)) as old:
        old.send(CONTENT[:1_000_000])
        tus.wait_for_offset(url, lambda offset: offset > 0)
        tus.resume(url, CONTENT)
        old.send_until_answered(b"!" * 100_000)
    tus.assert_unchanged(url, len(CONTENT), len(CONTENT), CONTENT)
    assert tus.finishes(url) == 1


def test_delete_ends_a_running_patch(tus: TusClient) -> None:
    url = tus.create(len(CONTENT))
    with tus.open_patch(url, 0, len(CONTENT)) as old:
        old.send(CONTENT[:1_000_000])
        tus.wait_for_offset(url, lambda offset: offset > 0)
        while (answer := tus.delete(url)).status == 423:
            time.sleep(0.1)
        assert answer.status == 204
    assert tus.head(url).status in (404, 410)
    assert tus.stored_files(url) == []


def test_what_was_written_before_a_kill_is_kept(server: RunningServer, tus: TusClient) -> None:
    url = tus.create(len(CONTENT))
    with tus.open_patch(url, 0, len(CONTENT)) as wire:
        wire.send(CONTENT[:2_000_000])
        seen = tus.wait_for_offset(url, lambda offset: offset >= 1_000_000)
        assert 0 < seen < len(CONTENT)
        server.kill()
        assert wire.is_closed()
    written = len(tus.stored_bytes(url) or b"")
    server.start()
    assert seen <= written == tus.offset(url)
    tus.resume(url, CONTENT)
    assert tus.finishes(url) == 1


def test_what_arrived_before_the_server_was_told_to_stop_is_kept(server: RunningServer, tus: TusClient) -> None:
    url = tus.create(len(CONTENT))
    with tus.open_patch(url, 0, len(CONTENT)) as wire:
        wire.send(CONTENT[:500_000])
        assert tus.wait_for_offset(url, 500_000) == 500_000
        os.kill(server.pid, signal.SIGTERM)
        wire.send_until_answered(CONTENT[500_000:700_000])
        with suppress(NoAnswer):
            assert wire.answer("PATCH").status >= 500
    server.restart()
    assert 500_000 <= tus.offset(url) <= 700_000
    tus.resume(url, CONTENT)


def test_another_process_ends_a_request_of_a_frozen_one(tmp_path: Path) -> None:
    """Two servers on one directory; the first is stopped in the middle of a PATCH and continued afterwards."""
    with RunningServer("gthread", tmp_path) as first, RunningServer("gthread", tmp_path) as second:
        old, new = TusClient(first.address, tmp_path), TusClient(second.address, tmp_path)
        url = old.create(len(CONTENT))
        with old.open_patch(url, 0, len(CONTENT)) as wire:
            wire.send(CONTENT[:1_000_000])
            assert old.wait_for_offset(url, 1_000_000) == 1_000_000
            frozen = first.pids()
            for pid in frozen:
                os.kill(pid, signal.SIGSTOP)
            try:
                assert new.offset(url) == 1_000_000
                # On disk the frozen process holds the file: nobody may write beside it.
                assert new.patch(url, 1_000_000, CONTENT[1_000_000:]).status == 423
                wire.send(b"!" * 10_000)
            finally:
                for pid in frozen:
                    os.kill(pid, signal.SIGCONT)
            # What it had received already was sent in time and may count; then it lets go.
            deadline = time.monotonic() + TIMEOUT
            while (answer := new.patch(url, offset := new.offset(url), b"")).status != 204:
                assert answer.status in (409, 423), answer
                assert time.monotonic() < deadline, answer
                time.sleep(0.1)
        assert offset in (1_000_000, 1_010_000)
        stored = new.stored_bytes(url) or b""
        assert stored == (CONTENT[:1_000_000] + b"!" * 10_000)[: len(stored)]


def test_sixty_silent_connections_keep_nobody_from_being_served(tmp_path: Path) -> None:
    """Not for gunicorn: its threads wait for the heads."""
    with RunningServer("uvicorn", tmp_path) as server, ExitStack() as stack:
        tus = TusClient(server.address, server.directory)
        for number in range(60):
            wire = stack.enter_context(tus.connect())
            if number % 2:
                wire.send(b"POST /files/ HTTP/1.1\r\nHost: loc")
        assert tus.stored_bytes(tus.upload(b"abc")) == b"abc"


def test_two_hundred_waiting_uploads_hold_no_thread_each_under_asgi(tmp_path: Path) -> None:
    with RunningServer("uvicorn", tmp_path) as server, ExitStack() as stack:
        tus = TusClient(server.address, server.directory)
        before = threads_of(server)
        for _ in range(200):
            url = tus.create(100)
            stack.enter_context(tus.open_patch(url, 0, 100)).send(b"a" * 10)
        assert tus.wait_for_offset(url, 10) == 10
        assert threads_of(server) - before <= 12
        assert tus.stored_bytes(tus.upload(b"abc")) == b"abc"


def threads_of(server: RunningServer) -> int:
    return sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in server.pids())
