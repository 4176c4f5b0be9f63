"""What the file input renders and what it reads from a posted form."""

import io
import json
from html.parser import HTMLParser
from typing import Any

import pytest
from django import forms
from django.contrib.auth.models import AnonymousUser, User
from django.core.files.base import ContentFile
from django.core.files.uploadedfile import SimpleUploadedFile
from django.forms.widgets import FILE_INPUT_CONTRADICTION
from django.template import Context, RequestContext, Template
from django.test import RequestFactory, override_settings
from django.utils.datastructures import MultiValueDict
from PIL import Image

from async_uploads import widgets
from async_uploads.forms import AdminAsyncFileInput, AsyncFileInput
from async_uploads.journal import AsyncTempFile
from async_uploads.models import AsyncFileInputData
from async_uploads.testing import upload_file
from tests.testapp.models import Document, Limited, Picture


class Elements(HTMLParser):
    """All start tags with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def one(self, tag: str, **wanted: str) -> dict[str, str | None]:
        matching = [attrs for name, attrs in self.found if name == tag and wanted.items() <= attrs.items()]
        assert len(matching) == 1, self.found
        return matching[0]


def make_form(model: Any, *fields: str) -> Any:
    return forms.modelform_factory(model, fields=fields or "__all__")


DocumentForm = make_form(Document)


def make_picture() -> Picture:
    """Return a record with a saved image."""
    file = io.BytesIO()
    Image.new("RGB", (3, 2)).save(file, "PNG")
    return Picture.objects.create(image=ContentFile(file.getvalue(), name="present.png"))


def read(data: dict[str, Any], files: dict[str, Any] | None = None, *, required: bool = False) -> Any:
    widget = AsyncFileInput()
    widget.is_required = required
    return widget.value_from_datadict(data, MultiValueDict({k: [v] for k, v in (files or {}).items()}), "f")


@pytest.mark.parametrize(
    ("posted", "expected"),
    [
        ('{"key": "k", "name": "n.png", "width": 3, "height": 4, "error": null}',
         AsyncFileInputData("k", "n.png", 3, 4)),
        ('{"key": "k", "extra": {"a": 1}, "size": 7, "url": "/x"}', AsyncFileInputData("k")),
        ("k", AsyncFileInputData("k")),
        ("/uploads/tus/abc", AsyncFileInputData("/uploads/tus/abc")),
        ("", None),
        ("null", None),
        ('{"key": "", "error": "broken"}', AsyncFileInputData("", error="broken")),
        # malformed: kept as it came, the form field refuses it
        ("{", "{"),
        ("[1]", "[1]"),
        ('{"name": "x"}', '{"name": "x"}'),
        ("a\0b", "a\0b"),
    ],
)  # fmt: skip
def test_posted_values_are_parsed(posted: str, expected: Any) -> None:
    assert read({"f": posted}) == expected


def test_a_real_file_is_taken_where_no_value_was_posted() -> None:
    file = SimpleUploadedFile("a.txt", b"x")
    assert read({}, {"f": file}) is file
    assert read({"f": ""}, {"f": file}) is file
    assert read({"f": "key"}, {"f": file}) == AsyncFileInputData("key")


def test_the_clear_checkbox_clears_and_contradicts_an_upload() -> None:
    file = SimpleUploadedFile("a.txt", b"x")
    assert read({"f-clear": "on"}) is False
    assert read({"f-clear": "on", "f": "key"}) is FILE_INPUT_CONTRADICTION
    assert read({"f-clear": "on"}, {"f": file}) is FILE_INPUT_CONTRADICTION
    assert read({"f-clear": "on"}, required=True) is None


def test_an_input_is_omitted_only_without_value_file_and_checkbox() -> None:
    widget, none = AsyncFileInput(), MultiValueDict[str, Any]()
    assert widget.value_omitted_from_data({}, none, "f")
    assert not widget.value_omitted_from_data({"f": ""}, none, "f")
    assert not widget.value_omitted_from_data({"f-clear": "on"}, none, "f")
    assert not widget.value_omitted_from_data({}, MultiValueDict({"f": [1]}), "f")


def test_the_element_knows_what_the_next_request_needs() -> None:
    html = Elements(str(make_form(Limited)()["file"]))
    element = html.one("async-upload")
    assert element["transport"] == "tus"
    assert element["endpoint"] == "/uploads/tus/"
    assert element["field-id"] == "testapp.Limited.file"
    assert element["max-size"] == "1048576"
    assert element["chunk-size"] == "8388608"
    assert element["csrf-cookie"] == "csrftoken"
    assert str(element["csrf-header"]).lower() == "x-csrftoken"
    assert "instance-id" not in element
    assert json.loads(str(element["messages"]))["say_done"] == "{name} is uploaded"
    file = html.one("input", type="file")
    assert (file["name"], file["id"], file["accept"]) == ("file", "id_file", "image/*,.pdf")
    hidden = html.one("input", type="hidden")
    assert (hidden["value"], "disabled" in hidden, "name" in hidden) == ("", True, False)


def test_numbers_and_texts_of_the_attributes_bear_any_language() -> None:
    with override_settings(LANGUAGE_CODE="de", USE_THOUSAND_SEPARATOR=True):
        element = Elements(str(DocumentForm()["file"])).one("async-upload")
    assert (element["max-size"], element["chunk-size"]) == ("104857600", "8388608")


def test_image_inputs_offer_images() -> None:
    assert Elements(str(make_form(Picture)()["image"])).one("input", type="file")["accept"] == "image/*"


def test_the_form_is_multipart_and_brings_the_script_deferred(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(widgets, "is_bundle_built", lambda: True)
    form = DocumentForm()
    assert form.is_multipart()
    assert '<script src="/static/async_uploads/async-uploads.js" defer></script>' in str(form.media)
    assert "/static/async_uploads/async-uploads.css" in str(form.media)


def test_without_the_bundle_nothing_is_loaded_and_the_input_remains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(widgets, "is_bundle_built", lambda: False)
    form = DocumentForm()
    assert str(form.media) == ""
    assert Elements(str(form["file"])).one("input", type="file")["name"] == "file"


def test_without_upload_urls_a_plain_file_input_is_rendered() -> None:
    with override_settings(ROOT_URLCONF="django.contrib.auth.urls"):
        html = str(DocumentForm()["file"])
    assert "async-upload" not in html
    assert Elements(html).one("input")["type"] == "file"


def test_a_widget_without_a_model_field_is_a_plain_file_input() -> None:
    html = AsyncFileInput().render("f", None)
    assert "async-upload" not in html
    assert Elements(html).one("input")["type"] == "file"


def test_the_admin_widget_falls_back_to_the_admins_own() -> None:
    assert 'type="file"' in AdminAsyncFileInput().render("f", None)


@pytest.mark.django_db
def test_the_record_being_edited_is_named_also_when_it_has_no_file() -> None:
    form = make_form(Picture)
    empty = Picture.objects.create()
    html = str(form(instance=empty)["image"])
    assert Elements(html).one("async-upload")["instance-id"] == str(empty.pk)
    assert 'data-part="current"' not in html


@pytest.mark.django_db
def test_the_saved_file_is_linked_and_its_key_never_echoed() -> None:
    picture = make_picture()
    html = Elements(str(make_form(Picture)(instance=picture)["image"]))
    assert str(html.one("a")["href"]).startswith("/uploads/download-file/?field_id=testapp.Picture.image&instance_id=")
    assert html.one("input", type="checkbox")["name"] == "image-clear"
    assert html.one("input", type="hidden")["value"] == ""
    values = [str(attrs.get("value")) for tag, attrs in html.found if tag == "input"]
    assert not any("present" in value for value in values)


@pytest.mark.django_db
class TestBoundForms:
    """A form that was refused for another field gives the upload back."""

    Form = make_form(Picture, "title", "image")

    @pytest.fixture
    def key(self) -> str:
        return upload_file(Picture._meta.get_field("image"), b"\x89PNG\r\n\x1a\n...", name="Отпуск.png", owner="user:1")

    def hidden(self, form: forms.BaseForm) -> str:
        return str(Elements(str(form["image"])).one("input", type="hidden")["value"])

    def bound(self, value: str, user: Any = None, instance: Any = None) -> forms.BaseForm:
        form = self.Form({"title": "x" * 101, "image": value}, instance=instance)
        if user is not None:
            request = RequestFactory().get("/")
            request.user = user
            form.fields["image"].request = request  # type: ignore[attr-defined]
        assert not form.is_valid()
        return form

    def test_with_its_name_size_and_a_preview(self, key: str) -> None:
        form = self.bound(json.dumps({"key": key, "name": "x", "width": 5, "height": 6}), User(pk=1))
        value = json.loads(self.hidden(form))
        assert (value["key"], value["name"], value["size"]) == (key, "Отпуск.png", 11)
        assert (value["width"], value["height"]) == (5, 6)
        assert value["url"].startswith("/uploads/download-file-direct/?token=")
        assert value["uploadUrl"] == f"/uploads/tus/{AsyncTempFile.objects.get().upload_id}"

    def test_without_an_upload_url_where_there_is_no_tus(self, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
        storage: Any = Picture._meta.get_field("image").storage
        monkeypatch.setattr(storage._wrapped, "transport", "signed")
        assert "uploadUrl" not in json.loads(self.hidden(self.bound(key, User(pk=1))))

    def test_but_not_to_a_stranger(self, key: str) -> None:
        assert self.hidden(self.bound(key, User(pk=2))) == ""
        assert self.hidden(self.bound(key, AnonymousUser())) == ""

    def test_and_not_for_another_field(self) -> None:
        assert self.hidden(self.bound(upload_file(Document._meta.get_field("file"), b"x"))) == ""

    def test_and_not_before_it_is_finished(self, key: str) -> None:
        AsyncTempFile.objects.update(finished_at=None)
        assert self.hidden(self.bound(key, User(pk=1))) == ""

    @pytest.mark.parametrize("value", ["{", "nonsense", "pictures/other.png", '{"key": "", "error": "x"}'])
    def test_and_never_what_was_malformed_or_unknown(self, value: str) -> None:
        assert self.hidden(self.bound(value)) == ""

    def test_beside_the_link_to_the_present_file(self, key: str) -> None:
        picture = make_picture()
        html = str(self.bound(key, User(pk=1), picture)["image"])
        assert picture.image.name in html
        assert Elements(html).one("async-upload")["instance-id"] == str(picture.pk)

    def test_a_file_sent_without_javascript_is_kept_as_an_upload(self) -> None:
        file = SimpleUploadedFile("a.txt", b"hello")
        form = forms.modelform_factory(Document, fields="__all__")({"title": "x" * 101}, {"file": file})
        assert not form.is_valid()
        hidden = Elements(str(form["file"])).one("input", type="hidden")["value"]
        assert json.loads(str(hidden))["name"] == "a.txt"


@pytest.mark.django_db
def test_a_ticked_checkbox_stays_ticked_in_a_refused_form() -> None:
    picture = make_picture()
    form = make_form(Picture, "title", "image")({"title": "x" * 101, "image-clear": "on"}, instance=picture)
    assert not form.is_valid()
    assert "checked" in Elements(str(form["image"])).one("input", type="checkbox")


def test_format_value_returns_the_saved_file_for_the_link() -> None:
    document = Document(pk=5, file="docs/a.txt")
    assert AsyncFileInput().format_value(document.file) is document.file
    assert AsyncFileInput().format_value(None) is None


def test_the_element_survives_as_p_and_formset_prefixes() -> None:
    formset = forms.modelformset_factory(Document, fields=["file"], extra=1)
    html = formset(queryset=Document.objects.none()).empty_form.as_p()
    assert Elements(html).one("input", type="file")["name"] == "form-__prefix__-file"
    assert "<div" not in html


def test_the_template_tag_carries_a_nonce(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("async_uploads.templatetags.async_uploads.is_bundle_built", lambda: True)
    template = "{% load async_uploads %}{% async_uploads_media NONCE %}"
    html = Elements(Template(template.replace("NONCE", 'nonce="a<b"')).render(Context()))
    assert html.one("script") == {"src": "/static/async_uploads/async-uploads.js", "defer": None, "nonce": "a<b"}
    assert html.one("link")["nonce"] == "a<b"
    request = RequestFactory().get("/")
    request.csp_nonce = "from-request"  # type: ignore[attr-defined]
    html = Elements(Template(template.replace("NONCE", "")).render(RequestContext(request)))
    assert html.one("script")["nonce"] == "from-request"
    assert "nonce" not in Elements(Template(template.replace("NONCE", "")).render(Context())).one("script")
