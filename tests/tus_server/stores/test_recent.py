"""What a process remembers of uploads, and that it is bounded."""

from __future__ import annotations

from tests.tus_server.stores.s3_kit import Site
from tus_server.stores.recent import HEAD_BYTES, HeadCache, RecentIds
from tus_server.testing.s3_memory import MemoryS3
from tus_server.testing.stores import NOW, append, make_record


def test_a_beginning_is_remembered_while_its_bytes_follow_each_other() -> None:
    heads = HeadCache()
    heads.extend("a", 0, b"abc")
    heads.extend("a", 3, b"def")
    assert heads.get("a") == b"abcdef"
    heads.extend("a", 9, b"xyz")  # there are bytes between them that nobody here has seen
    assert heads.get("a") == b"abcdef"
    heads.extend("a", 0, b"new")
    assert heads.get("a") == b"new"
    heads.forget("a")
    assert heads.get("a") == b""


def test_only_so_much_is_remembered_of_so_many() -> None:
    heads = HeadCache()
    for number in range(2000):
        heads.extend(str(number), 0, bytes(10_000))
    assert len(heads.get("1999")) == HEAD_BYTES
    assert heads.get("0") == b""
    ids = RecentIds()
    for number in range(10_000):
        ids.add(str(number))
    assert "9999" in ids
    assert "0" not in ids
    ids.forget("9999")
    assert "9999" not in ids


def test_a_finished_upload_is_not_asked_for_again() -> None:
    site = Site(MemoryS3(), "bucket")
    upload = append(site.store, site.store.create(make_record(5)), b"hello")
    asked: list[str] = []
    reload = site.manifests.reload
    site.manifests.reload = lambda upload_id: asked.append(upload_id) or reload(upload_id)
    site.manifests.load = lambda record: asked.append(record.id) or reload(record.id)
    site.store.sync(upload)
    site.store.finish(upload, NOW)
    assert asked == []
    site.store.terminate(upload)
    assert upload.id not in site.store._finished
