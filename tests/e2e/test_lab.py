"""The big file lab: the trouble is real, and both sides are shown as they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.site import MIB, Sample, Site, compute_sha256, make_sample, served, wait_for
from tests.servers import Kind
from tests.skips import need

pytestmark = pytest.mark.e2e


@pytest.fixture(params=["gthread", "uvicorn"])
def own_site(request: pytest.FixtureRequest, tmp_path: Path, database: Path) -> Iterator[Site]:
    need("chromium")
    kind: Kind = request.param
    with served(kind, tmp_path / "site", database=database) as started:
        yield started


def test_a_slow_line_a_cut_and_a_sleeping_server_cost_nothing(own_site: Site, page: Page, tmp_path: Path) -> None:
    # Five chunks: each trouble may find the rest of one in this machine's memory.
    sample = make_sample(tmp_path / "sample.bin", 40 * MIB + 1)
    page.goto(f"{own_site.url}/lab/")
    field, log = page.locator("async-upload"), page.locator("[data-show=log]")
    page.get_by_role("button", name="Slow line").click()
    expect(page.get_by_role("button", name="Slow line")).to_have_attribute("aria-pressed", "true")
    page.locator("#id_file").set_input_files(sample.path)
    path = wait_for(own_site.uploads)[-1]
    wait_for(lambda: path.stat().st_size > MIB)
    expect(page.locator("[data-show=server-state]")).to_have_text("receiving")
    expect(page.locator("[data-show=stored]")).to_contain_text("MiB of 40.0 MiB")
    before = path.stat().st_size
    assert before < sample.size

    page.get_by_role("button", name="Cut the cable").click()
    expect(log).to_contain_text("you: cut the cable")
    expect(log).not_to_contain_text("but nothing was being sent")
    wait_for(lambda: path.stat().st_size > before)
    expect(log).to_contain_text("retrying → uploading")

    with page.expect_response(lambda response: response.status == 503 and "/tus/" in response.url) as refusal:
        page.get_by_role("button", name="Server asleep").click()
    assert 1 <= int(refusal.value.headers["retry-after"]) <= 11
    expect(page.locator("[data-show=server-state]")).to_contain_text("asleep")
    expect(field).to_have_attribute("state", "retrying")
    assert 0 < path.stat().st_size < sample.size

    page.get_by_role("button", name="Slow line").click()
    expect(field).to_have_attribute("state", "done", timeout=60_000)
    expect(page.locator("[data-show=server-state]")).to_have_text("finished, waits for the form")
    expect(log).not_to_contain_text("WENT BACK")
    page.get_by_role("button", name="Move it to its permanent place").click()
    expect(page.get_by_text("lies in its permanent place")).to_be_visible()
    assert compute_sha256(own_site.media / "lab" / "sample.bin") == sample.sha256
    address = page.get_by_role("link", name="SHA-256").first.get_attribute("href")
    assert page.request.get(f"{own_site.url}{address}").text() == f"{sample.sha256}  lab/sample.bin\n"


def test_a_visitor_sees_and_disturbs_only_their_own_uploads(own_site: Site, page: Page, sample: Sample) -> None:
    page.goto(f"{own_site.url}/lab/")
    page.get_by_role("button", name="Slow line").click()
    page.locator("#id_file").set_input_files(sample.path)
    path = wait_for(own_site.uploads)[-1]
    wait_for(lambda: path.stat().st_size > 0)
    assert page.context.browser
    stranger = page.context.browser.new_context()
    other = stranger.new_page()
    other.goto(f"{own_site.url}/lab/")
    expect(other.locator("[data-show=server-state]")).to_have_text("nothing yet")
    other.get_by_role("button", name="Cut the cable").click()
    expect(other.locator("[data-show=log]")).to_contain_text("but nothing was being sent")
    stranger.close()
    page.get_by_role("button", name="Cancel upload").click()
    expect(page.locator("async-upload")).to_have_attribute("state", "idle")
    wait_for(lambda: not path.exists())
