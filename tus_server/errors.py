"""The one tree of errors that a tus request can end with.

A status is chosen by what the client will do: tus-js-client gives up on every 4xx but 409 and 423, so the client's
mistake is 4xx and our own trouble is 5xx or 423. Messages say what was expected and what came; codes are stable and
documented. Only ``engine`` turns an error into a response.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class TusError(Exception):
    """A request that ends with an error answer.

    Args:
        message: A short sentence for the person who reads the answer; the class's own when empty.
        code: A stable machine-readable name; the class's own when ``None``.
        headers: Headers added to the answer, such as ``Retry-After``.
    """

    status: ClassVar[int] = 500
    code: str = "internal"
    message: str = "The server met an error of its own."

    def __init__(self, message: str = "", *, code: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        self.message = message or type(self).message
        self.code = code or type(self).code
        self.headers: dict[str, str] = dict(headers or {})
        super().__init__(self.message)


class BadRequest(TusError):
    """The request is malformed; repeating it unchanged cannot help."""

    status = 400
    code = "bad_request"
    message = "The request is malformed."


class InvalidMetadata(BadRequest):
    """``Upload-Metadata`` is malformed, or one of its values is refused."""

    code = "invalid_metadata"
    message = "The Upload-Metadata header is malformed."


class Forbidden(TusError):
    """The client may not do this."""

    status = 403
    code = "forbidden"
    message = "This is not allowed."


class UploadNotFound(TusError):
    """No such upload, or not this client's: both answer alike."""

    status = 404
    code = "not_found"
    message = "There is no such upload."


class MethodNotAllowed(TusError):
    """The address does not take this method.

    Args:
        allowed: The methods that it takes, for ``Allow``.
    """

    status = 405
    code = "method_not_allowed"
    message = "This address does not take that method."

    def __init__(self, method: str, allowed: tuple[str, ...]) -> None:
        listed = ", ".join(allowed)
        super().__init__(f"This address does not take {method}; it takes {listed}.", headers={"Allow": listed})


class OffsetConflict(TusError):
    """The request's offset is not the upload's; nothing was changed.

    Args:
        offset: Where the upload stands, in bytes; sent as ``Upload-Offset``. ``None`` where it cannot be told.
    """

    status = 409
    code = "offset_conflict"
    message = "The upload stands at another offset."

    def __init__(self, offset: int | None, message: str = "", *, code: str | None = None) -> None:
        self.offset = offset
        if offset is None:
            super().__init__(message, code=code)
            return
        super().__init__(
            message or f"The upload stands at offset {offset}.", code=code, headers={"Upload-Offset": str(offset)}
        )


class UploadGone(TusError):
    """The upload existed and is no more: expired, terminated, or its bytes are lost."""

    status = 410
    code = "gone"
    message = "The upload is gone."


class LengthRequired(TusError):
    """The server below us cannot tell where a body without Content-Length ends."""

    status = 411
    code = "length_required"
    message = "This server takes no body without Content-Length."


class VersionMismatch(TusError):
    """``Tus-Resumable`` is missing or names a version that we do not speak."""

    status = 412
    code = "version_mismatch"
    message = "The header Tus-Resumable must be 1.0.0."

    def __init__(self, message: str = "") -> None:
        super().__init__(message, headers={"Tus-Version": "1.0.0"})


class TooLarge(TusError):
    """The upload, or the body of this request, exceeds a limit.

    Args:
        limit: The limit in bytes that was exceeded.
    """

    status = 413
    code = "too_large"
    message = "The file is too large."

    def __init__(self, limit: int, message: str = "") -> None:
        self.limit = limit
        super().__init__(message or f"At most {limit} bytes are accepted.")


class UnsupportedMediaType(TusError):
    """The body's Content-Type is not the one that tus prescribes."""

    status = 415
    code = "unsupported_media_type"
    message = "The Content-Type must be application/offset+octet-stream."


class Locked(TusError):
    """Another request holds the upload and did not let go in time; nothing was changed."""

    status = 423
    code = "locked"
    message = "Another request is writing to this upload."

    def __init__(self, message: str = "", *, retry_after: int = 1) -> None:
        super().__init__(message, headers={"Retry-After": str(retry_after)})


class ChecksumMismatch(TusError):
    """The body does not have the digest that the request declared; none of it was kept."""

    status = 460
    code = "checksum_mismatch"
    message = "The data does not match its checksum. None of it was kept."


class InternalError(TusError):
    """An error of ours that nobody foresaw; the log has its traceback."""


class StoreUnavailable(TusError):
    """The store, or what it needs, cannot serve right now; the client should try again."""

    status = 503
    code = "unavailable"
    message = "The server cannot do this right now."

    def __init__(self, message: str = "", *, code: str | None = None, retry_after: int = 1) -> None:
        super().__init__(message, code=code, headers={"Retry-After": str(retry_after)})


class BodyIncomplete(StoreUnavailable):
    """The body ended before its declared length; what arrived is kept. Most likely the network's fault: try again."""

    code = "body_incomplete"
    message = "The request's body ended early. What arrived is kept."


class BodyIdle(StoreUnavailable):
    """The body brought no byte for the idle timeout; what arrived is kept. (408 would make tus-js-client give up.)"""

    code = "idle"
    message = "No data came for too long. What arrived is kept."


class Draining(StoreUnavailable):
    """The server is going down, so bodies are ended; what arrived is kept. The next request meets another process."""

    code = "draining"
    message = "The server is restarting. What arrived is kept."


class StorageFull(TusError):
    """No space is left for the bytes; what was written before is kept."""

    status = 507
    code = "storage_full"
    message = "The server has no space left. What arrived is kept."
