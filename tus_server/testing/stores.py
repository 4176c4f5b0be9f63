"""The promises of an upload store, as a test class to subclass.

Give it a ``store`` and a ``stored_bytes`` that looks past the store at what lies in the backend; the rest is here.
Abilities that a store does not declare are skipped with that reason.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tus_server.errors import BadRequest, Locked, OffsetConflict, UploadGone, UploadNotFound
from tus_server.headers import build_concat
from tus_server.stores.base import Concatenates, DefersLength, Expires, Terminates, UploadStore
from tus_server.uploads import Upload, UploadRecord, generate_upload_id

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def make_record(length: int | None = 10, **facts: object) -> UploadRecord:
    """Return a new record with a fresh id, created at ``NOW``."""
    upload_id = generate_upload_id()
    record = UploadRecord(upload_id, upload_id, length, "name Zm9v", NOW)
    return replace(record, **facts)  # type: ignore[arg-type]  # a test names the fields it wants


def append(store: UploadStore, upload: Upload, data: bytes) -> Upload:
    """Append bytes in one go and return the upload as it then stands."""
    sink = store.open_sink(upload, upload.offset)
    sink.write(memoryview(data))
    return replace(upload, offset=sink.settle())


def make_partials(store: UploadStore, *contents: bytes) -> list[Upload]:
    """Store finished partial uploads with these contents."""
    records = [make_record(len(content), concat="partial") for content in contents]
    appended = [append(store, store.create(record), content) for record, content in zip(records, contents, strict=True)]
    return [store.finish(upload, NOW) for upload in appended]


def make_final(store: UploadStore, partials: list[Upload], length: int | None = None) -> Upload:
    """Create an upload that is made of others; nothing is put together yet."""
    ids = tuple(partial.id for partial in partials)
    return store.create(make_record(length, concat=build_concat(ids), partials=ids))


def concatenate(store: UploadStore, final: Upload, partials: list[Upload]) -> Upload:
    """Put an upload together, call by call."""
    assert isinstance(store, Concatenates)
    final = store.concatenate(final, partials)
    for _ in range(100):
        if final.is_received:
            return final
        before = final.offset
        final = store.concatenate(final, partials)
        assert final.offset > before, "nothing was appended"
    raise AssertionError("the upload does not come to its end")


class UploadStoreContract:
    """Subclass it, and give it the fixture ``store`` and the method ``stored_bytes``."""

    @abstractmethod
    def stored_bytes(self, store: UploadStore, upload: Upload) -> bytes:
        """Return what lies in the backend for an upload, without asking the store."""

    def test_a_new_upload_is_empty_and_found_again(self, store: UploadStore) -> None:
        record = make_record()
        created = store.create(record)
        assert created == Upload(record, 0)
        assert store.get(record.id) == created
        assert self.stored_bytes(store, created) == b""

    def test_an_unknown_upload_is_not_found(self, store: UploadStore) -> None:
        with pytest.raises(UploadNotFound):
            store.get(generate_upload_id())

    def test_bytes_are_appended_in_order_and_the_offset_follows(self, store: UploadStore) -> None:
        upload = store.create(make_record())
        upload = append(store, upload, b"hello")
        assert upload.offset == 5
        upload = append(store, upload, b"world")
        assert store.get(upload.id).offset == 10
        assert self.stored_bytes(store, upload) == b"helloworld"

    def test_several_writes_of_one_sink_are_one_append(self, store: UploadStore) -> None:
        upload = store.create(make_record())
        sink = store.open_sink(upload, 0)
        for piece in (b"a", b"", b"bc", b"def"):
            sink.write(memoryview(piece))
        assert sink.settle() == 6
        assert self.stored_bytes(store, upload) == b"abcdef"

    def test_the_buffer_belongs_to_the_caller_after_a_write(self, store: UploadStore) -> None:
        upload = store.create(make_record())
        buffer = bytearray(b"first")
        sink = store.open_sink(upload, 0)
        sink.write(memoryview(buffer))
        buffer[:] = b"other"
        sink.settle()
        assert self.stored_bytes(store, upload) == b"first"

    def test_a_sink_that_wrote_nothing_changes_nothing(self, store: UploadStore) -> None:
        upload = append(store, store.create(make_record()), b"abc")
        assert store.open_sink(upload, 3).settle() == 3
        assert store.get(upload.id).offset == 3

    @pytest.mark.parametrize("offset", [0, 2, 4, 2**40])
    def test_another_offset_is_refused_and_changes_nothing(self, store: UploadStore, offset: int) -> None:
        upload = append(store, store.create(make_record()), b"abc")
        with pytest.raises(OffsetConflict) as caught:
            store.open_sink(upload, offset)
        assert caught.value.offset == 3
        assert self.stored_bytes(store, upload) == b"abc"
        assert append(store, upload, b"d").offset == 4

    def test_a_second_writer_is_locked_out_until_the_first_has_settled(self, store: UploadStore) -> None:
        upload = store.create(make_record())
        first = store.open_sink(upload, 0)
        with pytest.raises(Locked):
            store.open_sink(upload, 0)
        first.write(memoryview(b"abc"))
        assert first.settle() == 3
        assert append(store, replace(upload, offset=3), b"d").offset == 4

    def test_finishing_is_recorded_and_may_be_repeated(self, store: UploadStore) -> None:
        upload = append(store, store.create(make_record(3)), b"abc")
        assert upload.is_received
        assert not store.get(upload.id).is_finished
        store.sync(upload)
        finished = store.finish(upload, NOW)
        assert finished.record.finished_at == NOW
        assert store.finish(finished, NOW + timedelta(hours=1)).record.finished_at == NOW
        assert store.get(upload.id) == finished
        assert self.stored_bytes(store, upload) == b"abc"

    def test_a_received_upload_is_read_in_ranges(self, store: UploadStore) -> None:
        upload = append(store, store.create(make_record()), b"hello")
        upload = append(store, upload, b"world")
        store.sync(upload)
        ranges = [(0, 3), (3, 4), (9, 1), (0, 10)]
        assert [store.read(upload, *each) for each in ranges] == [b"hel", b"lowo", b"d", b"helloworld"]
        finished = store.finish(upload, NOW)
        assert store.read(finished, 4, 3) == b"owo"

    @pytest.mark.parametrize(("start", "count"), [(0, 11), (7, 100), (10, 5), (10, 0), (11, 1), (2**40, 1), (0, 0)])
    def test_reading_ends_where_the_upload_ends(self, store: UploadStore, start: int, count: int) -> None:
        upload = append(store, store.create(make_record()), b"helloworld")
        store.sync(upload)
        assert store.read(upload, start, count) == b"helloworld"[start : start + count]

    def test_of_an_empty_upload_nothing_is_read(self, store: UploadStore) -> None:
        upload = store.create(make_record(0))
        store.sync(upload)
        assert store.read(upload, 0, 4096) == b""

    def test_a_terminated_upload_is_not_read(self, store: UploadStore) -> None:
        if not isinstance(store, Terminates):
            pytest.skip("the store does not terminate")
        upload = append(store, store.create(make_record()), b"helloworld")
        store.sync(upload)
        store.terminate(upload)
        with pytest.raises(UploadGone):
            store.read(upload, 0, 10)

    def test_an_empty_upload_finishes(self, store: UploadStore) -> None:
        assert store.finish(store.create(make_record(0)), NOW).is_finished

    def test_a_deferred_length_is_fixed_once(self, store: UploadStore) -> None:
        if not isinstance(store, DefersLength):
            pytest.skip("the store does not defer lengths")
        upload = store.create(make_record(None))
        assert store.declare_length(upload, 4).length == 4
        assert store.declare_length(upload, 4).length == 4
        with pytest.raises(BadRequest):
            store.declare_length(upload, 5)
        assert store.get(upload.id).length == 4

    def test_a_terminated_upload_is_gone_with_its_bytes(self, store: UploadStore) -> None:
        if not isinstance(store, Terminates):
            pytest.skip("the store does not terminate")
        upload = append(store, store.create(make_record()), b"abc")
        store.terminate(upload)
        store.terminate(upload)
        with pytest.raises((UploadNotFound, UploadGone)):
            store.get(upload.id)
        with pytest.raises(UploadGone):
            store.open_sink(upload, 3)

    def test_termination_waits_for_a_writer(self, store: UploadStore) -> None:
        if not isinstance(store, Terminates):
            pytest.skip("the store does not terminate")
        upload = store.create(make_record())
        sink = store.open_sink(upload, 0)
        with pytest.raises(Locked):
            store.terminate(upload)
        sink.write(memoryview(b"abc"))
        sink.settle()
        assert store.get(upload.id).offset == 3
        store.terminate(upload)

    def test_only_unfinished_uploads_expire_oldest_first(self, store: UploadStore) -> None:
        if not isinstance(store, Expires):
            pytest.skip("the store's uploads do not expire")
        late = store.create(make_record(expires_at=NOW + timedelta(hours=2)))
        early = store.create(make_record(expires_at=NOW + timedelta(hours=1)))
        store.create(make_record())
        done = store.create(make_record(0, expires_at=NOW))
        store.finish(done, NOW)
        assert store.expired(NOW, 10) == []
        expired = store.expired(NOW + timedelta(hours=3), 10)
        assert [upload.id for upload in expired] == [early.id, late.id]
        assert [upload.id for upload in store.expired(NOW + timedelta(hours=3), 1)] == [early.id]

    def test_activity_moves_the_expiry(self, store: UploadStore) -> None:
        if not isinstance(store, Expires):
            pytest.skip("the store's uploads do not expire")
        upload = store.create(make_record(expires_at=NOW))
        moved = store.touch(upload, NOW, NOW + timedelta(hours=5))
        assert moved.record.expires_at == NOW + timedelta(hours=5)
        assert store.get(upload.id).record.expires_at == NOW + timedelta(hours=5)

    def test_finished_partial_uploads_expire_too(self, store: UploadStore) -> None:
        if not isinstance(store, Expires):
            pytest.skip("the store's uploads do not expire")
        partial = store.create(make_record(0, concat="partial", expires_at=NOW))
        store.finish(partial, NOW)
        assert [upload.id for upload in store.expired(NOW, 10)] == [partial.id]

    @pytest.mark.parametrize("length", [7, None])
    def test_an_upload_is_made_of_others_in_their_order(self, store: UploadStore, length: int | None) -> None:
        if not isinstance(store, Concatenates):
            pytest.skip("the store does not concatenate")
        partials = make_partials(store, b"abc", b"", b"defg")
        final = concatenate(store, make_final(store, partials, length), partials)
        assert (final.offset, final.length) == (7, 7)
        finished = store.finish(final, NOW)
        assert (store.get(final.id), finished.length) == (finished, 7)
        assert (finished.record.partials, finished.record.is_partial) == (tuple(each.id for each in partials), False)
        assert self.stored_bytes(store, finished) == b"abcdefg"
        assert [self.stored_bytes(store, each) for each in partials] == [b"abc", b"", b"defg"]

    def test_a_partial_may_come_twice_and_serve_several(self, store: UploadStore) -> None:
        if not isinstance(store, Concatenates):
            pytest.skip("the store does not concatenate")
        first, second = make_partials(store, b"ab", b"cde")
        for partials in ([first, second, first], [second, second]):
            final = concatenate(store, make_final(store, partials), partials)
            wanted = b"".join(self.stored_bytes(store, each) for each in partials)
            assert self.stored_bytes(store, final) == wanted

    @pytest.mark.parametrize("contents", [[b""], [b"", b""]])
    def test_of_empty_uploads_an_empty_one_is_made(self, store: UploadStore, contents: list[bytes]) -> None:
        if not isinstance(store, Concatenates):
            pytest.skip("the store does not concatenate")
        partials = make_partials(store, *contents)
        final = concatenate(store, make_final(store, partials), partials)
        assert (final.offset, final.length, self.stored_bytes(store, final)) == (0, 0, b"")

    @pytest.mark.parametrize("there", range(8))
    def test_concatenation_goes_on_where_it_was_interrupted(self, store: UploadStore, there: int) -> None:
        if not isinstance(store, Concatenates):
            pytest.skip("the store does not concatenate")
        partials = make_partials(store, b"abc", b"defg")
        final = append(store, make_final(store, partials, 7), b"abcdefg"[:there])
        final = concatenate(store, final, partials)
        assert self.stored_bytes(store, final) == b"abcdefg"
        assert store.concatenate(final, partials) == final
        assert self.stored_bytes(store, final) == b"abcdefg"

    def test_concatenation_is_fenced_against_other_writers(self, store: UploadStore) -> None:
        if not isinstance(store, Concatenates):
            pytest.skip("the store does not concatenate")
        partials = make_partials(store, b"abc")
        final = make_final(store, partials)
        sink = store.open_sink(final, 0)
        with pytest.raises(Locked):
            store.concatenate(final, partials)
        sink.settle()
        assert self.stored_bytes(store, concatenate(store, final, partials)) == b"abc"

    def test_without_one_of_its_partials_an_upload_cannot_be_made(self, store: UploadStore) -> None:
        if not isinstance(store, Concatenates) or not isinstance(store, Terminates):
            pytest.skip("the store does not concatenate, or does not terminate")
        partials = make_partials(store, b"abc", b"defg")
        final = make_final(store, partials)
        store.terminate(partials[1])
        with pytest.raises(UploadGone):
            concatenate(store, final, partials)
        store.terminate(final)
        assert self.stored_bytes(store, partials[0]) == b"abc"
