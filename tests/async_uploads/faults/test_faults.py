"""The sweep and the crowd, over SQLite and PostgreSQL: a short slice by lot, everything with ``make proof``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import ROOT
from tests.servers.postgres import PostgresServer

pytestmark = pytest.mark.e2e

IS_THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
#: Another one finds other faults in the slice.
SEED = int(os.environ.get("FAULTS_SEED", "1"))
SLICE = 24


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mapping[str, str]]:
    """The environment of a process with a database and a storage of its own."""
    kept = {name: value for name, value in os.environ.items() if name not in ("TEST_DATABASE", "PYTEST_CURRENT_TEST")}
    kept |= {"TEST_RUN_DIRECTORY": str(tmp_path / "run"), "PYTHONPATH": str(ROOT)}
    if request.param == "sqlite":
        yield kept
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    import psycopg

    name = f"faults_{os.getpid()}_{abs(hash(request.node.name)) % 10**6}"
    connected = psycopg.connect(host="127.0.0.1", port=server.port, user="postgres", dbname="postgres", autocommit=True)
    with connected as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield {**kept, **server.environment, "TEST_DATABASE": "postgres", "FAULTS_DATABASE": name}
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


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


def test_wherever_a_process_breaks_no_file_is_lost(database: Mapping[str, str]) -> None:
    result = run("sweep", database, 0 if IS_THOROUGH else SLICE, SEED)
    # Each call and statement of a clean run is broken before and after its effect, by a kill and by an error.
    assert result["clean"] > 150
    assert result["points"] == 4 * result["clean"]
    assert result["struck"] == (result["points"] if IS_THOROUGH else SLICE)
    assert result["struck"] >= result["clean"] or not IS_THOROUGH
    assert 0 < result["kept"] < result["struck"]


def test_a_crowd_that_submits_cleans_and_downloads_loses_nothing(database: Mapping[str, str]) -> None:
    is_postgres = database.get("TEST_DATABASE") == "postgres"
    seconds = 3 if not is_postgres else 60 if IS_THOROUGH else 10
    result = run("crowd", database, seconds, SEED)
    assert result["documents"] > 5
    assert {"save", "atomic", "bulk", "raw", "clean", "download"} <= set(result["counts"])


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_the_cleanup_leaves_out_what_others_hold_at_the_moment(database: Mapping[str, str]) -> None:
    run("skipping", database)


def test_the_sweep_finds_what_is_wrong_with_the_references_design(tmp_path: Path) -> None:
    environment = {**os.environ, "TEST_RUN_DIRECTORY": str(tmp_path), "PYTHONPATH": str(ROOT)}
    environment.pop("TEST_DATABASE", None)
    found = execute("sweep", environment, 8, SEED, 1)["violations"]
    for name in ("save and roll back", "save in a transaction", "save three fields"):
        assert any(violation.startswith(name) for violation in found), name
