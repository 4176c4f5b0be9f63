"""What databases do differently, and uploads must not notice: letters' case, trailing spaces, fractions of a second."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.db import IntegrityError
from django.test import Client
from django.utils import timezone

from async_uploads import journal, promotion
from async_uploads.cleanup import reconcile
from async_uploads.journal import AsyncTempFile
from tests.async_uploads.promoting import field_of, make_upload, media, pass_turns, row_of, tree
from tests.async_uploads.tusclient import create, field_id, request
from tests.testapp.models import Document

assert media

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("media")]


def test_keys_and_ids_that_differ_in_case_alone_are_two_uploads() -> None:
    keys = [make_upload(field_of(Document), key=key, upload_id=key[-3:]) for key in ("x/abc", "x/ABC")]
    found = [journal.find_by_key(key) for key in keys]
    assert [row and row.key for row in found] == keys
    assert [row and row.upload_id for row in map(journal.find_upload, ("abc", "ABC"))] == ["abc", "ABC"]
    assert journal.find_by_key("x/Abc") is None
    with pytest.raises(IntegrityError):
        make_upload(field_of(Document), key="x/abc")


@pytest.mark.parametrize("text", ["x/abc ", "x/abç", "X/abc"])
def test_only_the_very_key_finds_its_upload(text: str) -> None:
    make_upload(field_of(Document), key="x/abc")
    assert journal.find_by_key(text) is None


def test_the_url_of_an_upload_is_a_secret_in_each_letter(client: Client) -> None:
    url = create(client, field_id(Document), "a.txt", 5)["Location"]
    place, _, upload_id = url.rpartition("/")
    assert request(client, "HEAD", url).status_code == 200
    assert request(client, "HEAD", f"{place}/{upload_id.swapcase()}").status_code == 404


def test_files_whose_names_differ_in_case_alone_are_two(media: Path) -> None:
    for name in ("a.txt", "A.txt"):
        Document.objects.create(title=name, file=make_upload(field_of(Document), name.encode(), name))
    assert tree(media) == {"docs/a.txt": b"a.txt", "docs/A.txt": b"A.txt"}


def test_a_record_with_the_name_in_another_case_does_not_hold_the_upload(
    media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Document.objects.create(file="docs/A.txt")
    key = make_upload(field_of(Document), b"hello", "a.txt")
    with monkeypatch.context() as patch:
        patch.setattr(promotion, "promote", lambda row: False)
        Document.objects.create(file=key).delete()
    pass_turns()
    assert reconcile().returned == 1
    assert list(tree(media)) == [key]


def test_a_column_with_the_key_in_another_case_does_not_keep_an_abandoned_upload(media: Path) -> None:
    key = make_upload(field_of(Document))
    Document.objects.create()
    Document.objects.update(file=key.upper())
    AsyncTempFile.objects.update(last_activity=timezone.now() - timedelta(days=9))
    assert reconcile().expired == 1
    assert tree(media) == {}


def test_moments_keep_their_microseconds_and_names_all_their_letters() -> None:
    moment = timezone.now().replace(microsecond=123456)
    row = row_of(make_upload(field_of(Document), name="ünï 🎉.txt", expires_at=moment))
    assert row.expires_at == moment
    assert row.original_filename == "ünï 🎉.txt"
