"""Who may create, replace and read a field's file: names of permissions, and how a user is asked for them."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_permission_codename
from django.db import models

from async_uploads import conf

#: Our actions and Django's codenames.
CODENAMES = {"create": "add", "update": "change", "detail": "view", "delete": "delete"}


def resolve_perm_name(model: type[models.Model], action: str, is_global: bool) -> str:
    """Return the permission that an action on a model needs.

    ``ASYNC_UPLOADS["RESOLVE_PERM_NAME"]`` replaces this function.

    Args:
        model: The model that owns the field.
        action: ``create``, ``update`` or ``detail``.
        is_global: Whether no record is concerned (create).
    """
    replacement = conf.get_callable("RESOLVE_PERM_NAME")
    if replacement is not None:
        return str(replacement(model, action, is_global))
    codename = get_permission_codename(CODENAMES.get(action, action), model._meta)
    return f"{model._meta.app_label}.{codename}"


def has_permission(user: Any, permission: str | None, record: models.Model | None = None) -> bool:
    """Say whether a user has a permission, for a record or in general.

    Django's own backend says no to every question about a record, so a general permission counts for each record.

    Args:
        user: Any: a project's user model, anonymous or none at all.
        permission: ``None`` asks for nothing.
        record: ``None`` to create one.
    """
    if permission is None:
        return True
    if user is None:
        return False
    if record is not None and user.has_perm(permission, record):
        return True
    return bool(user.has_perm(permission))
