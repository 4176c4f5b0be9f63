"""Tokens in URLs: a signed, expiring dictionary, bound to one purpose. The format carries a version."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from django.core import signing
from django.core.signing import BadSignature, SignatureExpired

__all__ = ["BadSignature", "SignatureExpired", "sign", "unsign"]

VERSION = 1


def sign(payload: Mapping[str, Any], purpose: str, expires: int) -> str:  # Any: JSON values
    """Return a URL-safe token of a JSON-able payload that is valid for ``expires`` seconds."""
    envelope = {"v": VERSION, "until": int(time.time()) + expires, "payload": dict(payload)}
    return signing.dumps(envelope, salt=f"async_uploads.{purpose}")


def unsign(token: str, purpose: str) -> dict[str, Any]:
    """Return a token's payload.

    Raises:
        BadSignature: It was not made by ``sign`` for this purpose; ``SignatureExpired`` when its time is over.
    """
    envelope = signing.loads(token, salt=f"async_uploads.{purpose}")
    if not isinstance(envelope, dict) or envelope.get("v") != VERSION:
        raise BadSignature("The token's version is unknown.")
    if envelope["until"] <= time.time():
        raise SignatureExpired("The token's time is over.")
    payload: dict[str, Any] = envelope["payload"]
    return payload
