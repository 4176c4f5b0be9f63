"""The field and the endpoint together with what others wrote: Uppy, htmx, Turbo, the admin, pages of another origin."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import CDPSession, Locator, Page, expect

from tests.e2e.interop.packages import collect_scripts
from tests.e2e.site import MIB, ROOT, Sample, Site, build_environment, compute_sha256, make_sample
from tests.e2e.test_admin import sign_in
from tests.servers import RunningServer
from tests.skips import need

pytestmark = pytest.mark.e2e

SETTINGS = "tests.e2e.interop.settings"
BUNDLE = ROOT / "async_uploads" / "static" / "async_uploads"


class InteropSite(Site):
    """The example with pages that load foreign scripts."""

    def __init__(self, directory: Path, database: Path, scripts: Path) -> None:
        self.directory = directory
        self.environment = {
            **build_environment(directory),
            "DJANGO_SETTINGS_MODULE": SETTINGS,
            "INTEROP_STATIC": str(scripts),
        }
        shutil.copyfile(database, directory / "db.sqlite3")
        self.server = RunningServer(
            "gthread", directory, env=self.environment, wsgi="demo.wsgi:application", health="/"
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, database: Path) -> Iterator[Site]:
    """One for all tests here."""
    need("chromium")
    need("node")
    scripts = tmp_path_factory.mktemp("scripts")
    collect_scripts(scripts)
    started = InteropSite(tmp_path_factory.mktemp("interop"), database, scripts)
    try:
        yield started
    finally:
        started.stop()
        print(started.server.log[-8000:])


@pytest.fixture
def slow(page: Page) -> CDPSession:
    """A page that sends 3 MB a second, until it is told not to."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("Network.enable")
    throttle(devtools, 3 * MIB)
    return devtools


@pytest.fixture
def elsewhere(tmp_path: Path, site: Site) -> Iterator[str]:
    """The address of a page on another port with a field for the site's uploads, as a single-page application has."""
    pages = tmp_path / "pages"
    pages.mkdir()
    shutil.copyfile(BUNDLE / "async-uploads.js", pages / "async-uploads.js")
    (
        pages / "index.html"
    ).write_text(f"""<!doctype html><title>Elsewhere</title><script src="async-uploads.js" defer></script>
<form><async-upload endpoint="{site.url}/uploads/tus/" field-id="talks.Talk.video" chunk-size="{4 * MIB}">
<input type="file" id="id_video" name="video"><input type="hidden" value="" disabled>
<button type="button" data-action="remove" hidden>Remove</button><span data-part="error" role="alert"></span>
</async-upload></form>""")
    handler = partial(QuietHandler, directory=str(pages))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Say nothing."""


def throttle(devtools: CDPSession, bytes_per_second: int) -> None:
    conditions = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_second}
    devtools.send("Network.emulateNetworkConditions", conditions)


def field(page: Page) -> Locator:
    return page.locator("async-upload", has=page.locator("#id_video"))


def save(page: Page) -> None:
    page.get_by_role("button", name="Save", exact=True).click()


def send_while_uploading(page: Page, slow: CDPSession, sample: Sample) -> None:
    """Send a form without a title before its upload has finished; it comes back with a complaint and the file."""
    page.get_by_label("Title").fill("   ")
    page.locator("#id_video").set_input_files(sample.path)
    expect(field(page)).to_have_attribute("state", "uploading")
    save(page)
    expect(page.locator("form[data-async-upload-waiting]")).to_be_visible()
    throttle(slow, -1)
    expect(page.get_by_text("This field is required.")).to_be_visible()
    expect(field(page)).to_have_attribute("state", "done")
    expect(field(page)).to_contain_text("sample.bin")


def newest(site: Site) -> tuple[str, str]:
    """Return the newest talk's title, and the SHA-256 of its file."""
    [(title, name)] = site.rows("SELECT title, video FROM talks_talk ORDER BY id DESC LIMIT 1")
    return title, compute_sha256(site.media / name)


