"""What must hold of every upload, whatever was played."""

from __future__ import annotations

from hypothesis.stateful import invariant

from tus_server.testing.known import Known
from tus_server.testing.world import World


class Invariants(World):
    """A world that looks after each step whether everything is as it must be."""

    @invariant()
    def bytes_are_a_prefix_of_what_was_sent(self) -> None:
        """Never more than was sent, never less than was told, never others; the store tells the same offset."""
        for known in self.uploads.values():
            self.learn_length(known)
        for known in self.uploads.values():
            if known.state == "alive":
                self._compare(known)

    def _compare(self, known: Known) -> None:
        upload = self.load(known)
        with self.faults.held():
            stored = self.stored_bytes(upload)
        sent = len(known.meant) if known.parts else known.sent
        assert stored is not None
        assert stored == known.meant[: len(stored)], "other bytes than its client sent"
        assert known.told <= len(stored) <= sent, (known.told, len(stored), sent)
        assert upload.offset == len(stored)
        known.told = len(stored)
        assert known.length is None or len(stored) <= known.length

    @invariant()
    def finish_hooks_run_when_everything_came(self) -> None:
        """Not before, and not never; once, unless something failed.

        ``pre_finish`` ran whatever happened. ``post_finish`` is missing where a process died, or a store's answer was
        lost, between the record that the upload is finished and the hook. A part of uploads to come has no hooks.
        """
        assert not self.wrongs
        for known in self.uploads.values():
            if known.is_partial:
                assert (known.started, known.finished) == (0, 0), "a hook saw a part"
            if known.state != "alive" or known.is_partial:
                continue
            upload = self.load(known)
            if known.finished:
                assert upload.is_finished
            if upload.is_finished and not self.is_busy(known):
                assert known.started >= 1
                assert known.finished >= 1 or known.is_hook_lost
            if not known.is_disturbed:
                assert known.finished <= 1, "finished twice"

    @invariant()
    def nobody_keeps_the_right_to_write(self) -> None:
        """Lease and fence of every upload are free while no request is under way."""
        for known in self.uploads.values():
            if known.state == "alive" and not self.is_busy(known):
                lease = self.locker.locker.try_acquire(known.id)
                assert lease is not None, "a lease was left behind"
                lease.release()
                upload = self.load(known)
                if not upload.is_finished and not known.parts and not self.needs_recovery(known):
                    with self.faults.held():
                        assert self.store.store.open_sink(upload, upload.offset).settle() == upload.offset

    @invariant()
    def what_is_gone_stays_gone(self) -> None:
        """No late byte brings an upload back."""
        for known in self.uploads.values():
            if known.state == "gone":
                assert not self.exists(known), "an upload came back"
