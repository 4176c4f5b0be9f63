"""What a state machine knows of an upload."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

State: TypeAlias = Literal["alive", "gone", "unsure"]


@dataclass
class Known:
    """What the machine knows of an upload.

    Attributes:
        content: What its client means to send, with more behind it than any upload takes.
        length: Its length, as far as it is declared.
        told: The highest offset that anybody was told, or that was seen stored.
        sent: Up to where bytes were ever sent.
        expires: The earliest and the latest time at which it may expire.
        started, finished: How often ``pre_finish`` and ``post_finish`` ran.
        is_disturbed: Whether a fault, a crash or another request met it.
        is_hook_lost: Whether the store recorded that it is finished and the engine never learned so.
        is_partial: Whether it is only a part of uploads to come.
        parts: What it is made of, in order, if it is made of others; one may come twice.
    """

    id: str
    content: bytes
    length: int | None
    expires: tuple[datetime, datetime]
    told: int = 0
    sent: int = 0
    started: int = 0
    finished: int = 0
    state: State = "alive"
    is_disturbed: bool = False
    is_hook_lost: bool = False
    is_partial: bool = False
    parts: tuple[Known, ...] = ()

    @property
    def parts_length(self) -> int | None:
        """How long its parts are together, ``None`` while that is not known of all."""
        lengths = [part.length for part in self.parts if part.length is not None]
        return sum(lengths) if len(lengths) == len(self.parts) else None

    @property
    def meant(self) -> bytes:
        """What its client means it to hold: nothing yet while a part of it is of unknown length."""
        if not self.parts:
            return self.content
        if self.parts_length is None:
            return b""
        return b"".join(part.content[: part.length] for part in self.parts)

    def is_of(self, upload_id: str | None) -> bool:
        """Say whether an upload is this one, or one of its parts."""
        return upload_id == self.id or any(upload_id == part.id for part in self.parts)
