"""The admin with no further code: upload, replace, download, by plain and by object permissions."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django import forms
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.core.files.base import ContentFile
from django.test import Client, RequestFactory

from async_uploads.forms import AdminAsyncFileInput, AsyncFileField, AsyncUploadAdminMixin
from async_uploads.testing import upload_file
from tests.async_uploads.backends import GRANTED
from tests.async_uploads.tusclient import create, field_id, upload
from tests.testapp.models import Guarded

pytestmark = pytest.mark.django_db(transaction=True)

FILE = Guarded._meta.get_field("file")


@pytest.fixture
def staff(client: Client) -> User:
    user = User.objects.create_user("staff", is_staff=True)
    client.force_login(user)
    return user


def grant(user: User, *codenames: str) -> None:
    user.user_permissions.add(*Permission.objects.filter(codename__in=codenames))


def read(client: Client, record: Guarded) -> bytes:
    answer: Any = client.get(Guarded.objects.get(pk=record.pk).file.url, follow=True)
    return b"".join(answer.streaming_content)


def test_a_staff_user_with_change_and_view_uploads_replaces_and_downloads(client: Client, staff: User) -> None:
    record = Guarded.objects.create(file=ContentFile(b"old", name="old.txt"))
    grant(staff, "change_guarded", "view_guarded")
    page = client.get(f"/admin/testapp/guarded/{record.pk}/change/")
    assert b"<async-upload" in page.content
    assert f'instance-id="{record.pk}"'.encode() in page.content
    assert b'enctype="multipart/form-data"' in page.content

    assert create(client, field_id(Guarded), "new.txt", 3).status_code == 403  # without the record: no add permission
    key = upload(client, field_id(Guarded), "Новый.txt", b"new content", instance_id=str(record.pk))
    value = json.dumps({"key": key, "name": "Новый.txt", "width": None, "height": None, "error": None})
    saved = client.post(f"/admin/testapp/guarded/{record.pk}/change/", {"file": value})
    assert saved.status_code == 302, saved.content
    assert Guarded.objects.get(pk=record.pk).file.name == "guarded/Новый.txt"
    assert read(client, record) == b"new content"


def test_a_staff_user_with_add_creates(client: Client, staff: User) -> None:
    grant(staff, "add_guarded")
    key = upload(client, field_id(Guarded), "a.txt", b"hello")
    assert client.post("/admin/testapp/guarded/add/", {"file": key}).status_code == 302
    with Guarded.objects.get().file.open() as file:
        assert file.read() == b"hello"


def test_the_admin_works_without_javascript(client: Client, staff: User) -> None:
    grant(staff, "add_guarded", "view_guarded")
    file = ContentFile(b"plain", name="plain.txt")
    assert client.post("/admin/testapp/guarded/add/", {"file": file}).status_code == 302
    assert read(client, Guarded.objects.get()) == b"plain"


def test_a_refused_form_shows_the_error(client: Client, staff: User) -> None:
    grant(staff, "add_guarded", "view_guarded")
    answer = client.post("/admin/testapp/guarded/add/", {"file": "nonsense"})
    assert answer.status_code == 200
    assert b"Invalid upload received" in answer.content
    assert not Guarded.objects.exists()


class TestObjectPermissions:
    @pytest.fixture(autouse=True)
    def backend(self, settings: Any) -> Iterator[None]:
        settings.AUTHENTICATION_BACKENDS = [
            "django.contrib.auth.backends.ModelBackend",
            "tests.async_uploads.backends.ObjectPermissions",
        ]
        yield
        GRANTED.clear()

    def test_permissions_for_one_record_suffice_for_it(self, client: Client) -> None:
        user = User.objects.create_user("ann")
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        mine = Guarded.objects.create(file=ContentFile(b"old", name="mine.txt"))
        theirs = Guarded.objects.create(file=ContentFile(b"secret", name="theirs.txt"))
        GRANTED.update({(user.pk, "testapp.change_guarded", mine), (user.pk, "testapp.view_guarded", mine)})

        key = upload(client, field_id(Guarded), "new.txt", b"new", instance_id=str(mine.pk))
        form = forms.modelform_factory(Guarded, fields=["file"])({"file": key}, instance=mine)
        assert form.is_valid(), form.errors
        form.save()
        assert read(client, mine) == b"new"

        assert create(client, field_id(Guarded), "a.txt", 3, instance_id=str(theirs.pk)).status_code == 403
        assert create(client, field_id(Guarded), "a.txt", 3).status_code == 403
        assert client.get(theirs.file.url).status_code == 403

    def test_in_the_admin_too(self, client: Client) -> None:
        user = User.objects.create_user("ann", is_staff=True)
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        record = Guarded.objects.create(file=ContentFile(b"old", name="mine.txt"))
        GRANTED.update({(user.pk, "testapp.change_guarded", record), (user.pk, "testapp.view_guarded", record)})

        class ByRecord(admin.ModelAdmin):  # type: ignore[type-arg]
            def has_change_permission(self, request: Any, obj: Any = None) -> bool:
                return obj is not None and bool(request.user.has_perm("testapp.change_guarded", obj))

            has_view_permission = has_change_permission

        registered = admin.site._registry[Guarded]
        admin.site._registry[Guarded] = ByRecord(Guarded, admin.site)
        try:
            key = upload(client, field_id(Guarded), "new.txt", b"new", instance_id=str(record.pk))
            view = admin.site._registry[Guarded].change_view
            request = RequestFactory().post("/", {"file": key, "_continue": ""})
            request.user, request.session = user, client.session  # type: ignore[assignment]
            request._dont_enforce_csrf_checks = True  # type: ignore[attr-defined]
            request._messages = _Messages()  # type: ignore[attr-defined]
            assert view(request, str(record.pk)).status_code == 302
        finally:
            admin.site._registry[Guarded] = registered
        assert read(client, record) == b"new"


class _Messages(list[Any]):
    def add(self, *args: Any) -> None:
        self.append(args)


class TestOwners:
    def test_the_mixin_tells_the_field_whose_uploads_to_take(self) -> None:
        class Admin(AsyncUploadAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
            pass

        ann, bob = User.objects.create_user("ann"), User.objects.create_user("bob")
        key = upload_file(FILE, b"x", owner=ann)
        for user, is_valid in ((ann, True), (bob, False)):
            request = RequestFactory().get("/")
            request.user = user
            user.is_superuser = True
            form = Admin(Guarded, admin.site).get_form(request)({"file": key}, {})
            assert isinstance(form.fields["file"], AsyncFileField)
            assert isinstance(form.fields["file"].widget, AdminAsyncFileInput)
            assert form.is_valid() is is_valid

    def test_the_middleware_does_so_for_every_admin(self, client: Client, staff: User, settings: Any) -> None:
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, "async_uploads.middleware.CurrentRequestMiddleware"]
        grant(staff, "add_guarded", "view_guarded")
        theirs = upload_file(FILE, b"x", owner=User.objects.create_user("other"))
        answer = client.post("/admin/testapp/guarded/add/", {"file": theirs})
        assert b"Invalid upload received" in answer.content
        mine = upload_file(FILE, b"x", owner=staff)
        assert client.post("/admin/testapp/guarded/add/", {"file": mine}).status_code == 302
