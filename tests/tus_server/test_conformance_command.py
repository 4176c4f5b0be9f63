"""``python -m tus_server.testing.conformance``, over a right server and over one with a mistake."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.servers import RunningServer
from tests.servers.process import ROOT


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer("gthread", tmp_path_factory.mktemp("command")) as server:
        yield server


def check(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tus_server.testing.conformance", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


def check_as_json(*arguments: str) -> tuple[int, dict[str, Any]]:
    done = check("--json", *arguments)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def test_a_right_server_passes(server: RunningServer) -> None:
    code, found = check_as_json(f"{server.url}/files/", "--only", "CORE-16", "--only", "META", "--only", "TERM-01")
    assert (code, found["failed"], found["skipped"]) == (0, 0, 0)
    assert "termination" in found["extensions"]
    assert {"CORE-16", "META-01", "META-07", "TERM-01"} <= set(found["items"])
    assert not {"CORE-14", "TERM-02"} & set(found["items"]), "only what was asked for"


def test_a_mistake_is_named(server: RunningServer) -> None:
    code, found = check_as_json(f"{server.url}/loses-the-metadata-echo/", "--only", "META-01", "--only", "CORE-16")
    assert (code, found["failed"] > 0) == (1, True)
    assert {one["outcome"] for one in found["items"]["CORE-16"]} == {"passed"}
    failed = [one for one in found["items"]["META-01"] if one["outcome"] == "failed"]
    assert failed[0]["test"].startswith("test_metadata.py::test_head_gives_the_same_pairs")
    assert failed[0]["reason"]


def test_what_is_not_announced_is_skipped(server: RunningServer) -> None:
    done = check(f"{server.url}/plain/", "--only", "TERM", "--only", "CORE-04")
    assert done.returncode == 0
    assert "the server does not announce termination" in done.stdout
    assert "CORE-04: 1 skipped (the server has no endpoint limited)" in done.stdout


def test_a_server_that_goes_away_is_told_apart_from_one_that_answers_wrongly() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_two_and_go, args=(listener,), daemon=True)
        thread.start()
        code, found = check_as_json(
            f"http://127.0.0.1:{listener.getsockname()[1]}/files/", "--only", "CORE-01", "--only", "META"
        )
        thread.join(60)
    assert code == 1
    told = {item: [(one["outcome"], one["reason"]) for one in tests] for item, tests in found["items"].items()}
    assert told["CORE-01"] == [("passed", ""), ("failed", "the server is gone after it")]
    assert set(told["META-01"]) == {("skipped", "the server is gone")}


def answer_two_and_go(listener: socket.socket) -> None:
    """Answer OPTIONS as a tus server would: the command's own question, then that of the first test."""
    answered = 0
    while answered < 2:
        connection, _ = listener.accept()
        with connection:
            if connection.recv(65536):
                answered += 1
                if answered == 2:
                    # Before the answer: behind it, whoever asks whether the server is there might still be let in.
                    listener.close()
                connection.sendall(b"HTTP/1.1 204 No Content\r\nTus-Version: 1.0.0\r\nTus-Extension: creation\r\n\r\n")


@pytest.mark.parametrize(
    ("url", "reason"),
    [("http://127.0.0.1:1/files/", "refused"), ("https://127.0.0.1/files/", "is not http://"), ("files", "is not")],
)
def test_an_address_that_is_none_is_refused(url: str, reason: str) -> None:
    done = check(url)
    assert done.returncode == 2
    assert reason in done.stderr


def test_an_item_that_nothing_covers_is_refused(server: RunningServer) -> None:
    done = check(f"{server.url}/files/", "--only", "CORE-99")
    assert (done.returncode, done.stderr) == (2, "no test covers CORE-99\n")
