"""What every test shares: the skip policy, the directory of the run, hypothesis profiles, databases on demand."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import hypothesis
import pytest
from django.conf import settings
from django.db import connection

from tests.servers.azurite import AzuriteServer
from tests.servers.mariadb import MariaDBServer
from tests.servers.moto import MotoServer
from tests.servers.postgres import PostgresServer
from tests.servers.rgw import RgwServer
from tests.skips import SKIPS, SkipPolicy, need, required

# Shipped tests, imported by several modules of ours; before the first of them is.
pytest.register_assert_rewrite("tus_server.testing.conformance")

hypothesis.settings.register_profile("default", deadline=None, derandomize=True, database=None)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=2000, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(SkipPolicy(SKIPS, required()), "skip-policy")
    settings.RUN_DIRECTORY.mkdir(exist_ok=True)


def pytest_unconfigure() -> None:
    shutil.rmtree(settings.RUN_DIRECTORY, ignore_errors=True)  # a killed server may still be writing


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server of this run on a free port of 127.0.0.1, thrown away at its end."""
    with PostgresServer(need("postgres")) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDBServer]:
    """A MariaDB server of this run on a free port of 127.0.0.1, thrown away at its end."""
    with MariaDBServer(need("mariadb")) as server:
        yield server


@pytest.fixture(scope="session")
def moto() -> Iterator[MotoServer]:
    """A stand-in for S3 on a free port of 127.0.0.1, with everything in memory."""
    need("moto")
    with MotoServer() as server:
        yield server


@pytest.fixture(scope="session")
def small_moto() -> Iterator[MotoServer]:
    """A stand-in for S3 that takes parts of any size, for quick tests of many parts."""
    need("moto")
    with MotoServer(smallest_part=1) as server:
        yield server


@pytest.fixture(scope="session")
def rgw() -> Iterator[RgwServer]:
    """Ceph's S3 gateway with a cluster in memory, on a free port of 127.0.0.1, thrown away at the end."""
    need("rgw")
    with RgwServer() as server:
        yield server


@pytest.fixture(scope="session")
def small_rgw() -> Iterator[RgwServer]:
    """Ceph's S3 gateway that takes parts of any size, for quick tests of many parts."""
    need("rgw")
    with RgwServer(smallest_part=1) as server:
        yield server


@pytest.fixture(scope="session")
def azurite() -> Iterator[AzuriteServer]:
    """Azurite with an account in memory, on a free port of 127.0.0.1, thrown away at the end."""
    with AzuriteServer(need("azurite")) as server:
        yield server


@pytest.fixture(scope="session")
def django_db_modify_db_settings(request: pytest.FixtureRequest) -> Iterator[None]:
    """Point the clients' variables (for this process and its children) at our own server of TEST_DATABASE's kind."""
    kind = os.environ.get("TEST_DATABASE", "sqlite")
    if {"postgres": "PGHOST", "mariadb": "MYSQL_HOST"}.get(kind, "PATH") in os.environ:
        yield
        return
    server: PostgresServer | MariaDBServer = request.getfixturevalue(kind)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        if kind == "mariadb":  # Django reads these once; libpq reads its own each time
            patch.setitem(settings.DATABASES["default"], "HOST", server.environment["MYSQL_HOST"])
            patch.setitem(settings.DATABASES["default"], "PORT", server.environment["MYSQL_TCP_PORT"])
            connection.settings_dict.update(HOST=server.environment["MYSQL_HOST"], PORT=str(server.port))
        yield
