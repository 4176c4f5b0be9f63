"""A browser for this package only, and the example project to visit.

Playwright's fixtures live as long as the session by themselves; with its event loop, no test behind ours could use
``asyncio.run`` or the ORM. Here they end with the package.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect, sync_playwright

from tests.e2e.site import MIB, Sample, Site, make_sample, prepare_database, served
from tests.skips import need

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

#: Milliseconds that a page may take for what it does at once, however busy the machine.
PATIENCE = 60_000

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="package")
def browser_type_launch_args() -> dict[str, Any]:
    """The system's Chromium; Playwright's own is never downloaded."""
    return {"executable_path": need("chromium"), "args": FLAGS}


@pytest.fixture(scope="package")
def playwright(browser_type_launch_args: dict[str, Any]) -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="package")
def browser(playwright: Playwright, browser_type_launch_args: dict[str, Any]) -> Iterator[Browser]:
    launched = playwright.chromium.launch(**browser_type_launch_args)
    yield launched
    launched.close()


@pytest.fixture(scope="package")
def browser_context_args() -> dict[str, Any]:
    return {"locale": "en-US", "viewport": {"width": 1100, "height": 900}}


@pytest.fixture
def context(context: BrowserContext) -> BrowserContext:
    context.set_default_timeout(PATIENCE)
    return context


@pytest.fixture
def page(page: Page) -> Iterator[Page]:
    """A page that must not complain: no exception in a script, nothing that the strict policy refused."""
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: "Content Security Policy" in message.text and complaints.append(message.text))
    yield page
    assert not complaints


@pytest.fixture(scope="package")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's database as ``manage.py demo`` prepares it, to be copied."""
    return prepare_database(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory, database: Path) -> Iterator[Site]:
    """The example under gunicorn, for tests that break nothing of it; none of them expects an empty site."""
    need("chromium")
    with served("gthread", tmp_path_factory.mktemp("site"), database=database) as started:
        yield started


@pytest.fixture(scope="package")
def big(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """200 MiB."""
    return make_sample(tmp_path_factory.mktemp("big") / "big.mp4", 200 * MIB, head=b"\0\0\0\x18ftypmp42\0\0\0\0")


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    """A bit more than one chunk."""
    return make_sample(tmp_path / "sample.bin", 9 * MIB + 1)
