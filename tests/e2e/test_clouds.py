"""The story of the project where the files lie in the cloud: form, cut, resume, save, download; and signed uploads."""

from __future__ import annotations

import hashlib
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.e2e.clouds import make_azure, make_s3
from tests.e2e.site import MIB, Cloud, Sample, Site, make_sample, served, wait_for
from tests.e2e.test_story import CHUNK, SLOW, is_patch, throttle
from tests.skips import need

pytestmark = pytest.mark.e2e

#: The fixture of each service, and what makes a place in it.
SERVICES: dict[str, tuple[str, Callable[..., Cloud]]] = {"s3": ("moto", make_s3), "azure": ("azurite", make_azure)}


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> Callable[[str], Cloud]:
    """Makes a place at a service for a transport."""
    need("chromium")
    fixture, make = SERVICES[request.param]
    server = request.getfixturevalue(fixture)
    return lambda transport: make(server, transport)


@pytest.fixture
def film(tmp_path: Path) -> Sample:
    """28 MiB: three chunks, and one that is no whole one."""
    return make_sample(tmp_path / "film.mp4", 28 * MIB, head=b"\0\0\0\x18ftypmp42\0\0\0\0")


def stored(site: Site) -> int:
    """Return how many bytes of the one upload the service has acknowledged, by the journal's row alone."""
    rows = site.rows("SELECT parts_end, finished_size FROM async_uploads_uploadstate")
    return max((size or end for end, size in rows), default=0)


def save(site: Site, page: Page, title: str) -> str:
    """Send the form; return the name that the record then has."""
    page.get_by_label("Title").fill(title)
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url(f"{site.url}/", timeout=120_000)
    [(name,)] = site.rows("SELECT video FROM talks_talk WHERE title = ?", title)
    return str(name)


def assert_downloads(site: Site, page: Page, cloud: Cloud, name: str, film: Sample) -> None:
    """The file is there under its name, promoted, and comes back through the page's link."""
    assert name.startswith("videos/")
    assert hashlib.sha256(cloud.read(name)).hexdigest() == film.sha256
    [(moved_to, promoted)] = site.rows("SELECT moved_to_location, promoted_at FROM async_uploads_asynctempfile")
    assert moved_to == name
    assert promoted
    address = page.get_by_role("link", name="Download the recording").get_attribute("href")
    digest = hashlib.sha256()
    with urllib.request.urlopen(f"{site.url}{address}") as answer:
        assert answer.url.startswith(cloud.url), "the site itself does not carry the bytes"
        assert "film.mp4" in answer.headers["Content-Disposition"]
        while piece := answer.read(MIB):
            digest.update(piece)
    assert digest.hexdigest() == film.sha256


def test_an_upload_by_tus_survives_a_kill_and_lands_in_the_cloud(
    service: Callable[[str], Cloud], page: Page, context: BrowserContext, film: Sample, tmp_path: Path, database: Path
) -> None:
    cloud = service("tus")
    devtools = context.new_cdp_session(page)
    devtools.send("Network.enable")
    with served("gthread", tmp_path / "site", database=database, cloud=cloud) as site:
        page.goto(f"{site.url}/talks/new/")
        throttle(devtools, SLOW)
        field = page.locator("async-upload").first
        page.locator("#id_video").set_input_files(film.path)
        expect(field).to_have_attribute("state", "uploading")

        # Killed within the second chunk or later: what was acknowledged is all that counts.
        wait_for(lambda: stored(site) >= CHUNK, 240)
        site.server.kill()
        kept = stored(site)
        assert CHUNK <= kept < film.size
        expect(field).to_have_attribute("state", "retrying")

        # Another process, a new page, the same file chosen again: it goes on there.
        site.server.start()
        page.reload()
        expect(field).to_have_attribute("state", "resumable")
        with page.expect_request(is_patch) as patch:
            page.locator("#id_video").set_input_files(film.path)
        assert kept <= int(patch.value.headers["upload-offset"]) < film.size
        throttle(devtools, -1)
        name = save(site, page, "In the cloud")

        assert_downloads(site, page, cloud, name, film)
        # Private and random, it was its permanent name from the beginning: nothing was copied, nothing is left.
        assert cloud.names() == [name]


def test_a_signed_upload_begins_again_after_a_lost_network_and_is_promoted(
    service: Callable[[str], Cloud], page: Page, context: BrowserContext, film: Sample, tmp_path: Path, database: Path
) -> None:
    cloud = service("signed")
    devtools = context.new_cdp_session(page)
    devtools.send("Network.enable")
    with served("gthread", tmp_path / "site", database=database, cloud=cloud) as site:
        page.goto(f"{site.url}/talks/new/")
        throttle(devtools, SLOW)
        field = page.locator("async-upload").first
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.url) if request.url.startswith(cloud.url) else None)
        page.locator("#id_video").set_input_files(film.path)
        expect(field).to_have_attribute("state", "uploading")
        wait_for(lambda: page.locator("async-upload progress").first.get_attribute("value") not in (None, "0"))

        context.set_offline(True)
        expect(field).to_have_attribute("state", "offline")
        context.set_offline(False)
        expect(field).to_have_attribute("state", "uploading", timeout=60_000)
        throttle(devtools, -1)
        name = save(site, page, "Signed")
        assert len(sent) >= 2, "the whole file goes again"

        assert_downloads(site, page, cloud, name, film)
        assert not [one for one in sent if "uploads/tus" in one]
