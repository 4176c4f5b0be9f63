"""Uploads on disk: moving, signed URLs, options, reading through the journal."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import InMemoryStorage, StorageHandler
from django.db.migrations.writer import MigrationWriter

from async_uploads import signing
from async_uploads.journal import EXPIRED, AsyncTempFile
from async_uploads.storage import filesystem
from async_uploads.storage.filesystem import FileSystemAsyncUploadStorage
from tests.async_uploads.promoting import field_of, make_upload, media, row_of, tree
from tests.testapp.models import Document
from tus_server.stores.filesystem import FilesystemStore
from tus_server.stores.sidecars import FileRecords

assert media

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("media")]

KEY = "async-temp-files/2026/11/22/x-a.txt"


@pytest.fixture
def storage(media: Path) -> FileSystemAsyncUploadStorage:
    return FileSystemAsyncUploadStorage()


def put(storage: FileSystemAsyncUploadStorage, name: str, content: bytes = b"hello") -> None:
    path = Path(storage.path_of(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


# Moving.


def test_a_moved_file_has_its_new_name_only(storage: FileSystemAsyncUploadStorage, media: Path) -> None:
    put(storage, KEY)
    storage.move_file(KEY, "docs/deep/a.txt")
    assert tree(media) == {"docs/deep/a.txt": b"hello"}


def test_a_move_can_be_repeated(storage: FileSystemAsyncUploadStorage, media: Path) -> None:
    put(storage, KEY)
    storage.move_file(KEY, "a.txt")
    storage.move_file(KEY, "a.txt")
    assert tree(media) == {"a.txt": b"hello"}


def open_below(directory: Path) -> list[str]:
    """Return what this process has open there."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return [path for path in found if path.startswith(f"{directory}")]


@pytest.mark.parametrize("call", ["mkdir", "link", "unlink", "open", "fsync", "chmod"])
@pytest.mark.parametrize("is_after", [False, True])
def test_a_move_that_died_at_any_call_is_finished_by_the_next(
    media: Path, monkeypatch: pytest.MonkeyPatch, call: str, is_after: bool
) -> None:
    storage = FileSystemAsyncUploadStorage(file_permissions_mode=0o600)
    put(storage, KEY)
    original = getattr(os, call)

    def die(*args: Any, **kwargs: Any) -> Any:
        if is_after:
            original(*args, **kwargs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, call, die)
        with pytest.raises(KeyboardInterrupt):
            storage.move_file(KEY, "docs/a.txt")
    assert set(tree(media).values()) == {b"hello"}
    storage.move_file(KEY, "docs/a.txt")
    assert tree(media) == {"docs/a.txt": b"hello"}
    if (call, is_after) != ("open", True):
        assert not open_below(media)


def test_another_file_is_never_overwritten(storage: FileSystemAsyncUploadStorage, media: Path) -> None:
    put(storage, KEY)
    put(storage, "a.txt", b"other")
    with pytest.raises(FileExistsError):
        storage.move_file(KEY, "a.txt")
    assert tree(media) == {KEY: b"hello", "a.txt": b"other"}


def test_a_file_is_overwritten_where_the_project_says_so(media: Path) -> None:
    storage = FileSystemAsyncUploadStorage(allow_overwrite=True)
    put(storage, KEY)
    put(storage, "a.txt", b"other")
    storage.move_file(KEY, "a.txt")
    assert tree(media) == {"a.txt": b"hello"}


def test_a_file_that_is_nowhere_cannot_be_moved(storage: FileSystemAsyncUploadStorage) -> None:
    with pytest.raises(FileNotFoundError):
        storage.move_file(KEY, "a.txt")


