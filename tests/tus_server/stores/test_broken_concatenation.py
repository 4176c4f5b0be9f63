"""Stores that concatenate wrongly: the contract rejects each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from tus_server.errors import TusError
from tus_server.stores.base import UploadStore
from tus_server.stores.memory import MemoryStore
from tus_server.testing.stores import UploadStoreContract
from tus_server.uploads import Upload


class Contract(UploadStoreContract):
    """The contract, called by hand."""

    def stored_bytes(self, store: UploadStore, upload: Upload) -> bytes:
        assert isinstance(store, MemoryStore)
        return store.content(upload.id)


Contract.__test__ = False  # type: ignore[attr-defined]  # pytest's own flag

CALLS: dict[str, Callable[[UploadStore], None]] = {
    "order": lambda store: Contract().test_an_upload_is_made_of_others_in_their_order(store, 7),
    "deferred": lambda store: Contract().test_an_upload_is_made_of_others_in_their_order(store, None),
    "twice": lambda store: Contract().test_a_partial_may_come_twice_and_serve_several(store),
    "empty": lambda store: Contract().test_of_empty_uploads_an_empty_one_is_made(store, [b"", b""]),
    "interrupted": lambda store: Contract().test_concatenation_goes_on_where_it_was_interrupted(store, 4),
    "complete": lambda store: Contract().test_concatenation_goes_on_where_it_was_interrupted(store, 7),
    "fenced": lambda store: Contract().test_concatenation_is_fenced_against_other_writers(store),
    "missing": lambda store: Contract().test_without_one_of_its_partials_an_upload_cannot_be_made(store),
}


class Sorting(MemoryStore):
    def concatenate(self, final: Upload, partials: Sequence[Upload]) -> Upload:
        return super().concatenate(final, sorted(partials, key=lambda each: -each.offset))


class Distinct(MemoryStore):
    def concatenate(self, final: Upload, partials: Sequence[Upload]) -> Upload:
        return super().concatenate(final, list({each.id: each for each in partials}.values()))


class Again(MemoryStore):
    def concatenate(self, final: Upload, partials: Sequence[Upload]) -> Upload:
        sink = self.open_sink(final, final.offset)
        for each in partials:
            sink.write(memoryview(self.content(each.id)))
        return Upload(final.record, sink.settle())


class Lengthless(MemoryStore):
    def concatenate(self, final: Upload, partials: Sequence[Upload]) -> Upload:
        total = sum(each.offset for each in partials)
        super().concatenate(final, partials)
        if final.length is None:
            self.records.create(final.record)
        return Upload(replace(final.record, length=total), total)


class Unfenced(MemoryStore):
    def concatenate(self, final: Upload, partials: Sequence[Upload]) -> Upload:
        made = b"".join(self.content(each.id) for each in partials)
        self._data[final.id][:] = made
        return Upload(self.records.set_length(final.id, len(made)), len(made))


class Consuming(MemoryStore):
    def concatenate(self, final: Upload, partials: Sequence[Upload]) -> Upload:
        made = super().concatenate(final, partials)
        for each in partials:
            self._data[each.id].clear()
        return made


class Patient(MemoryStore):
    def concatenate(self, final: Upload, partials: Sequence[Upload]) -> Upload:
        return super().concatenate(final, [each for each in partials if each.id in self._data])


class Idle(MemoryStore):
    def concatenate(self, final: Upload, partials: Sequence[Upload]) -> Upload:
        return final


def find_rejections(store: Callable[[], UploadStore]) -> set[str]:
    found = set()
    for name, call in CALLS.items():
        try:
            call(store())
        except (AssertionError, KeyError, TusError, pytest.fail.Exception):
            found.add(name)
    return found


def test_the_contract_accepts_the_right_store() -> None:
    assert find_rejections(MemoryStore) == set()


@pytest.mark.parametrize(
    ("store", "promise"),
    [
        (Sorting, "order"),
        (Distinct, "twice"),
        (Again, "interrupted"),
        (Lengthless, "deferred"),
        (Unfenced, "fenced"),
        (Consuming, "order"),
        (Patient, "missing"),
        (Idle, "order"),
    ],
)
def test_the_contract_rejects_a_store_that_breaks_a_promise(store: type[UploadStore], promise: str) -> None:
    assert promise in find_rejections(store)
