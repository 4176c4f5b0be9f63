"""Form fields: which values are taken, what ``cleaned_data`` is, and what a person reads when one is refused."""

import io
import json
from datetime import timedelta
from typing import Any

import pytest
from django import forms
from django.contrib.auth.models import AnonymousUser, User
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile, UploadedFile
from django.http import HttpRequest
from django.test import Client, RequestFactory
from django.utils import timezone
from PIL import Image

from async_uploads import owners
from async_uploads.forms import AsyncFileField, AsyncImageField, AsyncUploadFormMixin, PendingUpload
from async_uploads.journal import EXPIRED, AsyncTempFile
from async_uploads.registry import default_async_field_registry
from async_uploads.testing import upload_file
from tests.async_uploads.tusclient import create, field_id, patch
from tests.testapp.models import Document, Limited, Picture

pytestmark = pytest.mark.django_db

FILE = Document._meta.get_field("file")
IMAGE = Picture._meta.get_field("image")
INVALID = ["Invalid upload received"]
BAD = ["Bad input for file field"]

DocumentForm = forms.modelform_factory(Document, fields="__all__")
PictureForm = forms.modelform_factory(Picture, fields=["title", "image"])
LimitedForm = forms.modelform_factory(Limited, fields="__all__")


def png(size: tuple[int, int] = (3, 2)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size).save(file, "PNG")
    return file.getvalue()


def errors(form: forms.BaseForm, name: str = "file") -> list[str]:
    return [str(error) for error in form.errors.get(name, [])]


def request_of(user: Any) -> HttpRequest:
    request = RequestFactory().post("/")
    request.user = user
    return request


def journal_row() -> AsyncTempFile:
    return AsyncTempFile.objects.get()


