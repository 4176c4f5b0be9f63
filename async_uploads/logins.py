"""Session and user of a request, read by the queries that Django makes for them, compiled once.

Only what is as Django ships it is read here: a session in the database, a user of its ``ModelBackend`` and manager. And
only what Django would accept: a session that is alive, a user who is active, the session's hash of the present password
and key. Everything else is left unread, for Django to look at, to refuse and to clean up.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from django.conf import settings
from django.contrib.auth import (
    BACKEND_SESSION_KEY,
    HASH_SESSION_KEY,
    SESSION_KEY,
    get_user_model,
)
from django.contrib.sessions.backends.db import SessionStore
from django.core.exceptions import ValidationError
from django.db import models, router
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django.utils.functional import SimpleLazyObject

from async_uploads.statements import Select, slot

_MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"


def read(request: HttpRequest) -> None:
    """Read a request's session and user, where nobody has done so yet."""
    # Any: the attributes are put there by Django's middleware, or another one's.
    session: Any = getattr(request, "session", None)
    if type(session) is not SessionStore or "_session_cache" in vars(session) or not _read_session(session):
        return
    if type(vars(request).get("user")) is SimpleLazyObject and not hasattr(request, "_cached_user"):
        user = _find_user(session)
        if user is not None:
            # Where Django's middleware keeps the user that it has found.
            request._cached_user = user  # type: ignore[attr-defined]  # private; missing in the stubs


def _read_session(session: Any) -> bool:
    if session.session_key is None:
        return False
    select = _select_session(session.model)
    now, using = timezone.now(), router.db_for_read(session.model)
    row = select.first(using, session_key=session.session_key, expire_date=now)
    if row is None:
        return False
    session._session_cache = session.decode(row.session_data)
    return True


def _find_user(session: Any) -> Any:
    """Return a session's user as ``django.contrib.auth.get_user`` does, ``None`` where that has more to look at."""
    if session.get(BACKEND_SESSION_KEY) != _MODEL_BACKEND or _MODEL_BACKEND not in settings.AUTHENTICATION_BACKENDS:
        return None
    from django.contrib.auth.models import AbstractBaseUser, UserManager  # here the app is installed

    # Any: a project's user model may be anything.
    model: Any = get_user_model()
    known = session.get(HASH_SESSION_KEY)
    if not issubclass(model, AbstractBaseUser) or type(model._default_manager) is not UserManager or not known:
        return None
    try:
        key = model._meta.pk.to_python(session[SESSION_KEY])
    except (KeyError, ValidationError):
        return None
    user = _select_user(model).first(router.db_for_read(model), **{model._meta.pk.attname: key})
    if user is None or not user.is_active:
        return None
    return user if constant_time_compare(known, user.get_session_auth_hash()) else None


@cache
def _select_session(model: type[models.Model]) -> Select[Any]:
    key, now = slot(model, "session_key"), slot(model, "expire_date")
    return Select(lambda: model._default_manager.filter(session_key=key, expire_date__gt=now))


@cache
def _select_user(model: type[models.Model]) -> Select[Any]:
    key = slot(model, model._meta.pk.attname)
    return Select(lambda: model._default_manager.filter(pk=key))
