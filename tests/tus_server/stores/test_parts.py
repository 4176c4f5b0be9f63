"""The arithmetic of parts: sizes, the grid, the pieces of a concatenation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tus_server.parts import GIB, MIB, S3_LIMITS, PartLimits, choose_part_size, count_following, next_piece

TIB = 1024 * GIB


@pytest.mark.parametrize(
    ("length", "expected", "size"),
    [
        (0, None, 8 * MIB),
        (1, 1, 8 * MIB),
        (8 * MIB, 8 * MIB, 8 * MIB),
        (8 * MIB, 5 * MIB, 8 * MIB),  # one PutObject in the end, whatever the chunks
        (GIB, None, 8 * MIB),
        (GIB, GIB, 8 * MIB),  # all of it in one request is no chunk
        (GIB, 8 * MIB, 8 * MIB),
        (GIB, 5 * MIB, 5 * MIB),
        (GIB, 6 * MIB, 6 * MIB),
        (GIB, 10 * MIB, 10 * MIB),  # nearer to 8 MiB than 5 is
        (GIB, 12 * MIB, 6 * MIB),
        (GIB, 20 * MIB, 10 * MIB),
        (GIB, 64 * MIB, 8 * MIB),
        (GIB, 1 * MIB, 8 * MIB),
        (GIB, 5 * MIB - 1, 8 * MIB),
        (GIB, 7_000_003, 7_000_003),
        (74 * GIB, None, 8 * MIB),
        (75 * GIB, None, 9 * MIB),
        (75 * GIB, 8 * MIB, 9 * MIB),  # 8 MiB would be too many parts
        (75 * GIB, 64 * MIB, 16 * MIB),
        (5 * TIB, None, 552 * MIB),
        (40 * TIB, None, 4416 * MIB),
    ],
)
def test_the_part_size_follows_from_length_and_chunks(length: int, expected: int | None, size: int) -> None:
    assert choose_part_size(length, expected=expected) == size


@pytest.mark.parametrize(
    ("max_size", "expected", "size"),
    [
        (None, None, 14 * MIB),
        (1000, None, 8 * MIB),
        (5 * TIB, None, 552 * MIB),
        (None, 8 * MIB, 14 * MIB),  # 8 MiB would not do for 128 GiB
        (None, 64 * MIB, 16 * MIB),
        (GIB, 8 * MIB, 8 * MIB),
    ],
)
def test_without_a_length_the_limit_decides(max_size: int | None, expected: int | None, size: int) -> None:
    assert choose_part_size(None, max_size=max_size, expected=expected) == size


@given(length=st.integers(0, 45 * TIB), chunk=st.none() | st.integers(1, 2 * GIB), most=st.sampled_from([1000, 10_000]))
def test_no_upload_has_too_many_parts_or_one_of_a_wrong_size(length: int, chunk: int | None, most: int) -> None:
    limits = PartLimits(most=most)
    length = min(length, limits.largest * limits.planned)
    size = choose_part_size(length, expected=chunk, limits=limits)
    assert limits.smallest <= size <= limits.largest
    assert -(-length // size) <= limits.planned + 1 <= most
    whole = choose_part_size(length, limits=limits)
    assert size == whole or (chunk is not None and chunk % size == 0), "no tails, or the usual size"


@pytest.mark.parametrize(
    ("listed", "known", "length", "count"),
    [
        ([], 0, None, 0),
        ([(1, 10)], 0, None, 1),
        ([(2, 10), (1, 10)], 0, None, 2),
        ([(2, 10)], 0, None, 0),  # a hole
        ([(1, 10), (3, 10)], 0, None, 1),
        ([(1, 10), (2, 9), (3, 10)], 0, None, 1),  # not on the grid
        ([(3, 10), (4, 10)], 2, None, 2),
        ([(1, 10), (2, 4)], 0, 14, 2),  # the remainder
        ([(1, 10), (2, 5)], 0, 14, 1),
        ([(1, 10), (2, 10)], 0, 14, 1),
        ([(1, 10), (2, 10), (3, 10)], 0, 20, 2),  # beyond the end
        ([(1, 10), (2, 4)], 0, None, 1),
    ],
)
def test_parts_of_a_dead_writer_are_adopted_while_they_follow(
    listed: list[tuple[int, int]], known: int, length: int | None, count: int
) -> None:
    assert count_following(listed, known, 10, length) == count


@given(
    sizes=st.lists(st.integers(0, 200), min_size=1, max_size=12),
    copy_size=st.integers(20, 100),
)
def test_a_concatenation_is_made_of_pieces_that_are_parts(sizes: list[int], copy_size: int) -> None:
    limits = PartLimits(smallest=10, largest=100, most=1000, usual=10)
    contents = [bytes([number]) * size for number, size in enumerate(sizes)]
    total, position, made = sum(sizes), 0, b""
    while position < total:
        ranges = next_piece(sizes, position, limits, copy_size)
        count = sum(each.count for each in ranges)
        assert all(each.count > 0 for each in ranges)
        assert count >= limits.smallest or position + count == total, "too small for a part that is not the last"
        if len(ranges) > 1:
            assert count < 3 * limits.smallest, "too much through memory"
        else:
            assert count <= max(copy_size, 2 * limits.smallest) + limits.smallest
        made += b"".join(contents[each.source][each.start : each.start + each.count] for each in ranges)
        position += count
    assert made == b"".join(contents)


def test_a_whole_partial_is_copied_in_large_pieces() -> None:
    sizes, position, pieces = [GIB, 3 * MIB, GIB + 1], 0, []
    while position < sum(sizes):
        ranges = next_piece(sizes, position, S3_LIMITS, 256 * MIB)
        pieces.append(ranges)
        position += sum(each.count for each in ranges)
    through_memory = [ranges for ranges in pieces if len(ranges) > 1]
    assert len(through_memory) == 1
    assert sum(each.count for each in through_memory[0]) == 5 * MIB
    assert len(pieces) <= 10
