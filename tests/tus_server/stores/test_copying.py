"""Copying between files: by the kernel, by hand, and what ends it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tus_server.conformance.client import pattern
from tus_server.stores.copying import copy_range

CONTENT = pattern(2_500_003)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[tuple[int, int]]:
    (tmp_path / "source").write_bytes(CONTENT)
    source = os.open(tmp_path / "source", os.O_RDONLY)
    target = os.open(tmp_path / "target", os.O_RDWR | os.O_CREAT)
    yield source, target
    os.close(source)
    os.close(target)


def content_of(descriptor: int) -> bytes:
    return os.pread(descriptor, 10_000_000, 0)


@pytest.fixture(params=["kernel", "EXDEV", "ENOSYS", "EOPNOTSUPP", "EINVAL", "nothing", "absent", "slow"], autouse=True)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.copy_file_range

    def copy(source: int, target: int, count: int, *offsets: int) -> int:
        if request.param == "slow":
            return real(source, target, min(count, 100_000), *offsets)
        if request.param == "nothing":
            return 0
        raise OSError(getattr(errno, request.param), "refused")

    if request.param == "absent":
        monkeypatch.delattr(os, "copy_file_range")
    elif request.param != "kernel":
        monkeypatch.setattr(os, "copy_file_range", copy)


def test_a_range_is_copied(files: tuple[int, int]) -> None:
    source, target = files
    os.pwrite(target, b"before", 0)
    assert copy_range(source, 1_000, target, 6, 2_000_000) == 2_000_000
    assert content_of(target) == b"before" + CONTENT[1_000:2_001_000]


def test_the_end_of_the_source_ends_it(files: tuple[int, int]) -> None:
    source, target = files
    assert copy_range(source, len(CONTENT) - 10, target, 0, 100) == 10
    assert copy_range(source, len(CONTENT), target, 10, 100) == 0
    assert content_of(target) == CONTENT[-10:]
    assert copy_range(source, 0, target, 0, 0) == 0


def test_other_errors_pass(files: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "copy_file_range", fail, raising=False)
    with pytest.raises(OSError, match="full"):
        copy_range(*files[:1], 0, files[1], 0, 10)
