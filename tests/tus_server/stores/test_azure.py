"""The Azure store keeps the contract on Azurite, and what is special about staged blocks."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from azure.storage.blob import BlobServiceClient

from tests.servers.azure import WatchedContainer, make_container
from tests.servers.azurite import AzuriteServer
from tus_server.errors import BadRequest, OffsetConflict, StorageFull, StoreUnavailable, UploadGone
from tus_server.parts import GIB, MIB, choose_part_size
from tus_server.stores import azure_joining
from tus_server.stores.azure import LIMITS, AzureStore
from tus_server.stores.azure_blobs import AzureBlobs, Unsupported
from tus_server.stores.azure_blocks import Block
from tus_server.stores.base import UploadStore
from tus_server.stores.buffers import ReceiveBudget
from tus_server.stores.manifests import Manifest, MemoryManifests
from tus_server.stores.memory import MemoryRecords
from tus_server.testing.azure_memory import URL, MemoryAzure, read_memory, refusal
from tus_server.testing.stores import (
    NOW,
    UploadStoreContract,
    append,
    concatenate,
    make_final,
    make_partials,
    make_record,
)
from tus_server.uploads import Upload


@pytest.fixture
def container(azurite: AzuriteServer) -> WatchedContainer:
    """A container of the test's own."""
    return WatchedContainer(make_container(azurite))


def make_store(container: Any, **options: Any) -> AzureStore:
    return AzureStore(container, MemoryRecords(), MemoryManifests(), location="uploads", **options)


def make_rivals(container: Any) -> tuple[AzureStore, AzureStore]:
    """Return the stores of two processes over the same uploads."""
    old = make_store(container, inline_limit=2, part_size=10)
    options: Any = {"location": "uploads", "inline_limit": 2, "part_size": 10}
    return old, AzureStore(container, old.records, old.manifests, **options)


def read_stored(store: AzureStore, container: WatchedContainer, upload: Upload) -> bytes:
    """Return what Azurite has of an upload: the committed blob, or the recorded blocks, and what waits beside them."""
    name = store.blob_name(upload.record)
    blob = container.container.get_blob_client(name)
    if blob.exists():
        return bytes(blob.download_blob().readall())
    manifest = store.manifests.reload(upload.id)
    ids = store.manifests.parts(upload.id)
    listed = {block.id: block.size for block in blob.get_block_list("all")[1]} if ids else {}
    blocks = [container.data[name, block] for block in ids]
    assert [listed[block] for block in ids] == [len(content) for content in blocks]
    return b"".join(blocks) + b"".join(segment.data for segment in manifest.tail)


class TestAzureStore(UploadStoreContract):
    @pytest.fixture(params=[64 * 1024, 2, 1], ids=["inline", "two bytes inline", "one byte inline"])
    def store(self, container: WatchedContainer, request: pytest.FixtureRequest) -> UploadStore:
        self.container = container
        return make_store(container, inline_limit=request.param)

    def stored_bytes(self, store: UploadStore, upload: Upload) -> bytes:
        assert isinstance(store, AzureStore)
        return read_stored(store, self.container, upload)


class TestAzureStoreAsDocumented(UploadStoreContract):
    """On a service in memory that does what the documentation says where Azurite does not."""

    @pytest.fixture(params=[64 * 1024, 1])
    def store(self, request: pytest.FixtureRequest) -> UploadStore:
        self.service = MemoryAzure()
        return make_store(self.service, inline_limit=request.param, sign=lambda name: f"{URL}{name}?signed")

    def stored_bytes(self, store: UploadStore, upload: Upload) -> bytes:
        assert isinstance(store, AzureStore)
        return read_memory(store, self.service, upload) or b""


def test_nothing_is_left_of_an_upload_that_was_terminated_in_the_middle() -> None:
    service = MemoryAzure()
    store = make_store(service, inline_limit=1)
    upload = append(store, start(store, 10), b"hello")
    assert service.staged
    store.terminate(upload)
    assert not service.blobs
    assert not any(service.staged.values())


def kill(sink: Any) -> None:
    """Let a sink's process die: what is on its way arrives, nothing is recorded any more."""
    sink._pipeline.drain()
    sink._on_settled()


