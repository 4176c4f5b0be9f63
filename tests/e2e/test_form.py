"""The upload field in an ordinary form: what a person does with it, and what is stored in the end."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest
from django.utils.text import get_valid_filename
from PIL import Image
from playwright.sync_api import Browser, CDPSession, Locator, Page, Request, expect

from tests.e2e.site import MIB, Sample, Site, compute_sha256, make_sample, wait_for

pytestmark = pytest.mark.e2e

NAMES = {
    "cyrillic": "Доклад о больших файлах.bin",
    "emoji": "🎬 take 😀.bin",
    "hebrew": "הרצאה על קבצים.bin",
    "arabic with marks": "مُحاضَرة ‏2026.bin",
    "percent and quote": "100% 'sure'.bin",
}


@pytest.fixture
def form(page: Page, site: Site) -> Page:
    """The page for a new talk, with a title."""
    page.goto(f"{site.url}/talks/new/")
    page.get_by_label("Title").fill("A talk")
    return page


@pytest.fixture
def slow(page: Page) -> CDPSession:
    """A page that sends 3 MB a second, until it is told not to."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("Network.enable")
    throttle(devtools, 3 * MIB)
    return devtools


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "портрет.png"
    Image.linear_gradient("L").resize((64, 48)).save(path)
    return path


def throttle(devtools: CDPSession, bytes_per_second: int) -> None:
    conditions = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_second}
    devtools.send("Network.emulateNetworkConditions", conditions)


def field(page: Page, name: str = "video") -> Locator:
    return page.locator("async-upload", has=page.locator(f"#id_{name}"))


def begin(page: Page, site: Site, sample: Sample) -> Path:
    """Choose a file; return the upload's data file as soon as a MiB of it has been stored."""
    known = set(site.uploads())
    page.locator("#id_video").set_input_files(sample.path)
    path = wait_for(lambda: set(site.uploads()) - known).pop()
    wait_for(lambda: path.stat().st_size > MIB)
    return path


def save(page: Page, site: Site) -> int:
    """Send the form; return the talk's primary key."""
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url(f"{site.url}/")
    [(pk,)] = site.rows("SELECT max(id) FROM talks_talk")
    return int(pk)


def stored(site: Site, pk: int, column: str = "video") -> Path:
    """Return where the database says that a talk's file lies."""
    [(name,)] = site.rows(f"SELECT {column} FROM talks_talk WHERE id = ?", pk)
    assert name
    return site.media / name


def creations(page: Page) -> list[Request]:
    """Return the list that every creation of an upload by the page will be noted in."""
    noted: list[Request] = []
    page.on("request", lambda request: request.method == "POST" and "/tus" in request.url and noted.append(request))
    return noted


# Sending the form


def test_the_form_waits_for_the_upload_and_keeps_the_pressed_button(
    form: Page, site: Site, slow: CDPSession, sample: Sample
) -> None:
    assert "default-src 'none'" in form.request.get(form.url).headers["content-security-policy"]
    form.locator("#id_video").set_input_files(sample.path)
    expect(field(form)).to_have_attribute("state", "uploading")
    form.get_by_role("button", name="Save and add another").click()
    waiting = form.locator("form[data-async-upload-waiting]")
    expect(waiting).to_be_visible()
    expect(field(form)).to_contain_text("The form will be sent when the upload has finished")
    throttle(slow, -1)
    expect(form.get_by_text("“A talk” was saved.")).to_be_visible()
    assert form.url == f"{site.url}/talks/new/"  # the button's own name and value came along
    [(pk,)] = site.rows("SELECT max(id) FROM talks_talk")
    assert compute_sha256(stored(site, pk)) == sample.sha256


def test_escape_calls_the_waiting_off(form: Page, site: Site, slow: CDPSession, sample: Sample) -> None:
    form.locator("#id_video").set_input_files(sample.path)
    expect(field(form)).to_have_attribute("state", "uploading")
    form.get_by_role("button", name="Save", exact=True).click()
    expect(form.locator("form[data-async-upload-waiting]")).to_be_visible()
    form.keyboard.press("Escape")
    expect(form.locator("form[data-async-upload-waiting]")).to_have_count(0)
    throttle(slow, -1)
    expect(field(form)).to_have_attribute("state", "done")
    assert form.url == f"{site.url}/talks/new/"


