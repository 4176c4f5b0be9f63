"""Whose upload it is: user, session, nobody; and the middleware that tells forms the request."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.contrib.auth import login
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from async_uploads.middleware import CurrentRequestMiddleware
from async_uploads.owners import (
    OWNER_SESSION_KEY,
    authenticate,
    current_request,
    identities,
    may_use,
    owner_for_creation,
)

pytestmark = pytest.mark.django_db


def make_request(session_key: str | None = None, user: Any = None) -> Any:
    request: Any = RequestFactory().post("/")
    request.session = SessionStore(session_key)
    request.user = user or AnonymousUser()
    return request


def make_session() -> str:
    session = SessionStore()
    session.create()
    assert session.session_key
    return session.session_key


def test_a_user_owns_what_they_upload() -> None:
    user = User.objects.create(username="a")
    request = make_request(user=user)
    assert owner_for_creation(request) == f"user:{user.pk}"
    assert identities(request) == {f"user:{user.pk}"}
    assert not request.session.modified


def test_a_client_with_a_session_is_known_by_its_data() -> None:
    request = make_request(make_session())
    owner = owner_for_creation(request)
    assert owner == f"session:{request.session[OWNER_SESSION_KEY]}"
    assert request.session.modified
    assert identities(request) == {owner}
    assert owner_for_creation(request) == owner


def test_a_client_without_a_session_gets_none() -> None:
    request = make_request()
    assert owner_for_creation(request) == ""
    assert identities(request) == frozenset()
    assert not request.session.modified


def test_a_session_that_does_not_exist_is_none() -> None:
    request = make_request("x" * 32)
    assert owner_for_creation(request) == ""
    assert not request.session.modified


def test_a_request_without_sessions_and_users_is_nobodys() -> None:
    request = RequestFactory().get("/")
    assert owner_for_creation(request) == ""
    assert identities(request) == frozenset()


def test_the_session_still_counts_after_login() -> None:
    request = make_request(make_session())
    owner = owner_for_creation(request)
    user = User.objects.create(username="a")
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    request.session.save()
    later = make_request(request.session.session_key, user)
    assert {owner, f"user:{user.pk}"} <= identities(later)


def test_uploads_begun_at_once_in_a_fresh_session_belong_to_it() -> None:
    """Each request read the session before the other saved it; the last save wins."""
    key = make_session()
    requests = [make_request(key), make_request(key)]
    for request in requests:
        assert not list(request.session.keys())
    owners = [owner_for_creation(request) for request in requests]
    for request in requests:
        request.session.save()
    assert set(owners) <= identities(make_request(key))


def test_an_upload_stays_its_sessions_when_another_tab_saves_what_it_read_before() -> None:
    key = make_session()
    other_tab, request = make_request(key), make_request(key)
    other_tab.session["basket"] = [1]
    owner = owner_for_creation(request)
    request.session.save()
    other_tab.session.save()
    assert owner in identities(make_request(key))
    assert owner_for_creation(make_request(key)) == owner


def test_another_session_owns_nothing_of_it_and_the_owner_does_not_tell_its_key() -> None:
    key = make_session()
    owner = owner_for_creation(make_request(key))
    assert key not in owner
    assert not identities(make_request(make_session())) & {owner}
    assert not identities(make_request("x" * 32))
    assert not identities(make_request(owner.removeprefix("session:")))


def test_an_upload_is_used_by_its_owner_or_by_anybody_when_it_has_none() -> None:
    assert may_use("user:1", {"user:1", "session:x"})
    assert not may_use("user:1", {"user:2"})
    assert may_use("", set())


def test_a_token_client_is_authenticated_once(settings: Any) -> None:
    user = User.objects.create(username="token")
    calls: list[HttpRequest] = []

    def by_token(request: HttpRequest) -> User | None:
        calls.append(request)
        return user if request.headers.get("Authorization") else None

    settings.ASYNC_UPLOADS = {"AUTHENTICATE": by_token}
    request: Any = RequestFactory().post("/", headers={"Authorization": "Token x"})
    assert authenticate(request) == user
    assert owner_for_creation(request) == f"user:{user.pk}"
    assert request.user == user
    assert len(calls) == 1
    assert authenticate(make_request()).is_anonymous


def test_the_middleware_sets_the_request_while_it_is_served() -> None:
    seen: list[HttpRequest | None] = []

    def view(request: HttpRequest) -> HttpResponse:
        seen.append(current_request.get())
        return HttpResponse()

    request = RequestFactory().get("/")
    CurrentRequestMiddleware(view)(request)
    assert seen == [request]
    assert current_request.get() is None


def test_the_middleware_works_in_an_event_loop() -> None:
    seen: list[HttpRequest | None] = []

    async def view(request: HttpRequest) -> HttpResponse:
        seen.append(current_request.get())
        return HttpResponse()

    request = RequestFactory().get("/")
    middleware: Any = CurrentRequestMiddleware(view)
    assert asyncio.run(middleware(request)).status_code == 200
    assert seen == [request]
