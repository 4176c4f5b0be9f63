"""The memory and file lockers keep the contract."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tus_server.errors import StoreUnavailable, UploadNotFound
from tus_server.locks.base import Locker
from tus_server.locks.filesystem import FileLocker
from tus_server.locks.memory import MemoryLocker
from tus_server.testing.lockers import LockerContract
from tus_server.uploads import generate_upload_id


class TestMemoryLocker(LockerContract):
    @pytest.fixture
    def locker(self) -> Locker:
        return MemoryLocker()


class TestFileLocker(LockerContract):
    @pytest.fixture
    def locker(self, tmp_path: Path) -> Locker:
        return FileLocker(tmp_path / "locks")


def test_a_file_lease_leaves_no_file_behind(tmp_path: Path) -> None:
    locker, upload_id = FileLocker(tmp_path), generate_upload_id()
    lease = locker.try_acquire(upload_id)
    assert lease is not None
    locker.request_release(upload_id, "append")
    lease.release()
    assert list(tmp_path.iterdir()) == []


def test_the_lease_of_a_killed_process_is_free(tmp_path: Path) -> None:
    upload_id = generate_upload_id()
    script = """
import os, sys
from tus_server.locks.filesystem import FileLocker
lease = FileLocker(sys.argv[1]).try_acquire(sys.argv[2])
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", script, tmp_path, upload_id], check=False).returncode == -9
    lease = FileLocker(tmp_path).try_acquire(upload_id)
    assert lease is not None
    lease.release()


def test_an_error_on_the_way_leaves_no_lease_behind(tmp_path: Path) -> None:
    """Found while teaching the state machine that lockers fail: the descriptor stayed open, and with it the lock."""
    locker, upload_id = FileLocker(tmp_path), generate_upload_id()
    (tmp_path / f"{upload_id}.wanted").mkdir()  # cannot be removed like a file
    with pytest.raises(StoreUnavailable):
        locker.try_acquire(upload_id)
    (tmp_path / f"{upload_id}.wanted").rmdir()
    lease = locker.try_acquire(upload_id)
    assert lease is not None
    lease.release()


def test_a_lock_of_no_upload_id_touches_no_file(tmp_path: Path) -> None:
    with pytest.raises(UploadNotFound):
        FileLocker(tmp_path).try_acquire("../../etc/passwd")
