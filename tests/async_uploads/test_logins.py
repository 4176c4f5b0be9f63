"""Reading a login ahead changes nothing but what it costs: who is let in, and what becomes of the session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.auth.models import User
from django.contrib.sessions.middleware import SessionMiddleware
from django.contrib.sessions.models import Session
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext, override_settings
from django.utils import timezone

from async_uploads import logins
from tests.async_uploads.tusclient import create, field_id, request
from tests.testapp.models import Document

pytestmark = pytest.mark.django_db

MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"
OTHER_BACKEND = "tests.async_uploads.test_logins.OtherBackend"
BOTH = [MODEL_BACKEND, OTHER_BACKEND]


class OtherBackend(ModelBackend):
    """A project's own: lets nobody in who is no member of the staff."""

    def get_user(self, user_id: int) -> Any:
        user = super().get_user(user_id)
        return user if user is not None and user.is_staff else None


def nothing(user: User) -> None:
    """Leave the login as it is."""


def deactivate(user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_active=False)


def change_password(user: User) -> None:
    user.password = "another"
    user.save()


def delete(user: User) -> None:
    user.delete()


def expire(user: User) -> None:
    Session.objects.update(expire_date=timezone.now())


def forget(user: User) -> None:
    Session.objects.all().delete()


def garble(user: User) -> None:
    Session.objects.update(session_data="no:data")


def rename_key(user: User) -> None:
    store = SessionMiddleware(HttpResponse).SessionStore(Session.objects.get().session_key)
    store["_auth_user_id"] = "no number"
    store.save()


def log_in(backend: str) -> tuple[User, str]:
    Session.objects.all().delete()
    User.objects.all().delete()
    user, client = User.objects.create(username="somebody", password="secret"), Client()
    client.force_login(user, backend)
    return user, client.cookies[settings.SESSION_COOKIE_NAME].value


def begin(cookie: str) -> HttpRequest:
    """Return a request as the middleware leaves it."""
    begun = RequestFactory().get("/")
    begun.COOKIES[settings.SESSION_COOKIE_NAME] = cookie
    for middleware in (SessionMiddleware(HttpResponse), AuthenticationMiddleware(HttpResponse)):
        middleware.process_request(begun)
    return begun


def outcome(cookie: str, read: Callable[[HttpRequest], None]) -> dict[str, Any]:
    """Return what a request ends with whose view asks for the user."""
    begun = begin(cookie)
    read(begun)
    try:
        name = begun.user.get_username()
    except Exception as error:
        return {"raised": type(error)}
    answer = SessionMiddleware(lambda request: HttpResponse()).process_response(begun, HttpResponse())
    return {
        "user": name,
        "session": begun.session.session_key == cookie,
        "data": sorted(begun.session.keys()),
        "modified": begun.session.modified,
        "headers": sorted(answer.headers),
        "cookies": sorted(answer.cookies),
        "stored": Session.objects.count(),
    }


@pytest.mark.parametrize("change", [nothing, deactivate, change_password, delete, expire, forget, garble, rename_key])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"AUTHENTICATION_BACKENDS": [OTHER_BACKEND]},
        {"SECRET_KEY": "a new one"},
        {"SECRET_KEY": "a new one", "SECRET_KEY_FALLBACKS": [settings.SECRET_KEY]},
    ],
    ids=["as it was", "another backend", "another key", "another key with the old one behind"],
)
@pytest.mark.parametrize("backend", BOTH)
def test_whoever_is_let_in_without_reading_ahead_is_let_in_with_it_and_nobody_else(
    backend: str, more: dict[str, Any], change: Callable[[User], None]
) -> None:
    found = []
    for read in (nothing, logins.read):
        with override_settings(AUTHENTICATION_BACKENDS=BOTH):
            user, cookie = log_in(backend)
        change(user)
        with override_settings(**{"AUTHENTICATION_BACKENDS": BOTH, **more}):
            found.append(outcome(cookie, read))
    assert found[0] == found[1]


def test_a_login_is_read_by_two_statements_and_not_again() -> None:
    user, cookie = log_in(MODEL_BACKEND)
    begun = begin(cookie)
    with CaptureQueriesContext(connection) as captured:
        logins.read(begun)
        logins.read(begun)
        assert begun.user == user
        assert begun.session.accessed
    assert len(captured) == 2


@pytest.mark.parametrize(
    "engine", ["django.contrib.sessions.backends.signed_cookies", "django.contrib.sessions.backends.cached_db"]
)
def test_sessions_that_are_not_in_the_database_alone_are_left_to_django(engine: str) -> None:
    with override_settings(SESSION_ENGINE=engine):
        user, cookie = log_in(MODEL_BACKEND)
        begun = begin(cookie)
        with CaptureQueriesContext(connection) as captured:
            logins.read(begun)
        assert not captured.captured_queries
        assert begun.user == user


def test_an_anonymous_request_costs_no_statement() -> None:
    for begun in (RequestFactory().get("/"), begin("")):
        with CaptureQueriesContext(connection) as captured:
            logins.read(begun)
        assert not captured.captured_queries


def test_a_deactivated_user_loses_the_upload_at_once() -> None:
    user, client = User.objects.create(username="somebody", password="secret"), Client()
    client.force_login(user)
    url = create(client, field_id(Document), "a.txt", 5)["Location"]
    assert request(client, "HEAD", url).status_code == 200
    deactivate(user)
    assert request(client, "HEAD", url).status_code == 404
