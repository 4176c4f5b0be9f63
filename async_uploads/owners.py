"""Whose upload it is: the user, else the session, else nobody.

A session owns by a token that is derived from its key, so that requests which come at once get the same, whoever saves
the session last. The token also goes into the session's data, because login changes the key.

An upload without an owner belongs to whoever knows its URL. "Not yours" and "unknown" must answer alike everywhere.
Sessions are only read here, except at creation.
"""

from __future__ import annotations

from collections.abc import Collection
from contextvars import ContextVar
from typing import Any

from django.http import HttpRequest
from django.utils.crypto import salted_hmac

from async_uploads import conf, logins

#: Where the token lies in the session's data; it survives login, which changes the session's key.
OWNER_SESSION_KEY = "async_uploads_owner"

#: The request being served, where ``middleware.CurrentRequestMiddleware`` is installed.
current_request: ContextVar[HttpRequest | None] = ContextVar("async_uploads_current_request", default=None)

_AUTHENTICATED = "_async_uploads_user"


def authenticate(request: HttpRequest) -> Any:
    """Return the request's user, by ``ASYNC_UPLOADS["AUTHENTICATE"]`` where that knows one; asked once per request.

    Returns:
        Any: a project's user model; anonymous, or ``None`` without ``django.contrib.auth``.
    """
    if not hasattr(request, _AUTHENTICATED):
        function = conf.get_callable("AUTHENTICATE")
        user = function(request) if function is not None else None
        if user is not None:
            request.user = user
        else:
            logins.read(request)
        setattr(request, _AUTHENTICATED, user)
    return getattr(request, _AUTHENTICATED) or getattr(request, "user", None)


def _user_identity(request: HttpRequest) -> str:
    user = authenticate(request)
    if user is None or not user.is_authenticated:
        return ""
    return f"user:{user.pk}"


def identities(request: HttpRequest) -> frozenset[str]:
    """Return everything that this request's client can own uploads as."""
    found = {_user_identity(request)}
    session = getattr(request, "session", None)
    if session is not None and session.session_key is not None:
        token = session.get(OWNER_SESSION_KEY)
        if token:
            found.add(f"session:{token}")
        # Also where another request has saved the session since, with the data that it had read before.
        if session.session_key is not None:  # else reading found that the client's session does not exist
            found.add(f"session:{_derive_token(session.session_key)}")
    return frozenset(found - {""})


def _derive_token(session_key: str) -> str:
    """Return the same token for the same session, from which nobody learns its key."""
    return salted_hmac("async_uploads.owners", session_key, algorithm="sha256").hexdigest()


def owner_for_creation(request: HttpRequest) -> str:
    """Return who owns an upload created by this request, at most 255 characters; empty for nobody.

    Adds a token to the session's data where the client came with a session and is no user.
    """
    owner = _user_identity(request)
    if owner:
        return owner[:255]
    session = getattr(request, "session", None)
    if session is None or session.session_key is None:
        return ""
    token = session.get(OWNER_SESSION_KEY)
    if session.session_key is None:  # reading found that the client's session does not exist
        return ""
    if not token:
        token = _derive_token(session.session_key)
        session[OWNER_SESSION_KEY] = token
    return f"session:{token}"


def may_use(row_owner: str, client: Collection[str]) -> bool:
    """Say whether a client with these identities may use an upload of this owner."""
    return not row_owner or row_owner in client
