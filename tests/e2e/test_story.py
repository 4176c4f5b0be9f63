"""The story of the project: a big file survives a killed server, a reload, a lost network, and lands byte for byte.

Everything about the server's side is asserted from outside: the data file's size on disk, at the moment of the kill.
"""

from __future__ import annotations

import hashlib
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, CDPSession, Page, Request, expect

from tests.e2e.site import MIB, Sample, Site, compute_sha256, served, wait_for
from tests.servers import Kind
from tests.skips import need

pytestmark = pytest.mark.e2e

#: The widget's chunk; every PATCH begins at a multiple of it, or where an earlier one was cut.
CHUNK = 8 * MIB
SLOW = 12 * MIB


@pytest.fixture(params=["gthread", "uvicorn"])
def own_site(request: pytest.FixtureRequest, tmp_path: Path, database: Path) -> Iterator[Site]:
    need("chromium")
    kind: Kind = request.param
    with served(kind, tmp_path / "site", database=database) as started:
        yield started


def throttle(devtools: CDPSession, bytes_per_second: int) -> None:
    """Limit what the browser sends; -1 for no limit."""
    conditions = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_second}
    devtools.send("Network.emulateNetworkConditions", conditions)


def is_patch(request: Request) -> bool:
    return request.method == "PATCH"


def data_file(site: Site) -> Path:
    """Return the one data file of an upload."""
    return wait_for(lambda: site.uploads() or None)[-1]


def kill_within_a_patch(site: Site, path: Path, length: int, beyond: int) -> int:
    """Kill every process of the server while a PATCH writes; return the size of the data file right after."""
    wait_for(lambda: path.stat().st_size > beyond and MIB < path.stat().st_size % CHUNK < CHUNK - 2 * MIB, 240, 0.001)
    assert 0 < path.stat().st_size < length
    site.server.kill()
    size = path.stat().st_size
    assert 0 < size < length
    assert size % CHUNK, "The kill came between two requests."
    return size


def test_a_big_file_survives_kills_a_reload_and_a_lost_network(
    own_site: Site, page: Page, context: BrowserContext, big: Sample
) -> None:
    site, length = own_site, big.size
    devtools = context.new_cdp_session(page)
    devtools.send("Network.enable")

    # The upload starts when the file is chosen, and the server dies in the middle of a request.
    page.goto(f"{site.url}/talks/new/")
    throttle(devtools, SLOW)
    field = page.locator("async-upload").first
    page.locator("#id_video").set_input_files(big.path)
    expect(field).to_have_attribute("state", "uploading")
    path = data_file(site)
    kept = kill_within_a_patch(site, path, length, 10 * MIB)
    expect(field).to_have_attribute("state", "retrying")

    # Another server process, a new page, the same file chosen again: it goes on at the very byte.
    site.server.start()
    assert path.stat().st_size == kept
    page.reload()
    expect(field).to_have_attribute("state", "resumable")
    expect(field).to_contain_text("big.mp4")
    throttle(devtools, SLOW)
    with page.expect_request(is_patch) as patch:
        page.locator("#id_video").set_input_files(big.path)
    assert int(patch.value.headers["upload-offset"]) == kept
    expect(field).to_have_attribute("state", "uploading")
    wait_for(lambda: path.stat().st_size > kept)

    # A kill without a reload: the page goes on by itself.
    kept = kill_within_a_patch(site, path, length, kept + 10 * MIB)
    expect(field).to_have_attribute("state", "retrying")
    with page.expect_request(is_patch, timeout=60_000) as patch:
        site.server.start()
    assert int(patch.value.headers["upload-offset"]) == kept
    expect(field).to_have_attribute("state", "uploading")
    wait_for(lambda: path.stat().st_size > kept)

    # The network goes and comes back.
    context.set_offline(True)
    expect(field).to_have_attribute("state", "offline")
    before = path.stat().st_size
    assert 0 < before < length
    context.set_offline(False)
    expect(field).to_have_attribute("state", "uploading", timeout=60_000)
    wait_for(lambda: path.stat().st_size > before)

    # The form is sent while the upload still runs, and waits for it.
    throttle(devtools, -1)
    page.get_by_label("Title").fill("The story")
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url(f"{site.url}/", timeout=120_000)

    [(name,)] = site.rows("SELECT video FROM talks_talk WHERE title = 'The story'")
    assert name.startswith("videos/")
    assert name.endswith("big.mp4")
    assert (site.media / name).stat().st_size == length
    assert compute_sha256(site.media / name) == big.sha256
    assert site.uploads() == []
    [(moved_to, promoted)] = site.rows("SELECT moved_to_location, promoted_at FROM async_uploads_asynctempfile")
    assert moved_to == name
    assert promoted

    # It comes back the same, and never lay in the server's memory as a whole.
    address = page.get_by_role("link", name="Download the recording").get_attribute("href")
    digest = hashlib.sha256()
    with urllib.request.urlopen(f"{site.url}{address}") as answer:
        while piece := answer.read(MIB):
            digest.update(piece)
    assert digest.hexdigest() == big.sha256
    assert site.server.rss_peak() < 150 * MIB
