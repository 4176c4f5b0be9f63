"""What every storage for uploads has: keys, defaults for the storages of projects."""

from __future__ import annotations

import re

import pytest
from django.core.exceptions import SuspiciousFileOperation
from django.utils import timezone

from async_uploads.journal import AsyncTempFile
from async_uploads.storage.base import AsyncUploadStorage, VerifiedUpload
from tests.async_uploads.promoting import DictionaryStorage

storage = AsyncUploadStorage()


@pytest.mark.parametrize(
    ("filename", "ending"),
    [
        ("report.pdf", "-report.pdf"),
        ("мой отчёт.pdf", "-file.pdf"),
        ("../../etc/passwd", "-passwd"),
        ("a b.tar.gz", "-a_b.tar.gz"),
        ("\0", "-file"),
    ],
)
def test_a_key_tells_the_day_and_the_reduced_name(filename: str, ending: str) -> None:
    key = storage.generate_temporary_path(filename)
    day = timezone.now().strftime("%Y/%m/%d")
    assert re.fullmatch(rf"async-temp-files/{day}/[A-Za-z0-9_-]{{22}}{re.escape(ending)}", key)
    assert storage.is_temporary_path(key)


def test_two_keys_of_one_name_differ() -> None:
    assert storage.generate_temporary_path("a.txt") != storage.generate_temporary_path("a.txt")


def test_a_key_is_truncated_before_the_extension() -> None:
    key = storage.generate_temporary_path("x" * 100 + ".pdf", max_length=60)
    assert len(key) == 60
    assert key.endswith("x.pdf")
    assert len(storage.generate_temporary_path("x" * 1000 + ".pdf").rsplit("/", 1)[1]) < 255


def test_a_column_that_is_too_short_for_keys_is_told() -> None:
    with pytest.raises(SuspiciousFileOperation, match="max_length"):
        storage.generate_temporary_path("a.pdf", max_length=30)


@pytest.mark.parametrize("name", ["", "docs/a.txt", "async-temp-files", "async-temp-filesX/a", "/async-temp-files/a"])
def test_other_names_are_not_temporary(name: str) -> None:
    assert not storage.is_temporary_path(name)


def test_a_project_can_choose_another_prefix() -> None:
    class Other(AsyncUploadStorage):
        temporary_key_prefix = "incoming"

    key = Other().generate_temporary_path("a.txt")
    assert key.startswith("incoming/")
    assert Other().is_temporary_path(key)
    assert not Other().is_temporary_path(storage.generate_temporary_path("a.txt"))


def test_what_a_storage_must_write_itself_says_so() -> None:
    for call in (
        lambda: storage.generate_upload_url("k", "f"),
        lambda: storage.generate_download_url("k", "f"),
        lambda: storage.move_file("a", "b"),
    ):
        with pytest.raises(NotImplementedError, match="must be implemented"):
            call()


def test_a_storage_of_three_methods_trusts_its_uploads_and_has_no_tus() -> None:
    custom = DictionaryStorage()
    assert custom.verify_upload("key", 5) == VerifiedUpload()
    assert custom.upload_store(None) is None  # type: ignore[arg-type]
    assert custom.transport == "signed"
    assert custom.stored_size("key") is None
    assert custom.discard_upload(AsyncTempFile(key="key"))
    assert custom.identity().endswith(".DictionaryStorage")