def test_a_paused_upload_stops_growing_keeps_the_form_and_goes_on(
    form: Page, site: Site, slow: CDPSession, sample: Sample
) -> None:
    path = begin(form, site, sample)
    form.get_by_role("button", name="Pause upload of sample.bin").click()
    expect(field(form)).to_have_attribute("state", "paused")
    expect(form.get_by_role("button", name="Resume upload of sample.bin")).to_be_focused()
    form.wait_for_timeout(300)  # what the server had received already is written
    size = path.stat().st_size
    assert 0 < size < sample.size

    form.get_by_role("button", name="Save", exact=True).click()
    expect(field(form)).to_contain_text("The upload is paused.")
    assert path.stat().st_size == size

    offsets: list[int] = []
    form.on(
        "request", lambda request: request.method == "PATCH" and offsets.append(int(request.headers["upload-offset"]))
    )
    throttle(slow, -1)
    form.get_by_role("button", name="Resume upload of sample.bin").click()
    expect(field(form)).to_have_attribute("state", "done")
    assert offsets[0] == size
    assert compute_sha256(stored(site, save(form, site))) == sample.sha256


def test_cancelling_deletes_the_upload_on_the_server(form: Page, site: Site, slow: CDPSession, sample: Sample) -> None:
    path = begin(form, site, sample)
    with form.expect_response(lambda response: response.request.method == "DELETE") as deleted:
        form.get_by_role("button", name="Cancel upload of sample.bin").click()
    assert deleted.value.status == 204
    expect(field(form)).to_have_attribute("state", "idle")
    assert not path.exists()
    key = path.relative_to(site.media).as_posix()
    assert site.rows("SELECT 1 FROM async_uploads_asynctempfile WHERE key = ? AND claim IS NOT 'expired'", key) == []
    expect(form.locator("#id_video")).to_be_focused()
    assert form.locator("#id_video").input_value() == ""


# Ways to choose and to steer


def test_everything_can_be_reached_by_the_keyboard_in_order(
    form: Page, site: Site, slow: CDPSession, sample: Sample
) -> None:
    path = begin(form, site, sample)
    form.locator("#id_video").focus()
    form.keyboard.press("Tab")
    expect(form.get_by_role("button", name="Pause upload of sample.bin")).to_be_focused()
    form.keyboard.press("Enter")
    expect(form.get_by_role("button", name="Resume upload of sample.bin")).to_be_focused()
    form.keyboard.press("Tab")
    expect(form.get_by_role("button", name="Cancel upload of sample.bin")).to_be_focused()
    form.keyboard.press("Tab")
    expect(form.locator("#id_picture")).to_be_focused()
    form.keyboard.press("Shift+Tab")
    form.keyboard.press("Enter")
    expect(form.locator("#id_video")).to_be_focused()
    expect(field(form)).to_have_attribute("state", "idle")
    wait_for(lambda: not path.exists())


def test_a_dropped_file_uploads_like_a_chosen_one(form: Page, site: Site) -> None:
    dropped = form.evaluate_handle("""() => {
        const transfer = new DataTransfer();
        transfer.items.add(new File(["dropped, not chosen"], "перетащили.txt", {type: "text/plain"}));
        return transfer;
    }""")
    field(form).dispatch_event("dragenter", {"dataTransfer": dropped})
    field(form).dispatch_event("dragover", {"dataTransfer": dropped})
    field(form).dispatch_event("drop", {"dataTransfer": dropped})
    expect(field(form)).to_have_attribute("state", "done")
    assert stored(site, save(form, site)).read_bytes() == b"dropped, not chosen"


# What is kept


def test_a_failed_validation_keeps_the_file(form: Page, site: Site, sample: Sample, picture: Path) -> None:
    form.get_by_label("Title").fill("   ")
    form.locator("#id_video").set_input_files(sample.path)
    form.locator("#id_picture").set_input_files(picture)
    expect(field(form)).to_have_attribute("state", "done")
    expect(field(form, "picture")).to_have_attribute("state", "done")
    noted = creations(form)
    form.get_by_role("button", name="Save", exact=True).click()
    expect(form.get_by_text("This field is required.")).to_be_visible()
    expect(field(form)).to_have_attribute("state", "done")
    expect(field(form)).to_contain_text("sample.bin")
    preview = field(form, "picture").locator("[data-part=preview]")
    expect(preview).to_be_visible()
    expect(preview).to_have_js_property("naturalWidth", 64)
    form.get_by_label("Title").fill("A title after all")
    pk = save(form, site)
    assert noted == []
    assert compute_sha256(stored(site, pk)) == sample.sha256
    assert stored(site, pk, "picture").read_bytes() == picture.read_bytes()
    assert site.rows("SELECT picture_width, picture_height FROM talks_talk WHERE id = ?", pk) == [(64, 48)]


def test_a_finished_upload_survives_a_reload_before_the_form_is_sent(form: Page, site: Site, sample: Sample) -> None:
    form.locator("#id_video").set_input_files(sample.path)
    expect(field(form)).to_have_attribute("state", "done")
    noted = creations(form)
    form.reload()
    expect(field(form)).to_have_attribute("state", "done")
    expect(field(form)).to_contain_text("sample.bin")
    form.get_by_label("Title").fill("After a reload")
    assert compute_sha256(stored(site, save(form, site))) == sample.sha256
    assert noted == []


def test_an_upload_goes_on_when_the_visitor_comes_back_by_the_back_button(
    form: Page, site: Site, slow: CDPSession, sample: Sample
) -> None:
    form.on("dialog", lambda dialog: dialog.accept())  # "leave the page?"
    begin(form, site, sample)
    noted = creations(form)
    form.goto(f"{site.url}/")
    throttle(slow, -1)
    form.go_back()
    # Chromium gives the file back by itself, and the field takes it without a click.
    expect(field(form)).to_have_attribute("state", "done")
    assert noted == []
    form.get_by_label("Title").fill("After coming back")
    assert compute_sha256(stored(site, save(form, site))) == sample.sha256


def test_replacing_and_clearing_files_of_a_saved_talk(
    form: Page, site: Site, sample: Sample, picture: Path, tmp_path: Path
) -> None:
    form.locator("#id_video").set_input_files(sample.path)
    form.locator("#id_picture").set_input_files(picture)
    expect(field(form, "picture")).to_have_attribute("state", "done")
    pk = save(form, site)
    old = stored(site, pk)

    # Sent without a change, nothing changes.
    form.goto(f"{site.url}/talks/{pk}/")
    expect(field(form)).to_have_attribute("instance-id", str(pk))
    assert save(form, site) == pk
    assert stored(site, pk) == old

    other = make_sample(tmp_path / "other.bin", MIB, seed=2)
    form.goto(f"{site.url}/talks/{pk}/")
    form.locator("#id_video").set_input_files(other.path)
    expect(field(form)).to_have_attribute("state", "done")
    field(form, "picture").get_by_role("button", name="Remove").click()
    expect(field(form, "picture")).to_contain_text("Will be removed when the form is sent.")
    assert save(form, site) == pk
    assert compute_sha256(stored(site, pk)) == other.sha256
    assert old.exists()  # a replaced file is the project's to delete, as with Django's own field
    assert site.rows("SELECT picture, picture_width FROM talks_talk WHERE id = ?", pk) == [("", None)]


def test_the_same_file_in_two_fields_is_two_uploads(form: Page, site: Site, picture: Path) -> None:
    noted = creations(form)
    for name in ("video", "picture"):
        form.locator(f"#id_{name}").set_input_files(picture)
    for name in ("video", "picture"):
        expect(field(form, name)).to_have_attribute("state", "done")
    pk = save(form, site)
    assert len(noted) == 2
    assert stored(site, pk).read_bytes() == stored(site, pk, "picture").read_bytes() == picture.read_bytes()
    assert stored(site, pk) != stored(site, pk, "picture")


