"""What the S3 store does about dead writers, writers that were given up, and backends that lose or invent things."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from tests.tus_server.stores.s3_kit import SMALL, Sender, Site, client_of, content_of, new_bucket
from tus_server.errors import OffsetConflict, StoreUnavailable, TooLarge, UploadGone
from tus_server.parts import PartLimits
from tus_server.stores.buffers import ReceiveBudget
from tus_server.testing.s3 import ClientAround, lost_answer, refusal
from tus_server.testing.s3_memory import MemoryS3
from tus_server.testing.stores import NOW, append, make_record

CONTENT = content_of(100)


@pytest.fixture(params=["memory", "small_moto", pytest.param("small_rgw", marks=pytest.mark.e2e)])
def site(request: pytest.FixtureRequest) -> Site:
    client = MemoryS3() if request.param == "memory" else client_of(request.getfixturevalue(request.param))
    return Site(client, new_bucket(client), {"limits": SMALL, "part_size": 16, "inline_limit": 4})


@pytest.fixture(params=["memory", pytest.param("small_rgw", marks=pytest.mark.e2e)])
def strict_site(request: pytest.FixtureRequest) -> Site:
    """Of a server that knows which multipart uploads there are: moto answers 500 for one that it does not know."""
    client = MemoryS3() if request.param == "memory" else client_of(request.getfixturevalue(request.param))
    return Site(client, new_bucket(client), {"limits": SMALL, "part_size": 16, "inline_limit": 4})


def die_after(site: Site, count: int, *, length: int = 100, store: Any = None) -> Any:
    """Let a writer send bytes and die without settling; returns its sink, which may wake up again."""
    store = store or site.open()
    upload = site.store.create(make_record(length))
    sink = store.open_sink(upload, 0)
    for start in range(0, count, 10):
        sink.write(memoryview(CONTENT)[start : min(start + 10, count)])
    sink._pipeline.drain()  # its requests are over, whatever became of them
    return upload, sink


def finish(site: Site, upload: Any) -> bytes:
    """Send what is missing through another process, and return the object."""
    for _ in range(3):
        store = site.open()
        current = append(store, store.get(upload.id), CONTENT[store.get(upload.id).offset : upload.length])
        try:
            store.finish(current, NOW)
        except StoreUnavailable as error:
            if error.code != "parts_lost":
                raise
        else:
            return site.stored(upload)
    raise AssertionError("it does not come to its end")


# --- dead writers -----------------------------------------------------------------------------------------------------


def test_the_parts_of_a_dead_writer_are_found_again(site: Site) -> None:
    upload, _ = die_after(site, 70)
    assert site.store.get(upload.id).offset == 0, "HEAD asks nobody"
    with pytest.raises(OffsetConflict) as caught:
        site.open().open_sink(upload, 0)
    assert caught.value.offset == site.store.get(upload.id).offset == 64
    assert finish(site, upload) == CONTENT


def test_a_recovery_that_finds_nothing_lets_the_client_go_on(site: Site) -> None:
    upload, _ = die_after(site, 70, store=site.open(_Listing(site.recording, parts=[])))
    store = site.open(_Listing(site.recording, parts=[]))
    upload = append(store, store.get(upload.id), CONTENT[:30])
    assert upload.offset == 30
    assert finish(site, upload) == CONTENT


def test_the_tail_before_adopted_parts_is_replaced_by_them(site: Site) -> None:
    upload = append(site.store, site.store.create(make_record(100)), CONTENT[:10])
    sink = site.open().open_sink(upload, 10)
    sink.write(memoryview(CONTENT)[10:40])
    sink._pipeline.drain()
    with pytest.raises(OffsetConflict) as caught:
        site.open().open_sink(upload, 10)
    assert caught.value.offset == 32
    assert site.keys() == []
    assert finish(site, upload) == CONTENT


class _Listing(ClientAround):
    """A vendor whose ListParts answers as it likes: an error, or the parts that it is given."""

    def __init__(self, client: Any, error: str = "", parts: list[Any] | None = None) -> None:
        super().__init__(client)
        self._error = error
        self._parts = parts

    def around(self, name: str, call: Callable[..., Any], parameters: dict[str, Any]) -> Any:
        if name != "list_parts":
            return call(**parameters)
        if self._error:
            raise refusal(self._error, "ListParts", 404)
        return {"Parts": self._parts, "IsTruncated": False}


class _AfterComplete(ClientAround):
    """A vendor that still lists the parts after Complete (Swift), or lists the last one a request late."""

    def __init__(self, client: Any, *, is_late: bool = False) -> None:
        super().__init__(client)
        self._is_late = is_late
        self._last: Any = {"Parts": []}

    def around(self, name: str, call: Callable[..., Any], parameters: dict[str, Any]) -> Any:
        if name != "list_parts":
            return call(**parameters)
        if self._is_late:
            answer = dict(call(**parameters))
            shown, self._last = self._last, answer
            return shown
        try:
            self._last = call(**parameters)
        except Exception:
            return self._last
        return self._last


VENDORS: dict[str, Callable[[Any], Any]] = {
    "NoSuchKey": lambda client: _Listing(client, "NoSuchKey"),
    "NoSuchUpload": lambda client: _Listing(client, "NoSuchUpload"),
    "SlowDown": lambda client: _Listing(client, "SlowDown"),
    "empty": lambda client: _Listing(client, parts=[]),
    "after Complete": lambda client: _AfterComplete(client),
    "late": lambda client: _AfterComplete(client, is_late=True),
}


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("died_at", [10, 40, 100])
def test_no_vendor_makes_an_offset_too_large_or_an_upload_incomplete(site: Site, vendor: str, died_at: int) -> None:
    client = VENDORS[vendor](site.recording)
    upload, _ = die_after(site, died_at, store=site.open(client))
    sender = Sender(site.open(client), CONTENT)
    sender.upload_id, sender.sent = upload.id, died_at
    sender.head()
    sender.send(30)
    assert site.stored(upload) == CONTENT
    assert site.keys() == [upload.id]


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_complete_whose_answer_was_lost_is_found_by_looking_at_the_object(site: Site, vendor: str) -> None:
    client = _Losing(VENDORS[vendor](site.recording), "complete_multipart_upload")
    store = site.open(client)
    upload = append(store, store.create(make_record(100)), CONTENT)
    assert store.finish(upload, NOW).is_finished, "the look came at once"
    assert site.stored(upload) == CONTENT


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_complete_that_nobody_recorded_is_found_when_it_is_repeated(site: Site, vendor: str) -> None:
    upload = append(site.store, site.store.create(make_record(100)), CONTENT)
    manifest = site.manifests.reload(upload.id)
    etags = site.manifests.parts(upload.id)
    site.store.bucket.complete(upload.id, manifest.multipart_id, etags)
    store = site.open(VENDORS[vendor](site.recording))
    assert store.get(upload.id).offset == 100
    store.finish(upload, NOW)
    assert site.stored(upload) == CONTENT


class _Losing(ClientAround):
    """A network that loses the answers to some calls."""

    def __init__(self, client: Any, *names: str) -> None:
        super().__init__(client)
        self.names = names

    def around(self, name: str, call: Callable[..., Any], parameters: dict[str, Any]) -> Any:
        answer = call(**parameters)
        if name in self.names:
            raise lost_answer()
        return answer


@pytest.mark.parametrize("conditional", [False, True])
def test_an_object_whose_answer_was_lost_is_recognised_or_stored_again(site: Site, conditional: bool) -> None:
    upload = site.store.create(make_record(10))
    losing = site.open(_Losing(site.recording, "put_object"), conditional=conditional, inline_limit=100)
    upload = append(losing, upload, CONTENT[:10])
    assert upload.offset == 10, "it is kept as a tail"
    assert site.manifests.reload(upload.id).finished is None
    site.open(conditional=conditional).finish(upload, NOW)
    assert site.stored(upload) == CONTENT[:10]


def test_a_strangers_object_under_the_name_is_not_taken_for_ours_nor_overwritten(site: Site) -> None:
    upload = site.store.create(make_record(10))
    site.client.put_object(Bucket=site.bucket, Key=upload.id, Body=b"0123456789")
    store = site.open(conditional=True)
    upload = append(store, upload, CONTENT[:10])
    with pytest.raises(StoreUnavailable) as caught:
        store.finish(upload, NOW)
    assert caught.value.code == "name_taken"
    assert site.client.get_object(Bucket=site.bucket, Key=upload.id)["Body"].read() == b"0123456789"


# --- writers that were given up ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seen", [0, 10, 30])
def test_a_writer_that_was_given_up_is_fenced(site: Site, seen: int) -> None:
    upload = site.store.create(make_record(100))
    zombie = site.open().open_sink(upload, 0)
    zombie.write(memoryview(CONTENT)[:seen])
    store = site.open()
    current = store.get(upload.id)
    try:
        upload = append(store, current, CONTENT[:50])
    except OffsetConflict as conflict:
        upload = append(store, store.get(upload.id), CONTENT[conflict.offset : 50])
    keys = site.keys()
    with suppress(OffsetConflict):  # it is noticed before a first part, or when it is recorded
        zombie.write(memoryview(b"x" * 40))
    with pytest.raises(OffsetConflict) as caught:
        zombie.settle()
    assert caught.value.code == "taken_over"
    assert site.store.get(upload.id).offset == 50
    assert sorted(keys) == sorted(site.keys()), "it deleted something, or left something"
    assert finish(site, upload) == CONTENT


def test_twelve_takeovers_with_the_old_writers_alive(site: Site) -> None:
    content = content_of(1300)
    upload = site.store.create(make_record(1300))
    zombies = []
    for number in range(12):
        sink = site.open().open_sink(site.store.get(upload.id), site.store.get(upload.id).offset)
        start = site.store.get(upload.id).offset
        sink.write(memoryview(content)[start : start + 40])
        sink._pipeline.drain()
        zombies.append(sink)
        store = site.open()
        try:
            store.open_sink(upload, -1)
        except OffsetConflict as conflict:
            start = conflict.offset or 0
        append(store, store.get(upload.id), content[start : (number + 1) * 100])
    fenced = 0
    for zombie in zombies:
        with pytest.raises(OffsetConflict):
            zombie.settle()
        fenced += 1
    assert fenced == 12
    store = site.open()
    upload = append(store, store.get(upload.id), content[1200:])
    store.finish(upload, NOW)
    assert site.stored(upload) == content


def test_a_late_part_of_a_writer_that_was_given_up_is_found_at_the_end(site: Site) -> None:
    upload = append(site.store, site.store.create(make_record(100)), CONTENT)
    manifest = site.manifests.reload(upload.id)
    site.client.upload_part(
        Bucket=site.bucket, Key=upload.id, UploadId=manifest.multipart_id, PartNumber=4, Body=b"z" * 16
    )
    with pytest.raises(StoreUnavailable) as caught:
        site.store.finish(upload, NOW)
    assert caught.value.code == "parts_lost"
    assert site.store.get(upload.id).offset == 48
    assert finish(site, upload) == CONTENT


def test_a_late_part_that_brings_the_same_bytes_does_no_harm(site: Site) -> None:
    upload = append(site.store, site.store.create(make_record(100)), CONTENT)
    manifest = site.manifests.reload(upload.id)
    site.client.upload_part(
        Bucket=site.bucket, Key=upload.id, UploadId=manifest.multipart_id, PartNumber=4, Body=CONTENT[48:64]
    )
    site.store.finish(upload, NOW)
    assert site.stored(upload) == CONTENT


class _Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class _Refusing(ClientAround):
    """A client of a service that refuses each Complete as long as it ``refuses``; counts what is asked of it."""

    def __init__(self, client: Any) -> None:
        super().__init__(client)
        self.refuses = True
        self.calls: list[str] = []

    def around(self, name: str, call: Callable[..., Any], parameters: dict[str, Any]) -> Any:
        self.calls.append(name)
        if self.refuses and name == "complete_multipart_upload":
            raise refusal("InvalidPart", "CompleteMultipartUpload")
        return call(**parameters)


def test_a_refusal_that_nothing_explains_is_logged_and_asked_for_again_after_a_minute(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    upload = append(site.store, site.store.create(make_record(100)), CONTENT)
    client, clock = _Refusing(site.recording), _Clock()
    store = site.open(client, clock=clock)
    for asked in (True, False, False):
        client.calls.clear()
        caplog.clear()
        with pytest.raises(StoreUnavailable) as caught:
            store.finish(upload, NOW)
        assert (caught.value.code, caught.value.headers["Retry-After"]) == ("parts_refused", "60")
        assert client.calls == (["complete_multipart_upload", "list_parts"] if asked else [])
        assert ("compare ListParts with the service's log, or terminate the upload" in caplog.text) == asked
    assert store.get(upload.id).offset == 100, "no byte is gone, so the offset stays"
    client.refuses = False
    clock.now += 61
    store.finish(upload, NOW)
    assert site.stored(upload) == CONTENT


def test_a_lost_part_is_sent_again_from_where_the_server_says_the_upload_stands() -> None:
    s3 = MemoryS3()
    site = Site(s3, new_bucket(s3), {"limits": SMALL, "part_size": 16, "inline_limit": 4})
    sender = Sender(site.store, CONTENT)
    sender.create()
    site.recording.around = _losing(s3, 4, site.recording.around)  # type: ignore[method-assign]
    assert sender.patch(100).status == 503
    sender.told = 100
    conflict = sender.patch(0)
    assert (conflict.status, conflict.header("Upload-Offset")) == (409, "48")
    sender.told = 0
    assert sender.head() == 48
    assert sender.patch(100).status == 204
    assert site.finished(sender.upload_id) == CONTENT


def _losing(s3: MemoryS3, number: int, around: Callable[..., Any]) -> Callable[..., Any]:
    """Let a service lose a part before it is asked to complete for the first time."""
    losses = [number]

    def lose(name: str, call: Callable[..., Any], parameters: dict[str, Any]) -> Any:
        if name == "complete_multipart_upload" and losses:
            del s3.multiparts[parameters["UploadId"]].parts[losses.pop()]
        return around(name, call, parameters)

    return lose


def test_an_upload_goes_back_three_times_and_then_waits(caplog: pytest.LogCaptureFixture) -> None:
    class Forgetting(_Refusing):
        def around(self, name: str, call: Callable[..., Any], parameters: dict[str, Any]) -> Any:
            if name == "complete_multipart_upload" and self.refuses:
                s3.multiparts[parameters["UploadId"]].parts.pop(4)
            return call(**parameters)

    s3 = MemoryS3()
    site = Site(s3, new_bucket(s3), {"limits": SMALL, "part_size": 16, "inline_limit": 4})
    upload = site.store.create(make_record(100))
    client, clock = Forgetting(site.recording), _Clock()
    store = site.open(client, clock=clock)
    codes = []
    for _ in range(4):
        upload = store.get(upload.id)
        upload = append(store, upload, CONTENT[upload.offset :])
        with pytest.raises(StoreUnavailable) as caught:
            store.finish(upload, NOW)
        codes.append(caught.value.code)
    assert codes == ["parts_lost"] * 3 + ["parts_refused"]
    assert "although parts were sent anew" in caplog.text
    client.refuses = False
    clock.now += 61
    with pytest.raises(StoreUnavailable) as caught:
        store.finish(upload, NOW)
    assert (caught.value.code, store.get(upload.id).offset) == ("parts_lost", 48)
    assert finish(site, upload) == CONTENT


# --- what the backend loses -------------------------------------------------------------------------------------------


def test_an_upload_that_a_lifecycle_rule_aborted_is_gone(strict_site: Site) -> None:
    site = strict_site
    upload = append(site.store, site.store.create(make_record(100)), CONTENT[:40])
    site.client.abort_multipart_upload(
        Bucket=site.bucket, Key=upload.id, UploadId=site.manifests.reload(upload.id).multipart_id
    )
    sink = site.store.open_sink(upload, 40)
    sink.write(memoryview(CONTENT)[40:60])
    with pytest.raises(UploadGone):
        sink.settle()


def test_an_aborted_upload_is_not_taken_for_a_complete_one(strict_site: Site) -> None:
    site = strict_site
    upload = append(site.store, site.store.create(make_record(100)), CONTENT)
    site.client.abort_multipart_upload(
        Bucket=site.bucket, Key=upload.id, UploadId=site.manifests.reload(upload.id).multipart_id
    )
    with pytest.raises(UploadGone):
        site.store.finish(upload, NOW)
    assert site.manifests.reload(upload.id).finished is None


@pytest.mark.parametrize("lost", [0, 1, 2])
@pytest.mark.parametrize("when", ["while appending", "at the end", "while joining"])
def test_after_the_loss_of_a_segment_the_bytes_before_it_count(
    site: Site, lost: int, when: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = append(site.store, site.store.create(make_record(None)), CONTENT[:16])
    for size in (5, 5, 5):
        upload = append(site.store, upload, CONTENT[upload.offset : upload.offset + size])
    names = [segment.name for segment in site.manifests.reload(upload.id).tail]
    assert len(names) == 3
    site.client.delete_object(Bucket=site.bucket, Key=names[lost])
    store = site.open()
    if when == "at the end":
        upload = store.declare_length(upload, 31)
        with pytest.raises(StoreUnavailable) as caught:
            store.finish(upload, NOW)
    else:
        if when == "while joining":
            monkeypatch.setattr("tus_server.stores.s3_tails.MOST_SEGMENTS", 3)
            known = site.manifests.reload(upload.id)
            site.manifests.advance(known, replace(known, part_size=1000))  # so that no part becomes full
        with pytest.raises(StoreUnavailable) as caught:
            append(store, upload, b"x" * 20)
    assert caught.value.code == "parts_lost"
    assert "is lost" in caplog.text
    assert site.store.get(upload.id).offset == 16 + 5 * lost
    store = site.open()
    offset = store.get(upload.id).offset
    upload = store.get(upload.id)
    upload = append(store, upload, CONTENT[offset:31])
    assert site.stored(upload) == CONTENT[:31]


def test_what_a_dead_process_left_of_a_tail_can_be_swept(site: Site) -> None:
    upload = append(site.store, site.store.create(make_record(10)), CONTENT[:10])
    site.store.finish(upload, NOW)
    site.client.put_object(Bucket=site.bucket, Key=f"{site.store.segments_folder(upload.id)}0-5-1-abc", Body=b"12345")
    site.store.drop_segments(upload.id)
    site.store.drop_segments(upload.id)
    assert site.keys() == [upload.id]


def test_a_finished_object_that_is_lost_cannot_be_read(site: Site) -> None:
    upload = append(site.store, site.store.create(make_record(10)), CONTENT[:10])
    site.store.finish(upload, NOW)
    site.client.delete_object(Bucket=site.bucket, Key=upload.id)
    with pytest.raises(UploadGone):
        site.open().read(upload, 0, 4)


# --- limits -----------------------------------------------------------------------------------------------------------


def test_an_upload_that_would_need_too_many_parts_is_refused(site: Site) -> None:
    limits = PartLimits(smallest=1, largest=16, most=4, usual=16)
    store = site.open(limits=limits)
    with pytest.raises(TooLarge):
        store.open_sink(store.create(make_record(65)), 0)
    sink = store.open_sink(store.create(make_record(None)), 0)
    with pytest.raises(TooLarge):
        sink.write(memoryview(CONTENT)[:81])
    assert sink.settle() >= 64


def test_more_than_32_segments_are_joined(site: Site) -> None:
    store = site.open(part_size=1000)
    upload = store.create(make_record(1000))
    content = content_of(1000)
    for _ in range(70):
        upload = append(store, upload, content[upload.offset : upload.offset + 7])
        assert len(site.manifests.reload(upload.id).tail) <= 33
        assert len(site.keys()) == len(site.manifests.reload(upload.id).tail)
    assert site.stored(upload) == content[:490]
    upload = append(store, upload, content[490:])
    store.finish(upload, NOW)
    assert site.stored(upload) == content
    assert site.keys() == [upload.id]


def test_large_parts_are_gathered_in_files(site: Site) -> None:
    budget = ReceiveBudget(24, patience=0.05)  # a part of 16 bytes is more than half of it
    store = site.open(buffers=budget)
    upload = store.create(make_record(100))
    for end in (10, 50, 51, 100):
        upload = append(store, upload, CONTENT[upload.offset : end])
        assert upload.offset == end
        assert budget.used == 0
    store.finish(upload, NOW)
    assert site.stored(upload) == CONTENT


def test_idle_uploads_give_their_bytes_back_when_others_need_them(site: Site) -> None:
    budget = ReceiveBudget(40, patience=0.05)
    store = site.open(buffers=budget)
    idle = [store.create(make_record(100)) for _ in range(4)]
    sinks = [store.open_sink(upload, 0) for upload in idle]
    for sink in sinks:
        sink.write(memoryview(CONTENT)[:10])
    assert budget.used == 40
    upload = append(store, store.create(make_record(100)), CONTENT)
    assert upload.offset == 100
    for sink in sinks:
        sink.write(memoryview(CONTENT)[10:40])
        assert sink.settle() == 40
    assert budget.used == 0
    for one in idle:
        assert site.stored(one) == CONTENT[:40]


def test_a_writer_that_finds_no_room_keeps_what_it_had(site: Site) -> None:
    budget = ReceiveBudget(40, patience=0.01)
    budget.take(40)
    store = site.open(buffers=budget)
    upload = store.create(make_record(100))
    sink = store.open_sink(upload, 0)
    with pytest.raises(StoreUnavailable) as caught:
        sink.write(memoryview(CONTENT)[:10])
    assert caught.value.code == "busy"
    assert sink.settle() == 0
    budget.give(35)
    sink = store.open_sink(upload, 0)
    sink.write(memoryview(CONTENT)[:4])
    budget.take(31)
    with pytest.raises(StoreUnavailable):
        sink.write(memoryview(CONTENT)[4:20])
    assert sink.settle() == 4
    assert budget.used == 36
