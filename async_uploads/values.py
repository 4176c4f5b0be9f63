"""What a form, a serializer or a person's code says about an upload, parsed and bounded; and names of files.

Hostile input is reduced to plain values here, so that it can be reviewed in one sitting. No database is asked.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

#: Limit of MiB and of the column's length, unless the field says otherwise (names of the reference).
default_max_size = 100
default_max_length = 500

MAX_TEXT = 16 * 1024
MAX_NAME = 255
MAX_DIMENSION = 2**31 - 1

_NOT_STORABLE = re.compile("[\x00\ud800-\udfff]")
_NOT_PORTABLE = re.compile(r"[^A-Za-z0-9._-]+")


class MalformedValue(ValueError):
    """A posted value is not what a file field takes."""

    def __init__(self, message: str = "Bad input for file field") -> None:
        super().__init__(message)


@dataclass(frozen=True)
class AsyncFileInputData:
    """What the browser says about an upload; assign it to a model's field.

    Attributes:
        key: The upload's key; its id or its tus URL are taken too. Empty only together with ``error``.
        name: The file's true name, for display.
        width, height: Pixels of an image, a hint.
        error: What went wrong in the browser, if something did.
    """

    key: str
    name: str | None = None
    width: int | None = None
    height: int | None = None
    error: str | None = None


def parse_value(raw: object) -> AsyncFileInputData | None:
    """Return what was posted for a file field.

    Args:
        raw: JSON text, a mapping, a bare key, upload id or tus URL, or a parsed value; unknown members are ignored.

    Returns:
        ``None`` for nothing (``None``, empty text, JSON ``null``).

    Raises:
        MalformedValue: It is something else.
    """
    if raw is None or isinstance(raw, AsyncFileInputData):
        return raw
    if isinstance(raw, Mapping):
        return _parse_members(raw)
    if not isinstance(raw, str) or len(raw) > MAX_TEXT or not is_storable(raw):
        raise MalformedValue
    text = raw.strip()
    if not text or text == "null":
        return None
    if text[0] not in '{["':
        return AsyncFileInputData(key=_check_key(text))
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedValue from error
    if isinstance(parsed, str):
        return AsyncFileInputData(key=_check_key(parsed)) if parsed else None
    if not isinstance(parsed, Mapping):
        raise MalformedValue
    return _parse_members(parsed) if parsed else None


def is_storable(text: str) -> bool:
    """Say whether every database can take a text: it has no NUL and no half of a surrogate pair."""
    return not _NOT_STORABLE.search(text)


def _parse_members(members: Mapping[object, object]) -> AsyncFileInputData:
    error = _parse_text(members.get("error"))
    key = members.get("key")
    if error and not key:
        return AsyncFileInputData(key="", name=_parse_text(members.get("name")), error=error)
    return AsyncFileInputData(
        key=_check_key(key),
        name=_parse_text(members.get("name")),
        width=_parse_dimension(members.get("width")),
        height=_parse_dimension(members.get("height")),
        error=error,
    )


def _check_key(key: object) -> str:
    if not isinstance(key, str) or not key or len(key) > 2048 or not is_storable(key):
        raise MalformedValue
    return key


def _parse_text(value: object) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not is_storable(value):
        raise MalformedValue
    return value[:1000]


def _parse_dimension(value: object) -> int | None:
    """A hint is worth no refusal: whatever is no pixel count is no hint."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if value == value and 0 < value <= MAX_DIMENSION and int(value) == value else None


def clean_filename(filename: str) -> str:
    """Return the true name of a file: the last part of a path, without control characters; any script stays.

    Raises:
        ValueError: Nothing is left, or more than 255 characters are.
    """
    name = filename.replace("\\", "/").rsplit("/", 1)[-1]
    name = "".join(c for c in name if unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp")).strip()
    if name in ("", ".", ".."):
        raise ValueError("The file has no usable name.")
    if len(name) > MAX_NAME:
        raise ValueError(f"The file's name has {len(name)} characters. At most {MAX_NAME} are accepted.")
    return name


def reduce_name(filename: str) -> str:
    """Return a file's name reduced to ASCII letters, digits, ``.``, ``_`` and ``-``, for a key; never empty."""
    plain = unicodedata.normalize("NFKD", filename.replace("\\", "/").rsplit("/", 1)[-1])
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    root, dot, extension = plain.rpartition(".")
    if not dot or not root:
        root, extension = plain.strip("."), ""
    root = _NOT_PORTABLE.sub("_", root).strip("._-")
    extension = _NOT_PORTABLE.sub("", extension)[:20]
    return f"{root or 'file'}.{extension}" if extension else root or "file"


def truncate_name(name: str, length: int) -> str:
    """Return a name of at most ``length`` characters, shortened before its extension.

    Raises:
        ValueError: Not even the extension and one more character fit.
    """
    if len(name) <= length:
        return name
    root, dot, extension = name.rpartition(".")
    ending = dot + extension if root else ""
    room = length - len(ending)
    if room < 1:
        raise ValueError(f"{length} characters are too few for a name ending in {ending!r}.")
    return (root if root else name)[:room] + ending