def start(store: AzureStore, length: int | None = 10, **facts: object) -> Upload:
    return store.create(make_record(length, **facts))


def finish(store: AzureStore, upload: Upload) -> Upload:
    """Do what the engine does at the end of an upload."""
    store.sync(upload)
    return store.finish(upload, NOW)


def big(count: int) -> memoryview:
    return memoryview((bytes(range(251)) * (count // 251 + 1))[:count])


@pytest.fixture
def store(container: WatchedContainer) -> AzureStore:
    return make_store(container, inline_limit=2)


@pytest.fixture
def small(container: WatchedContainer) -> AzureStore:
    """A store with blocks of 10 bytes."""
    return make_store(container, inline_limit=2, part_size=10)


# Requests.


def test_two_mebibytes_in_one_patch_cost_one_request(container: WatchedContainer) -> None:
    store = make_store(container)
    upload = append(store, start(store, 2 * MIB), bytes(2 * MIB))
    assert store.read(upload, 0, 4096) == bytes(4096)
    finish(store, upload)
    assert dict(container.calls) == {"upload_blob": 1}


def test_a_blob_of_eight_mebibytes_is_stored_by_one_request_and_a_larger_one_in_blocks(
    container: WatchedContainer,
) -> None:
    store = make_store(container)
    finish(store, append(store, start(store, 8 * MIB), bytes(8 * MIB)))
    assert dict(container.calls) == {"upload_blob": 1}
    container.calls.clear()
    finish(store, append(store, start(store, 8 * MIB + 1), bytes(8 * MIB + 1)))
    assert dict(container.calls) == {"stage_block": 2, "commit_block_list": 1}


def test_a_gibibyte_in_patches_of_a_part_costs_a_request_for_each_and_one_more() -> None:
    class Sink(WatchedContainer):
        """Takes everything and keeps nothing."""

        def watch(self, name: str, call: Any) -> Any:
            self.calls[name] += 1
            return {"etag": '"1"'}

    container = Sink(_Nothing())
    store = make_store(container)
    upload = start(store, 1024 * MIB)
    chunk = bytes(8 * MIB)
    for _ in range(128):
        sink = store.open_sink(upload, upload.offset, len(chunk))
        sink.write(memoryview(chunk))
        upload = replace(upload, offset=sink.settle())
        assert store.get(upload.id).offset == upload.offset
    finish(store, upload)
    assert dict(container.calls) == {"stage_block": 128, "commit_block_list": 1}


class _Nothing:
    def get_blob_client(self, blob: str) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        return None


def test_what_is_too_small_for_a_block_costs_no_request(container: WatchedContainer) -> None:
    store = make_store(container)
    upload = start(store, 100_000)
    for _ in range(65):
        upload = append(store, upload, bytes(1000))
    assert not container.calls
    assert append(store, upload, bytes(1000)).offset == 66_000
    assert dict(container.calls) == {"stage_block": 1}


def test_creating_asking_and_terminating_an_upload_without_bytes_cost_nothing(
    store: AzureStore, container: WatchedContainer
) -> None:
    upload = start(store)
    store.get(upload.id)
    store.terminate(upload)
    assert not container.calls


# After a crash.


def test_blocks_that_a_dead_writer_sent_are_found(small: AzureStore, container: WatchedContainer) -> None:
    upload = start(small, 100)
    sink = small.open_sink(upload, 0)
    sink.write(big(35))
    kill(sink)
    assert small.get(upload.id).offset == 0
    with pytest.raises(OffsetConflict) as caught:
        small.open_sink(upload, 0)
    assert caught.value.offset == 30
    assert small.get(upload.id).offset == 30
    upload = append(small, replace(upload, offset=30), bytes(big(100)[30:]))
    finish(small, upload)
    assert read_stored(small, container, upload) == big(100)


def test_a_hole_in_what_a_dead_writer_sent_ends_what_is_found(
    small: AzureStore, container: WatchedContainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = AzureBlobs.stage

    def stage_but_the_second(blobs: AzureBlobs, name: str, block_id: str, data: Any) -> None:
        if block_id.startswith(f"{10:016d}-"):
            raise StoreUnavailable
        stage(blobs, name, block_id, data)

    monkeypatch.setattr(AzureBlobs, "stage", stage_but_the_second)
    upload = start(small, 100)
    sink = small.open_sink(upload, 0)
    with suppress(StoreUnavailable):
        sink.write(big(35))
    kill(sink)
    with pytest.raises(OffsetConflict) as caught:
        small.open_sink(upload, 0)
    assert caught.value.offset == 10


def test_the_tail_is_part_of_the_first_block_that_is_found(small: AzureStore, container: WatchedContainer) -> None:
    small.inline_limit = 8
    upload = append(small, start(small, 100), bytes(big(7)))
    sink = small.open_sink(upload, 7)
    sink.write(big(100)[7:27])
    kill(sink)
    assert small.get(upload.id).offset == 7
    with pytest.raises(OffsetConflict) as caught:
        small.open_sink(upload, 7)
    assert caught.value.offset == 20
    assert read_stored(small, container, upload) == big(20)


def test_a_whole_upload_whose_answer_was_lost_is_found(store: AzureStore, container: WatchedContainer) -> None:
    upload = start(store, 100)
    sink = store.open_sink(upload, 0)
    sink.write(big(100))
    container.arm("after", "upload_blob")
    with pytest.raises(StoreUnavailable):
        sink.settle()
    assert store.get(upload.id).offset == 0
    with pytest.raises(OffsetConflict) as caught:
        store.open_sink(upload, 0)
    assert caught.value.offset == 100
    finish(store, store.get(upload.id))
    assert read_stored(store, container, upload) == big(100)


def test_blocks_of_a_dead_writer_do_not_keep_a_whole_upload_out(container: WatchedContainer) -> None:
    store = make_store(container)
    for content in (bytes(big(1000)), b""):
        upload = start(store, len(content))
        container.get_blob_client(store.blob_name(upload.record)).stage_block(Block(0, 3, 1).id, b"old")
        finish(store, append(store, upload, content))
        assert read_stored(store, container, upload) == content


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_commit_without_an_answer_is_repeated(store: AzureStore, container: WatchedContainer, when: Any) -> None:
    upload = append(store, append(store, start(store, 10), b"hello"), b"world")
    container.arm(when, "commit_block_list")
    with pytest.raises(StoreUnavailable):
        store.sync(upload)
    assert store.get(upload.id).offset == 10
    assert finish(store, upload).is_finished
    assert read_stored(store, container, upload) == b"helloworld"


def test_a_stranger_under_the_name_is_neither_overwritten_nor_taken_for_ours(
    store: AzureStore, container: WatchedContainer
) -> None:
    upload = append(store, append(store, start(store, 10), b"hello"), b"wor")
    container.container.upload_blob(store.blob_name(upload.record), b"0123456789", overwrite=True)
    upload = append(store, upload, b"ld")
    with pytest.raises(StoreUnavailable):
        store.sync(upload)
    store.terminate(upload)
    assert container.container.download_blob(store.blob_name(upload.record)).readall() == b"0123456789"


def test_lost_blocks_let_the_offset_go_back_to_what_is_there(
    store: AzureStore, container: WatchedContainer, caplog: pytest.LogCaptureFixture
) -> None:
    upload = start(store, 9)
    for piece in (b"abc", b"def", b"ghi"):
        upload = append(store, upload, piece)
    name = store.blob_name(upload.record)
    first, _, third = store.manifests.parts(upload.id)
    blob = container.container.get_blob_client(name)
    # An empty list drops them all; then two of three come back.
    blob.commit_block_list([])
    blob.delete_blob()
    blob.stage_block(first, b"abc")
    blob.stage_block(third, b"ghi")
    with pytest.raises(StoreUnavailable):
        store.sync(upload)
    assert store.get(upload.id).offset == 3
    assert "lost acknowledged blocks" in caplog.text
    upload = append(store, store.get(upload.id), b"defghi")
    finish(store, upload)
    assert read_stored(store, container, upload) == b"abcdefghi"


def test_an_upload_that_has_lost_all_its_blocks_is_gone(store: AzureStore, container: WatchedContainer) -> None:
    upload = append(store, append(store, start(store, 6), b"abc"), b"def")
    blob = container.container.get_blob_client(store.blob_name(upload.record))
    blob.commit_block_list([])
    blob.delete_blob()
    with pytest.raises(UploadGone):
        store.sync(upload)


# Several writers.


def test_a_writer_that_was_overtaken_records_nothing_and_its_blocks_do_not_count(container: WatchedContainer) -> None:
    records, manifests = MemoryRecords(), MemoryManifests()
    old, new = (
        AzureStore(container, records, manifests, location="uploads", inline_limit=2, part_size=10) for _ in range(2)
    )
    upload = start(old, 100)
    slow = old.open_sink(upload, 0)
    slow.write(memoryview(b"old" * 5))
    slow._pipeline.drain()  # type: ignore[attr-defined]  # an AzureSink
    with pytest.raises(OffsetConflict) as caught:
        new.open_sink(upload, 0)
    assert caught.value.offset == 10
    quick = new.open_sink(replace(upload, offset=10), 10)
    quick.write(memoryview(b"new" * 4))
    slow.write(memoryview(b"old" * 10))
    with pytest.raises(OffsetConflict):
        slow.settle()
    kill(quick)
    with pytest.raises(OffsetConflict) as caught:
        new.open_sink(replace(upload, offset=10), 10)
    assert caught.value.offset == 20
    assert read_stored(new, container, upload) == (b"old" * 5)[:10] + (b"new" * 4)[:10]


def test_a_terminated_upload_takes_nothing_from_a_writer_that_is_still_alive(container: WatchedContainer) -> None:
    records, manifests = MemoryRecords(), MemoryManifests()
    old, new = (
        AzureStore(container, records, manifests, location="uploads", inline_limit=2, part_size=10) for _ in range(2)
    )
    upload = start(old, 100)
    sink = old.open_sink(upload, 0)
    sink.write(memoryview(b"some more bytes"))
    new.terminate(upload)
    with pytest.raises(OffsetConflict):
        sink.settle()
    assert list(container.container.list_blobs()) == []
    assert new.manifests.reload(upload.id) == Manifest(upload.id)


# Limits.


def test_an_upload_in_too_many_pieces_is_refused_with_a_hint(store: AzureStore) -> None:
    upload = start(store, 10_000_000)
    ids = [Block(start, 1, 1).id for start in range(45_001)]
    manifest = Manifest(upload.id, part_count=45_001, parts_end=45_001)
    store.manifests.advance(store.manifests.reload(upload.id), manifest, ids)
    with pytest.raises(BadRequest, match="larger chunks") as caught:
        store.open_sink(upload, 45_001)
    assert caught.value.code == "too_many_blocks"


@pytest.mark.parametrize("length", [1, 8 * MIB, 200 * GIB, 4 * 1024 * GIB, 190 * 1024 * GIB, None])
def test_every_length_fits_into_half_of_the_blocks(length: int | None) -> None:
    size = choose_part_size(length, limits=LIMITS)
    assert MIB <= size <= 4000 * MIB
    assert -(-(length or 0) // size) <= 50_000
    assert length is None or length > 95 * 1024 * GIB or -(-length // size) <= 25_000


def test_an_expiry_is_never_more_than_six_days_ahead(store: AzureStore) -> None:
    upload = start(store)
    for wanted in (NOW + timedelta(days=9), None):
        assert store.touch(upload, NOW, wanted).record.expires_at == NOW + timedelta(days=6)
    assert store.touch(upload, NOW, NOW + timedelta(hours=1)).record.expires_at == NOW + timedelta(hours=1)


# Blobs.


def test_a_blob_has_the_headers_that_are_asked_for_and_no_upload_id(container: WatchedContainer) -> None:
    store = make_store(container, settings=lambda record: {"content_type": "text/x", "cache_control": "private"})
    for pieces in ((b"whole",), (b"in bl", b"ocks!")):
        store.inline_limit = 2
        upload = start(store, sum(map(len, pieces)))
        for piece in pieces:
            upload = append(store, upload, piece)
        finish(store, upload)
        found = container.container.get_blob_client(store.blob_name(upload.record)).get_blob_properties()
        assert (found.content_settings.content_type, found.content_settings.cache_control) == ("text/x", "private")
        assert upload.id not in str(found.metadata)


def test_parts_too_large_for_memory_go_through_files(container: WatchedContainer) -> None:
    budget = ReceiveBudget(limit=10 * MIB)
    store = make_store(container, budget=budget)
    upload = append(store, start(store, 20 * MIB), bytes(big(20 * MIB)))
    assert budget.used == 0
    finish(store, upload)
    assert read_stored(store, container, upload) == big(20 * MIB)


def test_a_waiting_writer_gives_its_bytes_away_when_they_are_needed(container: WatchedContainer) -> None:
    budget = ReceiveBudget(limit=12, patience=0.01)
    store = make_store(container, budget=budget, inline_limit=2, part_size=10)
    first, second = start(store, 100), start(store, 100)
    idle, busy = store.open_sink(first, 0), store.open_sink(second, 0)
    idle.write(memoryview(b"12345678"))
    busy.write(memoryview(b"abcdefgh"))
    assert (idle.settle(), busy.settle()) == (8, 8)
    assert budget.used == 0
    assert container.calls["stage_block"] == 2


def test_a_source_is_read_by_the_service_itself_where_it_can(azurite: AzuriteServer) -> None:
    seen: list[Any] = []
    options: dict[str, Any] = {"raw_request_hook": lambda request: seen.append(request.http_request.headers)}
    service = BlobServiceClient.from_connection_string(azurite.connection_string, **options)
    blobs = AzureBlobs(service.get_container_client("any"))
    with pytest.raises(Unsupported):
        blobs.stage_from("a", Block(0, 5, 1).id, "https://x.example/b?signed", 3, 5, '"0x1"')
    (headers,) = seen
    assert headers["x-ms-copy-source"] == "https://x.example/b?signed"
    assert (headers["x-ms-source-range"], headers["x-ms-source-if-match"]) == ("bytes=3-7", '"0x1"')


def test_large_partials_are_copied_by_the_service_and_small_ones_carried(
    container: WatchedContainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(azure_joining, "WORTH_COPYING", 5)
    monkeypatch.setattr(azure_joining, "PIECE", 7)
    monkeypatch.setattr(azure_joining, "COPIED", 14)

    def stage_from(blobs: Any, name: str, block: str, url: str, start: int, count: int, etag: str = "") -> None:
        blobs.stage(name, block, blobs.read(url.removeprefix("signed:"), start, count))

    monkeypatch.setattr(AzureBlobs, "stage_from", stage_from)
    store = make_store(container, sign=lambda name: f"signed:{name}", inline_limit=2)
    partials = make_partials(store, b"abc", bytes(big(30)), b"", b"de", b"fghijklm")
    final = concatenate(store, make_final(store, partials), partials)
    finish(store, final)
    assert read_stored(store, container, final) == b"abc" + big(30) + b"defghijklm"


def test_where_the_service_cannot_copy_partials_are_carried(container: WatchedContainer) -> None:
    store = make_store(container, sign=lambda name: f"https://x.example/{name}?signed")
    partials = make_partials(store, bytes(big(2 * MIB)), bytes(big(3 * MIB)))
    final = concatenate(store, make_final(store, partials), partials)
    finish(store, final)
    assert container.calls["stage_block_from_url"] == 1
    assert read_stored(store, container, final) == bytes(big(2 * MIB)) + bytes(big(3 * MIB))


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (403, "AuthenticationFailed", StoreUnavailable),
        (404, "ContainerNotFound", StoreUnavailable),
        (503, "ServerBusy", StoreUnavailable),
        (500, "InternalError", StoreUnavailable),
        (507, "AccountIsFull", StorageFull),
    ],
)
def test_errors_of_the_service_become_ours(
    container: WatchedContainer, store: AzureStore, status: int, code: str, error: type[Exception]
) -> None:
    upload = start(store)
    sink = store.open_sink(upload, 0)
    sink.write(memoryview(b"hello"))
    raised = refusal(status, code)

    def fail(*args: Any) -> Any:
        raise raised

    container.watch = fail  # type: ignore[method-assign]  # for this test
    with pytest.raises(error):
        sink.settle()
    assert store.get(upload.id).offset == 0
