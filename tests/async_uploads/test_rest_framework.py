"""Serializer fields: the reference's shapes, the rules of the forms, nested data."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.files.base import ContentFile
from django.test import Client, RequestFactory
from rest_framework import generics, serializers
from rest_framework.test import APIRequestFactory, force_authenticate

from async_uploads import models as async_models
from async_uploads.journal import AsyncTempFile
from async_uploads.models import AsyncFileInputData
from async_uploads.rest_framework import AsyncFileField, AsyncImageField
from async_uploads.testing import upload_file
from tests.async_uploads.tusclient import create, field_id, patch
from tests.testapp.models import Document, Limited, Picture

pytestmark = pytest.mark.django_db

FILE = Document._meta.get_field("file")
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 50


class BaseSerializer(serializers.ModelSerializer):  # type: ignore[type-arg]
    serializer_field_mapping = {
        **serializers.ModelSerializer.serializer_field_mapping,
        async_models.AsyncFileField: AsyncFileField,
        async_models.AsyncImageField: AsyncImageField,
    }


class DocumentSerializer(BaseSerializer):
    class Meta:
        model = Document
        fields = ["id", "title", "file"]


class PictureSerializer(BaseSerializer):
    class Meta:
        model = Picture
        fields = ["id", "title", "image"]


class LimitedSerializer(BaseSerializer):
    class Meta:
        model = Limited
        fields = ["file"]


def refuse(serializer: Any, name: str = "file") -> list[str]:
    assert not serializer.is_valid()
    return [str(error) for error in serializer.errors[name]]


def context(user: Any) -> dict[str, Any]:
    request = RequestFactory().post("/")
    request.user = user
    return {"request": request}


def test_model_fields_become_our_serializer_fields() -> None:
    assert isinstance(DocumentSerializer().fields["file"], AsyncFileField)
    assert isinstance(PictureSerializer().fields["image"], AsyncImageField)
    assert PictureSerializer().fields["image"].allow_null
    assert not PictureSerializer().fields["image"].required
    assert DocumentSerializer().fields["file"].required


def test_a_new_file_is_taken_as_object_text_or_url(client: Client) -> None:
    created = create(client, field_id(Document), "Отчёт.txt", 5)
    patch(client, created["Location"], 0, b"hello")
    row = AsyncTempFile.objects.get()
    for value in (
        {"key": row.key, "name": "x", "url": "/ignored", "more": 1},
        row.key,
        row.upload_id,
        created["Location"],
    ):
        serializer = DocumentSerializer(data={"title": "t", "file": value})
        assert serializer.is_valid(), serializer.errors
        assert serializer.validated_data["file"] == AsyncFileInputData(key=row.key, name="Отчёт.txt")
    document = serializer.save()
    assert Document.objects.get(pk=document.pk).file.name == "docs/Отчёт.txt"


def test_it_is_shown_as_key_name_and_url() -> None:
    document = Document.objects.create(file=ContentFile(b"x", name="a.txt"))
    shown = DocumentSerializer(document).data["file"]
    assert shown == {"key": document.file.name, "name": document.file.name.rpartition("/")[2], "url": document.file.url}
    assert PictureSerializer(Picture()).data["image"] is None
    json.dumps(shown)


def test_omitted_is_unchanged_and_null_clears() -> None:
    picture = Picture.objects.create(image=ContentFile(PNG, name="a.png"))
    serializer = PictureSerializer(picture, data={"title": "new"}, partial=True)
    assert serializer.is_valid()
    assert serializer.save().image.name == picture.image.name
    serializer = PictureSerializer(picture, data={"image": None}, partial=True)
    assert serializer.is_valid()
    serializer.save()
    assert not Picture.objects.get(pk=picture.pk).image
    assert refuse(DocumentSerializer(data={"file": None})) == ["This field may not be null."]


def test_the_shown_value_sent_back_is_unchanged() -> None:
    document = Document.objects.create(file=ContentFile(b"x", name="a.txt"))
    name = document.file.name
    serializer = DocumentSerializer(document, data=DocumentSerializer(document).data)
    assert serializer.is_valid(), serializer.errors
    serializer.save()
    assert Document.objects.get(pk=document.pk).file.name == name


@pytest.mark.parametrize("value", [5, True, [1], {"name": "x"}, {"key": 5}, {}, {"key": ""}, "{", "a\0b", "", "\ud800"])
def test_malformed_values_are_refused(value: Any) -> None:
    assert refuse(DocumentSerializer(data={"file": value})) == ["Bad input for file field"]


def test_unknown_permanent_and_foreign_keys_are_refused() -> None:
    Document.objects.create(file=ContentFile(b"x", name="theirs.txt"))
    other = upload_file(Picture._meta.get_field("image"), PNG, name="a.png")
    for key in ("nonsense", Document.objects.get().file.name, other, "../x"):
        assert refuse(DocumentSerializer(data={"file": {"key": key}})) == ["Invalid upload received"]


@pytest.mark.parametrize("many", [False, True])
def test_a_primary_key_that_comes_along_makes_no_new_record_an_old_one(many: bool) -> None:
    document = Document.objects.create(file=ContentFile(b"x", name="theirs.txt"))
    data: Any = {"id": document.pk, "file": {"key": document.file.name}}
    serializer = DocumentSerializer(data=[data] if many else data, many=many)
    assert not serializer.is_valid()
    assert "Invalid upload received" in str(serializer.errors)


def test_incomplete_uploads_limits_and_errors(client: Client) -> None:
    created = create(client, field_id(Document), "a.txt", 5)
    serializer = DocumentSerializer(data={"file": created["Async-Upload-Key"]})
    assert refuse(serializer) == ["The upload is not finished"]
    page = upload_file(Limited._meta.get_field("file"), b"<html>", name="a.png")
    assert "type of file is not accepted" in refuse(LimitedSerializer(data={"file": page}))[0]
    value = {"key": "", "error": "lost"}
    assert refuse(DocumentSerializer(data={"file": value})) == ["There was an unexpected error: lost"]


def test_an_image_field_takes_images() -> None:
    image = Picture._meta.get_field("image")
    assert PictureSerializer(data={"image": upload_file(image, PNG, name="a.png")}).is_valid()
    for content in (b"<html>", b"<svg/>", b"%PDF-1.7"):
        serializer = PictureSerializer(data={"image": upload_file(image, content, name="a.png")})
        assert refuse(serializer, "image")[0].startswith("Upload a valid image.")


def test_only_its_owner_may_use_an_upload() -> None:
    ann, bob = User.objects.create_user("ann"), User.objects.create_user("bob")
    key = upload_file(FILE, b"x", owner=ann)
    assert DocumentSerializer(data={"file": key}, context=context(ann)).is_valid()
    for stranger in (bob, AnonymousUser()):
        assert refuse(DocumentSerializer(data={"file": key}, context=context(stranger))) == ["Invalid upload received"]


def test_the_user_of_a_view_counts_whatever_authenticated_it() -> None:
    ann = User.objects.create_user("ann")
    key = upload_file(FILE, b"x", name="a.txt", owner=ann)

    class Create(generics.CreateAPIView):  # type: ignore[type-arg]
        serializer_class = DocumentSerializer
        queryset = Document.objects.all()

    for user, status in ((User.objects.create_user("bob"), 400), (None, 400), (ann, 201)):
        request = APIRequestFactory().post("/", {"file": {"key": key, "name": "a.txt"}}, format="json")
        force_authenticate(request, user=user)
        response = Create.as_view()(request)
        assert response.status_code == status
    assert response.data["file"]["name"].startswith("a")


def test_the_length_of_the_name_is_limited() -> None:
    field = AsyncFileField(model_field=FILE, max_length=5)
    field.bind("file", DocumentSerializer())
    with pytest.raises(serializers.ValidationError, match="at most 5 characters"):
        field.run_validation(upload_file(FILE, b"x", name="too-long.txt"))


class TestNested:
    class Album(serializers.Serializer):  # type: ignore[type-arg]
        documents = DocumentSerializer(many=True)

    def test_a_rows_own_file_is_unchanged_by_the_primary_key_in_its_data(self) -> None:
        document = Document.objects.create(file=ContentFile(b"x", name="a.txt"))
        name = document.file.name
        serializer = self.Album(data={"documents": [{"id": document.pk, "file": {"key": name, "name": "a.txt"}}]})
        assert serializer.is_valid(), serializer.errors
        assert serializer.validated_data["documents"][0]["file"].key == name

    @pytest.mark.parametrize("pk", [None, 999999, "abc", [1]])
    def test_another_rows_file_is_refused(self, pk: Any) -> None:
        document = Document.objects.create(file=ContentFile(b"x", name="a.txt"))
        serializer = self.Album(data={"documents": [{"id": pk, "file": {"key": document.file.name}}]})
        assert not serializer.is_valid()

    def test_the_pk_of_one_row_does_not_count_for_the_next(self) -> None:
        document = Document.objects.create(file=ContentFile(b"x", name="a.txt"))
        value = {"key": document.file.name}
        serializer = self.Album(data={"documents": [{"id": document.pk, "file": value}, {"file": value}]})
        assert not serializer.is_valid()
        errors: Any = serializer.errors["documents"]
        failed = errors if isinstance(errors, dict) else {row: each for row, each in enumerate(errors) if each}
        assert set(failed) == {1}
        assert "file" in failed[1]


def test_a_source_through_a_relation_is_followed() -> None:
    class Outer(serializers.Serializer):  # type: ignore[type-arg]
        attachment = AsyncFileField(model_field=FILE, source="document.file", read_only=True)

    class Holder:
        document = Document(pk=3, file="docs/a.txt")

    shown = Outer(Holder()).data["attachment"]
    assert (shown["key"], shown["name"]) == ("docs/a.txt", "a.txt")
