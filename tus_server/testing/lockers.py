"""The promises of a locker, as a test class to subclass. Give it the fixture ``locker``."""

from __future__ import annotations

import threading

from tus_server.locks.base import Lease, Locker
from tus_server.uploads import generate_upload_id


class LockerContract:
    """Subclass it and give it the fixture ``locker``."""

    def test_an_upload_has_one_lease_until_it_is_released(self, locker: Locker) -> None:
        upload_id = generate_upload_id()
        lease = locker.try_acquire(upload_id)
        assert lease is not None
        assert locker.try_acquire(upload_id) is None
        lease.release()
        again = locker.try_acquire(upload_id)
        assert again is not None
        again.release()

    def test_uploads_do_not_block_each_other(self, locker: Locker) -> None:
        leases = [locker.try_acquire(generate_upload_id()) for _ in range(3)]
        assert None not in leases
        for lease in leases:
            assert lease is not None
            lease.release()

    def test_releasing_twice_does_not_free_the_next_holder(self, locker: Locker) -> None:
        upload_id = generate_upload_id()
        first = locker.try_acquire(upload_id)
        assert first is not None
        first.release()
        second = locker.try_acquire(upload_id)
        assert second is not None
        first.release()
        assert locker.try_acquire(upload_id) is None
        second.release()

    def test_a_holder_learns_what_it_is_wanted_for_and_termination_outweighs(self, locker: Locker) -> None:
        upload_id = generate_upload_id()
        lease = locker.try_acquire(upload_id)
        assert lease is not None
        assert self.seen(lease) is None
        locker.request_release(upload_id, "append")
        assert self.seen(lease) == "append"
        locker.request_release(upload_id, "terminate")
        locker.request_release(upload_id, "append")
        assert self.seen(lease) == "terminate"
        lease.release()

    def test_an_old_wish_does_not_reach_the_next_holder(self, locker: Locker) -> None:
        upload_id = generate_upload_id()
        first = locker.try_acquire(upload_id)
        assert first is not None
        locker.request_release(upload_id, "terminate")
        first.release()
        second = locker.try_acquire(upload_id)
        assert second is not None
        assert self.seen(second) is None
        second.release()

    def test_of_many_threads_one_gets_the_lease(self, locker: Locker) -> None:
        upload_id = generate_upload_id()
        barrier, leases = threading.Barrier(8), []

        def run() -> None:
            barrier.wait()
            leases.append(locker.try_acquire(upload_id))

        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        held = [lease for lease in leases if lease is not None]
        assert len(held) == 1
        held[0].release()

    def seen(self, lease: Lease) -> str | None:
        """Return what the holder sees; override where news travel with a delay."""
        return lease.wanted()
