"""The servers and the cable of the tests do what tests rely on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.servers import Cable, RunningServer, ServerFailed


def test_a_server_is_killed_and_comes_back_on_its_port_and_directory(tmp_path: Path) -> None:
    with RunningServer("gthread", tmp_path) as server:
        port, pids = server.port, server.pids()
        assert len(pids) == 2
        assert requests.get(f"{server.url}/health/", timeout=5).text == "up"
        assert 10 * 2**20 < server.rss_peak() < 2**30
        server.kill()
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        with pytest.raises(requests.ConnectionError):
            requests.get(f"{server.url}/health/", timeout=5)
        server.start()
        assert server.port == port
        assert requests.get(f"{server.url}/health/", timeout=5).text == "up"
    assert "Shutting down: Master" in server.log, "stop is SIGTERM, not SIGKILL"


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(ServerFailed, match="no_such_module"):
        RunningServer("gthread", tmp_path, wsgi="no_such_module:application")


@pytest.fixture
def sink() -> Iterator[tuple[tuple[str, int], list[bytes], list[str]]]:
    """A server that only listens: its address, what it received from each connection, and how each ended."""
    received: list[bytes] = []
    ends: list[str] = []
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
            received.append(data)
            ends.append(end)

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname(), received, ends
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("count", [1, 1000, 299_999])
def test_a_cable_is_cut_after_exactly_so_many_bytes_of_a_body(
    sink: tuple[tuple[str, int], list[bytes], list[str]], how: str, count: int
) -> None:
    address, received, ends = sink
    with Cable(address) as cable:
        cable.cut_after(count, "rst" if how == "rst" else "fin")
        with pytest.raises(requests.ConnectionError):
            requests.put(cable.url, data=b"a" * 300_000, timeout=5)
        assert cable.happened.is_set()
        with pytest.raises(requests.ConnectionError):
            # The next one passes, as far as this server goes.
            threading.Timer(0.2, cable.cut_all).start()
            requests.put(cable.url, data=b"b" * 10, timeout=5)
    head, _, body = received[0].partition(b"\r\n\r\n")
    assert b"Connection: close" in head
    assert (body, ends[0]) == (b"a" * count, how)
    assert received[1].endswith(b"b" * 10)
