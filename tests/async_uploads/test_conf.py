"""The settings dictionary: read when needed, with defaults."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from async_uploads import conf


def test_a_setting_that_the_project_does_not_make_has_its_default() -> None:
    assert conf.get("UPLOAD_URL_EXPIRY") == 3600
    assert conf.get("DURABILITY") == "data"
    assert conf.get("UPLOAD_LIFETIME") == timedelta(days=7)


def test_settings_are_read_at_call_time(settings: Any) -> None:
    settings.ASYNC_UPLOADS = {"UPLOAD_URL_EXPIRY": 5}
    assert conf.get("UPLOAD_URL_EXPIRY") == 5
    assert conf.get("DOWNLOAD_URL_EXPIRY") == 3600


def test_an_unknown_name_is_a_mistake_of_the_code(settings: Any) -> None:
    settings.ASYNC_UPLOADS = {"UNKNOWN": 1}
    with pytest.raises(KeyError):
        conf.get("UNKNOWN")


def test_what_is_no_dictionary_counts_as_nothing(settings: Any) -> None:
    settings.ASYNC_UPLOADS = None
    assert conf.get("IDLE_TIMEOUT") == 60


@pytest.mark.parametrize("value", [timedelta(seconds=90), 90])
def test_a_duration_is_a_timedelta_or_seconds(settings: Any, value: object) -> None:
    settings.ASYNC_UPLOADS = {"UPLOAD_LIFETIME": value}
    assert conf.get_duration("UPLOAD_LIFETIME") == timedelta(seconds=90)


def test_a_function_is_named_by_its_path_or_given_itself(settings: Any) -> None:
    assert conf.get_callable("AUTHENTICATE") is None
    settings.ASYNC_UPLOADS = {"AUTHENTICATE": "async_uploads.conf.get", "RESOLVE_PERM_NAME": len}
    assert conf.get_callable("AUTHENTICATE") is conf.get
    assert conf.get_callable("RESOLVE_PERM_NAME") is len
