"""Parsing and building of the headers that tus uses: ``parse_x`` and ``build_x`` are inverses.

Everything that arrives here is hostile. Numbers are ASCII digits and nothing else: Python's ``int`` would also take
``+0``, ``0_0``, blanks and digits of other scripts. No parser knows a request, a store or a server.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

from tus_server.errors import BadRequest, InvalidMetadata

TUS_VERSION = "1.0.0"
OFFSET_MEDIA_TYPE = "application/offset+octet-stream"
#: No upload can be larger, in bytes: what the databases and file systems below count with.
MAX_LENGTH = 2**63 - 1

_DIGITS = re.compile(r"[0-9]+", re.ASCII)
_METADATA_KEY = re.compile(r"[\x21-\x2b\x2d-\x7e]+", re.ASCII)
_MAX_DIGITS = 200
_URL = re.compile(r"[\x21-\x7e]+", re.ASCII)


class Headers:
    """The headers of a request: names in any case, several lines of one name joined by ``,``.

    WSGI servers join repeated lines before we see them, ASGI servers do not; joining here makes both alike, so that a
    header that must be single (``Upload-Offset: 3`` and ``7``) is refused by its parser either way.
    """

    __slots__ = ("_values",)

    def __init__(self, items: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, str] = {}
        for name, value in items:
            name, value = name.lower(), value.strip(" \t")
            self._values[name] = f"{self._values[name]},{value}" if name in self._values else value

    def get(self, name: str) -> str | None:
        """Return the value of ``name``, or ``None`` when the request has no such header."""
        return self._values.get(name.lower())

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._values

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._values.items())


def _parse_number(name: str, text: str) -> int:
    if not _DIGITS.fullmatch(text) or len(text) > _MAX_DIGITS:
        raise BadRequest(f"{name} must be a non-negative decimal number.", code="invalid_number")
    return int(text)


def parse_offset(text: str | None) -> int:
    """Parse ``Upload-Offset``: a number of bytes, 0 or more; it may exceed any upload.

    Raises:
        BadRequest: The header is missing or is not ``[0-9]+``.
    """
    if text is None:
        raise BadRequest("The header Upload-Offset is missing.", code="missing_header")
    return _parse_number("Upload-Offset", text)


def parse_length(text: str) -> int:
    """Parse ``Upload-Length``: a number of bytes from 0 to 2^63 - 1.

    Raises:
        BadRequest: It is not ``[0-9]+``, or larger than any store can hold.
    """
    length = _parse_number("Upload-Length", text)
    if length > MAX_LENGTH:
        raise BadRequest(f"Upload-Length must be at most {MAX_LENGTH}.", code="invalid_number")
    return length


def parse_content_length(text: str | None) -> int | None:
    """Parse ``Content-Length``; ``None`` when there is none (WSGI servers also say so with an empty string).

    Raises:
        BadRequest: It is not ``[0-9]+``.
    """
    return None if not text else _parse_number("Content-Length", text)


def is_offset_media_type(text: str | None) -> bool:
    """Say whether a Content-Type is tus' own, in any case and without parameters (checklist, AMB-02)."""
    return text is not None and text.strip().lower() == OFFSET_MEDIA_TYPE


def parse_metadata(text: str) -> dict[str, bytes]:
    """Parse ``Upload-Metadata`` into its values, in the order they came.

    Pairs are separated by commas, key and value by one blank; a key alone, with or without a trailing blank, has the
    empty value. Blanks after a comma are tolerated (checklist, AMB-09). Values are bytes: nothing says they are text.

    Raises:
        InvalidMetadata: An empty pair, a key that is not visible ASCII, a key twice, or a value that is not Base64.
    """
    values: dict[str, bytes] = {}
    if not text:
        return values
    for pair in text.split(","):
        key, _, encoded = pair.lstrip(" ").partition(" ")
        if not _METADATA_KEY.fullmatch(key):
            raise InvalidMetadata("Upload-Metadata has an empty or non-ASCII key.")
        if key in values:
            raise InvalidMetadata(f"Upload-Metadata has the key {key!r} twice.")
        try:
            values[key] = base64.b64decode(encoded.encode("ascii"), validate=True)
        except (binascii.Error, ValueError):
            raise InvalidMetadata(f"The value of {key!r} in Upload-Metadata is not Base64.") from None
    return values


def build_metadata(values: Mapping[str, bytes | str]) -> str:
    """Build ``Upload-Metadata`` from its values; text is encoded as UTF-8, an empty value leaves the key alone."""
    pairs = []
    for key, value in values.items():
        data = value.encode() if isinstance(value, str) else value
        pairs.append(f"{key} {base64.b64encode(data).decode('ascii')}" if data else key)
    return ",".join(pairs)


def parse_concat(text: str) -> tuple[str, ...]:
    """Parse ``Upload-Concat``: the URLs of ``final;URL URL``, as the client wrote them; none for ``partial``.

    Raises:
        BadRequest: It is neither, it names no URL, or a URL has something other than visible ASCII in it.
    """
    if text == "partial":
        return ()
    kind, _, listed = text.partition(";")
    urls = tuple(url for url in listed.split(" ") if url)
    if kind != "final" or not urls or not all(_URL.fullmatch(url) for url in urls):
        raise BadRequest(
            "Upload-Concat must be 'partial', or 'final;' and URLs with blanks between.", code="invalid_concat"
        )
    return urls


def build_concat(urls: Iterable[str] = ()) -> str:
    """Build ``Upload-Concat`` for an upload made of others, or for a partial one when there are none."""
    listed = " ".join(urls)
    return f"final;{listed}" if listed else "partial"


def build_http_date(moment: datetime) -> str:
    """Build an IMF-fixdate (RFC 9110 section 5.6.7), in GMT and English whatever the locale, from an aware time."""
    return format_datetime(moment.astimezone(UTC).replace(microsecond=0), usegmt=True)


def parse_http_date(text: str) -> datetime:
    """Parse an IMF-fixdate into an aware time.

    Raises:
        BadRequest: It is not a date.
    """
    try:
        return parsedate_to_datetime(text).astimezone(UTC)
    except (TypeError, ValueError):
        raise BadRequest("The date is malformed.", code="invalid_date") from None
