"""A hypothesis state machine that plays clients, network, faults, time and restarts against an engine over any store.

What it knows of each upload is the byte string that its client means to send. Whatever happens, the stored bytes must
be a prefix of it, never shorter than anybody was told and never longer than what was sent; finish hooks run when, and
only when, everything came; and nobody who is gone keeps the right to write.
"""

from __future__ import annotations

import random
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from tus_server.effects import HookCall
from tus_server.errors import Locked, StoreUnavailable
from tus_server.stores.base import Expires
from tus_server.testing.faults import When
from tus_server.testing.invariants import Invariants
from tus_server.testing.known import Known, State
from tus_server.testing.outcomes import Sent, expect
from tus_server.testing.world import LIFETIME, MAX_SIZE

bodies = st.builds(
    Sent,
    st.lists(st.integers(1, 40), max_size=4).map(tuple),
    st.sampled_from((0, 0, 0, 1, 7)),
    st.booleans(),
    st.sampled_from(("finished", "finished", "vanished", "idle", "draining")),
    st.sampled_from((None, None, None, "right", "wrong")),
)


class UploadMachine(Invariants, RuleBasedStateMachine):
    """Subclass it, and give it ``open_store`` and ``stored_bytes``; run its ``TestCase``.

    The store must have every ability: it terminates, defers lengths, expires and concatenates.
    """

    # --- one request alone ------------------------------------------------------------------------------------

    @rule(
        length=st.none() | st.integers(0, MAX_SIZE + 1),
        body=st.none() | bodies,
        is_partial=st.sampled_from((False, True)),
    )
    def create(self, length: int | None, body: Sent | None, is_partial: bool = False) -> None:
        """POST, perhaps with the first bytes; perhaps of a part of uploads to come."""
        self.next_content = random.Random(len(self.uploads)).randbytes(3 * MAX_SIZE)
        headers = {"Upload-Defer-Length": "1"} if length is None else {"Upload-Length": str(length)}
        if is_partial:
            headers["Upload-Concat"] = "partial"
        before = set(self.uploads)
        flight = self.fly("POST", None, headers, 0, body)
        response = flight.run()
        created = [self.uploads[one] for one in self.uploads if one not in before]
        for known in created:
            known.sent = flight.delivered
            known.is_disturbed = bool(self.faults.fired)
            known.is_hook_lost = self.has_lost_a_hook()
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

    @rule(size=st.integers(0, 40))
    def create_part(self, size: int) -> None:
        """POST of a part of uploads to come, with all its bytes."""
        self.create(size, Sent((size,) if size else ()), is_partial=True)

    @precondition(lambda self: any(known.is_partial for known in self.uploads.values()))
    @rule(
        picks=st.lists(st.integers(0, 5), min_size=1, max_size=4),
        is_strict=st.sampled_from((True, True, True, True, False)),
        base=st.sampled_from(("/files/", "", "http://files.example/files/")),
    )
    def put_together(self, picks: list[int], is_strict: bool, base: str) -> None:
        """POST of an upload that is made of others: in any order, one more than once, finished or not; or of others."""
        offered = [known for known in self.uploads.values() if known.is_partial or not is_strict]
        parts = [offered[-1 - pick % len(offered)] for pick in picks]
        is_quiet = not any(self.is_busy(part) for part in parts)
        is_certain = is_quiet and all(part.state == "gone" or self.must_live(part) for part in parts)
        is_good = is_certain and all(part.is_partial and part.state == "alive" for part in parts)
        before = set(self.uploads)
        urls = " ".join(base + part.id for part in parts)
        response = self.fly("POST", None, {"Upload-Concat": f"final;{urls}", "Host": "files.example"}).run()
        for part in parts:
            part.expires = (part.expires[0], self.now + LIFETIME)  # it may have been finished only now
            part.is_disturbed = part.is_disturbed or bool(self.faults.fired)
        created = [self.uploads[one] for one in self.uploads if one not in before]
        for known in created:
            assert known.parts == tuple(parts)
            known.is_disturbed = bool(self.faults.fired)
            known.is_hook_lost = self.has_lost_a_hook()
        if response.status != 201:
            assert self.faults.fired or not is_good or response.status == 413, response
            self.set_all(created, "unsure" if self.faults.fired else "gone")
            return
        (known,) = created
        assert self.faults.fired or is_good or not is_certain, response
        assert response.header("Location") == f"/files/{known.id}"
        is_put_together = all(self.load(part).is_finished for part in parts if self.exists(part))
        assert (response.header("Upload-Offset") is not None) == self.load(known).is_finished
        assert self.load(known).is_finished == is_put_together or not is_quiet

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
        self._send_the_rest(self.chosen(pick), is_chunked)

    def _send_the_rest(self, known: Known, is_chunked: bool) -> None:
        stored = self.offset_of(known)
        end = MAX_SIZE if known.length is None else known.length
        body = Sent((end - stored,) if end > stored else (), is_chunked=is_chunked)
        self._patch_alone(known, stored, body, end if known.length is None else None)

    @precondition(lambda self: any(known.parts for known in self.uploads.values()))
    @rule(pick=st.integers(0, 5))
    def complete(self, pick: int) -> None:
        """PATCH each unfinished part of an upload with all that is missing, then HEAD."""
        finals = [known for known in self.uploads.values() if known.parts]
        known = finals[-1 - pick % len(finals)]
        for part in known.parts:
            if self.exists(part) and not self.load(part).is_finished:
                self._send_the_rest(part, is_chunked=False)
        self._head(known)

    @precondition(lambda self: self.uploads)
    @rule(pick=st.integers(0, 5))
    def head(self, pick: int) -> None:
        """HEAD: the truth, or nothing. It puts together what is complete."""
        self._head(self.chosen(pick))

    def _head(self, known: Known) -> None:
        response = self.alone(self.fly("HEAD", known))
        if self.faults.fired or self.is_busy(known):
            return
        is_too_large = known.parts_length is not None and known.parts_length > MAX_SIZE
        assert response.status in (200, 404, 410) or (is_too_large and response.status == 413), response
        if known.parts and response.status == 200:
            is_put_together = self.load(known).is_finished
            assert (response.header("Upload-Offset") is not None) == is_put_together
            assert is_put_together or not all(self.load(part).is_finished for part in known.parts)
            assert response.header("Upload-Concat") is not None

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

    @rule(minutes=st.sampled_from((1, 5, 20, 59, 61)))
    def time_passes(self, minutes: int) -> None:
        """Move the clock."""
        self.now += timedelta(minutes=minutes)

    @rule()
    def clean_up(self) -> None:
        """Remove what has expired, as the cleanup command does."""
        store = self.store.store
        assert isinstance(store, Expires)
        with self.faults.held():
            found = {upload.id: upload for upload in store.expired(self.now, 1000)}
        for known in self.uploads.values():
            if known.id in found:
                assert known.expires[0] <= self.now, "removed before its time"
            elif known.state == "alive" and not self.is_kept(known):
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
        self.crash()
        self.flights.clear()
        self.faults.disarm()
        self.open_engine()

    def _patch_alone(self, known: Known, offset: int, body: Sent, declared: int | None) -> None:
        stored, length = self.offset_of(known), known.length
        is_certain = known.state == "alive" and not self.is_busy(known) and not self.needs_recovery(known)
        may_live = known.state == "alive" and self.may_live(known)
        must_live = self.must_live(known)
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
        if known.parts:
            assert (response.status, self.offset_of(known)) == (403, stored)
            return
        outcome = expect(length, stored, offset, body, declared, MAX_SIZE)
        after = self.offset_of(known)
        assert outcome.allows(response.status), (outcome, response)
        assert outcome.low <= after <= outcome.high, (outcome, after)
        if after > stored:
            known.expires = (self.now + LIFETIME, self.now + LIFETIME)
