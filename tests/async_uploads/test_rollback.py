"""A view that saves a form and then fails, in one transaction: nothing is lost, and sending the form again succeeds."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest
from django import forms
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import include, path

from async_uploads.forms import AsyncUploadFormMixin
from async_uploads.journal import AsyncTempFile
from async_uploads.registry import default_async_field_registry
from tests.async_uploads.tusclient import field_id, upload
from tests.testapp.models import Document

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]


class Boom(Exception):
    """Whatever a project's view may raise."""


class DocumentForm(AsyncUploadFormMixin, forms.ModelForm):
    """The form of a project."""

    class Meta:
        model = Document
        fields = ["title", "file"]


def edit(request: HttpRequest) -> HttpResponse:
    """Save a document, then fail where the title says so."""
    form = DocumentForm(request.POST or None, request.FILES or None, request=request)
    if request.method == "POST" and form.is_valid():
        document = form.save()
        if document.title == "fail":
            raise Boom
        return HttpResponse(document.file.name)
    return HttpResponse(form.as_p())


urlpatterns = [
    path("edit/", edit),
    path("uploads/", include(default_async_field_registry.get_url_patterns())),
]


def tree(directory: Path) -> dict[str, bytes]:
    """Return every file below a directory."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture
def media(tmp_path: Path, settings: object) -> Path:
    settings.MEDIA_ROOT = tmp_path  # type: ignore[attr-defined]
    return tmp_path


def test_a_form_saved_in_a_transaction_that_fails_can_be_sent_again_with_the_same_value(
    media: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    key = upload(client, field_id(Document), "Отчёт.txt", b"hello")
    value = json.dumps({"key": key, "name": "Отчёт.txt", "width": None, "height": None, "error": None})
    stored = tree(media)
    assert list(stored.values()) == [b"hello"]
    journal = AsyncTempFile.objects.values().get()

    for _ in range(2):
        with pytest.raises(Boom):
            client.post("/edit/", {"title": "fail", "file": value})
        assert not Document.objects.exists()
        assert tree(media) == stored
        assert AsyncTempFile.objects.values().get() == journal

    # Rendered again, for instance after another error in the form, it still carries the upload.
    page = client.post("/edit/", {"title": "x" * 101, "file": value}).content.decode()
    [again] = re.findall(r'<input type="hidden" value="([^"]*)"', page)
    assert json.loads(html.unescape(again))["key"] == key

    saved = client.post("/edit/", {"title": "fine", "file": html.unescape(again)})
    assert saved.content.decode() == "docs/Отчёт.txt"
    assert tree(media) == {"docs/Отчёт.txt": b"hello"}
    with Document.objects.get().file.open() as file:
        assert file.read() == b"hello"
    # A double click sends it once more: another record cannot take the same upload.
    assert "docs/" not in client.post("/edit/", {"title": "fine", "file": value}).content.decode()
    assert Document.objects.count() == 1
