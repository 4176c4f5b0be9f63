"""Tokens: bound to a purpose, to a time, to a version."""

from __future__ import annotations

from typing import Any

import pytest
from django.core import signing as django_signing

from async_uploads.signing import BadSignature, SignatureExpired, sign, unsign


def test_a_token_gives_its_payload_back() -> None:
    assert unsign(sign({"key": "ключ", "n": 1}, "upload", 60), "upload") == {"key": "ключ", "n": 1}


def test_a_token_of_another_purpose_is_refused() -> None:
    with pytest.raises(BadSignature):
        unsign(sign({}, "upload", 60), "download")


@pytest.mark.parametrize("token", ["", "x", "a:b", "a:b:c"])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(BadSignature):
        unsign(token, "upload")


def test_a_changed_token_is_refused() -> None:
    token = sign({"key": "a"}, "upload", 60)
    with pytest.raises(BadSignature):
        unsign(token[:-1] + ("A" if token[-1] != "A" else "B"), "upload")


def test_a_token_whose_time_is_over_is_refused() -> None:
    with pytest.raises(SignatureExpired):
        unsign(sign({}, "upload", 0), "upload")


@pytest.mark.parametrize("envelope", [{"v": 2, "until": 9e12, "payload": {}}, [1], "text"])
def test_a_token_of_another_version_is_refused(envelope: Any) -> None:
    with pytest.raises(BadSignature):
        unsign(django_signing.dumps(envelope, salt="async_uploads.upload"), "upload")
