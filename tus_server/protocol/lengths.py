"""The length that a request declares, and the limits that it meets."""

from __future__ import annotations

from tus_server.errors import BadRequest, LengthRequired, TooLarge
from tus_server.headers import parse_content_length, parse_length
from tus_server.messages import Request
from tus_server.protocol.context import Context
from tus_server.uploads import UploadRecord


def body_length(request: Request) -> int | None:
    """Return the length of the request's body in bytes, ``None`` if only its end will tell.

    Raises:
        LengthRequired: There is a body, and the server below us cannot tell where it ends.
        BadRequest: ``Content-Length`` is malformed.
    """
    length = parse_content_length(request.headers.get("Content-Length"))
    if length is not None or request.knows_end:
        return length
    if request.headers.get("Transfer-Encoding"):
        raise LengthRequired()
    return 0


def declared_length(request: Request) -> int | None:
    """Return the ``Upload-Length`` of a creation, ``None`` when it is deferred.

    Raises:
        BadRequest: Neither is declared, both are, or one is malformed.
    """
    length, deferred = request.headers.get("Upload-Length"), request.headers.get("Upload-Defer-Length")
    if deferred is not None and deferred != "1":
        raise BadRequest("Upload-Defer-Length must be 1.", code="invalid_defer_length")
    if length is not None and deferred is not None:
        raise BadRequest("Upload-Length and Upload-Defer-Length exclude each other.", code="two_lengths")
    if length is None and deferred is None:
        raise BadRequest("Upload-Length or Upload-Defer-Length is required.", code="missing_header")
    return None if length is None else parse_length(length)


def size_limit(context: Context, record: UploadRecord) -> int | None:
    """Return the smallest limit in bytes that an upload must keep, ``None`` for no limit."""
    limits = [limit for limit in (context.config.max_size, record.max_size) if limit is not None]
    return min(limits, default=None)


def require_within(limit: int | None, size: int | None) -> None:
    """Refuse a size above a limit; either may be unknown.

    Raises:
        TooLarge: It is above; the error names the limit.
    """
    if limit is not None and size is not None and size > limit:
        raise TooLarge(limit, f"The file is too large: {size} bytes, at most {limit} are accepted.")
