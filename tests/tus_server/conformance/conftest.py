"""The server processes of the conformance suite: one per shell and session, and a client for each test.

``wsgi-stream`` has the fast path off, ``wsgi-socket`` is a kernel that cannot splice (not run by default: the bodies
of ``test_real_servers`` go that way). Under ``asgi-handover`` uvicorn lends its connection.

``TUS_SHELLS=node`` runs the suite against ``@tus/server`` instead, to see that the suite itself tells right from
wrong; the tests of endpoints that it does not have are skipped.
"""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator

import pytest

from tests.servers import Kind, RunningServer
from tests.servers.node import node_environment
from tus_server.testing.conformance.client import TusClient

KINDS: dict[str, Kind] = {
    "wsgi": "gthread",
    "wsgi-socket": "gthread",
    "wsgi-stream": "gthread",
    "asgi": "uvicorn",
    "asgi-handover": "uvicorn",
    "node": "node",
}
FAST_PATHS = {"wsgi-socket": "socket", "wsgi-stream": "off", "asgi-handover": "handover"}
SHELLS = os.environ.get("TUS_SHELLS", "wsgi,wsgi-stream,asgi,asgi-handover").split(",")
PARAMETERS = [pytest.param(name, marks=pytest.mark.e2e if name == "asgi-handover" else ()) for name in SHELLS]
#: Of how many bodies that did not come with their heads one must have come as it should.
_ENOUGH_BODIES = 20


#: A read of ``wsgi.input`` waits until it is filled: so long nobody looks around, and what came is not stored yet.
NOT_PORTABLE = frozenset(
    {
        "test_a_body_that_stalls_is_ended_and_kept",
        "test_a_chunk_that_is_taken_over_keeps_nothing",
        "test_a_client_that_vanished_silently_is_taken_over_from",
        "test_a_lock_that_is_not_free_says_when_to_come_back",
        "test_a_patch_that_runs_while_the_upload_expires_is_not_cut",
        "test_delete_ends_a_running_patch_for_good",
        "test_head_is_answered_while_a_patch_runs",
        "test_late_bytes_after_a_take_over_are_never_applied",
    }
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only a server that lends its socket, or is asynchronous, can do."""
    left_out = [
        item
        for item in items
        if "wsgi-stream" in item.name and getattr(item, "originalname", item.name) in NOT_PORTABLE
    ]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session", params=PARAMETERS)
def shell_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of this shell, started once."""
    env = {"TEST_SERVER_FAST_PATH": FAST_PATHS.get(request.param, "on")}
    if request.param == "node":
        env = node_environment()
    with RunningServer(KINDS[request.param], tmp_path_factory.mktemp(request.param), env=env) as server:
        yield server
        if request.param == "asgi-handover":
            with urllib.request.urlopen(f"{server.url}/served/") as answer:
                ways: dict[str, int] = json.load(answer)
            assert ways.get("handover") or sum(ways.values()) < _ENOUGH_BODIES, ways


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
