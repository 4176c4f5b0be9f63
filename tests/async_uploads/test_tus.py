"""The tus endpoint of a registry: what a field allows, whose upload it is, what the journal says."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.backends.base import UpdateError
from django.core.files.storage import default_storage
from django.db import OperationalError, connection
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone

from async_uploads import tus
from async_uploads.journal import EXPIRED, AsyncTempFile
from async_uploads.journal_store import JournalRecords, claim_for_removal
from async_uploads.models import AsyncFileInputData
from async_uploads.registry import default_async_field_registry
from async_uploads.signals import upload_finished
from tests.async_uploads.tusclient import ENDPOINT, create, field_id, patch, request, upload
from tests.testapp.models import Document, Guarded, Limited, Picture
from tus_server.errors import TusError, UploadGone

pytestmark = pytest.mark.django_db

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 50


def journal_row(**lookup: object) -> AsyncTempFile:
    return AsyncTempFile.objects.get(**lookup)


def test_an_upload_becomes_a_finished_row_whose_file_lies_at_its_key(client: Client) -> None:
    created = create(client, field_id(Document), "Отпуск 🏖.txt", 5, filetype="text/html")
    assert created.status_code == 201
    assert created["Location"].startswith(ENDPOINT)
    assert created["Upload-Expires"]
    row = journal_row(key=created["Async-Upload-Key"])
    assert (row.original_filename, row.length, row.is_finished) == ("Отпуск 🏖.txt", 5, False)
    assert row.field_label == "testapp.Document.file"
    assert row.key.isascii()
    half = patch(client, created["Location"], 0, b"hel")
    assert (half.status_code, half["Upload-Offset"], half["Async-Upload-Key"]) == (204, "3", row.key)
    whole = patch(client, created["Location"], 3, b"lo")
    assert (whole.status_code, whole["Upload-Offset"]) == (204, "5")
    row.refresh_from_db()
    assert row.is_finished
    assert row.media_type == "text/plain"
    with default_storage.open(row.key) as file:
        assert file.read() == b"hello"
    head = request(client, "HEAD", created["Location"])
    assert (head["Upload-Offset"], head["Upload-Length"], head["Async-Upload-Key"]) == ("5", "5", row.key)


def test_creation_with_content_in_one_request(client: Client) -> None:
    answer = client.generic(
        "POST",
        ENDPOINT,
        b"hello",
        content_type="application/offset+octet-stream",
        headers={
            "Tus-Resumable": "1.0.0",
            "Upload-Length": "5",
            "Upload-Metadata": "field_id dGVzdGFwcC5Eb2N1bWVudC5maWxl,filename YS50eHQ=",
        },
    )
    assert (answer.status_code, answer["Upload-Offset"]) == (201, "5")
    assert journal_row().is_finished


def test_an_empty_file_is_finished_at_once(client: Client) -> None:
    assert create(client, field_id(Document), "empty.txt", 0).status_code == 201
    assert journal_row().is_finished


@pytest.mark.parametrize(
    ("filename", "status"),
    [
        (None, 400),
        ("", 400),
        (".", 400),
        ("..", 400),
        ("a/..", 400),
        ("\0", 400),
        ("x" * 256, 400),
        (b"\xff\xfe", 400),
        ("x" * 251 + ".txt", 201),
        ("../../etc/passwd", 201),
        ("/etc/passwd", 201),
        ("C:\\Windows\\win.ini", 201),
        ("a\0b.txt", 201),
        ("CON", 201),
        (".htaccess", 201),
        ("שלום.txt", 201),
        ("a\r\nX-Evil: 1.txt", 201),
    ],
)
def test_file_names_are_refused_or_made_harmless(client: Client, filename: str | bytes | None, status: int) -> None:
    answer = create(client, field_id(Document), filename, 3)  # type: ignore[arg-type]
    assert answer.status_code == status
    if status == 400:
        assert not AsyncTempFile.objects.exists()
        assert answer.json()["error"]
        return
    row = journal_row()
    assert "/" not in row.original_filename
    assert ".." not in row.key
    assert row.key.startswith("async-temp-files/")
    assert patch(client, answer["Location"], 0, b"abc").status_code == 204


@pytest.mark.parametrize(
    ("metadata", "status", "code"),
    [
        ("", 400, "field_id_missing"),
        ("filename YS50eHQ=", 400, "field_id_missing"),
        ("field_id bm9wZQ==,filename YS50eHQ=", 400, "unknown_field"),
        ("field_id /w==,filename YS50eHQ=", 400, "invalid_metadata"),
        ("field_id ***,filename YS50eHQ=", 400, "invalid_metadata"),
    ],
)
def test_bad_metadata_is_a_clean_refusal(client: Client, metadata: str, status: int, code: str) -> None:
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "3", "Upload-Metadata": metadata}
    answer = client.generic("POST", ENDPOINT, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer["Tus-Resumable"] == "1.0.0"
    assert not AsyncTempFile.objects.exists()


def test_a_file_above_the_limit_of_its_field_is_refused_and_told_the_limit(client: Client) -> None:
    answer = create(client, field_id(Limited), "a.png", 1024 * 1024 + 1)
    assert answer.status_code == 413
    assert "1 MiB" in answer.json()["error"]
    assert create(client, field_id(Limited), "a.png", 1024 * 1024).status_code == 201


def test_the_limit_holds_for_a_deferred_length(client: Client) -> None:
    created = create(client, field_id(Limited), "a.png", None)
    assert created.status_code == 201
    too_long = patch(client, created["Location"], 0, b"", **{"Upload-Length": str(1024 * 1024 + 1)})
    assert too_long.status_code == 413
    too_much = patch(client, created["Location"], 0, b"x" * (1024 * 1024 + 1))
    assert too_much.status_code == 413
    assert patch(client, created["Location"], 0, PNG, **{"Upload-Length": str(len(PNG))}).status_code == 204


def test_a_wrong_type_is_refused_by_its_name_at_creation(client: Client) -> None:
    answer = create(client, field_id(Limited), "a.exe", 10, filetype="image/png")
    assert (answer.status_code, answer.json()["code"]) == (415, "type_not_allowed")


def test_a_file_whose_content_is_not_what_its_name_says_is_never_finished(client: Client) -> None:
    page = b"<html><script>alert(1)</script>"
    created = create(client, field_id(Limited), "a.png", len(page), filetype="image/png")
    answer = patch(client, created["Location"], 0, page)
    assert (answer.status_code, answer.json()["code"]) == (415, "type_not_allowed")
    assert not journal_row().is_finished
    assert request(client, "HEAD", created["Location"]).status_code == 415


def test_the_verified_type_is_recorded(client: Client) -> None:
    upload(client, field_id(Limited), "a.png", PNG, filetype="application/x-nonsense")
    assert journal_row().media_type == "image/png"


@pytest.mark.parametrize("filetype", ["\0", "a" * 3000, "text/html\r\nX-Evil: y", "image/../x", "é/x"])
def test_what_the_client_calls_the_type_is_bounded(client: Client, filetype: str) -> None:
    assert create(client, field_id(Document), "noname", 3, filetype=filetype).status_code == 201
    assert journal_row().media_type == ""


def test_permission_to_create_is_asked_for(client: Client) -> None:
    user = User.objects.create_user("ann")
    client.force_login(user)
    assert create(client, field_id(Guarded), "a.txt", 3).status_code == 403
    user.user_permissions.add(Permission.objects.get(codename="add_guarded"))
    assert create(client, field_id(Guarded), "a.txt", 3).status_code == 201


def test_permission_to_change_is_asked_for_with_a_record(client: Client) -> None:
    user = User.objects.create_user("ann")
    record = Guarded.objects.create(file="guarded/a.txt")
    client.force_login(user)
    user.user_permissions.add(Permission.objects.get(codename="add_guarded"))
    assert create(client, field_id(Guarded), "a.txt", 3, instance_id=str(record.pk)).status_code == 403
    user.user_permissions.add(Permission.objects.get(codename="change_guarded"))
    assert create(client, field_id(Guarded), "a.txt", 3, instance_id=str(record.pk)).status_code == 201


@pytest.mark.parametrize("instance_id", ["999999", "abc", "1' OR 1=1", "9" * 60, "\0", "-1"])
def test_a_record_that_does_not_exist_looks_like_a_forbidden_one(client: Client, instance_id: str) -> None:
    client.force_login(User.objects.create_user("ann"))
    assert create(client, field_id(Guarded), "a.txt", 3, instance_id=instance_id).status_code == 403
    assert create(client, field_id(Document), "a.txt", 3, instance_id=instance_id).status_code == 404


def test_anonymous_users_upload_where_no_permission_is_asked(client: Client) -> None:
    assert create(client, field_id(Document), "a.txt", 3).status_code == 201
    assert journal_row().owner == ""
    assert create(client, field_id(Guarded), "a.txt", 3).status_code == 403


def test_uploads_of_others_look_like_unknown_ones(client: Client) -> None:
    ann, bob = User.objects.create_user("ann"), User.objects.create_user("bob")
    client.force_login(ann)
    created = create(client, field_id(Document), "a.txt", 5)
    assert journal_row().owner == f"user:{ann.pk}"
    other = Client()
    other.force_login(bob)
    unknown = reverse("async_uploads_default_tus_upload", kwargs={"upload_id": "x" * 32})
    for stranger in (other, Client()):
        for url in (created["Location"], unknown):
            assert request(stranger, "HEAD", url).status_code == 404
            assert patch(stranger, url, 0, b"hello").status_code == 404
            assert request(stranger, "DELETE", url).status_code == 404
    assert request(client, "HEAD", created["Location"])["Upload-Offset"] == "0"


@pytest.mark.parametrize("upload_id", ["x", "..%2F..", "%00" * 20, "x" * 500, "a b", "é" * 20])
def test_malformed_upload_ids_are_unknown(client: Client, upload_id: str) -> None:
    assert request(client, "HEAD", ENDPOINT + upload_id).status_code == 404


def test_an_upload_of_a_session_survives_login(client: Client) -> None:
    session = client.session
    session["basket"] = [1]
    session.save()
    created = create(client, field_id(Document), "a.txt", 5)
    assert journal_row().owner.startswith("session:")
    assert Client().head(created["Location"], headers={"Tus-Resumable": "1.0.0"}).status_code == 404
    client.force_login(User.objects.create_user("ann"))
    assert patch(client, created["Location"], 0, b"hello").status_code == 204
    assert client.session["basket"] == [1]


def test_a_session_is_saved_before_the_body_and_never_after(client: Client, settings) -> None:  # type: ignore[no-untyped-def]
    settings.SESSION_SAVE_EVERY_REQUEST = True
    session = client.session
    session["count"] = 1
    session.save()
    created = create(client, field_id(Document), "a.txt", 5)
    other_tab = client.session
    other_tab["count"] = 2
    other_tab.save()
    assert patch(client, created["Location"], 0, b"hello").status_code == 204
    assert client.session["count"] == 2


def test_a_foreign_page_cannot_create_in_the_name_of_a_user() -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_user("ann"))

    def status(**headers: str) -> int:
        return int(create(client, field_id(Document), "a.txt", 3, headers=headers).status_code)

    assert status() == 403
    assert status(**{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}) == 403
    assert status(**{"Sec-Fetch-Site": "same-site"}) == 403
    assert status(**{"X-CSRFToken": "x" * 32}) == 403
    assert status(**{"Sec-Fetch-Site": "same-origin"}) == 201
    assert status(Origin="http://testserver") == 201
    client.get("/admin/login/")
    client.cookies["csrftoken"] = "a" * 32
    assert status(**{"X-CSRFToken": "a" * 32}) == 201


def test_clients_without_cookies_need_no_token() -> None:
    assert create(Client(enforce_csrf_checks=True), field_id(Document), "a.txt", 3).status_code == 201


def test_token_clients_are_known_by_the_authenticate_setting(settings) -> None:  # type: ignore[no-untyped-def]
    user = User.objects.create_user("robot")
    settings.ASYNC_UPLOADS = {
        "AUTHENTICATE": lambda request: user if request.headers.get("Authorization") == "Token t" else None
    }
    client = Client(enforce_csrf_checks=True)
    created = create(client, field_id(Document), "a.txt", 5, headers={"Authorization": "Token t"})
    assert created.status_code == 201
    assert journal_row().owner == f"user:{user.pk}"
    assert patch(client, created["Location"], 0, b"hello", Authorization="Token t").status_code == 204
    assert patch(client, created["Location"], 0, b"hello").status_code == 404


def test_delete_removes_row_and_file(client: Client) -> None:
    created = create(client, field_id(Document), "a.txt", 5)
    patch(client, created["Location"], 0, b"hel")
    assert request(client, "DELETE", created["Location"]).status_code == 204
    assert not AsyncTempFile.objects.exists()
    assert not default_storage.exists(created["Async-Upload-Key"])
    assert request(client, "HEAD", created["Location"]).status_code in (404, 410)


@pytest.mark.django_db(transaction=True)
def test_what_a_record_owns_cannot_be_deleted_by_tus(client: Client) -> None:
    created = create(client, field_id(Document), "a.txt", 5)
    patch(client, created["Location"], 0, b"hello")
    record = Document.objects.create(file=AsyncFileInputData(key=created["Async-Upload-Key"]))
    assert request(client, "DELETE", created["Location"]).status_code == 403
    record = Document.objects.get(pk=record.pk)
    with record.file.open() as file:
        assert file.read() == b"hello"


def test_a_claim_that_comes_between_the_question_and_the_removal_wins(client: Client) -> None:
    upload(client, field_id(Document), "a.txt", b"hello")
    row = journal_row()
    AsyncTempFile.objects.update(claim="0" * 32)
    assert not claim_for_removal(row.upload_id)
    AsyncTempFile.objects.update(claim=None)
    assert claim_for_removal(row.upload_id)
    assert journal_row().claim == EXPIRED


def test_an_upload_under_removal_is_gone(client: Client) -> None:
    created = create(client, field_id(Document), "a.txt", 5)
    AsyncTempFile.objects.update(claim=EXPIRED)
    assert patch(client, created["Location"], 0, b"hello").status_code == 410


def test_an_expired_upload_is_gone_by_the_clock(client: Client) -> None:
    created = create(client, field_id(Document), "a.txt", 5)
    AsyncTempFile.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert request(client, "HEAD", created["Location"]).status_code == 410


def test_accepted_bytes_move_the_expiry(client: Client) -> None:
    created = create(client, field_id(Document), "a.txt", 5)
    AsyncTempFile.objects.update(expires_at=timezone.now() + timedelta(seconds=60))
    patch(client, created["Location"], 0, b"hel")
    assert journal_row().expires_at > timezone.now() + timedelta(days=6)  # type: ignore[operator]


def test_options_announces_without_a_field(client: Client) -> None:
    answer = client.options(ENDPOINT)
    assert answer.status_code == 204
    extensions = answer["Tus-Extension"].split(",")
    assert {"creation", "creation-with-upload", "creation-defer-length", "expiration", "termination"} <= set(extensions)


def test_the_endpoint_answers_with_and_without_a_trailing_slash(client: Client) -> None:
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "3"}
    headers["Upload-Metadata"] = "field_id dGVzdGFwcC5Eb2N1bWVudC5maWxl,filename YS50eHQ="
    created = client.generic("POST", ENDPOINT.rstrip("/"), headers=headers)
    assert created.status_code == 201
    assert request(client, "HEAD", created["Location"] + "/").status_code == 200


def test_an_upload_that_is_being_removed_is_not_finished_and_nobody_hears_of_it(client: Client) -> None:
    records, heard = JournalRecords(default_async_field_registry), []

    def listen(**facts: Any) -> None:
        heard.append(facts["upload"])

    for receivers in ([], [listen]):
        record = records.get(create(client, field_id(Document), "a.txt", 5)["Location"].rpartition("/")[2])
        AsyncTempFile.objects.filter(upload_id=record.id).update(claim=EXPIRED)
        for receiver in receivers:
            upload_finished.connect(receiver)
        try:
            with pytest.raises(UploadGone):
                records.set_finished(record, timezone.now())
        finally:
            for receiver in receivers:
                upload_finished.disconnect(receiver)
        assert journal_row(upload_id=record.id).finished_at is None
    assert not heard


def test_finishing_again_keeps_the_first_time(client: Client) -> None:
    records, moment = JournalRecords(default_async_field_registry), timezone.now()
    record = records.get(create(client, field_id(Document), "a.txt", 5)["Location"].rpartition("/")[2])
    finished = records.set_finished(record, moment)
    assert finished == records.get(record.id)
    assert records.set_finished(record, moment + timedelta(hours=1)) == finished


def test_a_locked_database_is_an_invitation_to_try_again(client: Client) -> None:
    created = create(client, field_id(Document), "a.txt", 5)

    def locked(*arguments: Any) -> None:
        raise OperationalError("database is locked")

    with connection.execute_wrapper(locked):
        answer = request(client, "HEAD", created["Location"])
    assert answer.status_code == 503
    assert answer["Retry-After"]
    assert "Upload-Offset" not in answer


def test_optional_fields_upload_too(client: Client) -> None:
    assert upload(client, field_id(Picture, "image"), "a.png", PNG).endswith("a.png")


def test_a_project_without_time_zones_can_upload(client: Client, settings: Any) -> None:
    settings.USE_TZ = False
    key = upload(client, field_id(Document), "a.txt", b"hello")
    row = journal_row(key=key)
    assert row.is_finished
    assert row.expires_at is not None
    assert timedelta(days=6) < row.expires_at - timezone.now() <= timedelta(days=7)
    url = f"{ENDPOINT}{row.upload_id}"
    assert request(client, "HEAD", url)["Upload-Offset"] == "5"
    assert request(client, "DELETE", url).status_code == 204


def test_a_content_length_of_thousands_of_digits_is_refused(client: Client) -> None:
    answer = create(client, field_id(Document), "a.txt", 5, headers={"Content-Length": "9" * 5000})
    assert answer.status_code == 400


@pytest.mark.parametrize(("cause", "status"), [(None, 400), (OperationalError("database is locked"), 503)])
def test_a_session_that_cannot_be_saved_has_ended_or_its_database_is_away(cause: Exception | None, status: int) -> None:
    class Session:
        modified = True

        def save(self) -> None:
            try:
                if cause is not None:
                    raise cause
            except OperationalError:
                raise UpdateError  # noqa: B904  # as Django does
            raise UpdateError

    request = RequestFactory().post("/")
    request.session = Session()  # type: ignore[assignment]
    with pytest.raises(TusError) as caught:
        tus.save_session(request)
    assert caught.value.status == status
