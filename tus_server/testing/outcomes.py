"""What a body must do to an upload: the rules of appending once more, as a table instead of a protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tus_server.effects import End


@dataclass(frozen=True)
class Sent:
    """A body on its way.

    Attributes:
        pieces: The sizes of what arrives, in bytes.
        missing: How many more bytes ``Content-Length`` promises than ever come.
        is_chunked: Whether there is no ``Content-Length``.
        end: How it ends after the last piece.
        checksum: Whether it carries a digest, and which.
    """

    pieces: tuple[int, ...]
    missing: int = 0
    is_chunked: bool = False
    end: End = "finished"
    checksum: Literal["right", "wrong"] | None = None

    @property
    def total(self) -> int:
        """How many bytes come."""
        return sum(self.pieces)

    @property
    def is_cut(self) -> bool:
        """Whether it does not come to its end."""
        return self.end != "finished" if self.is_chunked else self.missing > 0


@dataclass(frozen=True)
class Outcome:
    """The status that must be answered, and between which offsets the upload then stands. 500 is any 5xx."""

    status: int
    low: int
    high: int

    def allows(self, status: int) -> bool:
        """Say whether an answer's status is the one."""
        return status >= 500 if self.status == 500 else status == self.status


def expect(length: int | None, stored: int, offset: int, body: Sent, declared: int | None, max_size: int) -> Outcome:
    """Return what a PATCH must do to a living upload that nobody else uses.

    Args:
        length: The upload's length, if known.
        stored: Where it stands.
        offset: The request's ``Upload-Offset``.
        declared: The request's ``Upload-Length``, if any.
        max_size: The endpoint's limit.
    """
    end = next(one for one in (length, declared, max_size) if one is not None)
    refused = _refusal(length, stored, offset, declared, max_size)
    if refused is not None:
        return Outcome(refused, stored, stored)
    if not body.is_chunked and stored + body.total + body.missing > end:
        return Outcome(413, stored, stored)
    came = stored + body.total
    if came > end:
        # What came before the piece that went over the end is kept, but never the byte that would finish the upload.
        return Outcome(413, stored, stored if body.checksum else max(stored, end - 1))
    if body.is_cut:
        kept = min(came, max(stored, end - 1)) if body.is_chunked else came
        return Outcome(500, stored, stored) if body.checksum else Outcome(500, kept, kept)
    if body.checksum == "wrong":
        return Outcome(460, stored, stored)
    return Outcome(204, came, came)


def _refusal(length: int | None, stored: int, offset: int, declared: int | None, max_size: int) -> int | None:
    if offset != stored:
        return 409
    if declared is None:
        return None
    if length not in (None, declared) or declared < stored:
        return 400
    return 413 if declared > max_size else None
