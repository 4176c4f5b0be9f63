"""The memory and filesystem stores keep the contract, and what is special about files."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tus_server.errors import BadRequest, StorageFull, StoreUnavailable, UploadGone
from tus_server.stores.base import UploadStore
from tus_server.stores.filesystem import FilesystemStore
from tus_server.stores.memory import MemoryStore
from tus_server.testing.stores import NOW, UploadStoreContract, append, make_record
from tus_server.uploads import Upload


class TestMemoryStore(UploadStoreContract):
    @pytest.fixture
    def store(self) -> UploadStore:
        return MemoryStore()

    def stored_bytes(self, store: UploadStore, upload: Upload) -> bytes:
        assert isinstance(store, MemoryStore)
        return store.content(upload.id)


class TestFilesystemStore(UploadStoreContract):
    @pytest.fixture(params=["none", "data", "strict"])
    def store(self, tmp_path: Path, request: pytest.FixtureRequest) -> UploadStore:
        return FilesystemStore(tmp_path / "uploads", durability=request.param)

    def stored_bytes(self, store: UploadStore, upload: Upload) -> bytes:
        assert isinstance(store, FilesystemStore)
        return (store.directory / upload.record.object_name).read_bytes()


@pytest.fixture
def store(tmp_path: Path) -> FilesystemStore:
    return FilesystemStore(tmp_path)


def test_an_object_name_may_lie_in_folders_that_do_not_exist_yet(store: FilesystemStore) -> None:
    upload = append(store, store.create(make_record(object_name="a/b/c.bin")), b"abc")
    assert (store.directory / "a/b/c.bin").read_bytes() == b"abc"
    store.finish(upload, NOW)


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "a\0b"])
def test_an_object_name_that_leads_out_of_the_directory_is_refused(store: FilesystemStore, name: str) -> None:
    with pytest.raises(BadRequest):
        store.create(make_record(object_name=name))
    assert list(store.directory.iterdir()) == []


def test_an_unfinished_upload_whose_file_is_lost_is_gone(store: FilesystemStore) -> None:
    upload = append(store, store.create(make_record()), b"abc")
    (store.directory / upload.id).unlink()
    with pytest.raises(UploadGone):
        store.get(upload.id)


def test_a_finished_upload_whose_file_was_moved_away_keeps_its_offset(store: FilesystemStore) -> None:
    upload = store.finish(append(store, store.create(make_record(3)), b"abc"), NOW)
    (store.directory / upload.id).rename(store.directory / "elsewhere")
    assert store.get(upload.id).offset == 3


def test_a_lost_upload_that_has_expired_can_still_be_terminated(store: FilesystemStore) -> None:
    upload = store.create(make_record(expires_at=NOW))
    (store.directory / upload.id).unlink()
    (expired,) = store.expired(NOW, 10)
    store.terminate(expired)
    assert list(store.directory.iterdir()) == []


def test_no_space_left_is_its_own_error_and_the_bytes_before_it_stay(
    store: FilesystemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = store.create(make_record())
    sink = store.open_sink(upload, 0)
    sink.write(memoryview(b"abc"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", _raise(errno.ENOSPC))
        with pytest.raises(StorageFull):
            sink.write(memoryview(b"def"))
    assert sink.settle() == 3
    assert store.get(upload.id).offset == 3


def test_a_partial_write_is_continued(store: FilesystemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, position: pwrite(fd, data[:2], position))
    upload = append(store, store.create(make_record()), b"abcdefg")
    assert upload.offset == 7
    assert (store.directory / upload.id).read_bytes() == b"abcdefg"


def test_other_trouble_of_the_file_system_is_unavailable(
    store: FilesystemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = store.create(make_record())
    monkeypatch.setattr(os, "open", _raise(errno.EIO))
    with pytest.raises(StoreUnavailable):
        store.open_sink(upload, 0)


def test_a_record_of_an_unknown_format_is_unavailable_not_a_crash(store: FilesystemStore) -> None:
    upload = store.create(make_record())
    path = store.directory / f"{upload.id}.upload.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(StoreUnavailable):
        store.get(upload.id)


def test_a_writer_that_was_killed_leaves_its_bytes_and_no_lock(store: FilesystemStore) -> None:
    upload = store.create(make_record())
    script = """
import os, sys
from tus_server.stores.filesystem import FilesystemStore
store = FilesystemStore(sys.argv[1])
sink = store.open_sink(store.get(sys.argv[2]), 0)
sink.write(memoryview(b"abc"))
os.kill(os.getpid(), 9)
"""
    child = subprocess.run([sys.executable, "-c", script, store.directory, upload.id], check=False)
    assert child.returncode == -9
    found = store.get(upload.id)
    assert found.offset == 3
    assert append(store, found, b"d").offset == 4


def test_a_file_removed_between_open_and_lock_is_gone(store: FilesystemStore, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = store.create(make_record())
    real_open = os.open

    def open_then_lose(path: object, *args: object) -> int:
        descriptor = real_open(path, *args)  # type: ignore[arg-type]
        os.unlink(path)  # type: ignore[arg-type]
        return descriptor

    monkeypatch.setattr(os, "open", open_then_lose)
    with pytest.raises(UploadGone):
        store.open_sink(replace(upload), 0)


def _raise(number: int) -> object:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail
