"""What every test shares: the skip policy, the directory of the run, hypothesis profiles, PostgreSQL on demand."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import hypothesis
import pytest
from django.conf import settings

from tests.servers.postgres import PostgresServer
from tests.skips import SKIPS, SkipPolicy, need, required

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
def django_db_modify_db_settings(request: pytest.FixtureRequest) -> Iterator[None]:
    """With TEST_DATABASE=postgres, point libpq's variables (for this process and its children) at our own server."""
    if os.environ.get("TEST_DATABASE") != "postgres" or "PGHOST" in os.environ:
        yield
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield
