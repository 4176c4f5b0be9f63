"""Where uploads go, where files are read: the reference's shapes, and nothing that was not allowed."""

import json
from typing import Any
from urllib.parse import unquote

import pytest
from django.contrib.auth.models import Permission, User
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.urls import resolve

from async_uploads import signing, sniffing
from async_uploads.journal import AsyncTempFile
from async_uploads.models import AsyncFileInputData
from async_uploads.testing import upload_file
from async_uploads.view_base import camelize, read_parameters
from tests.async_uploads.tusclient import field_id, patch
from tests.testapp.models import Document, Guarded, Limited, Picture

pytestmark = pytest.mark.django_db

GENERATE = "/uploads/generate-upload-url/"
DOWNLOAD = "/uploads/download-file/"
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 50


def post(client: Client, body: Any, **headers: str) -> Any:
    return client.post(GENERATE, body, content_type="application/json", headers=headers)


def journal_row() -> AsyncTempFile:
    return AsyncTempFile.objects.get()


DOCUMENT = "testapp.Document.file"


class TestGenerateByPost:
    def test_creates_a_tus_upload_and_answers_its_url(self, client: Client) -> None:
        answer = post(client, {"fieldId": field_id(Document), "filename": "Отчёт.txt", "size": 5})
        assert answer.status_code == 201
        body = answer.json()
        assert body["uploadUrl"]["provider"] == "tus"
        assert body["uploadUrl"]["method"] == "PATCH"
        assert body["expires"]
        row = journal_row()
        assert (row.key, row.length, row.original_filename) == (body["key"], 5, "Отчёт.txt")
        assert patch(client, body["uploadUrl"]["url"], 0, b"hello").status_code == 204
        row.refresh_from_db()
        assert row.is_finished

    def test_signed_on_demand(self, client: Client) -> None:
        answer = post(client, {"field_id": field_id(Document), "filename": "a.txt", "transport": "signed"})
        body = answer.json()
        assert (body["uploadUrl"]["provider"], body["uploadUrl"]["method"]) == ("filesystem", "POST")
        sent = client.post(body["uploadUrl"]["url"], {"file": SimpleUploadedFile("a.txt", b"hello")})
        assert sent.status_code == 201
        assert journal_row().is_finished

    @pytest.mark.parametrize(
        ("body", "errors"),
        [
            ({}, {"fieldId": ["This field is required."]}),
            ({"filename": "a"}, {"fieldId": ["This field is required."]}),
            ({"field_id": "nope", "filename": "a"}, {"fieldId": ["Unknown fieldId"]}),
            ({"field_id": ["x"], "filename": "a"}, {"fieldId": ["Unknown fieldId"]}),
            ({"async_field_id": "testapp.Document.file"}, {"filename": ["This field is required."]}),
            ({"fieldId": "testapp.Document.file", "filename": 5}, {"filename": ["Must be a text."]}),
            ({"fieldId": DOCUMENT, "filename": "a", "size": "5"}, {"size": ["Must be a number of bytes."]}),
            ({"fieldId": DOCUMENT, "filename": "a", "size": -1}, {"size": ["Must be a number of bytes."]}),
            ({"fieldId": DOCUMENT, "filename": "a", "size": True}, {"size": ["Must be a number of bytes."]}),
            ({"fieldId": "testapp.Document.file", "filename": "a", "transport": "ftp"},
             {"transport": ["Must be tus or signed."]}),
            ({"fieldId": "testapp.Document.file", "filename": "a", "instance_id": {"a": 1}},
             {"instanceId": ["Must be a text or a number."]}),
            ({"fieldId": "testapp.Limited.file", "filename": "a.png", "size": 1048577},
             {"size": ["The file is too large. At most 1 MiB are accepted."]}),
            ({"fieldId": "testapp.Limited.file", "filename": "a.exe"},
             {"filename": ["This type of file is not accepted. Accepted are: image/*, .pdf."]}),
            ({"fieldId": "testapp.Document.file", "filename": ".."}, {"filename": ["The file has no usable name."]}),
        ],
    )  # fmt: skip
    def test_errors_are_lists_under_camel_case_names(self, client: Client, body: Any, errors: Any) -> None:
        answer = post(client, body)
        assert (answer.status_code, answer.json()) == (400, errors)
        assert not AsyncTempFile.objects.exists()

    @pytest.mark.parametrize("body", ["{", "[]", "5", '"x"', b"\xff", "[" * 100_000])
    def test_a_body_that_is_no_json_object_is_refused(self, client: Client, body: Any) -> None:
        answer = post(client, body)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_json")

    @pytest.mark.parametrize("name", ["filename", "instance_id", "content_type", "field_id", "params", "transport"])
    @pytest.mark.parametrize("value", ["\ud800", "\0", "x" * 5000, "\u202e"])
    def test_hostile_texts_are_never_an_error_of_ours(self, client: Client, name: str, value: str) -> None:
        body = {"field_id": field_id(Document), "filename": "a.txt", "size": 3, name: value}
        assert post(client, json.dumps(body)).status_code in (201, 400, 403, 404)

    def test_a_form_of_a_foreign_page_is_refused_by_its_content_type(self, client: Client) -> None:
        answer = client.post(GENERATE, {"field_id": field_id(Document), "filename": "a"})
        assert answer.status_code == 415
        answer = client.post(
            GENERATE, '{"field_id": "testapp.Document.file", "filename": "a"}', content_type="text/plain"
        )
        assert answer.status_code == 415

    def test_permissions_are_asked_for(self, client: Client) -> None:
        body = {"field_id": field_id(Guarded), "filename": "a.txt", "size": 5}
        assert post(client, body).status_code == 403
        user = User.objects.create_user("ann")
        client.force_login(user)
        assert post(client, body).status_code == 403
        user.user_permissions.add(Permission.objects.get(codename="add_guarded"))
        assert post(client, body).status_code == 201
        assert journal_row().owner == f"user:{user.pk}"
        record = Guarded.objects.create(file="guarded/a.txt")
        assert post(client, {**body, "instanceId": record.pk}).status_code == 403

    def test_requests_by_cookie_must_come_from_our_pages(self) -> None:
        client = Client(enforce_csrf_checks=True)
        body = {"field_id": field_id(Document), "filename": "a.txt", "size": 5}
        assert post(client, body).status_code == 201
        client.force_login(User.objects.create_user("ann"))
        assert post(client, body).status_code == 403
        assert post(client, body, Origin="https://evil.example").status_code == 403
        assert post(client, body, Origin="http://testserver").status_code == 201


class TestGenerateByGet:
    def test_answers_the_references_request_with_the_signed_transport(self, client: Client) -> None:
        for name in ("field_id", "fieldId", "async_field_id", "asyncFieldId"):
            answer = client.get(GENERATE, {name: field_id(Document), "filename": "a.txt"})
            assert answer.status_code == 200
            assert set(answer.json()) >= {"key", "uploadUrl"}
            assert answer.json()["uploadUrl"]["provider"] == "filesystem"

    def test_errors_have_the_references_shape(self, client: Client) -> None:
        answer = client.get(GENERATE)
        assert (answer.status_code, answer.json()) == (400, {"fieldId": ["This field is required."]})
        answer = client.get(GENERATE, {"fieldId": field_id(Document), "filename": "a", "params": "{"})
        assert (answer.status_code, answer.json()) == (400, {"params": ["Invalid JSON"]})

    def test_it_can_be_switched_off(self, client: Client, settings: Any) -> None:
        settings.ASYNC_UPLOADS = {"GENERATE_URL_BY_GET": False}
        assert client.get(GENERATE, {"fieldId": field_id(Document), "filename": "a"}).status_code == 405

    def test_an_image_on_a_foreign_page_creates_nothing(self) -> None:
        client = Client(enforce_csrf_checks=True)
        client.force_login(User.objects.create_user("ann"))
        parameters = {"fieldId": field_id(Document), "filename": "a.txt"}
        assert client.get(GENERATE, parameters, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
        assert client.get(GENERATE, parameters, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200
        assert client.get(GENERATE, parameters).status_code == 200


class TestDirectUpload:
    def sign(self, client: Client, model: Any = Document, filename: str = "a.txt") -> str:
        answer = client.get(GENERATE, {"fieldId": field_id(model), "filename": filename})
        return str(answer.json()["uploadUrl"]["url"])

    def test_a_file_is_stored_once(self, client: Client) -> None:
        url = self.sign(client)
        assert client.post(url, {"file": SimpleUploadedFile("x", b"hello")}).status_code == 201
        row = journal_row()
        assert (row.length, row.media_type, row.is_finished) == (5, "text/plain", True)
        again = client.post(url, {"file": SimpleUploadedFile("x", b"other")})
        assert (again.status_code, again.json()["code"]) == (403, "used_token")
        with default_storage.open(row.key) as file:
            assert file.read() == b"hello"

    def test_of_two_files_sent_at_once_the_type_of_the_stored_one_is_recorded(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = self.sign(client)
        storage_class: Any = default_storage.__class__
        receive = storage_class.receive_direct

        def receive_later(self: Any, row: Any, content: Any) -> bool:
            monkeypatch.undo()
            assert client.post(url, {"file": SimpleUploadedFile("x", b"%PDF-1.4 faster")}).status_code == 201
            return bool(receive(self, row, content))

        monkeypatch.setattr(storage_class, "receive_direct", receive_later)
        answer = client.post(url, {"file": SimpleUploadedFile("x", b"plain text")})
        assert (answer.status_code, answer.json()["code"]) == (403, "used_token")
        row = journal_row()
        assert row.media_type == "application/pdf"
        with default_storage.open(row.key) as file:
            assert file.read() == b"%PDF-1.4 faster"

    def test_the_limit_ends_the_reading(self, client: Client) -> None:
        url = self.sign(client, Limited, "a.png")
        answer = client.post(url, {"file": SimpleUploadedFile("a.png", PNG + b"\0" * 1024 * 1024)})
        assert (answer.status_code, answer.json()) == (400, {"size": ["At most 1048576 bytes are accepted."]})
        assert not journal_row().is_finished
        assert client.post(url, {"file": SimpleUploadedFile("a.png", PNG)}).status_code == 201

    def test_the_content_must_be_of_an_accepted_type(self, client: Client) -> None:
        url = self.sign(client, Limited, "a.png")
        answer = client.post(url, {"file": SimpleUploadedFile("a.png", b"<html>", content_type="image/png")})
        assert answer.status_code == 400
        assert not journal_row().is_finished

    @pytest.mark.parametrize("token", ["", "nonsense", "a:b:c", "\0", "é"])
    def test_without_our_signature_nothing_is_stored(self, client: Client, token: str) -> None:
        answer = client.post(
            "/uploads/upload-file-direct/", {"file": SimpleUploadedFile("x", b"x")}, QUERY_STRING=f"token={token}"
        )
        assert answer.status_code == 403

    def test_a_token_is_for_one_purpose_and_expires(self, client: Client) -> None:
        key = upload_file(Document._meta.get_field("file"), b"x")
        payload = {"key": key, "name": key, "field_id": field_id(Document)}
        file = SimpleUploadedFile("x", b"x")
        for token in (signing.sign(payload, "download", 60), signing.sign(payload, "upload", -1)):
            assert client.post(f"/uploads/upload-file-direct/?token={token}", {"file": file}).status_code == 403
        token = signing.sign(payload, "upload", 60)
        assert client.get(f"/uploads/download-file-direct/?token={token}").status_code == 403

    def test_a_body_without_file_is_refused(self, client: Client) -> None:
        url = self.sign(client)
        assert client.post(url, {"other": "x"}).json()["code"] == "no_file"
        assert client.post(url, b"nonsense", content_type="multipart/form-data").json()["code"] == "invalid_body"
        assert client.post(url, b"x", content_type="text/plain").json()["code"] == "no_file"


class TestDownload:
    def url(self, record: Any, name: str = "file") -> str:
        return str(getattr(record, name).url)

    def content(self, client: Client, url: str) -> Any:
        answer = client.get(url, follow=True)
        return answer, b"".join(answer.streaming_content)

    def test_redirects_to_the_storage(self, client: Client) -> None:
        record = Document.objects.create(file=ContentFile(b"hello", name="a.txt"))
        assert self.url(record).startswith(f"{DOWNLOAD}?field_id={field_id(Document)}&instance_id={record.pk}&_=")
        first = client.get(self.url(record))
        assert first.status_code == 302
        assert "no-cache" in first["Cache-Control"]
        answer, content = self.content(client, self.url(record))
        assert content == b"hello"
        assert answer["Content-Type"] == "text/plain"
        assert answer["X-Content-Type-Options"] == "nosniff"

    def test_a_file_can_be_read_before_its_promotion(self, client: Client) -> None:
        key = upload_file(Document._meta.get_field("file"), b"hello", name="Отчёт.txt")
        record = Document.objects.create(file=AsyncFileInputData(key=key))
        # Tests of pytest-django never commit, so nothing was promoted.
        assert default_storage.exists(key)
        answer, content = self.content(client, self.url(Document.objects.get(pk=record.pk)))
        assert content == b"hello"
        assert "Отчёт.txt" in unquote(answer["Content-Disposition"])

    def test_permission_is_asked_for(self, client: Client) -> None:
        record = Guarded.objects.create(file=ContentFile(b"secret", name="a.txt"))
        url = self.url(record)
        assert client.get(url).status_code == 403
        user = User.objects.create_user("ann")
        client.force_login(user)
        assert client.get(url).status_code == 403
        user.user_permissions.add(Permission.objects.get(codename="view_guarded"))
        assert self.content(client, url)[1] == b"secret"

    @pytest.mark.parametrize("pk", ["999", "abc", "", "\0", "9" * 50])
    def test_records_that_do_not_exist(self, client: Client, pk: str) -> None:
        assert client.get(DOWNLOAD, {"field_id": field_id(Document), "instance_id": pk}).status_code == 404
        assert client.get(DOWNLOAD, {"fieldId": field_id(Guarded), "instanceId": pk}).status_code == 403

    def test_a_record_without_file(self, client: Client) -> None:
        record = Picture.objects.create()
        query = {"field_id": field_id(Picture, "image"), "instance_id": record.pk}
        assert client.get(DOWNLOAD, query).status_code == 404

    def test_errors_have_the_references_shape(self, client: Client) -> None:
        answer = client.get(DOWNLOAD)
        assert (answer.status_code, answer.json()) == (400, {"fieldId": ["This field is required."]})
        answer = client.get(DOWNLOAD, {"fieldId": "x"})
        assert (answer.status_code, answer.json()) == (400, {"fieldId": ["Unknown fieldId"]})

    def direct(self, client: Client, content: bytes, filename: str, **payload: Any) -> Any:
        name = default_storage.save("docs/x", ContentFile(content))
        data = {"name": name, "field_id": field_id(Document), "filename": filename, **payload}
        token = signing.sign(data, "download", 60)
        answer = client.get(f"/uploads/download-file-direct/?token={token}")
        assert b"".join(answer.streaming_content) == content
        return answer

    @pytest.mark.parametrize("name", ["a.html", "a.svg", "a.xml", "a.js", "a.xhtml", "a.exe", "a", "a.swf", "a.HTM"])
    def test_what_a_browser_would_run_is_an_attachment(self, client: Client, name: str) -> None:
        answer = self.direct(client, b"<script>", name)
        assert answer["Content-Disposition"].startswith("attachment")
        assert answer["X-Content-Type-Options"] == "nosniff"

    @pytest.mark.parametrize("name", ["a.png", "a.pdf", "a.mp4", "a.txt"])
    def test_harmless_types_are_shown(self, client: Client, name: str) -> None:
        assert not self.direct(client, b"x", name).headers.get("Content-Disposition", "").startswith("attachment")

    @pytest.mark.parametrize(
        "name",
        [
            'a"b.bin',
            "a\r\nSet-Cookie: x=1.bin",
            "Отпуск 🏖.bin",
            "שלום.bin",
            "a\\b.bin",
            "a;b.bin",
            "../a.bin",
            "\0.bin",
        ],
    )
    def test_every_file_name_makes_a_safe_header(self, client: Client, name: str) -> None:
        answer = self.direct(client, b"x", name)
        assert answer.status_code == 200
        disposition = answer["Content-Disposition"]
        assert not set(disposition) & set("\r\n\0")
        assert disposition.isascii()
        assert disposition.startswith("attachment")
        assert "Set-Cookie" not in answer.headers

    def test_the_fields_parameters_become_headers(self, client: Client) -> None:
        parameters = {"cache_control": "public,max-age=60", "content_disposition": 'attachment; filename="b.txt"'}
        answer = self.direct(client, b"x", "a.txt", parameters=parameters)
        assert answer["Cache-Control"] == "public,max-age=60"
        assert answer["Content-Disposition"] == 'attachment; filename="b.txt"'

    def test_a_file_that_is_gone_is_not_found(self, client: Client) -> None:
        token = signing.sign({"name": "docs/gone", "field_id": field_id(Document)}, "download", 60)
        assert client.get(f"/uploads/download-file-direct/?token={token}").status_code == 404


@pytest.mark.parametrize(
    "path", [GENERATE, DOWNLOAD, "/uploads/upload-file-direct/", "/uploads/tus/", "/uploads/tus/x"]
)
def test_no_view_opens_a_transaction_asks_for_a_login_or_lets_a_middleware_read_the_body(path: str) -> None:
    view: Any = resolve(path).func
    assert "default" in view._non_atomic_requests
    assert "other" in view._non_atomic_requests
    assert view.csrf_exempt
    assert view.login_required is False


@pytest.mark.django_db(transaction=True)
def test_bodies_arrive_outside_of_transactions(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    seen: list[bool] = []
    detect = sniffing.detect

    def look(head: bytes, filename: str) -> str:
        seen.append(connection.in_atomic_block)
        return detect(head, filename)

    monkeypatch.setattr(sniffing, "detect", look)
    answer = post(client, {"fieldId": field_id(Document), "filename": "a.txt", "size": 5})
    assert patch(client, answer.json()["uploadUrl"]["url"], 0, b"hello").status_code == 204
    signed = client.get(GENERATE, {"fieldId": field_id(Document), "filename": "a.txt"}).json()
    assert client.post(signed["uploadUrl"]["url"], {"file": SimpleUploadedFile("a", b"hello")}).status_code == 201
    assert seen == [False, False]


def test_the_login_middleware_leaves_our_views_alone(client: Client, settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    assert post(client, {"fieldId": field_id(Document), "filename": "a.txt", "size": 5}).status_code == 201
    record = Document.objects.create(file=ContentFile(b"hello", name="a.txt"))
    assert b"".join(client.get(record.file.url, follow=True).streaming_content) == b"hello"


def test_parameters_are_read_however_they_are_written() -> None:
    assert read_parameters({"asyncFieldId": 1, "instanceId": 2, "content_type": 3}) == {
        "field_id": 1,
        "instance_id": 2,
        "content_type": 3,
    }
    assert camelize("content_type") == "contentType"
    assert json.dumps(camelize("size")) == '"size"'


class TestOwnAuthentication:
    """A project's own way to know a user (``AUTHENTICATE``) may go by a cookie, which foreign pages can use."""

    @pytest.fixture
    def foreign(self, settings: Any) -> Client:
        user = User.objects.create_superuser("ann")
        settings.ASYNC_UPLOADS = {
            "AUTHENTICATE": lambda request: (
                user if "jwt" in request.COOKIES or "Authorization" in request.headers else None
            )
        }
        return Client(
            enforce_csrf_checks=True, headers={"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
        )

    def test_by_cookie_a_foreign_page_is_refused(self, foreign: Client) -> None:
        foreign.cookies["jwt"] = "x"
        parameters = {"field_id": field_id(Guarded), "filename": "a.txt"}
        assert post(foreign, parameters).json()["code"] == "csrf_failed"
        assert foreign.get(GENERATE, parameters).json()["code"] == "csrf_failed"

    def test_by_header_it_is_not(self, foreign: Client) -> None:
        foreign.cookies["other"] = "x"
        assert post(foreign, {"field_id": field_id(Guarded), "filename": "a.txt"}, Authorization="x").status_code == 201


def read_form_first(get_response: Any) -> Any:
    """A project's middleware that looks at the form of every request."""

    def middleware(request: Any) -> Any:
        assert request.POST is not None
        return get_response(request)

    return middleware


@pytest.mark.parametrize(("size", "status"), [(50, 201), (1024 * 1024 + 1, 400)])
def test_a_direct_upload_bears_a_middleware_that_reads_the_form(
    client: Client, settings: Any, size: int, status: int
) -> None:
    settings.MIDDLEWARE = [f"{__name__}.read_form_first", *settings.MIDDLEWARE]
    answer = client.get(GENERATE, {"field_id": field_id(Limited), "filename": "a.png"})
    file = SimpleUploadedFile("a.png", PNG.ljust(size, b"\0"))
    assert client.post(answer.json()["uploadUrl"]["url"], {"file": file}).status_code == status
