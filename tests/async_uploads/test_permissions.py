"""Names of permissions, and whom they let in."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser

from async_uploads.permissions import has_permission, resolve_perm_name
from tests.testapp.models import Document


class User:
    """Has permissions in general, and others for one record."""

    def __init__(self, general: set[str] = frozenset(), of_record: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        self.general, self.of_record = general, of_record

    def has_perm(self, permission: str, record: object = None) -> bool:
        return permission in (self.general if record is None else self.of_record)


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("create", "testapp.add_document"),
        ("update", "testapp.change_document"),
        ("detail", "testapp.view_document"),
        ("publish", "testapp.publish_document"),
    ],
)
def test_names_are_those_of_django(action: str, expected: str) -> None:
    assert resolve_perm_name(Document, action, False) == expected


def name_it(model: Any, action: str, is_global: bool) -> str:
    return f"{model.__name__}:{action}:{is_global}"


def test_a_project_names_them_itself(settings: Any) -> None:
    settings.ASYNC_UPLOADS = {"RESOLVE_PERM_NAME": f"{__name__}.name_it"}
    assert resolve_perm_name(Document, "create", True) == "Document:create:True"


def test_no_permission_lets_everybody_in() -> None:
    assert has_permission(None, None)
    assert has_permission(AnonymousUser(), None)


def test_nobody_has_no_permission() -> None:
    assert not has_permission(None, "p")
    assert not has_permission(User(), "p", Document())


def test_a_permission_for_the_record_counts() -> None:
    assert has_permission(User(of_record={"p"}), "p", Document())
    assert not has_permission(User(of_record={"p"}), "p")


def test_a_general_permission_counts_for_each_record() -> None:
    assert has_permission(User(general={"p"}), "p", Document())
    assert has_permission(User(general={"p"}), "p")