@pytest.mark.parametrize("script", ["htmx-2", "htmx-4"])
def test_an_htmx_form_waits_comes_back_with_its_file_and_is_saved(
    page: Page, site: Site, slow: CDPSession, sample: Sample, script: str
) -> None:
    page.goto(f"{site.url}/interop/{script}/")
    send_while_uploading(page, slow, sample)
    page.get_by_label("Title").fill(script)
    save(page)
    expect(page.get_by_role("status").filter(has_text="Saved")).to_be_visible()
    assert page.url == f"{site.url}/interop/{script}/"
    assert newest(site) == (script, sample.sha256)


def test_a_turbo_form_waits_and_a_file_that_came_back_can_be_removed_and_replaced(
    page: Page, site: Site, slow: CDPSession, sample: Sample, tmp_path: Path
) -> None:
    page.goto(f"{site.url}/interop/turbo/")
    page.evaluate("() => { window.sameVisit = true }")
    send_while_uploading(page, slow, sample)
    [unwanted] = site.uploads()[-1:]
    with page.expect_response(lambda response: response.request.method == "DELETE") as deleted:
        field(page).get_by_role("button", name="Remove sample.bin").click()
    assert deleted.value.status == 204
    assert not unwanted.exists()

    other = make_sample(tmp_path / "other.bin", MIB, seed=2)
    page.locator("#id_video").set_input_files(other.path)
    expect(field(page)).to_have_attribute("state", "done")
    page.get_by_label("Title").fill("Turbo")
    save(page)
    page.wait_for_url(f"{site.url}/")
    expect(page.get_by_role("heading", name="Turbo")).to_be_visible()
    assert page.evaluate("() => window.sameVisit")  # Turbo sent it, not the browser
    assert newest(site) == ("Turbo", other.sha256)


@pytest.mark.parametrize("shape", ["id", "json", "url"])
def test_a_file_uploaded_by_uppy_is_saved_by_the_form(page: Page, site: Site, sample: Sample, shape: str) -> None:
    offsets: list[str] = []
    page.on("request", lambda request: request.method == "PATCH" and offsets.append(request.headers["upload-offset"]))
    page.goto(f"{site.url}/interop/uppy/")
    page.get_by_label("Title").fill(f"Uppy, {shape}")
    page.get_by_label("Shape").fill(shape)
    page.locator("#pick").set_input_files(sample.path)
    expect(page.locator("[name=video]")).to_have_value(re.compile("."))
    save(page)
    page.wait_for_url(f"{site.url}/")
    assert newest(site) == (f"Uppy, {shape}", sample.sha256)
    assert offsets == ["0", str(4 * MIB), str(8 * MIB)]


def test_a_page_of_another_origin_uploads_goes_on_and_deletes(
    page: Page, site: Site, slow: CDPSession, sample: Sample, elsewhere: str
) -> None:
    page.goto(elsewhere)
    page.locator("#id_video").set_input_files(sample.path)
    expect(field(page)).to_have_attribute("state", "uploading")
    field(page).evaluate("element => element.pause()")
    throttle(slow, -1)
    field(page).evaluate("element => element.resume()")
    expect(field(page)).to_have_attribute("state", "done")
    # The key comes from a header that other origins see only when it is exposed.
    key = field(page).evaluate("element => element.value.key")
    assert key.startswith("async-temp-files/")
    assert compute_sha256(site.media / key) == sample.sha256

    with page.expect_response(lambda response: response.request.method == "DELETE") as deleted:
        field(page).locator("[data-action=remove]").click()
    assert deleted.value.status == 204
    assert not (site.media / key).exists()


def test_the_rows_of_the_admin_fit_its_page(page: Page, site: Site, sample: Sample) -> None:
    page.set_viewport_size({"width": 1200, "height": 900})
    sign_in(page, site, "demo")
    page.goto(f"{site.url}/admin/talks/talk/add/")
    page.locator(".add-row a").click()
    page.locator("#id_handouts-0-file").set_input_files(sample.path)
    row = page.locator("async-upload", has=page.locator("#id_handouts-0-file"))
    expect(row).to_have_attribute("state", "done")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 1200
    assert page.locator("#handouts-group").evaluate("group => group.scrollWidth - group.clientWidth") <= 0
