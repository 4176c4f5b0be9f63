"""How an upload is cut into parts: their size, the grid that they lie on, and the pieces of a concatenation.

Pure arithmetic in bytes, no I/O. Limits are those of the S3 User Guide, "Amazon S3 multipart upload limits"; some
vendors allow fewer parts (Scaleway: 1,000).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

#: The largest upload that one without a length and without a limit is prepared for; it decides its part size.
UNLIMITED = 128 * GIB


@dataclass(frozen=True)
class PartLimits:
    """What a backend allows, and how we use it.

    Attributes:
        smallest: The fewest bytes of a part that is not the last.
        largest: The most bytes of a part.
        most: The most parts of an upload.
        usual: The part size of uploads that need no larger one.
        planned: For how many parts a size is chosen: fewer than ``most``, so that there is room for mistakes.
    """

    smallest: int = 5 * MIB
    largest: int = 5 * GIB
    most: int = 10_000
    usual: int = 8 * MIB

    @property
    def planned(self) -> int:
        """See the class."""
        return self.most * 95 // 100

    def capacity(self, part_size: int) -> int:
        """Return how many bytes an upload with parts of that size can have."""
        return part_size * self.most


S3_LIMITS = PartLimits()


def choose_part_size(
    length: int | None, *, max_size: int | None = None, expected: int | None = None, limits: PartLimits = S3_LIMITS
) -> int:
    """Return the size of all parts of an upload but the last.

    Args:
        length: Its length, ``None`` while that is deferred.
        max_size: The most that it may become, for a deferred length; ``None`` for no limit.
        expected: How many bytes its first request brings, if known. A client that sends equal chunks then leaves no
            tails: a chunk is a whole number of parts.
        limits: What the backend allows.

    Returns:
        Between ``limits.usual`` (or, with chunks, ``limits.smallest``) and ``limits.largest``; a multiple of 1 MiB
        unless a chunk size asks for another.
    """
    end = length if length is not None else (max_size if max_size is not None else UNLIMITED)
    needed = max(limits.usual, _rounded_up(-(-end // limits.planned), min(MIB, limits.usual)))
    size = min(needed, limits.largest)
    fits_one = length is not None and length <= limits.usual
    if expected is not None and expected >= limits.smallest and not fits_one and (length is None or expected < length):
        size = _divisor(expected, size, end, limits) or size
    return size


def _divisor(chunk: int, size: int, end: int, limits: PartLimits) -> int | None:
    """Return the exact divisor of a chunk that is nearest to ``size``, if one is large enough."""
    fewest = max(limits.smallest, -(-end // limits.planned))
    if chunk < fewest:
        return None
    numbers = range(max(1, -(-chunk // limits.largest)), chunk // fewest + 1)
    # Between 1 and some thousands: a chunk is rarely larger than a few hundred times the smallest part.
    divisors = (chunk // number for number in numbers if chunk % number == 0)
    return min(divisors, key=lambda each: abs(each - size), default=None)


def _rounded_up(count: int, unit: int) -> int:
    return -(-count // unit) * unit


def next_border(position: int, part_size: int) -> int:
    """Return where the part that holds the byte at ``position`` ends."""
    return (position // part_size + 1) * part_size


def count_following(sizes: Sequence[tuple[int, int]], known: int, part_size: int, length: int | None) -> int:
    """Count the parts of a backend's list that follow the known ones without a hole and lie on the grid.

    Args:
        sizes: Number and size of each listed part, in any order.
        known: How many parts are known already.
        part_size: The grid.
        length: The upload's length, if known; only with it a short last part is one.
    """
    listed = dict(sizes)
    count = 0
    while True:
        number = known + count + 1
        start = (number - 1) * part_size
        wanted = part_size if length is None else min(part_size, length - start)
        if wanted <= 0 or listed.get(number) != wanted:
            return count
        count += 1


@dataclass(frozen=True)
class Range:
    """``count`` bytes of source number ``source`` (from 0), from ``start`` on."""

    source: int
    start: int
    count: int


def next_piece(sizes: Sequence[int], position: int, limits: PartLimits, copy_size: int) -> tuple[Range, ...]:
    """Return the ranges that the next part of a concatenation is made of.

    One range of at least ``limits.smallest`` bytes can be copied by the backend. Otherwise a source's rest is too small
    for a part and borrows from what follows: fewer than three times ``limits.smallest`` bytes go through memory.

    Args:
        sizes: Of the sources, in order.
        position: Where the parts that are there end, below the sum of ``sizes``.
        limits: What the backend allows.
        copy_size: How many bytes one copy should have at most; at least twice ``limits.smallest``.
    """
    ranges: list[Range] = []
    gathered, start = 0, 0
    for source, size in enumerate(sizes):
        end = start + size
        offset = max(0, position - start)
        rest = size - offset
        start = end
        if rest <= 0:
            continue
        if not ranges and rest >= limits.smallest:
            return (Range(source, offset, _without_scrap(rest, copy_size, limits.smallest)),)
        wanted = _without_scrap(rest, limits.smallest - gathered, limits.smallest)
        ranges.append(Range(source, offset, wanted))
        gathered += wanted
        if gathered >= limits.smallest:
            break
    return tuple(ranges)


def _without_scrap(rest: int, wanted: int, smallest: int) -> int:
    """Return how many of ``rest`` bytes to take: about ``wanted``, and never so that less than a part stays behind."""
    if rest <= wanted:
        return rest
    if rest - wanted >= smallest:
        return wanted
    # All of it when a part's worth may be added, else less now.
    return rest if wanted < 2 * smallest else rest - smallest