@pytest.mark.parametrize("code", [errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP])
def test_a_file_is_renamed_where_there_are_no_hard_links(
    storage: FileSystemAsyncUploadStorage, media: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(code, "no links")

    monkeypatch.setattr(os, "link", fail)
    put(storage, KEY)
    put(storage, "taken.txt", b"other")
    with pytest.raises(FileExistsError):
        storage.move_file(KEY, "taken.txt")
    storage.move_file(KEY, "a.txt")
    assert tree(media) == {"a.txt": b"hello", "taken.txt": b"other"}


def test_a_file_is_copied_between_file_systems(
    storage: FileSystemAsyncUploadStorage, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def link(*args: Any) -> None:
        raise OSError(errno.EXDEV, "two file systems")

    def replace_beside(source: str, target: str) -> None:
        if os.path.dirname(source) != os.path.dirname(target):
            raise OSError(errno.EXDEV, "two file systems")
        replace(source, target)

    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(os, "replace", replace_beside)
    put(storage, KEY)
    storage.move_file(KEY, "docs/a.txt")
    assert tree(media) == {"docs/a.txt": b"hello"}


def test_what_a_killed_process_left_half_copied_is_removed_by_the_next_move_and_by_giving_back(
    storage: FileSystemAsyncUploadStorage, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EXDEV, "two file systems")

    def die(source: str, target: str) -> None:
        Path(target).write_bytes(b"hel")
        raise KeyboardInterrupt

    put(storage, KEY)
    put(storage, "docs/mine.part", b"mine")
    for finish in (lambda: storage.return_file(KEY, "docs/a.txt", 5), lambda: storage.move_file(KEY, "docs/b.txt")):
        with monkeypatch.context() as patch:
            patch.setattr(os, "link", no_room)
            patch.setattr(os, "replace", no_room)
            patch.setattr(shutil, "copyfile", die)
            patch.setattr(os, "unlink", lambda path: None)  # a killed process does not tidy up
            with pytest.raises(KeyboardInterrupt):
                storage.move_file(KEY, "docs/a.txt")
        assert b"hel" in tree(media).values()
        finish()
        assert b"hel" not in tree(media).values()
    assert tree(media) == {"docs/b.txt": b"hello", "docs/mine.part": b"mine"}


def test_an_error_of_the_disk_is_told(
    storage: FileSystemAsyncUploadStorage, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EIO, "broken disk")

    monkeypatch.setattr(os, "link", fail)
    put(storage, KEY)
    with pytest.raises(OSError, match="broken disk"):
        storage.move_file(KEY, "a.txt")
    assert tree(media) == {KEY: b"hello"}


def test_permissions_are_those_of_the_settings(media: Path) -> None:
    storage = FileSystemAsyncUploadStorage(file_permissions_mode=0o640, directory_permissions_mode=0o750)
    put(storage, KEY)
    storage.move_file(KEY, "one/two/a.txt")
    assert (media / "one/two/a.txt").stat().st_mode & 0o777 == 0o640
    assert (media / "one").stat().st_mode & 0o777 == 0o750
    assert (media / "one/two").stat().st_mode & 0o777 == 0o750


def test_a_directory_with_the_name_of_a_file_is_told(storage: FileSystemAsyncUploadStorage) -> None:
    put(storage, KEY)
    put(storage, "docs")
    with pytest.raises(NotADirectoryError):
        storage.move_file(KEY, "docs/a.txt")


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/outside.txt"])
def test_nothing_is_moved_out_of_the_location(storage: FileSystemAsyncUploadStorage, name: str) -> None:
    put(storage, KEY)
    with pytest.raises(Exception, match="outside of the base path"):
        storage.move_file(KEY, name)


# Signed URLs.


def test_an_upload_url_is_signed_for_one_key_and_field(storage: FileSystemAsyncUploadStorage) -> None:
    answer = storage.generate_upload_url(KEY, "testapp.Document.file", fields=None, conditions=None)
    url = urlsplit(answer["url"])
    assert url.path == "/uploads/upload-file-direct/"
    assert signing.unsign(parse_qs(url.query)["token"][0], "upload") == {
        "key": KEY,
        "field_id": "testapp.Document.file",
    }
    assert (answer["method"], answer["fileFieldName"], answer["fields"]) == ("POST", "file", {})


def test_a_download_url_keeps_the_true_name(storage: FileSystemAsyncUploadStorage) -> None:
    key = make_upload(field_of(Document), name="мой отчёт.txt")
    AsyncTempFile.objects.filter(key=key).update(claim="c", moved_to_location="docs/мой_отчёт.txt")
    # Given back: another upload's name by now.
    returned = make_upload(field_of(Document), name="another.txt")
    AsyncTempFile.objects.filter(key=returned).update(moved_to_location="docs/мой_отчёт.txt")
    for name, filename in ((key, "мой отчёт.txt"), ("docs/мой_отчёт.txt", "мой отчёт.txt"), ("docs/b.txt", "b.txt")):
        url = urlsplit(storage.generate_download_url(name, "testapp.Document.file"))
        assert url.path == "/uploads/download-file-direct/"
        payload = signing.unsign(parse_qs(url.query)["token"][0], "download")
        assert (payload["name"], payload["filename"]) == (name, filename)


def test_a_download_url_can_expire_sooner(storage: FileSystemAsyncUploadStorage) -> None:
    parameters = {"cache_control": "public"}
    url = storage.generate_download_url("a.txt", "testapp.Document.file", expire=60, parameters=parameters)
    assert signing.unsign(parse_qs(urlsplit(url).query)["token"][0], "download")["parameters"] == parameters


def test_a_direct_upload_is_stored_once(storage: FileSystemAsyncUploadStorage, media: Path) -> None:
    row = AsyncTempFile.create_for_field(field_of(Document), "a.txt")
    assert storage.verify_upload(row.key, None) is None
    assert storage.receive_direct(row, ContentFile(b"hello"))
    assert not storage.receive_direct(row, ContentFile(b"again"))
    assert tree(media) == {row.key: b"hello"}
    stored = row_of(row.key)
    assert (stored.is_finished, stored.length) == (True, 5)
    verified = storage.verify_upload(row.key, None)
    assert verified is not None
    assert verified.size == 5


def test_a_direct_upload_that_breaks_off_leaves_nothing(storage: FileSystemAsyncUploadStorage, media: Path) -> None:
    class Broken(ContentFile):  # type: ignore[type-arg]  # generic in the stubs only
        def chunks(self, chunk_size: int | None = None) -> Any:
            yield b"hel"
            raise OSError("cut")

    row = AsyncTempFile.create_for_field(field_of(Document), "a.txt")
    with pytest.raises(OSError, match="cut"):
        storage.receive_direct(row, Broken(b""))
    assert tree(media) == {}
    assert not row_of(row.key).is_finished


def test_an_unfinished_tus_upload_is_not_complete(storage: FileSystemAsyncUploadStorage) -> None:
    assert storage.verify_upload(make_upload(field_of(Document), finished=False), None) is None


# Options.


def test_it_is_chosen_in_the_settings(tmp_path: Path) -> None:
    backend = "async_uploads.storage.filesystem.FileSystemAsyncUploadStorage"
    options = {"location": tmp_path, "base_url": "/x", "transport": "signed", "allow_overwrite": True}
    storage = StorageHandler({"mine": {"BACKEND": backend, "OPTIONS": options}})["mine"]
    assert isinstance(storage, FileSystemAsyncUploadStorage)
    assert (storage.location, storage.base_url, storage.transport) == (str(tmp_path), "/x/", "signed")
    assert storage.overwrites
    assert FileSystemAsyncUploadStorage().transport == "tus"


def test_it_can_be_part_of_a_migration() -> None:
    text, _ = MigrationWriter.serialize(FileSystemAsyncUploadStorage(location="/srv/x", transport="signed"))
    name = "async_uploads.storage.filesystem.FileSystemAsyncUploadStorage"
    assert text == f"{name}(location='/srv/x', transport='signed')"
    storage = pickle.loads(pickle.dumps(FileSystemAsyncUploadStorage(location="/srv/x")))
    assert storage.location == "/srv/x"


def test_the_media_directory_can_change(storage: FileSystemAsyncUploadStorage, settings: Any, tmp_path: Path) -> None:
    before = storage.identity()
    settings.MEDIA_ROOT = tmp_path / "other"
    assert storage.location == str(tmp_path / "other")
    assert storage.identity() != before


def test_its_upload_store_writes_below_its_location(media: Path) -> None:
    storage = FileSystemAsyncUploadStorage(file_permissions_mode=0o600)
    store = storage.upload_store(FileRecords(media / "records"))
    assert isinstance(store, FilesystemStore)
    assert store.directory == media
    assert (store.durability, store.file_mode) == ("data", 0o600)


# Django's own promises.


def test_files_of_django_are_saved_read_and_deleted(storage: FileSystemAsyncUploadStorage, media: Path) -> None:
    name = storage.save("docs/a.txt", ContentFile(b"one"))
    assert storage.save("docs/a.txt", ContentFile(b"two")) != name
    with storage.open(name) as file:
        assert file.read() == b"one"
    with storage.open(name, "wb") as file:
        file.write(b"new")
    assert storage.size(name) == 3
    assert storage.url(name) == "/media/docs/a.txt"
    assert storage.path(name) == str(media / name)
    assert storage.listdir("docs")[1]
    storage.delete(name)
    assert not storage.exists(name)
    storage.delete(name)


@pytest.mark.parametrize("operation", ["open", "size"])
def test_a_file_that_is_nowhere_is_not_found(storage: FileSystemAsyncUploadStorage, operation: str) -> None:
    with pytest.raises(FileNotFoundError):
        getattr(storage, operation)("docs/none.txt")


def test_a_long_name_fits_the_file_system(storage: FileSystemAsyncUploadStorage) -> None:
    name = storage.get_valid_name("ы" * 250 + ".txt")
    assert name.endswith("ы.txt")
    assert len(name.encode()) <= 240
    assert storage.get_valid_name("a b.txt") == "a_b.txt"


def test_a_promised_name_is_read_at_its_upload_where_files_are_overwritten(media: Path) -> None:
    storage = FileSystemAsyncUploadStorage(allow_overwrite=True)
    put(storage, "docs/a.txt", b"old")
    key = make_upload(field_of(Document), b"new")
    row = row_of(key)
    digest = filesystem.journal.compute_target_digest(row.storage, "docs/a.txt")
    AsyncTempFile.objects.filter(key=key).update(claim="c", moved_to_location="docs/a.txt", target_digest=digest)
    with storage.open("docs/a.txt") as file:
        assert file.read() == b"new"
    assert Path(storage.path("docs/a.txt")).read_bytes() == b"new"


def test_a_key_is_read_in_its_permanent_place_after_promotion(storage: FileSystemAsyncUploadStorage) -> None:
    key = make_upload(field_of(Document), b"hello")
    document = Document(file=key)
    document.save()
    row = row_of(key)
    storage.move_file(key, row.moved_to_location)
    assert filesystem.journal.find_by_key(key) is not None
    AsyncTempFile.objects.filter(key=key).update(promoted_at=row.created_at, target_digest=None)
    with storage.open(key) as file:
        assert file.read() == b"hello"


def test_other_storages_are_not_ours() -> None:
    assert not hasattr(InMemoryStorage(), "temporary_key_prefix")


# What nobody else would remove.


def test_a_direct_upload_that_expired_while_it_came_leaves_nothing(media: Path) -> None:
    storage: Any = field_of(Document).storage
    row = AsyncTempFile.create_for_field(field_of(Document), "a.txt")
    AsyncTempFile.objects.update(claim=EXPIRED)
    assert not storage.receive_direct(row, ContentFile(b"hello"))
    AsyncTempFile.objects.all().delete()
    assert not storage.receive_direct(row, ContentFile(b"hello"))
    assert tree(media) == {}


def test_a_second_direct_upload_leaves_nothing_when_the_first_was_moved_away(media: Path) -> None:
    storage: Any = field_of(Document).storage
    row = AsyncTempFile.create_for_field(field_of(Document), "a.txt")
    assert storage.receive_direct(row, ContentFile(b"first"))
    storage.move_file(row.key, "docs/a.txt")
    assert not storage.receive_direct(row, ContentFile(b"second"))
    assert tree(media) == {"docs/a.txt": b"first"}


def test_what_a_killed_process_left_of_a_direct_upload_goes_with_it(media: Path) -> None:
    storage: Any = field_of(Document).storage
    row = AsyncTempFile.create_for_field(field_of(Document), "a.txt")
    put(storage, f"{row.key}.0123456789ab.part", b"hel")
    put(storage, f"{row.key}-other.0123456789ab.part", b"not ours")
    assert storage.discard_upload(row)
    assert set(tree(media).values()) == {b"not ours"}


def test_every_directory_that_a_move_made_is_synced_before_the_old_name_goes(
    media: Path, storage: FileSystemAsyncUploadStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(storage, KEY)
    synced = []

    def sync(directory: str) -> None:
        assert (media / KEY).exists()
        synced.append(directory)

    monkeypatch.setattr(filesystem, "_sync_directory", sync)
    storage.move_file(KEY, "docs/deep/a.txt")
    assert sorted(synced) == [str(media), str(media / "docs"), str(media / "docs/deep")]


def test_storages_in_two_long_places_are_told_apart() -> None:
    first, second = (FileSystemAsyncUploadStorage(location=f"/{'x' * 300}/{name}") for name in "ab")
    assert first.identity() != second.identity()
    assert len(first.identity()) <= 255
