"""The sweep and the crowd, over SQLite, PostgreSQL and MariaDB: a slice by lot, all with ``make proof``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.async_uploads.faults import points
from tests.async_uploads.faults.census import Census
from tests.async_uploads.promoting import field_of, make_upload, media
from tests.docs.pages import ROOT
from tests.servers.mariadb import MariaDBServer
from tests.servers.postgres import PostgresServer
from tests.skips import need
from tests.testapp.models import Document

assert media

pytestmark = pytest.mark.e2e

IS_THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
#: Another one finds other faults in the slice.
SEED = int(os.environ.get("FAULTS_SEED", "1"))
SLICE = 24
#: What a file's move is in the cloud, and the server.
CLOUDS = {
    "s3-direct": "moto",
    "s3-copy": "moto",
    "s3-pieces": "moto",
    "azure-direct": "azurite",
    "azure-copy": "azurite",
}


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mapping[str, str]]:
    """The environment of a process with a database and a storage of its own."""
    kept = {name: value for name, value in os.environ.items() if name not in ("TEST_DATABASE", "PYTEST_CURRENT_TEST")}
    kept |= {"TEST_RUN_DIRECTORY": str(tmp_path / "run"), "PYTHONPATH": str(ROOT)}
    if request.param == "sqlite":
        yield kept
        return
    name = f"faults_{os.getpid()}_{abs(hash(request.node.name)) % 10**6}"
    if request.param == "mariadb":
        yield from use_mariadb(request.getfixturevalue("mariadb"), name, kept)
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    import psycopg

    connected = psycopg.connect(host="127.0.0.1", port=server.port, user="postgres", dbname="postgres", autocommit=True)
    with connected as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield {**kept, **server.environment, "TEST_DATABASE": "postgres", "FAULTS_DATABASE": name}
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def use_mariadb(server: MariaDBServer, name: str, kept: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """Make a database on the server, and remove it."""
    import pymysql

    with pymysql.connect(host="127.0.0.1", port=server.port, user="root", ssl_disabled=True).cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        yield {**kept, **server.environment, "TEST_DATABASE": "mariadb", "FAULTS_DATABASE": name}
        cursor.execute(f"DROP DATABASE {name}")
        cursor.connection.close()


def run(program: str, environment: Mapping[str, str], *arguments: object) -> dict[str, Any]:
    """Run one of the programs, which must find no violation, and return what it found."""
    result = execute(program, environment, *arguments)
    assert result["violations"] == [], "\n".join(result["violations"])
    return result


def execute(program: str, environment: Mapping[str, str], *arguments: object) -> dict[str, Any]:
    """Run one of the programs and return what it found."""
    command = [sys.executable, "-W", "error", "-m", "tests.async_uploads.faults", program, *map(str, arguments)]
    done = subprocess.run(command, env=dict(environment), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("{"), done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    print(f"{program}: { ({**result, 'violations': len(result['violations'])}) }")
    return result


def sweep(environment: Mapping[str, str], slice_: int, fewest: int) -> None:
    """Break all points or a slice of them; there must be as many as were counted, and ``fewest`` at least."""
    result = run("sweep", environment, 0 if IS_THOROUGH else slice_, SEED)
    # Each call and statement of a clean run is broken before and after its effect, by a kill and by an error.
    assert result["clean"] >= result["counted"] > fewest  # counted by the debugging log, the profiler and the SDK
    assert result["points"] == 4 * result["clean"]
    assert result["struck"] == (result["points"] if IS_THOROUGH else slice_)
    assert result["struck"] >= result["clean"] or not IS_THOROUGH
    assert result["kept"] < result["struck"]
    assert result["kept"] > 0 or not IS_THOROUGH


def test_wherever_a_process_breaks_no_file_is_lost(database: Mapping[str, str]) -> None:
    sweep(database, SLICE, 150)


@pytest.mark.parametrize("cloud", list(CLOUDS) if IS_THOROUGH else ["s3-pieces"])
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_wherever_a_process_breaks_no_file_is_lost_in_the_cloud(database: Mapping[str, str], cloud: str) -> None:
    need(CLOUDS[cloud])
    # In the slice: three scenarios by lot.
    sweep({**database, "FAULTS_CLOUD": cloud}, 12, 150 if IS_THOROUGH else 10)


def test_a_crowd_that_submits_cleans_and_downloads_loses_nothing(database: Mapping[str, str]) -> None:
    kind = database.get("TEST_DATABASE", "sqlite")
    seconds = 60 if IS_THOROUGH and kind != "sqlite" else 10 if kind == "postgres" else 3
    result = run("crowd", database, seconds, SEED)
    assert result["documents"] > 5
    assert {"save", "atomic", "bulk", "raw", "clean", "download"} <= set(result["counts"])


SERVERS = pytest.mark.parametrize("database", ["postgres", "mariadb"], indirect=True)


@SERVERS
def test_the_cleanup_leaves_out_what_others_hold_at_the_moment(database: Mapping[str, str]) -> None:
    run("skipping", database)


@SERVERS
def test_locks_deadlocks_and_old_snapshots_lose_nothing(database: Mapping[str, str]) -> None:
    assert run("waiting", database)["situations"] == 8


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)
def test_the_isolation_that_mariadb_has_by_default_loses_nothing(database: Mapping[str, str]) -> None:
    repeatable = {**database, "FAULTS_ISOLATION": "repeatable read"}  # Django's own default is "read committed"
    run("waiting", repeatable)
    run("crowd", repeatable, 60 if IS_THOROUGH else 3, SEED)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("media")
def test_the_census_notices_what_is_no_point(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points, "CALLS", tuple(name for name in points.CALLS if name != "link"))
    monkeypatch.setattr(points.Points, "execute", lambda self, execute, *arguments: execute(*arguments))
    census, found = Census(), points.Points()
    with census.taken():
        Document.objects.create(file=make_upload(field_of(Document)))
    with found.installed():
        Document.objects.create(file=make_upload(field_of(Document)))
    missed = census.find_missed(found)
    assert missed["os.link"] == 1
    assert missed["statements"] > 5


def test_the_sweep_finds_what_is_wrong_with_the_references_design(tmp_path: Path) -> None:
    environment = {**os.environ, "TEST_RUN_DIRECTORY": str(tmp_path), "PYTHONPATH": str(ROOT)}
    environment.pop("TEST_DATABASE", None)
    found = execute("sweep", environment, 60, 1, 1)["violations"]
    for name in ("save and roll back", "save in a transaction", "save three fields"):
        assert any(violation.startswith(name) for violation in found), name
