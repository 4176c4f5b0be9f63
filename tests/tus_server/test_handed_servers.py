"""The hand-over under real servers, on both event loops: whatever a client does, it and the log see no difference.

With ``HYPOTHESIS_PROFILE=thorough`` every test runs on a server without it, too. Cuts, kills and take-overs are in
``test_real_servers``, the protocol in the conformance suite.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
import urllib.request
from collections.abc import Iterator
from functools import partial

import pytest

from tests.servers import RunningServer
from tests.tus_server.conformance.client import NoAnswer, TusClient, Wire, at_once, pattern
from tus_server.checksums import build_checksum

pytestmark = pytest.mark.e2e

CONTENT = pattern(3_000_017)
LARGE = pattern(40_000_003)
#: Whether the connection is handed over, and the loop.
KINDS = {"uvloop": ("handover", "uvloop"), "asyncio": ("handover", "asyncio")}
if os.environ.get("HYPOTHESIS_PROFILE") == "thorough":
    KINDS["ordinary"] = ("on", "uvloop")


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    fast_path, loop = KINDS[request.param]
    environment = {"TEST_SERVER_FAST_PATH": fast_path, "TEST_SERVER_DURABILITY": "none"}
    arguments = ("--loop", loop, "--access-log")
    directory = tmp_path_factory.mktemp(request.param)
    with RunningServer("uvicorn", directory, env=environment, arguments=arguments) as server:
        yield server


@pytest.fixture
def tus(server: RunningServer) -> TusClient:
    return TusClient(server.address, server.directory)


@pytest.fixture
def way(server: RunningServer) -> Iterator[str]:
    """The way that the bodies of a test must have come, one of them at least."""
    way = "handover" if "handover" in server._env.values() else "messages"
    before = served_by(server)
    yield way
    after = served_by(server)
    assert after.get(way, 0) > before.get(way, 0), (before, after)


def served_by(server: RunningServer) -> dict[str, int]:
    with urllib.request.urlopen(f"{server.url}/served/") as answer:
        ways: dict[str, int] = json.load(answer)
    return ways


def begin(tus: TusClient, url: str, length: int, wire: Wire, *fields: tuple[str, str], offset: int = 0) -> None:
    """Send the head of a PATCH alone, so that the body comes when the server has asked for it."""
    wire.send_head("PATCH", url, [*tus.head_of(tus.patch_headers(offset, {"Content-Length": length})), *fields])
    time.sleep(0.05)


def head_request(tus: TusClient, url: str) -> bytes:
    return f"HEAD {url} HTTP/1.1\r\nHost: {tus.address[0]}\r\nTus-Resumable: 1.0.0\r\n\r\n".encode()


@pytest.mark.parametrize("ahead", [0, 1, 100_000])
def test_the_next_request_in_one_piece_with_a_body_is_served(tus: TusClient, way: str, ahead: int) -> None:
    """``ahead`` bytes are with the server before it is asked for any."""
    url = tus.create(len(CONTENT))
    with tus.connect() as wire:
        headers = tus.head_of(tus.patch_headers(0, {"Content-Length": len(CONTENT)}))
        lines = [f"PATCH {url} HTTP/1.1", *(f"{name}: {value!s}" for name, value in headers), "", ""]
        wire.send("\r\n".join(lines).encode() + CONTENT[:ahead])
        time.sleep(0.05)
        wire.send(CONTENT[ahead:] + head_request(tus, url) * 2)
        assert wire.answer("PATCH").status == 204
        for _ in range(2):
            answer = wire.answer("HEAD")
            assert (answer.status, answer.offset) == (200, len(CONTENT))
        # And one that the server has to wait for.
        wire.send(head_request(tus, url))
        assert wire.answer("HEAD").status == 200
    assert tus.stored_bytes(url) == CONTENT


def test_a_connection_is_kept_over_many_bodies(tus: TusClient, way: str) -> None:
    url = tus.create(len(CONTENT))
    with tus.connect() as wire:
        for start in range(0, len(CONTENT), 500_000):
            piece = CONTENT[start : start + 500_000]
            assert tus.patch(url, start, piece, wire=wire).offset == start + len(piece)
    assert tus.stored_bytes(url) == CONTENT


def test_close_closes(tus: TusClient, way: str) -> None:
    url = tus.create(len(CONTENT))
    with tus.connect() as wire:
        begin(tus, url, len(CONTENT), wire, ("Connection", "close"))
        wire.send(CONTENT)
        answer = wire.answer("PATCH")
        assert (answer.status, answer.header("Connection")) == (204, "close")
        assert wire.is_closed(5)
    assert tus.stored_bytes(url) == CONTENT


def test_continue_is_said_once_and_before_the_body(tus: TusClient, way: str) -> None:
    url = tus.create(len(CONTENT))
    with tus.connect() as wire:
        begin(tus, url, len(CONTENT), wire, ("Expect", "100-continue"))
        assert wire.is_answered(5)
        wire.send(CONTENT)
        answer = wire.answer("PATCH")
        assert (answer.status, answer.interim) == (204, (100,))
        wire.send(head_request(tus, url))
        assert wire.answer("HEAD").status == 200


@pytest.mark.parametrize("is_right", [True, False])
def test_a_large_body_with_a_digest(tus: TusClient, way: str, is_right: bool) -> None:
    url = tus.create(len(LARGE))
    digest = build_checksum("sha256", LARGE if is_right else CONTENT)
    with tus.connect() as wire:
        answer = tus.patch(url, 0, LARGE, headers={"Upload-Checksum": digest}, wire=wire)
        assert answer.status == (204 if is_right else 460)
        assert tus.stored_bytes(url) == (LARGE if is_right else b"")
        wire.send(head_request(tus, url))
        assert wire.answer("HEAD").offset == (len(LARGE) if is_right else 0)


def test_a_dripping_client_is_stored_as_it_drips(tus: TusClient, way: str) -> None:
    url = tus.create(1000)
    with tus.connect() as wire:
        begin(tus, url, 1000, wire)
        wire.send(CONTENT[:300])
        assert tus.wait_for_offset(url, 300) == 300
        for start in range(300, 1000, 100):
            wire.send(CONTENT[start : start + 100])
            time.sleep(0.02)
        assert wire.answer("PATCH").offset == 1000
    assert tus.stored_bytes(url) == CONTENT[:1000]


def test_a_silent_client_is_given_up_and_told_so(tus: TusClient, way: str) -> None:
    impatient = tus.at("impatient")
    url = impatient.create(1000)
    with impatient.connect() as wire:
        begin(impatient, url, 1000, wire)
        wire.send(CONTENT[:300])
        answer = wire.answer("PATCH")
        assert answer.status == 503
        assert b'"idle"' in answer.body
        assert answer.header("Connection") == "close"
        assert wire.is_closed(5)
    assert impatient.offset(url) == 300


def test_a_refusal_in_the_middle_arrives_although_the_client_goes_on_sending(tus: TusClient, way: str) -> None:
    """The rest is thrown away for a while, in the ordinary way."""
    url = tus.create(len(LARGE))
    with tus.connect() as old:
        begin(tus, url, len(LARGE), old)
        old.send(LARGE[:1_000_000])
        assert tus.wait_for_offset(url, 1_000_000) == 1_000_000
        while tus.delete(url).status == 423:
            time.sleep(0.1)
        old.send_until_answered(LARGE[1_000_000:])
        answer = old.answer("PATCH")
        assert answer.status in (404, 409, 410), answer
        assert answer.header("Connection") == "close"
        assert old.is_closed()
    assert tus.stored_files(url) == []


@pytest.mark.parametrize("how", ["fin", "rst", "half-closed"])
def test_a_client_that_is_gone_gets_no_answer_and_no_line_in_the_log(
    server: RunningServer, tus: TusClient, way: str, how: str
) -> None:
    url = tus.create(1000)
    with tus.connect() as wire:
        begin(tus, url, 1000, wire)
        wire.send(CONTENT[:300])
        assert tus.wait_for_offset(url, 300) == 300
        if how == "half-closed":
            wire.half_close()
            with pytest.raises(NoAnswer):
                wire.answer("PATCH")
        elif how == "fin":
            wire.fin()
        else:
            wire.rst()
    tus.resume(url, CONTENT[:1000])
    lines = re.findall(rf"PATCH {re.escape(url)} HTTP/1.1. (\d+)", server.log)
    # One answer, and that is the one of ``resume``.
    assert lines == ["204"]
    assert "Traceback" not in server.log


def test_many_bodies_beside_other_requests(tus: TusClient, way: str) -> None:
    contents = [pattern(2_000_000 + number) for number in range(12)]
    urls = [tus.create(len(content)) for content in contents]
    waiting = tus.create(10)

    def ask() -> int:
        return sum(tus.head(waiting).status == 200 for _ in range(20))

    patches = [partial(tus.patch, url, 0, content) for url, content in zip(urls, contents, strict=True)]
    *answers, asked = at_once(*patches, ask)
    assert [answer.status for answer in answers] == [204] * len(urls)
    assert asked == 20
    assert [tus.stored_bytes(url) for url in urls] == contents


def test_no_descriptor_is_left_behind(server: RunningServer, tus: TusClient, way: str) -> None:
    def count() -> int:
        return len(os.listdir(f"/proc/{server.pid}/fd"))

    def upload() -> None:
        url = tus.create(len(CONTENT))
        with tus.connect() as wire:
            begin(tus, url, len(CONTENT), wire)
            wire.send(CONTENT[:1_000_000])
            wire.fin()
        tus.resume(url, CONTENT)

    # The pool's threads keep a pipe each.
    at_once(*[upload] * 10)
    before = count()
    for _ in range(5):
        upload()
    deadline = time.monotonic() + 10
    while count() > before + 16 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert count() <= before + 16


def test_a_server_that_is_told_to_end_stores_what_came(server: RunningServer, tus: TusClient) -> None:
    length = 3_000_000_000
    silent, fast = tus.create(length), tus.create(length)
    with tus.connect() as silent_wire, tus.connect() as fast_wire:
        for url, wire in ((silent, silent_wire), (fast, fast_wire)):
            begin(tus, url, length, wire)
            wire.send(CONTENT[:300_000])
            assert tus.wait_for_offset(url, 300_000) == 300_000
        process = server._process
        assert process is not None
        os.kill(server.pid, signal.SIGTERM)
        sent = 300_000
        while sent < 2_000_000_000 and fast_wire.send_until_answered(CONTENT[:1_000_000]):
            sent += 1_000_000
        for wire in (silent_wire, fast_wire):
            answer = wire.answer("PATCH")
            assert (answer.status, answer.header("Connection")) == (503, "close")
            assert answer.header("Retry-After")
        process.wait(15)
    assert len(tus.stored_bytes(silent) or b"") == 300_000
    assert 300_000 <= len(tus.stored_bytes(fast) or b"") <= sent + 1_000_000
    server.restart()
    assert tus.offset(silent) == 300_000
    assert tus.offset(fast) == len(tus.stored_bytes(fast) or b"")
