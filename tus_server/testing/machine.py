"""A hypothesis state machine that plays clients, network, faults, time and restarts against an engine over any store.

What it knows of each upload is the byte string that its client means to send. Whatever happens, the stored bytes must
be a prefix of it, never shorter than anybody was told and never longer than what was sent; finish hooks run when, and
only when, everything came; and nobody who is gone keeps the right to write.
"""

from __future__ import annotations

import random
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tus_server.effects import HookCall
from tus_server.errors import Locked, StoreUnavailable
from tus_server.stores.base import Expires
from tus_server.testing.faults import When
from tus_server.testing.outcomes import Sent, expect
from tus_server.testing.world import LIFETIME, MAX_SIZE, Known, State, World

bodies = st.builds(
    Sent,
    st.lists(st.integers(1, 40), max_size=4).map(tuple),
    st.sampled_from((0, 0, 0, 1, 7)),
    st.booleans(),
    st.sampled_from(("finished", "finished", "vanished", "idle", "draining")),
    st.sampled_from((None, None, None, "right", "wrong")),
)


class UploadMachine(World, RuleBasedStateMachine):
    """Subclass it, and give it ``open_store`` and ``stored_bytes``; run its ``TestCase``.

    The store must have every ability: it terminates, defers lengths and expires.
    """

    # --- one request alone ------------------------------------------------------------------------------------

    @rule(length=st.none() | st.integers(0, MAX_SIZE + 1), body=st.none() | bodies)
    def create(self, length: int | None, body: Sent | None) -> None:
        """POST, perhaps with the first bytes."""
        self.next_content = random.Random(len(self.uploads)).randbytes(3 * MAX_SIZE)
        headers = {"Upload-Defer-Length": "1"} if length is None else {"Upload-Length": str(length)}
        before = set(self.uploads)
        flight = self.fly("POST", None, headers, 0, body)
        response = flight.run()
        created = [self.uploads[one] for one in self.uploads if one not in before]
        for known in created:
            known.sent = flight.delivered
            known.is_disturbed = bool(self.faults.fired)
            known.is_hook_lost = ("finish", "after") in self.faults.fired
        if self.faults.fired:
            self.set_all(created, "alive" if response.status == 201 else "unsure")
            return
        outcome = expect(length, 0, 0, body or Sent(()), None, MAX_SIZE)
        if length is not None and length > MAX_SIZE:
            assert response.status == 413
            assert not created
        elif outcome.status == 204:
            (known,) = created
            assert (response.status, response.header("Location")) == (201, f"/files/{known.id}"), response
            assert self.offset_of(known) == outcome.low == int(response.header("Upload-Offset") or 0)
        elif outcome.status == 500 and body is not None and body.checksum is None:
            (known,) = created
            assert response.status >= 500, response
            assert self.offset_of(known) == outcome.low
        else:
            assert outcome.allows(response.status), (outcome, response)
            self.set_all(created, "gone")

    @precondition(lambda self: self.uploads)
    @rule(
        pick=st.integers(0, 5),
        shift=st.sampled_from((0, 0, 0, 0, -1, 1, 1000)),
        body=bodies,
        declared=st.sampled_from((None, None, None, -1, 0, 1, 20)),
    )
    def patch(self, pick: int, shift: int, body: Sent, declared: int | None) -> None:
        """PATCH, with a right or wrong offset, whole, cut or too long; perhaps with a length, counted from its end."""
        known = self.chosen(pick)
        stored = self.offset_of(known)
        offset = max(0, stored + shift)
        length = None if declared is None else max(0, offset + body.total + declared)
        self._patch_alone(known, offset, body, length)

    @precondition(lambda self: self.uploads)
    @rule(pick=st.integers(0, 5), is_chunked=st.booleans())
    def send_the_rest(self, pick: int, is_chunked: bool) -> None:
        """PATCH with all that is missing."""
        known = self.chosen(pick)
        stored = self.offset_of(known)
        end = MAX_SIZE if known.length is None else known.length
        body = Sent((end - stored,) if end > stored else (), is_chunked=is_chunked)
        self._patch_alone(known, stored, body, end if known.length is None else None)

    @precondition(lambda self: self.uploads)
    @rule(pick=st.integers(0, 5))
    def head(self, pick: int) -> None:
        """HEAD: the truth, or nothing."""
        known = self.chosen(pick)
        response = self.alone(self.fly("HEAD", known))
        assert response.status in (200, 404, 410) or self.faults.fired or self.is_busy(known), response

    @precondition(lambda self: self.uploads)
    @rule(pick=st.integers(0, 5))
    def delete(self, pick: int) -> None:
        """DELETE."""
        known = self.chosen(pick)
        response = self.alone(self.fly("DELETE", known))
        assert response.status in (204, 404, 410) or self.faults.fired or self.is_busy(known), response

    # --- two requests at once ---------------------------------------------------------------------------------

    @precondition(lambda self: self.uploads and len(self.flights) < 2)
    @rule(pick=st.integers(0, 5), method=st.sampled_from(("PATCH", "PATCH", "DELETE", "HEAD")), body=bodies)
    def begin(self, pick: int, method: str, body: Sent) -> None:
        """Begin a request that goes on step by step; its client falls silent between the pieces."""
        known = self.chosen(pick)
        offset = self.offset_of(known)
        if method == "PATCH":
            flight = self.fly("PATCH", known, {"Upload-Offset": str(offset)}, offset, body, quiet_for=2.0)
        else:
            flight = self.fly(method, known)
        self.flights.append(flight)

    @precondition(lambda self: self.flights)
    @rule(which=st.integers(0, 1), steps=st.integers(1, 8))
    def go_on(self, which: int, steps: int) -> None:
        """Go some steps on with a request that has begun."""
        flight = self.flights[which % len(self.flights)]
        self.faults.fired.clear()
        for _ in range(steps):
            flight.step()
        self.note(flight)
        if flight.response is not None:
            self.flights.remove(flight)
            self.learn(flight, flight.response)

    # --- the world --------------------------------------------------------------------------------------------

    @rule(
        skip=st.integers(0, 9),
        when=st.sampled_from(("before", "after")),
        error=st.sampled_from((StoreUnavailable, RuntimeError)),
    )
    def break_the_store(self, skip: int, when: When, error: type[Exception]) -> None:
        """Let one of the next calls fail."""
        self.faults.arm(skip, when, error)

    @rule(minutes=st.sampled_from((1, 20, 59, 61)))
    def time_passes(self, minutes: int) -> None:
        """Move the clock."""
        self.now += timedelta(minutes=minutes)

    @rule()
    def clean_up(self) -> None:
        """Remove what has expired, as the cleanup command does."""
        store = self.store.store
        assert isinstance(store, Expires)
        found = {upload.id: upload for upload in store.expired(self.now, 100)}
        for known in self.uploads.values():
            if known.id in found:
                assert known.expires[0] <= self.now, "removed before its time"
            elif known.state == "alive" and not self.load(known).is_finished:
                assert known.expires[1] > self.now, "kept after its time"
        for upload in found.values():
            try:
                self.store.terminate(upload)
            except (Locked, StoreUnavailable, RuntimeError):
                state: State = "unsure"
            else:
                state = "gone"
            self.set_all([known for known in self.uploads.values() if known.id == upload.id], state)

    @rule()
    def restart(self) -> None:
        """Let every process die, and start again over the same directory."""
        for flight in self.flights:
            self.note(flight)
            pending = flight.pending
            if isinstance(pending, HookCall) and getattr(pending.function, "__name__", "") == "post_finish":
                self.uploads[flight.upload_id or ""].is_hook_lost = True
            flight.kill()
        self.flights.clear()
        self.store.crash()
        self.faults.disarm()
        self.open_engine()

    # --- what must hold ---------------------------------------------------------------------------------------

    @invariant()
    def bytes_are_a_prefix_of_what_was_sent(self) -> None:
        """Never more than was sent, never less than was told, never others; the store tells the same offset."""
        for known in self.uploads.values():
            if known.state != "alive":
                continue
            upload = self.load(known)
            stored = self.stored_bytes(upload)
            assert stored is not None
            assert stored == known.content[: len(stored)], "other bytes than its client sent"
            assert known.told <= len(stored) <= known.sent, (known.told, len(stored), known.sent)
            assert upload.offset == len(stored)
            assert known.length in (None, upload.length), "the length has changed"
            known.told, known.length = len(stored), upload.length
            assert known.length is None or len(stored) <= known.length

    @invariant()
    def finish_hooks_run_when_everything_came(self) -> None:
        """Not before, and not never; once, unless something failed.

        ``pre_finish`` ran whatever happened. ``post_finish`` is missing where a process died, or a store's answer was
        lost, between the record that the upload is finished and the hook.
        """
        assert not self.wrongs
        for known in self.uploads.values():
            if known.state != "alive":
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
                lease = self.locker.try_acquire(known.id)
                assert lease is not None, "a lease was left behind"
                lease.release()
                upload = self.load(known)
                if not upload.is_finished:
                    assert self.store.store.open_sink(upload, upload.offset).settle() == upload.offset

    @invariant()
    def what_is_gone_stays_gone(self) -> None:
        """No late byte brings an upload back."""
        for known in self.uploads.values():
            if known.state == "gone":
                assert not self.exists(known), "an upload came back"

    def _patch_alone(self, known: Known, offset: int, body: Sent, declared: int | None) -> None:
        stored, length = self.offset_of(known), known.length
        is_certain = known.state == "alive" and not self.is_busy(known)
        may_live = known.state == "alive" and (known.expires[1] > self.now or self.load(known).is_finished)
        must_live = known.state == "alive" and (known.expires[0] > self.now or self.load(known).is_finished)
        headers = {"Upload-Offset": str(offset)}
        if declared is not None:
            headers["Upload-Length"] = str(declared)
        response = self.alone(self.fly("PATCH", known, headers, offset, body))
        if not is_certain or self.faults.fired:
            return
        if response.status == 410:
            assert not must_live
            return
        assert may_live, response
        outcome = expect(length, stored, offset, body, declared, MAX_SIZE)
        after = self.offset_of(known)
        assert outcome.allows(response.status), (outcome, response)
        assert outcome.low <= after <= outcome.high, (outcome, after)
        if after > stored:
            known.expires = (self.now + LIFETIME, self.now + LIFETIME)
