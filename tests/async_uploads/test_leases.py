"""Leases in the database: one holder, who can be asked, whose lease ends with it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from django.db import connection, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from async_uploads import leases
from async_uploads.journal import AsyncTempFile, UploadState
from async_uploads.leases import ANSWER_WITHIN, EXPIRY, DatabaseLease, DatabaseLocker, LeaseKeeper
from tests.async_uploads.promoting import field_of
from tests.testapp.models import Document

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def keeper() -> Iterator[LeaseKeeper]:
    keeper = LeaseKeeper(look_every=3600, renew_every=3600)
    yield keeper
    for lease in list(keeper._leases.values()):
        lease.release()
    keeper.join()


@pytest.fixture
def locker(keeper: LeaseKeeper) -> DatabaseLocker:
    return DatabaseLocker(keeper)


@pytest.fixture
def upload_id() -> str:
    return AsyncTempFile.create_for_field(field_of(Document), "a.txt").upload_id


def pass_time(seconds: float = EXPIRY.total_seconds() + 1) -> None:
    UploadState.objects.update(lease_expires_at=F("lease_expires_at") - EXPIRY * (seconds / EXPIRY.total_seconds()))


def test_a_lease_is_given_once(locker: DatabaseLocker, upload_id: str) -> None:
    lease = locker.try_acquire(upload_id)
    assert lease is not None
    assert DatabaseLocker(LeaseKeeper()).try_acquire(upload_id) is None
    lease.release()
    lease.release()
    assert locker.try_acquire(upload_id) is not None


def test_leases_of_two_uploads_do_not_touch_each_other(locker: DatabaseLocker, upload_id: str) -> None:
    other = AsyncTempFile.create_for_field(field_of(Document), "b.txt").upload_id
    assert locker.try_acquire(upload_id) is not None
    assert locker.try_acquire(other) is not None


def test_an_unknown_upload_has_no_lease(locker: DatabaseLocker) -> None:
    assert locker.try_acquire("unknown") is None


def test_a_lease_ends_when_nobody_renews_it(locker: DatabaseLocker, keeper: LeaseKeeper, upload_id: str) -> None:
    lost = locker.try_acquire(upload_id)
    pass_time()
    taken = locker.try_acquire(upload_id)
    assert lost is not None
    assert taken is not None
    keeper.look()
    assert lost.wanted() == "append"
    assert taken.wanted() is None
    lost.release()
    assert UploadState.objects.get().lease_token == taken.token  # type: ignore[attr-defined]


def test_the_keeper_renews(locker: DatabaseLocker, keeper: LeaseKeeper, upload_id: str) -> None:
    assert locker.try_acquire(upload_id) is not None
    pass_time(25)
    keeper.renew()
    pass_time(25)
    assert locker.try_acquire(upload_id) is None


def test_a_request_for_release_reaches_the_holder(locker: DatabaseLocker, keeper: LeaseKeeper, upload_id: str) -> None:
    lease = locker.try_acquire(upload_id)
    assert lease is not None
    keeper.look()
    assert lease.wanted() is None
    locker.request_release(upload_id, "append")
    keeper.look()
    assert lease.wanted() == "append"
    locker.request_release(upload_id, "terminate")
    locker.request_release(upload_id, "append")
    keeper.look()
    assert lease.wanted() == "terminate"


def test_a_new_lease_knows_nothing_of_old_requests(locker: DatabaseLocker, keeper: LeaseKeeper, upload_id: str) -> None:
    locker.request_release(upload_id, "append")
    first = locker.try_acquire(upload_id)
    assert first is not None
    locker.request_release(upload_id, "terminate")
    first.release()
    second = locker.try_acquire(upload_id)
    keeper.look()
    assert second is not None
    assert second.wanted() is None


def test_the_keeper_looks_at_all_leases_in_one_statement(
    locker: DatabaseLocker, keeper: LeaseKeeper, upload_id: str
) -> None:
    other = AsyncTempFile.create_for_field(field_of(Document), "b.txt").upload_id
    assert locker.try_acquire(upload_id)
    assert locker.try_acquire(other)
    with CaptureQueriesContext(connection) as captured:
        keeper.look()
        keeper.renew()
    assert len(captured) == 2


def test_the_keepers_thread_runs_only_while_there_are_leases(upload_id: str) -> None:
    keeper = LeaseKeeper(look_every=0.01, renew_every=0.01)
    locker = DatabaseLocker(keeper)
    lease = locker.try_acquire(upload_id)
    assert lease is not None
    thread = keeper._thread
    assert thread is not None
    locker.request_release(upload_id, "append")
    for _ in range(6000):
        if lease.wanted():
            break
        thread.join(0.01)
    assert lease.wanted() == "append"
    lease.release()
    thread.join(60)
    assert not thread.is_alive()
    assert keeper._thread is None


def ask_long_ago(locker: DatabaseLocker, upload_id: str) -> None:
    locker.request_release(upload_id, "append")
    UploadState.objects.update(release_requested_at=F("release_requested_at") - ANSWER_WITHIN)


def test_a_holder_that_does_not_answer_is_dead_and_loses_its_lease_long_before_it_expires(
    locker: DatabaseLocker, upload_id: str
) -> None:
    assert locker.try_acquire(upload_id) is not None
    locker.request_release(upload_id, "append")
    assert locker.try_acquire(upload_id) is None
    ask_long_ago(locker, upload_id)
    assert locker.try_acquire(upload_id) is not None


def test_a_holder_that_answers_keeps_its_lease_and_can_be_asked_again(
    locker: DatabaseLocker, keeper: LeaseKeeper, upload_id: str
) -> None:
    lease = locker.try_acquire(upload_id)
    assert lease is not None
    ask_long_ago(locker, upload_id)
    keeper.look()
    assert lease.wanted() == "append"
    assert locker.try_acquire(upload_id) is None
    ask_long_ago(locker, upload_id)
    assert locker.try_acquire(upload_id) is not None


def test_asking_twice_does_not_give_the_holder_more_time(locker: DatabaseLocker, upload_id: str) -> None:
    assert locker.try_acquire(upload_id) is not None
    ask_long_ago(locker, upload_id)
    locker.request_release(upload_id, "terminate")
    assert locker.try_acquire(upload_id) is not None


def test_of_two_at_once_one_gets_the_lease(locker: DatabaseLocker, upload_id: str) -> None:
    lease = locker.try_acquire(upload_id)
    assert lease is not None
    lease.release()
    has_taken, results = threading.Event(), []

    def take_slowly() -> None:
        try:
            with transaction.atomic():
                results.append(DatabaseLocker(LeaseKeeper())._take(upload_id, "a" * 32))
                has_taken.set()
                blocked.wait(0.3)
        finally:
            connection.close()

    blocked = threading.Event()
    thread = threading.Thread(target=take_slowly)
    thread.start()
    assert has_taken.wait(60)
    results.append(locker._take(upload_id, "b" * 32))
    thread.join()
    assert results == [True, False]
    assert UploadState.objects.get().lease_token == "a" * 32


def test_one_thread_keeps_lease_after_lease() -> None:
    keeper = LeaseKeeper(look_every=3600)
    threads = set()
    for token in "abc":
        lease = DatabaseLease(token, keeper)
        keeper.keep(lease)
        threads.add(keeper._thread)
        keeper.forget(lease)
    (thread,) = threads
    assert thread is not None
    assert thread.is_alive()
    keeper.join()
    assert not thread.is_alive()


def test_the_keeper_rests_without_leases_and_goes_some_time_after_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "STAY", 0.05)
    keeper = LeaseKeeper(look_every=0.01)
    has_looked, looks = threading.Event(), []

    def look() -> None:
        looks.append(dict(keeper._leases))
        has_looked.set()

    monkeypatch.setattr(keeper, "look", look)
    lease = DatabaseLease("a", keeper)
    keeper.keep(lease)
    assert has_looked.wait(60)
    thread = keeper._thread
    keeper.forget(lease)
    assert thread is not None
    thread.join(60)
    assert keeper._thread is None
    assert not [each for each in looks[:-1] if not each]


def test_a_process_that_was_forked_gets_a_keeper_of_its_own() -> None:
    keeper = LeaseKeeper(look_every=3600)
    keeper._thread = threading.Thread(target=int)  # as a fork leaves the parent's: not running
    lease = DatabaseLease("a", keeper)
    keeper.keep(lease)
    assert keeper._thread.is_alive()
    keeper.forget(lease)
    keeper.join()