# Names


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_file_keeps_its_name_in_every_script(form: Page, site: Site, tmp_path: Path, name: str) -> None:
    sample = make_sample(tmp_path / name, 1000)
    form.locator("#id_video").set_input_files(sample.path)
    expect(field(form)).to_have_attribute("state", "done")
    expect(field(form).locator("[data-part=name]")).to_have_text(name)
    pk = save(form, site)
    path = stored(site, pk)
    # Permanent names are Django's: what is no word character goes, every script stays.
    assert path.name == get_valid_filename(name)
    assert compute_sha256(path) == sample.sha256
    permanent = path.relative_to(site.media).as_posix()
    rows = site.rows("SELECT original_filename FROM async_uploads_asynctempfile WHERE moved_to_location = ?", permanent)
    assert rows == [(name,)]
    with form.expect_download() as started:
        form.get_by_role("link", name="Download the recording").first.click()
    download = started.value
    assert compute_sha256(Path(download.path())) == sample.sha256
    answer = form.request.get(download.url)
    disposition = answer.headers["content-disposition"]
    encoded = re.search(r"filename\*=utf-8''(\S+)|filename=\"([^\"]*)\"", disposition, re.IGNORECASE)
    assert encoded, disposition
    assert unquote(encoded[1] or encoded[2]) == name or encoded[2] == name


# Refusals


def test_too_large_a_file_is_refused_with_its_size_before_anything_is_sent(form: Page, tmp_path: Path) -> None:
    noted = creations(form)
    large = make_sample(tmp_path / "large.png", 10 * MIB + 1)
    form.locator("#id_picture").set_input_files(large.path)
    expect(field(form, "picture")).to_have_attribute("state", "error")
    expect(field(form, "picture").get_by_role("alert")).to_contain_text("large.png is too large")
    assert noted == []


def test_a_file_of_another_type_is_refused_by_the_browser(form: Page, sample: Sample) -> None:
    noted = creations(form)
    form.locator("#id_picture").set_input_files(sample.path)
    expect(field(form, "picture")).to_have_attribute("state", "error")
    expect(field(form, "picture").get_by_role("alert")).to_contain_text("not of an allowed type")
    assert noted == []


def test_a_file_that_only_claims_to_be_a_picture_is_refused_by_the_server(form: Page, tmp_path: Path) -> None:
    wolf = tmp_path / "sheep.png"
    wolf.write_bytes(b"<!doctype html><script>alert(1)</script>" * 10)
    form.locator("#id_picture").set_input_files(wolf)
    expect(field(form, "picture")).to_have_attribute("state", "error")
    expect(field(form, "picture").get_by_role("alert")).to_contain_text("This type of file is not accepted")


# Without JavaScript


def test_without_javascript_it_is_an_ordinary_form(
    browser: Browser, site: Site, sample: Sample, tmp_path: Path
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    named = tmp_path / "Без скрипта.bin"
    shutil.copyfile(sample.path, named)
    page.goto(f"{site.url}/talks/new/")
    page.get_by_label("Title").fill(" ")
    page.locator("#id_video").set_input_files(named)
    expect(page.get_by_role("button", name="Pause")).to_have_count(0)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("This field is required.")).to_have_count(1)
    page.get_by_label("Title").fill("No script")
    page.locator("#id_video").set_input_files(named)
    pk = save(page, site)
    assert compute_sha256(stored(site, pk)) == sample.sha256
    assert stored(site, pk).name == get_valid_filename(named.name)

    page.goto(f"{site.url}/talks/{pk}/")
    expect(page.get_by_role("link", name=stored(site, pk).relative_to(site.media).as_posix())).to_be_visible()
    assert save(page, site) == pk
    assert compute_sha256(stored(site, pk)) == sample.sha256
    context.close()