class TestWhatIsTaken:
    def test_a_key_an_upload_id_a_tus_url_and_json_mean_the_same_upload(self, client: Client) -> None:
        created = create(client, field_id(Document), "a.txt", 5)
        patch(client, created["Location"], 0, b"hello")
        row = journal_row()
        for value in (
            row.key,
            row.upload_id,
            created["Location"],
            f"http://elsewhere.example{created['Location']}",
            json.dumps({"key": row.key, "name": "other", "unknown": 1}),
            json.dumps({"key": created["Location"]}),
        ):
            form = DocumentForm({"file": value})
            assert form.is_valid(), form.errors
            assert form.cleaned_data["file"].data.key == row.key

    def test_cleaned_data_behaves_like_an_uploaded_file(self) -> None:
        key = upload_file(FILE, b"hello world", name="Отчёт.txt")
        form = DocumentForm({"file": key})
        assert form.is_valid()
        file = form.cleaned_data["file"]
        assert isinstance(file, PendingUpload)
        assert isinstance(file, UploadedFile)
        assert (file.name, file.size, file.content_type) == ("Отчёт.txt", 11, "text/plain")
        assert file.read(5) == b"hello"
        assert file.read() == b" world"
        assert b"".join(file.chunks()) == b"hello world"
        assert list(file.chunks(6)) == [b"hello ", b"world"]
        file.close()
        assert file.closed
        with file.open() as opened:
            assert opened.read() == b"hello world"
        assert list(file.open()) == [b"hello world"]
        file.close()
        assert file
        assert len(file) == 11

    def test_saving_the_form_saves_the_file(self) -> None:
        form = DocumentForm({"title": "t", "file": upload_file(FILE, b"hello", name="Отчёт.txt")})
        document = form.save()
        document = Document.objects.get(pk=document.pk)
        assert document.file.name == "docs/Отчёт.txt"
        with document.file.open() as file:
            assert file.read() == b"hello"

    def test_nothing_posted_keeps_the_present_file(self) -> None:
        document = Document.objects.create(file="docs/a.txt")
        form = DocumentForm({"title": "new", "file": ""}, instance=document)
        assert form.is_valid()
        assert not form.has_changed() or form.changed_data == ["title"]
        assert form.save().file.name == "docs/a.txt"

    def test_a_required_file_is_asked_for(self) -> None:
        assert errors(DocumentForm({})) == ["This field is required."]

    def test_an_optional_file_is_cleared_by_the_checkbox(self) -> None:
        picture = Picture.objects.create(image=ContentFile(png(), name="a.png"))
        form = PictureForm({"image-clear": "on"}, instance=picture)
        assert form.is_valid()
        assert not form.save().image
        assert not Picture.objects.get(pk=picture.pk).image

    def test_clearing_and_uploading_contradict_each_other(self) -> None:
        form = PictureForm({"image-clear": "on", "image": upload_file(IMAGE, png(), name="a.png")})
        assert errors(form, "image") == ["Please either submit a file or check the clear checkbox, not both."]

    def test_the_present_file_named_again_is_no_change(self) -> None:
        document = Document.objects.create(file="docs/a.txt")
        form = DocumentForm({"file": json.dumps({"key": "docs/a.txt", "name": "a.txt"})}, instance=document)
        assert form.is_valid()
        assert "file" not in form.changed_data
        assert form.save().file.name == "docs/a.txt"

    @pytest.mark.django_db(transaction=True)
    def test_a_form_submitted_twice_by_the_same_record_is_harmless(self) -> None:
        document = Document.objects.create(file="docs/old.txt")
        key = upload_file(FILE, b"hello", name="new.txt")
        for _ in range(2):
            form = DocumentForm({"file": key}, instance=Document.objects.get(pk=document.pk))
            assert form.is_valid(), form.errors
            form.save()
        saved = Document.objects.get(pk=document.pk)
        with saved.file.open() as file:
            assert file.read() == b"hello"

    def test_a_disabled_field_ignores_what_is_posted(self) -> None:
        document = Document.objects.create(file="docs/a.txt")
        form = DocumentForm({"file": "nonsense"}, instance=document)
        form.fields["file"].disabled = True
        assert form.is_valid()
        assert form.save().file.name == "docs/a.txt"

    def test_validation_moves_the_expiry_at_least_an_hour_ahead(self) -> None:
        key = upload_file(FILE, b"hello")
        soon, long_ago = timezone.now() + timedelta(minutes=5), timezone.now() - timedelta(hours=47)
        AsyncTempFile.objects.update(expires_at=soon, last_activity=long_ago)
        assert DocumentForm({"file": key}).is_valid()
        row = journal_row()
        assert row.expires_at is not None
        assert row.expires_at > timezone.now() + timedelta(minutes=59)
        assert row.last_activity > timezone.now() - timedelta(minutes=1)

    def test_width_and_height_come_with_the_value(self) -> None:
        key = upload_file(IMAGE, png((3, 2)), name="a.png")
        form = PictureForm({"image": json.dumps({"key": key, "name": "a.png", "width": 3, "height": 2})})
        picture = form.save()
        assert (picture.width, picture.height) == (3, 2)


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        "value", ["{", "[]x", "[1, 2]", '{"name": "a"}', '{"key": 5}', '{"key": null}', "a\0b", '{"key": "\\u0000"}',
                  "{" * 9999, '{"key": ["a"]}', '{"key": "\\ud800"}', '"\\udfff"', '{"key": "", "error": "\\ud800"}'],
    )  # fmt: skip
    def test_malformed_values(self, value: str) -> None:
        assert errors(DocumentForm({"file": value})) == BAD

    @pytest.mark.parametrize(
        "value",
        [
            "nonsense",
            "async-temp-files/2026/11/22/unknown-a.txt",
            "../../etc/passwd",
            "/etc/passwd",
            "http://evil.example/x",
            "//[broken",
            "x" * 2000,
            "0" * 32,
            "docs/somebody-elses.txt",
        ],
    )
    def test_unknown_and_permanent_names(self, value: str) -> None:
        Document.objects.create(file="docs/somebody-elses.txt")
        assert errors(DocumentForm({"file": value})) == INVALID

    def test_a_permanent_name_of_another_record(self) -> None:
        Document.objects.create(file="docs/theirs.txt")
        mine = Document.objects.create(file="docs/mine.txt")
        assert errors(DocumentForm({"file": "docs/theirs.txt"}, instance=mine)) == INVALID

    def test_an_upload_of_another_field(self) -> None:
        assert errors(DocumentForm({"file": upload_file(IMAGE, png(), name="a.png")})) == INVALID

    def test_an_incomplete_upload(self, client: Client) -> None:
        created = create(client, field_id(Document), "a.txt", 5)
        patch(client, created["Location"], 0, b"hel")
        form = DocumentForm({"file": created["Async-Upload-Key"]})
        assert errors(form) == ["The upload is not finished"]
        assert patch(client, created["Location"], 3, b"lo").status_code == 204
        assert DocumentForm({"file": created["Async-Upload-Key"]}).is_valid()

    def test_an_expired_upload_and_one_under_removal(self, client: Client) -> None:
        created = create(client, field_id(Document), "a.txt", 5)
        AsyncTempFile.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
        assert errors(DocumentForm({"file": created["Async-Upload-Key"]})) == INVALID
        key = upload_file(FILE, b"x")
        AsyncTempFile.objects.filter(key=key).update(claim=EXPIRED)
        assert errors(DocumentForm({"file": key})) == INVALID

    @pytest.mark.django_db(transaction=True)
    def test_a_key_used_by_another_record(self) -> None:
        key = upload_file(FILE, b"hello", name="a.txt")
        first = DocumentForm({"file": key}).save()
        assert errors(DocumentForm({"file": key})) == INVALID
        other = Document.objects.create(file="docs/other.txt")
        assert errors(DocumentForm({"file": key}, instance=other)) == INVALID
        with Document.objects.get(pk=first.pk).file.open() as file:
            assert file.read() == b"hello"

    def test_an_error_of_the_browser_is_shown(self) -> None:
        value = json.dumps({"key": "", "name": "a.png", "error": "The connection was lost"})
        assert errors(DocumentForm({"file": value})) == ["There was an unexpected error: The connection was lost"]

    def test_limits_are_checked_again(self) -> None:
        field = Limited._meta.get_field("file")
        large = upload_file(field, b"\x89PNG\r\n\x1a\n" + b"\0" * 1024 * 1024, name="a.png")
        assert errors(LimitedForm({"file": large})) == ["The file is too large. At most 1 MiB are accepted."]
        page = upload_file(field, b"<html>", name="a.png")
        assert "type of file is not accepted" in errors(LimitedForm({"file": page}))[0]
        assert LimitedForm({"file": upload_file(field, png(), name="a.png")}).is_valid()

    def test_an_empty_file_is_refused_as_in_django(self) -> None:
        assert errors(DocumentForm({"file": upload_file(FILE, b"")})) == ["The submitted file is empty."]

    def test_a_name_that_is_too_long(self) -> None:
        field = AsyncFileField(async_field=FILE, max_length=8)
        with pytest.raises(forms.ValidationError, match="at most 8 characters"):
            field.clean(upload_file(FILE, b"x", name="too-long.txt"))

    def test_validators_see_the_upload(self) -> None:
        def refuse(file: Any) -> None:
            raise forms.ValidationError(f"no {file.name} of {file.size}")

        field = AsyncFileField(async_field=FILE, validators=[refuse])
        with pytest.raises(forms.ValidationError, match=r"no a\.txt of 5"):
            field.clean(upload_file(FILE, b"hello", name="a.txt"))

    @pytest.mark.parametrize("content", [b"<html>", b"<svg onload=alert(1)>", b"%PDF-1.7"])
    def test_an_image_field_takes_images_of_pixels(self, content: bytes) -> None:
        form = PictureForm({"image": upload_file(IMAGE, content, name="a.png")})
        assert errors(form, "image")[0].startswith("Upload a valid image.")

    def test_a_picture_that_calls_itself_a_page(self) -> None:
        posted = PictureForm({"image": upload_file(IMAGE, png(), name="a.html")})
        sent = PictureForm({}, {"image": SimpleUploadedFile("a.html", png())})
        for form in (posted, sent):
            assert errors(form, "image")[0].startswith("Upload a valid image.")


class TestWhoseUploadItIs:
    class Form(AsyncUploadFormMixin, DocumentForm):  # type: ignore[misc, valid-type]
        pass

    def test_only_its_owner_may_use_it(self) -> None:
        ann, bob = User.objects.create_user("ann"), User.objects.create_user("bob")
        key = upload_file(FILE, b"hello", owner=ann)
        assert self.Form({"file": key}, request=request_of(ann)).is_valid()
        assert errors(self.Form({"file": key}, request=request_of(bob))) == INVALID
        assert errors(self.Form({"file": key}, request=request_of(AnonymousUser()))) == INVALID

    def test_an_upload_of_nobody_belongs_to_whoever_knows_it(self) -> None:
        key = upload_file(FILE, b"hello")
        assert self.Form({"file": key}, request=request_of(User.objects.create_user("ann"))).is_valid()

    def test_the_context_variable_tells_forms_that_know_no_request(self) -> None:
        ann, bob = User.objects.create_user("ann"), User.objects.create_user("bob")
        key = upload_file(FILE, b"hello", owner=ann)
        token = owners.current_request.set(request_of(bob))
        try:
            assert errors(DocumentForm({"file": key})) == INVALID
        finally:
            owners.current_request.reset(token)

    def test_without_a_request_nothing_speaks_against_it(self) -> None:
        assert DocumentForm({"file": upload_file(FILE, b"hello", owner="user:1")}).is_valid()


class TestWithoutJavascript:
    def test_a_file_in_the_form_becomes_an_upload_and_is_saved(self) -> None:
        form = DocumentForm({"title": "t"}, {"file": SimpleUploadedFile("Отчёт.txt", b"hello")})
        assert form.is_valid(), form.errors
        file = form.cleaned_data["file"]
        assert isinstance(file, PendingUpload)
        assert (file.name, file.size, file.content_type, file.read()) == ("Отчёт.txt", 5, "text/plain", b"hello")
        file.close()
        assert journal_row().is_finished
        document = Document.objects.get(pk=form.save().pk)
        assert document.file.name == "docs/Отчёт.txt"

    def test_its_limits_are_the_fields_and_nothing_is_left_of_what_is_refused(self) -> None:
        large = SimpleUploadedFile("a.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 1024 * 1024)
        assert errors(LimitedForm({}, {"file": large})) == ["The file is too large. At most 1 MiB are accepted."]
        page = SimpleUploadedFile("a.png", b"<html>", content_type="image/png")
        assert "type of file is not accepted" in errors(LimitedForm({}, {"file": page}))[0]
        assert errors(DocumentForm({}, {"file": SimpleUploadedFile("a.txt", b"")})) == ["The submitted file is empty."]
        assert not AsyncTempFile.objects.exists()

    def test_an_image_is_looked_at_by_pillow(self) -> None:
        broken = SimpleUploadedFile("a.png", b"\x89PNG\r\n\x1a\n broken")
        assert errors(PictureForm({}, {"image": broken}), "image")[0].startswith("Upload a valid image.")
        picture = PictureForm({}, {"image": SimpleUploadedFile("a.png", png((7, 5)))}).save()
        assert (picture.width, picture.height) == (7, 5)

    def test_a_failing_storage_leaves_no_row(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(name: str, content: Any) -> str:
            raise NotImplementedError

        monkeypatch.setattr(default_storage._wrapped, "_save", fail)  # type: ignore[attr-defined]
        form = DocumentForm({}, {"file": SimpleUploadedFile("a.txt", b"x")})
        assert "could not be stored" in errors(form)[0]
        assert not AsyncTempFile.objects.exists()

    def test_its_owner_is_the_forms_client(self) -> None:
        ann = User.objects.create_user("ann")
        file = SimpleUploadedFile("a.txt", b"hello")
        assert TestWhoseUploadItIs.Form({}, {"file": file}, request=request_of(ann)).is_valid()
        assert journal_row().owner == f"user:{ann.pk}"


def test_a_formset_saves_each_row_with_its_own_upload() -> None:
    Formset = forms.modelformset_factory(Document, fields=["title", "file"], extra=2)
    present = Document.objects.create(title="0", file="docs/present.txt")
    data = {"form-TOTAL_FORMS": "3", "form-INITIAL_FORMS": "1", "form-0-id": str(present.pk), "form-0-title": "new"}
    for row in (1, 2):
        data[f"form-{row}-file"] = upload_file(FILE, f"row {row}".encode(), name=f"{row}.txt")
    formset = Formset(data, queryset=Document.objects.all())
    assert formset.is_valid(), formset.errors
    formset.save()
    first, *others = Document.objects.order_by("pk")
    assert (first.title, first.file.name) == ("new", "docs/present.txt")
    contents = []
    for document in others:
        with document.file.open() as file:
            contents.append(file.read())
    assert contents == [b"row 1", b"row 2"]


def test_a_forms_clean_may_read_the_upload_as_a_picture() -> None:
    class Form(PictureForm):  # type: ignore[misc, valid-type]
        def clean_image(self) -> Any:
            with Image.open(self.cleaned_data["image"]) as picture:
                assert picture.size == (3, 2)
            return self.cleaned_data["image"]

    form = Form({"image": upload_file(IMAGE, png(), name="a.png")})
    assert form.is_valid(), form.errors
    picture = form.save()
    assert (picture.width, picture.height) == (3, 2)


def test_the_reference_way_to_name_the_field_works() -> None:
    field = AsyncImageField(
        async_field_registry=default_async_field_registry,
        async_field_id=default_async_field_registry.generate_id(IMAGE),
        storage=default_storage,
        required=False,
    )
    assert field.async_field is IMAGE
    assert field.clean("") is None
    with pytest.raises(TypeError, match="async_field"):
        AsyncFileField()


def test_has_changed_compares_with_the_present_file() -> None:
    field, document = AsyncFileField(async_field=FILE), Document(file="docs/a.txt")
    widget = field.widget
    assert not field.has_changed(document.file, None)
    assert not field.has_changed(document.file, widget.value_from_datadict({"f": "docs/a.txt"}, {}, "f"))
    assert field.has_changed(document.file, widget.value_from_datadict({"f": "other"}, {}, "f"))
    assert field.has_changed(document.file, widget.value_from_datadict({"f": "{"}, {}, "f"))
    assert field.has_changed(document.file, False)
