"""Ids of staged blocks: start, size and the writer, so that a list of them can be put in order and trusted.

All ids of a blob must have the same length, at most 64 bytes; the SDK encodes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from tus_server.stores.manifests import Segment

_ID = re.compile(r"([0-9]{16})-([0-9]{10})-([0-9]{10})", re.ASCII)


@dataclass(frozen=True)
class Block:
    """A block of an upload.

    Attributes:
        start: Where in the upload it begins, in bytes.
        size: In bytes, at least 1.
        revision: The manifest's, when its writer began to send; no two writers have the same.
    """

    start: int
    size: int
    revision: int

    @property
    def id(self) -> str:
        """Its name at the service."""
        return f"{self.start:016d}-{self.size:010d}-{self.revision:010d}"

    @property
    def end(self) -> int:
        """Where the next one begins."""
        return self.start + self.size

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the block with this id; ``None`` for an id that is not ours."""
        match = _ID.fullmatch(text)
        return cls(*map(int, match.groups())) if match else None


def mark_writer(tail: Sequence[Segment], end: int, revision: int) -> tuple[Segment, ...]:
    """Return a tail that names its writer: only what that one sent beyond the manifest is adopted after a crash.

    A writer that was overtaken goes on for a moment; its blocks lie beside the others and must never count.

    Args:
        tail: What waits in the manifest.
        end: Where it ends, in bytes.
        revision: What the writer's blocks bear.
    """
    return (*drop_writer(tail), Segment(end, 0, name=str(revision)))


def drop_writer(tail: Sequence[Segment]) -> tuple[Segment, ...]:
    """Return what waits in the manifest, without the name of a writer."""
    return tuple(segment for segment in tail if segment.size)


def find_writer(tail: Sequence[Segment]) -> int | None:
    """Return what the blocks bear of the writer that a tail names."""
    return next((int(segment.name) for segment in tail if not segment.size), None)


def find_following(listed: Mapping[str, int], end: int, writer: int | None, length: int | None) -> list[Block]:
    """Return the blocks that a writer sent beyond what is recorded, as far as they follow without a hole.

    Args:
        listed: Ids of uncommitted blocks, and their sizes in bytes as the service says.
        end: Where the recorded blocks end.
        writer: What the writer's blocks bear.
        length: Of the upload, if known; what reaches beyond it is not ours.
    """
    found = [block for name, size in listed.items() if (block := Block.parse(name)) and block.size == size]
    by_start = {block.start: block for block in found if block.revision == writer}
    following = []
    while (block := by_start.get(end)) is not None and (length is None or block.end <= length):
        following.append(block)
        end = block.end
    return following


def count_present(recorded: Iterable[str], listed: Mapping[str, int]) -> tuple[int, int]:
    """Return how many recorded blocks, from the first on, the service still has, and where they end."""
    count = end = 0
    for text in recorded:
        block = Block.parse(text)
        if block is None or listed.get(text) != block.size:
            break
        count, end = count + 1, block.end
    return count, end
