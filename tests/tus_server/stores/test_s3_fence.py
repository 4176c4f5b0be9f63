"""A writer that slept while another took its upload over, over an S3 in memory."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from tus_server.errors import OffsetConflict
from tus_server.parts import PartLimits
from tus_server.stores.buffers import ReceiveBudget
from tus_server.stores.manifests import MemoryManifests
from tus_server.stores.memory import MemoryRecords
from tus_server.stores.s3 import S3Store
from tus_server.testing.s3_memory import MemoryS3
from tus_server.testing.stores import NOW, make_record
from tus_server.uploads import Upload

PART = 16


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_writer_that_slept_meets_the_fence_before_it_sends_a_part_over_its_successors() -> None:
    """Found with SIGSTOP: Complete then missed the successor's part, and the offset went back."""
    client, records, manifests, clock = MemoryS3(), MemoryRecords(), MemoryManifests(), Clock()

    def open_store() -> S3Store:
        limits = PartLimits(smallest=1, largest=64, most=100, usual=PART)
        buffers = ReceiveBudget(patience=0.0)
        return S3Store(
            client, "bucket", records, manifests, part_size=PART, limits=limits, buffers=buffers, clock=clock
        )

    old, new = open_store(), open_store()
    content = bytes(range(4 * PART))
    upload = old.create(make_record(len(content)))
    sleeper = old.open_sink(upload, 0)
    sleeper.write(memoryview(content[: 2 * PART + 3]))
    [multipart] = client.multiparts.values()
    deadline = time.monotonic() + 60
    while len(multipart.parts) < 2:  # they are sent by threads
        assert time.monotonic() < deadline
        time.sleep(0.001)

    clock.now += 2
    with pytest.raises(OffsetConflict) as recovered:
        new.open_sink(upload, 0)
    assert recovered.value.offset == 2 * PART
    sink = new.open_sink(replace(upload, offset=2 * PART), 2 * PART)
    sink.write(memoryview(content[2 * PART : 3 * PART + 1]))
    assert sink.settle() == 3 * PART + 1

    with pytest.raises(OffsetConflict):
        sleeper.write(memoryview(b"!" * 2 * PART))
    with pytest.raises(OffsetConflict):
        sleeper.settle()
    assert multipart.parts[3].data == content[2 * PART : 3 * PART]

    sink = new.open_sink(replace(upload, offset=3 * PART + 1), 3 * PART + 1)
    sink.write(memoryview(content[3 * PART + 1 :]))
    finished = new.finish(Upload(upload.record, sink.settle()), NOW)
    assert new.read(finished, 0, 100) == content
    assert client.objects[upload.record.object_name].data == content
