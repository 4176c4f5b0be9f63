"""Remote objects as files: what is asked for, and that it is the right bytes."""

from __future__ import annotations

import io
import random

import pytest

from async_uploads.storage.ranged import BLOCK, LARGEST_BLOCK, RangedFile

CONTENT = random.Random(1).randbytes(3 * BLOCK + 5)


def make(content: bytes = CONTENT, head: bytes = b"") -> tuple[RangedFile, list[tuple[int, int]]]:
    asked: list[tuple[int, int]] = []

    def fetch(start: int, count: int) -> bytes:
        asked.append((start, count))
        assert 0 <= start < start + count <= len(content)
        return content[start : start + count]

    return RangedFile(len(content), fetch, head), asked


def test_it_reads_like_a_file() -> None:
    remote, local, dice = make()[0], io.BytesIO(CONTENT), random.Random(2)
    for _ in range(300):
        match dice.randrange(3):
            case 0:
                count = dice.choice((0, 1, 100, BLOCK, 2 * BLOCK, len(CONTENT)))
                assert remote.read(count) == local.read(count)
            case 1:
                position = dice.randrange(len(CONTENT) + 10)
                assert remote.seek(position) == local.seek(position)
            case _:
                offset = -dice.randrange(len(CONTENT))
                assert remote.seek(offset, io.SEEK_END) == local.seek(offset, io.SEEK_END)
        assert remote.tell() == local.tell()
    remote.seek(0)
    assert remote.read() == CONTENT


def test_what_came_along_is_not_asked_for() -> None:
    remote, asked = make(head=CONTENT[:4096])
    assert remote.read(100) + remote.read(3996) == CONTENT[:4096]
    assert asked == []


def test_a_file_that_is_read_in_a_row_is_asked_for_in_growing_pieces() -> None:
    content = bytes(64 * 1024 * 1024)
    remote, asked = make(content)
    while remote.read(65536):
        pass
    assert len(asked) < 16
    assert max(count for _, count in asked) == LARGEST_BLOCK
    assert sum(count for _, count in asked) == len(content)


def test_an_empty_object_is_asked_for_nothing() -> None:
    remote, asked = make(b"")
    assert (remote.read(), asked) == (b"", [])


def test_an_object_that_became_shorter_is_an_error() -> None:
    remote = RangedFile(10, lambda start, count: b"12345"[start : start + count])
    assert remote.read(5) == b"12345"
    with pytest.raises(OSError, match="ends at 5 bytes"):
        remote.read(5)
