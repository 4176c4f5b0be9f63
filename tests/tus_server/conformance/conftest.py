"""The server processes of the conformance suite: one per shell and session, and a client for each test.

``TUS_SHELLS=node`` runs the suite against ``@tus/server`` instead, to see that the suite itself tells right from
wrong; the tests of endpoints that it does not have are skipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.servers import Kind, RunningServer
from tests.servers.node import node_environment
from tus_server.testing.conformance.client import TusClient

KINDS: dict[str, Kind] = {"wsgi": "gthread", "asgi": "uvicorn", "node": "node"}
SHELLS = os.environ.get("TUS_SHELLS", "wsgi,asgi").split(",")


@pytest.fixture(scope="session", params=SHELLS)
def shell_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of this shell, started once."""
    env = node_environment() if request.param == "node" else {}
    with RunningServer(KINDS[request.param], tmp_path_factory.mktemp(request.param), env=env) as server:
        yield server


@pytest.fixture
def tus(shell_server: RunningServer) -> TusClient:
    """A client of the endpoint ``files``. Tests must not know which shell it talks to."""
    return TusClient(shell_server.address, shell_server.directory, is_ours=shell_server.kind != "node")


def _client_at(tus: TusClient, endpoint: str) -> TusClient:
    if not tus.is_ours and endpoint not in ("files", "limited", "eternal"):
        pytest.skip(f"the peer has no endpoint {endpoint}")
    return tus.at(endpoint)


@pytest.fixture
def limited(tus: TusClient) -> TusClient:
    """At most 1000 bytes."""
    return _client_at(tus, "limited")


@pytest.fixture
def clocked(tus: TusClient) -> Iterator[TusClient]:
    """Uploads live for an hour; the test moves the clock."""
    client = _client_at(tus, "clocked")
    yield client
    client.travel(0)


@pytest.fixture
def eternal(tus: TusClient) -> TusClient:
    """Uploads never expire."""
    return _client_at(tus, "eternal")


@pytest.fixture
def impatient(tus: TusClient) -> TusClient:
    """Bodies that bring nothing for half a second are ended."""
    return _client_at(tus, "impatient")


@pytest.fixture
def guarded(tus: TusClient) -> TusClient:
    """Hooks refuse what ``X-Refuse`` names: create, access, terminate."""
    return _client_at(tus, "guarded")


@pytest.fixture
def plain(tus: TusClient) -> TusClient:
    """A store without capabilities."""
    return _client_at(tus, "plain")


@pytest.fixture
def broken(tus: TusClient) -> TusClient:
    """A store that fails in a way nobody foresaw."""
    return _client_at(tus, "broken")
