"""Manifests in the journal: what is stored comes back, and of two writers only one gets through."""

from __future__ import annotations

from dataclasses import replace

import pytest
from django.db import OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

from async_uploads import journal
from async_uploads.journal import AsyncTempFile, UploadPart, UploadState
from async_uploads.journal_store import JournalRecords
from async_uploads.leases import DatabaseLocker, LeaseKeeper
from async_uploads.manifests import ModelManifests
from async_uploads.registry import default_async_field_registry
from tests.async_uploads.promoting import field_of
from tests.async_uploads.test_promotion import run_in_threads
from tests.testapp.models import Document
from tus_server.errors import StoreUnavailable
from tus_server.stores.manifests import Finished, Manifest, Segment, Stale
from tus_server.testing.manifests import ManifestsContract
from tus_server.uploads import UploadRecord

pytestmark = pytest.mark.django_db(transaction=True)

MIB = 1024 * 1024


@pytest.fixture
def upload_id() -> str:
    return AsyncTempFile.create_for_field(field_of(Document), "a.txt").upload_id


@pytest.fixture
def manifests() -> ModelManifests:
    return ModelManifests()


def records() -> JournalRecords:
    return JournalRecords(default_async_field_registry)


def statements(captured: CaptureQueriesContext) -> list[str]:
    """Return the verbs of the statements that were made, transactions included."""
    return [str(query["sql"]).split(" ", 1)[0] for query in captured.captured_queries]


def full(upload_id: str) -> Manifest:
    """Return a manifest in which everything is set."""
    tail = (Segment(16 * MIB, 4, data=b"\0\xffab"), Segment(16 * MIB + 4, 7, name="tmp/id/tail/1"))
    return Manifest(
        upload_id,
        part_size=8 * MIB,
        multipart_id="m" * 700,
        part_count=2,
        parts_end=16 * MIB,
        tail=tail,
        is_unsettled=True,
        is_terminated=True,
        finished=Finished('"etag-2"', 16 * MIB + 11),
    )


class TestContract(ManifestsContract):
    """What every keeper of manifests promises."""

    @pytest.fixture
    def record(self, upload_id: str) -> UploadRecord:
        return records().get(upload_id)


class TestContractOfALeasedUpload(TestContract):
    """The same where the lease has made the row."""

    @pytest.fixture
    def record(self, upload_id: str) -> UploadRecord:
        UploadState.objects.create(upload_id=upload_id)
        return records().get(upload_id)


def test_an_unknown_upload_has_the_empty_manifest(manifests: ModelManifests) -> None:
    assert manifests.reload("unknown") == Manifest("unknown")


def test_everything_in_a_manifest_comes_back(manifests: ModelManifests, upload_id: str) -> None:
    wanted = full(upload_id)
    advanced = manifests.advance(Manifest(upload_id), wanted, ["one", "two"])
    assert advanced == replace(wanted, revision=1)
    assert manifests.reload(upload_id) == manifests.load(records().get(upload_id)) == advanced
    assert manifests.parts(upload_id) == ("one", "two")
    emptied = manifests.advance(advanced, Manifest(upload_id))
    assert manifests.reload(upload_id) == emptied == Manifest(upload_id, revision=2)


def test_parts_that_do_not_count_any_more_are_not_kept(manifests: ModelManifests, upload_id: str) -> None:
    known = manifests.advance(Manifest(upload_id), Manifest(upload_id, part_count=4), ["1", "2", "3", "4"])
    manifests.advance(known, replace(known, part_count=1))
    assert UploadPart.objects.count() == 1


def test_more_parts_than_one_statement_takes_are_recorded(manifests: ModelManifests, upload_id: str) -> None:
    etags = [str(number) for number in range(1, 1001)]
    manifests.advance(Manifest(upload_id), Manifest(upload_id, part_count=1000), etags)
    assert manifests.parts(upload_id) == tuple(etags)


@pytest.mark.parametrize("parts", [(), ("1",)])
def test_a_writer_that_is_behind_changes_nothing(
    manifests: ModelManifests, upload_id: str, parts: tuple[str, ...]
) -> None:
    empty = Manifest(upload_id)
    known = manifests.advance(empty, replace(empty, parts_end=5))
    for behind in (empty, replace(known, revision=7)):
        with pytest.raises(Stale):
            manifests.advance(behind, replace(behind, part_count=len(parts)), parts)
    assert manifests.reload(upload_id) == known
    assert not UploadPart.objects.exists()


@pytest.mark.parametrize("parts", [(), ("1",)])
@pytest.mark.parametrize("revision", [0, 1])
def test_an_upload_that_is_gone_makes_its_writer_stale(
    manifests: ModelManifests, upload_id: str, parts: tuple[str, ...], revision: int
) -> None:
    journal.rows().filter(upload_id=upload_id).delete()
    with pytest.raises(Stale):
        manifests.advance(Manifest(upload_id, revision=revision), Manifest(upload_id, part_count=len(parts)), parts)
    assert not UploadState.objects.exists()


