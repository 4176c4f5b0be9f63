"""The servers and the cable of the tests do what tests rely on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Literal

import pytest
import requests

from tests.servers import Cable, RunningServer, ServerFailed
from tests.servers.process import group_members


def test_a_server_is_killed_and_comes_back_on_its_port_and_directory(tmp_path: Path) -> None:
    with RunningServer("gthread", tmp_path) as server:
        port, pids = server.port, server.pids()
        assert len(pids) == 2
        assert requests.get(f"{server.url}/health/", timeout=60).text == "up"
        assert 10 * 2**20 < server.rss_peak() < 2**30
        server.kill()
        assert group_members(pids[0]) == []
        with pytest.raises(requests.ConnectionError):
            requests.get(f"{server.url}/health/", timeout=60)
        server.start()
        assert server.port == port
        assert requests.get(f"{server.url}/health/", timeout=60).text == "up"
    assert "Shutting down: Master" in server.log, "stop is SIGTERM, not SIGKILL"


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(ServerFailed, match="no_such_module"):
        RunningServer("gthread", tmp_path, wsgi="no_such_module:application")


@pytest.fixture
def sink() -> Iterator[tuple[tuple[str, int], Queue[tuple[bytes, str]]]]:
    """A server that only listens: its address; what it received from each connection, and how each ended."""
    received: Queue[tuple[bytes, str]] = Queue()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            data, end = b"", "fin"
            with connection:
                try:
                    while piece := connection.recv(65536):
                        data += piece
                except ConnectionResetError:
                    end = "rst"
            received.put((data, end))

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname(), received
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(60)


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("count", [1, 1000, 299_999])
def test_a_cable_is_cut_after_exactly_so_many_bytes_of_a_body(
    sink: tuple[tuple[str, int], Queue[tuple[bytes, str]]], how: Literal["fin", "rst"], count: int
) -> None:
    address, received = sink
    with Cable(address) as cable:
        for sent in (b"a" * 300_000, b"b" * count):
            cable.cut_after(count, how)
            with pytest.raises(requests.ConnectionError):
                requests.put(cable.url, data=sent, timeout=60)
            assert cable.happened.is_set()
            data, end = received.get(timeout=60)
            head, _, body = data.partition(b"\r\n\r\n")
            assert b"Connection: close" in head
            assert (body, end) == (sent[:count], how)
