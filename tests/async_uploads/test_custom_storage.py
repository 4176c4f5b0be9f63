"""A storage of three methods on a dictionary, with nothing of ours but the base class, through form and model."""

from typing import Any

import pytest
from django import forms
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import models
from django.test import Client

from async_uploads.journal import AsyncTempFile
from async_uploads.models import AsyncFileField
from async_uploads.storage.base import AsyncUploadStorage

pytestmark = pytest.mark.django_db(transaction=True)

FILES: dict[str, bytes] = {}


class DictionaryStorage(AsyncUploadStorage):
    def generate_upload_url(self, key: str, field_id: str, *args: Any, **kwargs: Any) -> str:
        return f"https://bucket.example/put/{key}"

    def generate_download_url(self, key: str, field_id: str, **kwargs: Any) -> str:
        return f"https://bucket.example/get/{key}?expire={kwargs.get('expire')}"

    def move_file(self, from_key: str, to_key: str) -> None:
        if from_key in FILES:
            FILES[to_key] = FILES.pop(from_key)


class Note(models.Model):
    """Joins testapp, whose tables are made after the test modules were collected."""

    file = AsyncFileField(
        upload_to="notes/",
        storage=DictionaryStorage(),
        file_restrictions=[".txt"],
        download_params={"expire": 60},
        perm_create=None,
        perm_update=None,
        perm_detail=None,
    )

    class Meta:
        app_label = "testapp"


NoteForm = forms.modelform_factory(Note, fields=["file"])


@pytest.fixture(autouse=True)
def empty_storage() -> None:
    FILES.clear()


def begin(client: Client, method: str = "POST") -> dict[str, Any]:
    body = {"field_id": "testapp.Note.file", "filename": "Отчёт.txt"}
    url = "/uploads/generate-upload-url/"
    answer: Any = client.get(url, body) if method == "GET" else client.post(url, body, content_type="application/json")
    assert answer.status_code in (200, 201), answer.content
    answered: dict[str, Any] = answer.json()
    FILES[answered["uploadUrl"]["url"].partition("/put/")[2]] = b"hello"
    return answered


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_upload_goes_through_form_and_model(client: Client, method: str) -> None:
    answered = begin(client, method)
    assert answered["uploadUrl"] == {"url": f"https://bucket.example/put/{answered['key']}", "fields": {}}
    form = NoteForm({"file": {"key": answered["key"], "name": "x"}})
    assert form.is_valid(), form.errors
    assert form.cleaned_data["file"].name == "Отчёт.txt"
    record = Note.objects.get(pk=form.save().pk)
    assert record.file.name == "notes/Отчёт.txt"
    assert FILES == {"notes/Отчёт.txt": b"hello"}
    again = NoteForm({"file": answered["key"]}, instance=record)
    assert again.is_valid(), again.errors
    assert not AsyncTempFile.objects.filter(claim=None).exists()


def test_its_widget_uploads_by_the_signed_url() -> None:
    html = str(NoteForm()["file"])
    assert 'transport="signed"' in html
    assert 'endpoint="/uploads/generate-upload-url/"' in html


def test_downloads_are_redirected_to_it(client: Client) -> None:
    form = NoteForm({"file": begin(client)["key"]})
    record = Note.objects.get(pk=form.save().pk)
    answer: Any = client.get(record.file.url)
    assert answer.status_code == 302
    assert answer["Location"].endswith("?expire=60")


def test_tus_is_refused_with_a_reason(client: Client) -> None:
    headers = {
        "Tus-Resumable": "1.0.0",
        "Upload-Length": "5",
        "Upload-Metadata": "field_id dGVzdGFwcC5Ob3RlLmZpbGU=,filename YS50eHQ=",
    }
    answer = client.generic("POST", "/uploads/tus/", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "no_tus")
    body = {"field_id": "testapp.Note.file", "filename": "a.txt", "transport": "tus"}
    answer = client.post("/uploads/generate-upload-url/", body, content_type="application/json")
    assert answer.status_code == 400
    assert "fieldId" in answer.json()


def test_names_are_checked_and_a_form_without_javascript_says_why_it_cannot(client: Client) -> None:
    body = {"field_id": "testapp.Note.file", "filename": "a.exe"}
    assert client.post("/uploads/generate-upload-url/", body, content_type="application/json").status_code == 400
    form = NoteForm({}, {"file": SimpleUploadedFile("a.txt", b"hello")})
    assert "could not be stored" in str(form.errors["file"])
    assert not AsyncTempFile.objects.exists()
