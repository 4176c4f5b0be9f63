"""A finished upload in one line."""

import io

import pytest
from django import forms
from django.contrib.auth.models import User

from async_uploads.journal import AsyncTempFile
from async_uploads.models import AsyncFileInputData
from async_uploads.testing import upload_file
from tests.testapp.models import Document

pytestmark = pytest.mark.django_db

FILE = Document._meta.get_field("file")


def test_the_key_can_be_posted_and_assigned() -> None:
    form = forms.modelform_factory(Document, fields=["file"])({"file": upload_file(FILE, b"hello", name="a.txt")})
    assert form.is_valid(), form.errors
    document = Document.objects.create(file=AsyncFileInputData(key=upload_file(FILE, b"hello", name="b.txt")))
    with document.file.open() as file:
        assert file.read() == b"hello"


@pytest.mark.parametrize("content", [b"hello", "hello", io.BytesIO(b"hello")])
def test_content_is_bytes_text_or_a_file(content: bytes | str | io.BytesIO) -> None:
    key = upload_file(FILE, content, name="a.txt", owner="user:5")
    row = AsyncTempFile.objects.get(key=key)
    assert (row.length, row.media_type, row.owner, row.is_finished) == (5, "text/plain", "user:5", True)


def test_the_field_may_be_named_by_the_models_attribute_and_the_owner_be_a_user() -> None:
    user = User.objects.create_user("ann")
    key = upload_file(Document.file, b"hello", owner=user)
    assert AsyncTempFile.objects.get(key=key).owner == f"user:{user.pk}"
