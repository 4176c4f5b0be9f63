"""The promises of a cloud store that no single answer shows, and the stores that break them: each is rejected."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from tests.servers.broken import BrokenEngine
from tests.tus_server.stores.s3_kit import Sender, Site, content_of
from tus_server.checksums import build_checksum
from tus_server.engine import Engine
from tus_server.errors import OffsetConflict, TusError, UploadGone
from tus_server.locks.memory import MemoryLocker
from tus_server.parts import PartLimits
from tus_server.stores import s3_objects, s3_sink
from tus_server.stores.manifests import Manifest, Segment
from tus_server.stores.pipeline import POOL_THREADS, Pipeline, shared_pool
from tus_server.stores.s3_sink import S3Sink
from tus_server.stores.s3_tails import Tails
from tus_server.testing.s3 import ClientAround
from tus_server.testing.s3_memory import MemoryS3
from tus_server.testing.stores import NOW, append, concatenate, make_final, make_partials, make_record
from tus_server.uploads import Upload, UploadRecord

LIMITS = PartLimits(smallest=8, largest=1024, most=1000, usual=16)
CONTENT = content_of(100)


class Watched(ClientAround):
    """Looks, after each request, whether everything that the manifests name is there."""

    def __init__(self, site: Site) -> None:
        super().__init__(site.client)
        self.site = site
        self.missing: list[str] = []

    def around(self, name: str, call: Callable[..., Any], parameters: dict[str, Any]) -> Any:
        answer = call(**parameters)
        self.look()
        return answer

    def look(self) -> None:
        objects, multiparts = self.client.objects, self.client.multiparts  # type: ignore[attr-defined]
        for manifest in list(self.site.manifests._manifests.values()):
            self.missing += [one.name for one in manifest.tail if one.name and one.name not in objects]
            if manifest.finished is None and manifest.multipart_id is not None:
                parts = multiparts[manifest.multipart_id].parts
                etags = self.site.manifests.parts(manifest.upload_id)
                for number, etag in enumerate(etags, 1):
                    if number not in parts or parts[number].etag.strip('"') != etag:
                        self.missing.append(f"part {number}")
                if (
                    sum(parts[number].size for number in range(1, len(etags) + 1) if number in parts)
                    < manifest.parts_end
                ):
                    self.missing.append("bytes")


def new_site(**options: Any) -> Site:
    return Site(MemoryS3(), "bucket", {"limits": LIMITS, "part_size": 16, "inline_limit": 0, **options})


# --- the promises -----------------------------------------------------------------------------------------------------


def nothing_is_deleted_before_its_replacement_is_recorded() -> None:
    site = new_site(part_size=1000)
    watched = Watched(site)
    store = site.open(watched)
    upload = store.create(make_record(500))
    content = content_of(500)
    for _ in range(40):  # joined in between
        upload = append(store, upload, content[upload.offset : upload.offset + 5])
    upload = append(store, upload, content[200:])
    store.finish(upload, NOW)
    assert watched.missing == []
    assert site.stored(upload) == content


#: Seconds after which an upload that takes none is taken to wait for others.
STUCK_AFTER = 20


class Holding(ClientAround):
    """Holds one part up until it is let go, or fails it."""

    def __init__(self, client: Any, number: int) -> None:
        super().__init__(client)
        self.number = number
        self.may_go = threading.Event()
        self.others = threading.Semaphore(0)
        self.fails = False

    def around(self, name: str, call: Callable[..., Any], parameters: dict[str, Any]) -> Any:
        if name == "upload_part" and parameters["PartNumber"] == self.number:
            assert self.may_go.wait(60)
            if self.fails:
                raise OSError("lost")
        answer = call(**parameters)
        if name == "upload_part" and parameters["PartNumber"] != self.number:
            self.others.release()
        return answer


def parts_are_recorded_in_order() -> None:
    site = new_site()
    ticks = iter(range(1000))
    holding = Holding(site.recording, 2)
    upload = site.store.create(make_record(100))
    store = site.open(holding, clock=lambda: float(next(ticks)))
    sink = store.open_sink(upload, 0)
    sink.write(memoryview(CONTENT)[:48])
    for _ in range(2):
        assert holding.others.acquire(timeout=60)  # parts 1 and 3 are there
    sink.write(memoryview(CONTENT)[48:50])
    try:
        manifest = site.manifests.reload(upload.id)
        assert manifest.part_count <= 1, "it counts a part behind one that is not there"
    finally:
        holding.fails = True
        holding.may_go.set()
    with pytest.raises(TusError):
        sink.settle()
    assert site.store.get(upload.id).offset == 16
    store = site.open()
    upload = append(store, store.get(upload.id), CONTENT[16:])
    store.finish(upload, NOW)
    assert site.stored(upload) == CONTENT


def a_missing_upload_is_not_a_complete_one() -> None:
    site = new_site()
    upload = append(site.store, site.store.create(make_record(100)), CONTENT)
    multipart_id = site.manifests.reload(upload.id).multipart_id
    site.client.abort_multipart_upload(Bucket="bucket", Key=upload.id, UploadId=multipart_id)
    with pytest.raises(UploadGone):
        site.store.finish(upload, NOW)
    assert not site.store.records.get(upload.id).finished_at


def an_offset_has_its_bytes() -> None:
    site = new_site()
    ticks = iter(range(1000))
    watched = Watched(site)
    holding = Holding(watched, 2)
    upload = site.store.create(make_record(100))
    sink = site.open(holding, clock=lambda: float(next(ticks))).open_sink(upload, 0)
    try:
        for start in range(0, 48, 8):
            sink.write(memoryview(CONTENT)[start : start + 8])
            watched.look()
    finally:
        holding.may_go.set()
    assert sink.settle() == 48
    watched.look()
    assert watched.missing == []
    upload = append(site.store, site.store.get(upload.id), CONTENT[48:])
    site.store.finish(upload, NOW)
    assert site.stored(upload) == CONTENT


def bytes_whose_checksum_failed_do_not_count(engine: Callable[..., Engine] = Engine) -> None:
    site = new_site()
    sender = Sender(site.store, CONTENT)
    sender.engine = engine(site.open(), MemoryLocker())
    sender.create()
    assert sender.patch(60, Upload_Checksum=build_checksum("sha1", b"another")).status == 460
    store = site.open()
    upload = store.get(sender.upload_id)
    try:
        store.open_sink(upload, 0).settle()
    except OffsetConflict as conflict:
        raise AssertionError("it adopted what was not verified") from conflict
    assert store.get(upload.id).offset == 0
    assert append(store, upload, CONTENT[:40]).offset == 40


def who_waits_for_bytes_holds_no_place() -> None:
    site = new_site()
    store = site.open()
    idle = []
    with ThreadPoolExecutor(1) as opener:
        for _ in range(POOL_THREADS + 8):
            sink = opener.submit(store.open_sink, store.create(make_record(100)), 0).result(60)
            idle.append(sink)
            sink.write(memoryview(CONTENT)[:10])
    upload = store.create(make_record(100))
    worker = threading.Thread(target=append, args=(site.open(), upload, CONTENT), daemon=True)
    worker.start()
    worker.join(STUCK_AFTER)
    is_stuck = worker.is_alive()
    for sink in idle:
        sink.settle()
    worker.join(60)
    assert not is_stuck, "idle clients stop everybody"


def what_a_final_is_made_of_is_there_while_it_is_copied() -> None:
    site = new_site()
    store = site.store
    partials = make_partials(store, CONTENT[:40], CONTENT[40:50], CONTENT[50:])
    final = store.finish(concatenate(store, make_final(store, partials), partials), NOW)
    assert site.stored(final) == CONTENT
    assert [site.stored(each) for each in partials] == [CONTENT[:40], CONTENT[40:50], CONTENT[50:]]


PROMISES = (
    nothing_is_deleted_before_its_replacement_is_recorded,
    parts_are_recorded_in_order,
    a_missing_upload_is_not_a_complete_one,
    an_offset_has_its_bytes,
    bytes_whose_checksum_failed_do_not_count,
    who_waits_for_bytes_holds_no_place,
    what_a_final_is_made_of_is_there_while_it_is_copied,
)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_the_store_keeps_its_promises(promise: Callable[[], None]) -> None:
    promise()


# --- stores that break them -------------------------------------------------------------------------------------------


def delete_the_tail_first(patch: pytest.MonkeyPatch) -> None:
    extended = Tails.extended

    def broken(self: Tails, upload_id: str, revision: int, tail: Sequence[Segment], *args: Any, **options: Any) -> Any:
        fetched = list(self.load(tuple(tail)))  # it has the bytes in its hands
        self.drop(tail)
        data = [Segment(one.start, one.size, data=piece) for one, piece in zip(tail, fetched, strict=True)]
        return extended(self, upload_id, revision, tuple(data[-1:]), *args, **options)

    patch.setattr(Tails, "extended", broken)


def record_what_ends_first(patch: pytest.MonkeyPatch) -> None:
    class Hasty(Pipeline[Any]):
        def _gather(self) -> None:
            for future in [one for one in self._flying if one.done()]:
                self._flying.remove(future)
                if future.exception() is None:
                    self._results.append(future.result())
                else:
                    self.error = future.exception()

    patch.setattr(s3_sink, "Pipeline", Hasty)


def take_404_for_complete(patch: pytest.MonkeyPatch) -> None:
    def look(self: Any, record: UploadRecord, known: Manifest, wanted: str) -> str:
        return wanted

    patch.setattr(s3_objects.Objects, "_look", look)


def remember_the_offset_without_bytes(patch: pytest.MonkeyPatch) -> None:
    def advance(self: Any, tail: tuple[Segment, ...], *, is_unsettled: bool = True) -> None:
        known, parts = self._fence.known, self._unrecorded()
        count = known.part_count + len(parts)
        wanted = replace(
            known, part_size=16, part_count=count, parts_end=self._begin, tail=tail, is_unsettled=is_unsettled
        )
        self._fence.advance(wanted, [part.etag for part in parts])

    patch.setattr(S3Sink, "_advance", advance)


def wait_with_a_permit(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(globals(), "STUCK_AFTER", 1)  # it will be
    built, settle = S3Sink.__init__, S3Sink.settle

    def init(self: Any, *args: Any) -> None:
        built(self, *args)
        self.done = threading.Event()
        shared_pool().submit(self.done.wait, 30)

    def done(self: Any) -> int:
        self.done.set()
        return settle(self)

    patch.setattr(S3Sink, "__init__", init)
    patch.setattr(S3Sink, "settle", done)


def delete_before_the_copy(patch: pytest.MonkeyPatch) -> None:
    from tus_server.stores.s3 import S3Store

    appended = S3Store._append

    def broken(self: Any, record: UploadRecord, fence: Any, partials: Iterable[Upload]) -> None:
        for each in partials:
            self.bucket.delete(self.key(each.record))
        appended(self, record, fence, list(partials))

    patch.setattr(S3Store, "_append", broken)


BROKEN: list[tuple[Callable[[pytest.MonkeyPatch], None], Callable[[], None]]] = [
    (delete_the_tail_first, nothing_is_deleted_before_its_replacement_is_recorded),
    (record_what_ends_first, parts_are_recorded_in_order),
    (take_404_for_complete, a_missing_upload_is_not_a_complete_one),
    (remember_the_offset_without_bytes, an_offset_has_its_bytes),
    (
        lambda patch: None,
        partial(bytes_whose_checksum_failed_do_not_count, partial(BrokenEngine, "keeps-an-unverified-chunk")),
    ),
    (wait_with_a_permit, who_waits_for_bytes_holds_no_place),
    (delete_before_the_copy, what_a_final_is_made_of_is_there_while_it_is_copied),
]


@pytest.fixture
def own_pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A pool that a broken store may spoil."""
    with ThreadPoolExecutor(POOL_THREADS) as pool:
        monkeypatch.setattr("tus_server.stores.pipeline._pool", pool)
        yield


@pytest.mark.usefixtures("own_pool")
@pytest.mark.parametrize(("breaks", "promise"), BROKEN, ids=range(1, 8))
def test_a_store_that_breaks_a_promise_is_rejected(
    breaks: Callable[[pytest.MonkeyPatch], None], promise: Callable[[], None]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        breaks(patch)
        with pytest.raises((AssertionError, UploadGone, pytest.fail.Exception)):
            promise()