@pytest.mark.parametrize("with_parts", [False, True])
@pytest.mark.parametrize("is_leased", [False, True])
def test_of_writers_who_know_the_same_revision_one_gets_through(
    manifests: ModelManifests, upload_id: str, with_parts: bool, is_leased: bool
) -> None:
    if is_leased:
        UploadState.objects.create(upload_id=upload_id)
    known = manifests.reload(upload_id)
    for _ in range(10):

        def write(number: int, known: Manifest = known) -> Manifest:
            wanted = replace(known, multipart_id=str(number), part_count=known.part_count + with_parts)
            return manifests.advance(known, wanted, [str(number)] if with_parts else [])

        results = run_in_threads(write, 4)
        (known,) = [each for each in results if isinstance(each, Manifest)]
        assert [type(each) for each in results].count(Stale) == 3
        assert manifests.reload(upload_id) == known
        assert known.multipart_id is not None
        assert len(manifests.parts(upload_id)) == known.part_count
        assert not with_parts or manifests.parts(upload_id)[-1] == known.multipart_id


def test_a_lease_and_a_manifest_leave_each_other_alone(manifests: ModelManifests, upload_id: str) -> None:
    keeper = LeaseKeeper(look_every=3600, renew_every=3600)
    lease = DatabaseLocker(keeper).try_acquire(upload_id)
    assert lease is not None
    DatabaseLocker(keeper).request_release(upload_id, "terminate")
    leased = UploadState.objects.values("lease_token", "lease_expires_at", "release_requested").get()
    known = manifests.advance(manifests.reload(upload_id), full(upload_id), ["1", "2"])
    assert UploadState.objects.values("lease_token", "lease_expires_at", "release_requested").get() == leased
    keeper.look()
    keeper.renew()
    lease.release()
    assert DatabaseLocker(keeper).try_acquire(upload_id) is not None
    assert manifests.reload(upload_id) == known
    manifests.delete(upload_id)
    assert UploadState.objects.get().lease_token is not None
    for each in list(keeper._leases.values()):
        each.release()
    keeper.join()


def test_a_deleted_manifest_is_forgotten_but_for_the_multipart_upload(
    manifests: ModelManifests, upload_id: str
) -> None:
    known = manifests.advance(Manifest(upload_id), full(upload_id), ["1", "2"])
    manifests.delete(upload_id)
    forgotten = Manifest(upload_id, multipart_id=known.multipart_id)
    assert manifests.reload(upload_id) == manifests.load(records().get(upload_id)) == forgotten
    assert manifests.parts(upload_id) == ()
    with pytest.raises(Stale):
        manifests.advance(known, known)
    manifests.delete(upload_id)
    manifests.delete("unknown")


def test_parts_and_state_go_with_their_upload(manifests: ModelManifests, upload_id: str) -> None:
    manifests.advance(Manifest(upload_id), Manifest(upload_id, part_count=1), ["1"])
    journal.rows().filter(upload_id=upload_id).delete()
    assert not UploadPart.objects.exists()
    assert not UploadState.objects.exists()


def test_the_statements_of_each_call(manifests: ModelManifests, upload_id: str) -> None:
    UploadState.objects.create(upload_id=upload_id)  # as the lease does
    with CaptureQueriesContext(connection) as captured:
        known = manifests.load(records().get(upload_id))
    assert statements(captured) == ["SELECT"]
    with CaptureQueriesContext(connection) as captured:
        known = manifests.advance(known, replace(known, parts_end=1))
    assert statements(captured) == ["UPDATE"]
    with CaptureQueriesContext(connection) as captured:
        manifests.advance(known, replace(known, part_count=3), ["1", "2", "3"])
    assert [verb for verb in statements(captured) if verb not in ("SAVEPOINT", "RELEASE")] == [
        "BEGIN",
        "UPDATE",
        "INSERT",
        "COMMIT",
    ]


def test_a_database_that_is_away_is_a_reason_to_come_back(
    manifests: ModelManifests, upload_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = replace(records().get(upload_id), state=None)

    def fail(*args: object) -> None:
        raise OperationalError("database is locked")

    monkeypatch.setattr(journal, "write_database", fail)
    for call in (
        lambda: manifests.load(record),
        lambda: manifests.reload(upload_id),
        lambda: manifests.parts(upload_id),
        lambda: manifests.advance(Manifest(upload_id), Manifest(upload_id)),
        lambda: manifests.delete(upload_id),
    ):
        with pytest.raises(StoreUnavailable):
            call()


def test_a_stale_writer_inside_a_transaction_does_not_break_it(manifests: ModelManifests, upload_id: str) -> None:
    with transaction.atomic():
        manifests.advance(Manifest(upload_id), Manifest(upload_id))
        with pytest.raises(Stale):
            manifests.advance(Manifest(upload_id), Manifest(upload_id, part_count=1), ["1"])
        assert manifests.reload(upload_id).revision == 1
