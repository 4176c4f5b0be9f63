"""The form with which a browser sends a file straight to S3: one POST, whose policy fixes everything but the bytes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

logger = logging.getLogger("async_uploads.storage")

#: What a client may add to its form; everything else needs a condition by the project.
HARMLESS = ("success_action_status",)
HARMLESS_PREFIX = "x-amz-meta-"

#: Parameters of ``put_object`` that temporary objects have too, with the fields' names in a form.
ENCRYPTION_FIELDS = {
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
    "SSEKMSEncryptionContext": "x-amz-server-side-encryption-context",
    "BucketKeyEnabled": "x-amz-server-side-encryption-bucket-key-enabled",
}


def build_form(
    own: Mapping[str, str], asked: Mapping[str, Any], conditions: Iterable[Any]
) -> tuple[dict[str, str], list[Any]]:
    """Return the fields of a form, and the conditions of its policy: each field with exactly this value.

    Args:
        own: What the storage fixes; nobody else's value counts for these.
        asked: Further fields; most come from clients (the reference's ``params``). Those that could change who may read
            the object, or where its sender is sent to, count only where a condition of the project speaks of them.
        conditions: Those of the project: ``["content-length-range", 0, 5]``, ``["starts-with", "$x", ""]``,
            ``{"x": "y"}``.
    """
    conditions = list(conditions)
    spoken_of = {name for condition in conditions for name in _names_in(condition)}
    fixed = {name.lower() for name in own}
    fields = dict(own)
    for name, value in asked.items():
        lowered = str(name).lower()
        if lowered in fixed:
            continue
        if lowered in HARMLESS or lowered.startswith(HARMLESS_PREFIX) or lowered in spoken_of:
            fields[str(name)] = str(value)
        else:
            logger.warning("The form field %.100r of an upload was left out: no condition speaks of it", name)
    exact: list[Any] = [{name: value} for name, value in fields.items()]
    kept = [condition for condition in conditions if not (set(_names_in(condition)) & fixed and _is_open(condition))]
    return fields, exact + [condition for condition in kept if condition not in exact]


def _names_in(condition: Any) -> list[str]:
    """Return the form fields that a condition speaks of, in lower case."""
    if isinstance(condition, Mapping):
        return [str(name).lower() for name in condition]
    if isinstance(condition, Sequence) and len(condition) == 3 and str(condition[1]).startswith("$"):
        return [str(condition[1])[1:].lower()]
    return []


def _is_open(condition: Any) -> bool:
    """Say whether a condition is one that every value fulfils."""
    return not isinstance(condition, Mapping) and condition[0] == "starts-with" and condition[2] == ""
