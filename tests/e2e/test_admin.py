"""The same field in Django's admin, with no code but ``admin.site.register``."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.site import MIB, Sample, Site, compute_sha256, make_sample

pytestmark = pytest.mark.e2e

CREATE_EDITOR = """
from django.contrib.auth.models import Permission, User
from talks.models import Handout
user = User.objects.create_user("editor", password="editor", is_staff=True)
user.user_permissions.set(Permission.objects.filter(codename__in=["change_handout", "view_handout"]))
print(Handout.objects.create(label="Slides").pk)
"""


@pytest.fixture(scope="module")
def handout(site: Site) -> int:
    """A handout without a file, and ``editor``, who may change and view handouts, no more."""
    return int(site.run(CREATE_EDITOR))


def sign_in(page: Page, site: Site, name: str) -> None:
    page.goto(f"{site.url}/admin/login/?next=/admin/")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(name)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"{site.url}/admin/")


def upload_into(page: Page, selector: str, path: Path) -> Locator:
    """Choose a file and wait until it is uploaded."""
    field = page.locator("async-upload", has=page.locator(selector))
    page.locator(selector).set_input_files(path)
    expect(field).to_have_attribute("state", "done")
    return field


def stored(site: Site, query: str, *parameters: object) -> Path:
    [(name,)] = site.rows(query, *parameters)
    assert name
    return site.media / name


def test_an_editor_with_change_and_view_uploads_replaces_and_downloads(
    page: Page, site: Site, handout: int, sample: Sample, tmp_path: Path
) -> None:
    pk = handout
    query = "SELECT file FROM talks_handout WHERE id = ?"
    sign_in(page, site, "editor")
    page.goto(f"{site.url}/admin/talks/handout/{pk}/change/")
    upload_into(page, "#id_file", sample.path)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was changed successfully")).to_be_visible()
    first = stored(site, query, pk)
    assert first.parent == site.media / "handouts"
    assert compute_sha256(first) == sample.sha256

    # Changed without touching the file, it stays; then it is replaced.
    page.goto(f"{site.url}/admin/talks/handout/{pk}/change/")
    page.get_by_label("Label").fill("Better slides")
    page.get_by_role("button", name="Save and continue editing").click()
    expect(page.get_by_text("was changed successfully")).to_be_visible()
    assert stored(site, query, pk) == first
    other = make_sample(tmp_path / "Слайды.pdf", MIB, seed=3, head=b"%PDF-1.7\n")
    upload_into(page, "#id_file", other.path)
    page.get_by_role("button", name="Save and continue editing").click()
    expect(page.get_by_text("was changed successfully")).to_be_visible()
    assert stored(site, query, pk) == site.media / "handouts" / "Слайды.pdf"
    assert compute_sha256(stored(site, query, pk)) == other.sha256

    link = page.get_by_role("link", name="handouts/Слайды.pdf")
    address = f"{site.url}{link.get_attribute('href')}"
    answer = page.request.get(address)
    assert answer.status == 200
    assert answer.body() == other.path.read_bytes()
    page.context.clear_cookies()
    assert page.request.get(address).status == 403


def test_an_editor_who_may_not_add_is_refused_before_anything_is_stored(page: Page, site: Site, handout: int) -> None:
    """The page for a new handout is closed to them; its endpoint too."""
    sign_in(page, site, "editor")
    assert page.request.get(f"{site.url}/admin/talks/handout/add/").status == 403
    token = next(cookie["value"] for cookie in page.context.cookies() if cookie["name"] == "csrftoken")
    before = site.uploads()
    answer = page.request.post(
        f"{site.url}/uploads/generate-upload-url/",
        data={"field_id": "talks.Handout.file", "filename": "a.pdf", "size": 3},
        headers={"X-CSRFToken": token, "Referer": site.url},
    )
    assert answer.status == 403
    assert site.uploads() == before


def test_rows_added_to_an_inline_upload_each_their_own_file(
    page: Page, site: Site, sample: Sample, tmp_path: Path
) -> None:
    sign_in(page, site, "demo")
    page.goto(f"{site.url}/admin/talks/talk/add/")
    page.get_by_label("Title").fill("A talk with handouts")
    page.locator(".add-row a").click()
    page.locator(".add-row a").click()
    handouts = [make_sample(tmp_path / f"handout-{number}.bin", MIB + number, seed=number) for number in range(3)]
    for number, handout in enumerate(handouts):
        upload_into(page, f"#id_handouts-{number}-file", handout.path)
        page.locator(f"#id_handouts-{number}-label").fill(str(number))
    upload_into(page, "#id_video", sample.path)
    # A removed row takes its upload along.
    page.locator(".add-row a").click()
    upload_into(page, "#id_handouts-3-file", handouts[0].path)
    page.locator("#handouts-3 .inline-deletelink").click()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was added successfully")).to_be_visible()

    [(talk,)] = site.rows("SELECT id FROM talks_talk WHERE title = 'A talk with handouts'")
    assert compute_sha256(stored(site, "SELECT video FROM talks_talk WHERE id = ?", talk)) == sample.sha256
    rows = site.rows("SELECT label, file FROM talks_handout WHERE talk_id = ? ORDER BY label", talk)
    assert [label for label, _ in rows] == ["0", "1", "2"]
    assert [compute_sha256(site.media / file) for _, file in rows] == [each.sha256 for each in handouts]
