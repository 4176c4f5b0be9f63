"""What uploads cost in requests to S3, pinned. The S3 here counts and discards; bytes are compared elsewhere."""

from __future__ import annotations

import pytest

from tests.tus_server.stores.s3_kit import Sender, Site
from tus_server.parts import GIB, MIB
from tus_server.stores.buffers import ReceiveBudget
from tus_server.testing.s3_memory import MemoryS3
from tus_server.testing.stores import NOW, append, make_record


def send(client: MemoryS3, size: int, chunk: int, **options: object) -> Site:
    """Send one upload in PATCHes of a size."""
    site = Site(client, "bucket")
    store = site.open(client, buffers=ReceiveBudget(), **{"conditional": True, **options})
    sender = Sender(store, b"")
    sender.content = bytes(size)
    sender.create()
    while sender.told < size:
        assert sender.patch(chunk, piece=MIB).status == 204
    assert site.records.get(sender.upload_id).finished_at is not None
    return site


@pytest.mark.parametrize("size", [1, 2 * MIB, 8 * MIB])
def test_a_small_upload_in_one_patch_is_one_request_in_all(size: int) -> None:
    client = MemoryS3(discards=True)
    send(client, size, size)
    assert client.requests == {"put_object": 1}


def test_creating_asking_and_giving_up_cost_nothing() -> None:
    client = MemoryS3()
    site = Site(client, "bucket")
    sender = Sender(site.store, bytes(100))
    sender.create()
    sender.patch(50)
    client.reset()
    for _ in range(5):
        assert sender.head() == 50
    sender.upload_id = ""
    sender.create()
    assert client.requests == {}


@pytest.mark.parametrize(
    ("chunk", "most"),
    [
        (8 * MIB, 130),  # 128 parts, create, complete
        (5 * MIB, 207),
        (64 * MIB, 130),
        (GIB, 130),
    ],
)
def test_a_gibibyte_costs_its_parts_and_two(chunk: int, most: int) -> None:
    client = MemoryS3(discards=True)
    send(client, GIB, chunk)
    assert sum(client.requests.values()) <= most, client.requests
    assert client.received == GIB
    assert client.requests["create_multipart_upload"] == client.requests["complete_multipart_upload"] == 1


def test_small_chunks_cost_a_tail_each_and_less_than_two_uploads_of_the_bytes() -> None:
    client = MemoryS3(discards=True)
    send(client, 128 * MIB, MIB)
    counted = dict(client.requests)
    deleted = counted.pop("delete_object")
    # An eighth of what the table of section 12 says for 1 GiB; deleting costs nothing at AWS.
    assert sum(counted.values()) <= 2050 / 8, counted
    assert deleted == counted["put_object"] == 112
    assert client.received <= 1.9 * 128 * MIB


def test_tails_that_another_process_stored_are_fetched_once() -> None:
    client = MemoryS3(discards=True)
    site = Site(client, "bucket")
    upload = site.store.create(make_record(20 * MIB))
    for _ in range(20):
        upload = append(site.open(client), upload, bytes(MIB))
    site.store.finish(upload, NOW)
    assert client.requests["get_object"] == client.requests["put_object"] == 14 + 3
    assert client.requests["upload_part"] == 3


def test_tails_of_up_to_64_kib_cost_no_request() -> None:
    client = MemoryS3(discards=True)
    send(client, 64 * 1024, 1000)
    assert client.requests == {"put_object": 1}


def test_an_upload_is_terminated_with_a_request_for_each_thing_that_there_is() -> None:
    client = MemoryS3()
    site = Site(client, "bucket")
    upload = append(site.store, site.store.create(make_record(100 * MIB)), bytes(9 * MIB))
    client.reset()
    site.store.terminate(upload)
    assert client.requests == {
        "abort_multipart_upload": 1,
        "list_objects_v2": 1,
        "delete_object": 1,
        "head_object": 1,
    }


def test_looking_at_the_beginning_costs_nothing_in_the_process_that_received_it() -> None:
    client = MemoryS3()
    site = Site(client, "bucket")
    content = bytes(range(256)) * 40
    upload = append(site.store, site.store.create(make_record(len(content))), content[:100])
    upload = append(site.store, upload, content[100:])
    site.store.sync(upload)
    client.reset()
    assert site.store.read(upload, 0, 4096) == content[:4096]
    assert client.requests == {}
    assert site.store.read(upload, 4000, 200) == content[4000:4200]
    assert site.open().read(upload, 0, 10) == content[:10]
    assert client.requests == {"get_object": 2}


def test_a_concatenation_copies_inside_the_backend() -> None:
    client = MemoryS3(discards=True)
    site = Site(client, "bucket")
    partials = []
    for _ in range(3):
        upload = site.store.create(make_record(20 * MIB, concat="partial"))
        partials.append(site.store.finish(append(site.store, upload, bytes(20 * MIB)), NOW))
    final = site.store.create(make_record(60 * MIB, concat="final;x", partials=tuple(one.id for one in partials)))
    client.reset()
    store = site.open(client)
    store.finish(store.concatenate(final, partials), NOW)
    assert client.requests == {"create_multipart_upload": 1, "upload_part_copy": 3, "complete_multipart_upload": 1}
    assert client.received == 0
