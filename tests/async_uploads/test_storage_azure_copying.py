"""Copies on Azure's side, which Azurite cannot do in all ways: scripted answers, and no sleep."""

from __future__ import annotations

from typing import Any

import pytest
from azure.core.exceptions import ServiceRequestError

from async_uploads.storage import azure_copying
from async_uploads.storage.azure_copying import BlobCopier, CopyFailed, build_marks
from tus_server.errors import StoreUnavailable
from tus_server.stores.azure_blobs import AzureBlobs, SourceChanged
from tus_server.testing.azure_memory import MemoryAzure

SOURCE, TARGET = "async-temp-files/a", "docs/a"


def copy(service: MemoryAzure, *, overwrites: bool = False, etag: str = "") -> list[float]:
    """Copy the source to the target; returns the pauses that were made."""
    pauses: list[float] = []
    blobs = AzureBlobs(service)
    copier = BlobCopier(blobs, lambda name: f"{blobs.url(name)}?signed", pauses.append, overwrites)
    copier.copy(SOURCE, TARGET, {"content_type": "text/plain"}, etag)
    return pauses


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azure_copying, "PIECE", 4)
    monkeypatch.setattr(azure_copying, "CARRIED", 3)


ONLY_COPY = ("upload_blob_from_url", "stage_block_from_url")


def make(*statuses: Any) -> MemoryAzure:
    """Return a service that only knows Copy Blob, which goes through these states."""
    service = MemoryAzure(ONLY_COPY)
    service.copy_statuses = [status for status in statuses if status]
    return service


NO_COPY = (*ONLY_COPY, "start_copy_from_url")


@pytest.mark.parametrize(
    "refuses",
    [(), ("upload_blob_from_url",), ONLY_COPY, NO_COPY],
    ids=["whole", "pieces", "by service", "by this process"],
)
def test_every_way_makes_the_same_copy(refuses: tuple[str, ...]) -> None:
    service = MemoryAzure(refuses)
    etag = service.put(SOURCE, b"0123456789", {"own": "x"})
    copy(service)
    made = service.blobs[TARGET]
    assert (made.data, made.settings.content_type) == (b"0123456789", "text/plain")
    assert made.metadata == build_marks(SOURCE, etag)
    assert service.blobs[SOURCE].etag == etag


def test_a_small_copy_takes_three_requests() -> None:
    service = MemoryAzure()
    service.put(SOURCE, b"hello")
    copy(service)
    assert dict(service.calls) == {"get_blob_properties": 2, "upload_blob_from_url": 1}


def test_what_is_too_large_for_one_request_is_copied_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azure_copying, "LARGEST_WHOLE", 9)
    service = MemoryAzure()
    service.put(SOURCE, b"0123456789")
    copy(service)
    assert service.blobs[TARGET].data == b"0123456789"
    assert service.calls["stage_block_from_url"] == 3
    assert "upload_blob_from_url" not in service.calls


def test_pieces_of_an_interrupted_copy_are_not_copied_again() -> None:
    service = MemoryAzure(("upload_blob_from_url", "commit_block_list"))
    service.put(SOURCE, b"0123456789")
    with pytest.raises(Exception, match="APINotImplemented"):
        BlobCopier(AzureBlobs(service), lambda name: f"https://memory.example/{name}?signed")._copy_pieces(
            _job(service)
        )
    service.refuses = ("upload_blob_from_url",)
    service.calls.clear()
    copy(service)
    assert service.blobs[TARGET].data == b"0123456789"
    assert "stage_block_from_url" not in service.calls


def _job(service: MemoryAzure) -> Any:
    found = AzureBlobs(service).look(SOURCE)
    assert found is not None
    return azure_copying._Job(SOURCE, TARGET, found, {}, build_marks(SOURCE, found.etag), None)


def test_a_pending_copy_is_waited_for() -> None:
    service = make("pending", "pending", "pending", "success")
    service.put(SOURCE, b"hello")
    pauses = copy(service)
    assert service.blobs[TARGET].data == b"hello"
    assert len(pauses) == 2
    assert SOURCE in service.blobs


@pytest.mark.parametrize(
    ("end", "error"),
    [("failed", CopyFailed), ("aborted", CopyFailed), (ServiceRequestError("the connection died"), StoreUnavailable)],
    ids=["failed", "aborted", "dead connection"],
)
def test_after_a_copy_that_failed_the_source_is_there_and_the_next_attempt_succeeds(
    end: Any, error: type[Exception]
) -> None:
    service = make("pending", "pending", "pending", end)
    service.put(SOURCE, b"hello")
    source = service.blobs[SOURCE]
    with pytest.raises(error):
        copy(service)
    assert service.blobs[SOURCE] is source
    service.copy_statuses = ["pending", "success"]
    copy(service)
    assert (service.blobs[TARGET].data, service.blobs[SOURCE]) == (b"hello", source)


def test_a_copy_that_stays_pending_is_left_and_found_again() -> None:
    service = make(
        "pending",
    )
    service.put(SOURCE, b"hello")
    with pytest.raises(CopyFailed, match="still pending"):
        copy(service)
    service.copy_statuses = ["success"]
    service.calls.clear()
    copy(service)
    assert service.blobs[TARGET].data == b"hello"
    assert service.calls["start_copy_from_url"] == 1  # refused: there is one already


def test_a_copy_can_be_repeated() -> None:
    service = MemoryAzure()
    service.put(SOURCE, b"hello")
    copy(service)
    made = service.blobs[TARGET]
    copy(service)
    assert service.blobs[TARGET] is made


def test_without_its_source_a_copy_that_is_there_will_do() -> None:
    service = MemoryAzure()
    service.put(SOURCE, b"hello")
    copy(service)
    del service.blobs[SOURCE]
    copy(service)
    del service.blobs[TARGET]
    with pytest.raises(FileNotFoundError):
        copy(service)


def test_a_stranger_is_not_overwritten_also_one_of_the_same_size() -> None:
    service = MemoryAzure()
    service.put(SOURCE, b"hello")
    service.put(TARGET, b"world")
    stranger = service.blobs[TARGET]
    with pytest.raises(FileExistsError):
        copy(service)
    assert service.blobs[TARGET] is stranger


def test_a_storage_that_overwrites_replaces_a_stranger_but_not_its_own_copy() -> None:
    service = MemoryAzure()
    service.put(SOURCE, b"hello")
    service.put(TARGET, b"old")
    copy(service, overwrites=True)
    made = service.blobs[TARGET]
    assert made.data == b"hello"
    copy(service, overwrites=True)
    assert service.blobs[TARGET] is made


def test_a_source_that_is_not_the_one_that_was_looked_at_is_not_copied() -> None:
    service = MemoryAzure()
    seen = service.put(SOURCE, b"hello")
    service.put(SOURCE, b"other")
    with pytest.raises(SourceChanged):
        copy(service, etag=seen)
    assert TARGET not in service.blobs


@pytest.mark.parametrize("way", [(), ("upload_blob_from_url",), ONLY_COPY, NO_COPY])
def test_a_source_that_changes_while_it_is_copied_is_noticed_by_the_service(
    way: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = MemoryAzure(way)
    service.put(SOURCE, b"hello")
    look = AzureBlobs.look

    def look_and_lose(blobs: AzureBlobs, name: str) -> Any:
        found = look(blobs, name)
        service.put(SOURCE, b"other")
        return found

    monkeypatch.setattr(AzureBlobs, "look", look_and_lose)
    with pytest.raises(SourceChanged):
        copy(service)
    assert TARGET not in service.blobs


@pytest.mark.parametrize("refuses", [("upload_blob_from_url",), NO_COPY])
def test_an_empty_blob_is_copied_too(refuses: tuple[str, ...]) -> None:
    service = MemoryAzure(refuses)
    service.put(SOURCE, b"")
    copy(service)
    assert service.blobs[TARGET].data == b""
