"""The pages as such: what axe finds, what the strict policy refuses, and numbers in the page's language."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.e2e.site import MIB, Sample, Site, make_sample, served
from tests.skips import need

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def foreign_site(tmp_path_factory: pytest.TempPathFactory, database: Path) -> Iterator[Site]:
    """The example in German, under uvicorn."""
    need("chromium")
    with served("uvicorn", tmp_path_factory.mktemp("foreign"), database=database, language="de") as started:
        yield started


def require_accessible(page: Page) -> None:
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_page_and_in_any_state_of_the_field(
    page: Page, site: Site, sample: Sample, tmp_path: Path, scheme: str
) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(f"{site.url}/talks/new/")
    require_accessible(page)
    page.locator("#id_picture").set_input_files(sample.path)
    expect(page.locator("async-upload").nth(1)).to_have_attribute("state", "error")
    require_accessible(page)
    devtools = page.context.new_cdp_session(page)
    conditions = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": MIB}
    devtools.send("Network.enable")
    devtools.send("Network.emulateNetworkConditions", conditions)
    field = page.locator("async-upload").first
    page.locator("#id_video").set_input_files(sample.path)
    expect(field).to_have_attribute("state", "uploading")
    require_accessible(page)
    page.get_by_role("button", name="Pause upload").click()
    expect(field).to_have_attribute("state", "paused")
    require_accessible(page)
    page.reload()
    expect(field).to_have_attribute("state", "resumable")
    require_accessible(page)
    devtools.send("Network.emulateNetworkConditions", {**conditions, "uploadThroughput": -1})
    page.locator("#id_video").set_input_files(sample.path)
    expect(field).to_have_attribute("state", "done")
    require_accessible(page)
    page.get_by_label("Title").fill(" ")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("This field is required.")).to_be_visible()
    require_accessible(page)
    page.get_by_label("Title").fill("Accessible")
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url(f"{site.url}/")
    require_accessible(page)
    page.get_by_role("link", name="Edit Accessible").first.click()
    expect(field).to_have_attribute("state", "idle")
    require_accessible(page)
    page.goto(f"{site.url}/lab/")
    require_accessible(page)


def test_numbers_and_directions_follow_the_language_of_the_page(page: Page, foreign_site: Site, tmp_path: Path) -> None:
    page.goto(f"{foreign_site.url}/talks/new/")
    assert page.locator("html").get_attribute("lang") == "de"
    field = page.locator("async-upload").first
    page.locator("#id_video").set_input_files(make_sample(tmp_path / "groß.bin", 2_621_440).path)
    expect(field).to_have_attribute("state", "done")
    expect(field).to_contain_text("2,5 MB")


def test_pages_reflow_in_a_narrow_window(page: Page, site: Site, sample: Sample) -> None:
    page.set_viewport_size({"width": 320, "height": 640})
    for path in ("/", "/talks/new/", "/lab/"):
        page.goto(f"{site.url}{path}")
        for field in page.locator("async-upload").all():
            field.locator("input[type=file]").set_input_files(sample.path)
            expect(field).to_have_attribute("state", re.compile("done|error"))
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
