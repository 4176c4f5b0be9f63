"""The mark that ties tests to items of the tus checklist."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "checklist(*ids): the items of the tus checklist that a test covers")
