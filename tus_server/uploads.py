"""The upload as a value: what is stored of it, and where it stands.

Values are frozen; a change makes a new value. Facts only: whether an upload is received or finished follows from them.
The offset is no part of the record, because it follows from what the backend has acknowledged.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from tus_server.headers import parse_metadata

#: What the engine's user may keep with an upload; the engine never looks inside.
Json: TypeAlias = "str | int | float | bool | None | list[Json] | dict[str, Json]"

_UPLOAD_ID = re.compile(r"[A-Za-z0-9_-]{16,64}", re.ASCII)


def generate_upload_id() -> str:
    """Return a new upload id: 32 characters safe in a URL and a file name, 192 random bits."""
    return secrets.token_urlsafe(24)


def is_upload_id(text: str) -> bool:
    """Say whether ``text`` could be an upload id: 16 to 64 of ``A-Z a-z 0-9 _ -``. Nothing else reaches a store."""
    return _UPLOAD_ID.fullmatch(text) is not None


@dataclass(frozen=True)
class UploadRecord:
    """What is stored of an upload besides its bytes.

    Attributes:
        id: The unguessable end of the upload's URL.
        object_name: Where the store keeps the bytes: a relative path or an object key.
        length: Declared length in bytes; ``None`` while it is deferred.
        metadata: ``Upload-Metadata`` as received, for the echo; empty when there was none.
        created_at: When it was created (aware).
        expires_at: When an unfinished or partial upload may be removed (aware); ``None`` for never. Moves with each
            accepted byte.
        finished_at: When its finished object was there and verified; ``None`` before.
        concat: ``Upload-Concat`` as received, for the echo; ``partial`` makes it a part of uploads to come.
        partials: The ids of the uploads that this one is made of, in order; empty for all others.
        max_size: The limit in bytes that a hook set for this upload; it matters while the length is deferred.
        facts: Whatever the hooks attached at creation. The engine carries it and never looks inside.
        state: What the keeper of the records read along for the keeper of the manifests; nobody else looks inside.
    """

    id: str
    object_name: str
    length: int | None
    metadata: str
    created_at: datetime
    expires_at: datetime | None = None
    finished_at: datetime | None = None
    concat: str = ""
    partials: tuple[str, ...] = ()
    max_size: int | None = None
    facts: Mapping[str, Json] = field(default_factory=dict)
    state: object = field(default=None, compare=False, repr=False)

    @property
    def is_partial(self) -> bool:
        """Whether it is only a part of uploads to come: no hook finishes it, and nobody takes it over."""
        return self.concat == "partial"

    @property
    def is_final(self) -> bool:
        """Whether it is made of other uploads, so that it takes no bytes of its own."""
        return bool(self.partials)

    @property
    def expiry(self) -> datetime | None:
        """When it may be removed as things stand: finished uploads stay, but for partial ones."""
        return self.expires_at if self.finished_at is None or self.is_partial else None

    def has_expired(self, now: datetime) -> bool:
        """Say whether it may be removed, by the clock alone."""
        return self.expiry is not None and self.expiry <= now


@dataclass(frozen=True)
class Upload:
    """An upload as it stands: its record, and how many bytes the backend has acknowledged (0 <= offset <= length)."""

    record: UploadRecord
    offset: int

    @property
    def id(self) -> str:
        """The upload's id."""
        return self.record.id

    @property
    def length(self) -> int | None:
        """The declared length in bytes, ``None`` while it is deferred."""
        return self.record.length

    @property
    def is_received(self) -> bool:
        """Whether every byte has come. Received is not finished: the object may still have to be synced or verified."""
        return self.length is not None and self.offset == self.length

    @property
    def is_finished(self) -> bool:
        """Whether the finished object is there, durable and verified."""
        return self.record.finished_at is not None

    def metadata_values(self) -> dict[str, bytes]:
        """Return the values of the metadata, which were checked at creation."""
        return parse_metadata(self.record.metadata)
