"""Requests at the same time (checklist section 2). Not in the specification, except that corruption breaks it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import pytest

from tus_server.testing.conformance.client import TIMEOUT, NoAnswer, TusClient, at_once, pattern

checklist = pytest.mark.checklist


@checklist("CONC-01")
@pytest.mark.parametrize("size", [10, 100_000, 2_000_000])
def test_of_patches_at_one_offset_at_most_one_is_applied(tus: TusClient, size: int) -> None:
    url = tus.create(3 * size)
    contents = [bytes([letter]) * size for letter in b"abcdef"]
    answers = at_once(*(partial(tus.patch, url, 0, content) for content in contents))
    winners = [number for number, answer in enumerate(answers) if answer.status == 204]
    assert len(winners) <= 1
    assert all(answer.status in (204, 409, 423) for answer in answers), answers
    if tus.is_blind:
        return
    stored = tus.stored_bytes(url) or b""
    assert tus.offset(url) == len(stored)
    if winners:
        assert stored == contents[winners[0]]
    else:
        # Nobody was told of success: then the bytes may be a part of one request's.
        assert len(set(stored)) <= 1


@checklist("CONC-01")
def test_of_two_open_patches_one_keeps_the_upload(tus: TusClient) -> None:
    url = tus.create(2000)
    with tus.open_patch(url, 0, 1000) as first, tus.open_patch(url, 0, 1000) as second:
        for _ in range(10):
            first.send(b"a" * 90)
            second_is_over = second.is_answered(0.02)
            if not second_is_over:
                second.send_until_answered(b"b" * 90)
        first.send(b"a" * 100)
        second.send_until_answered(b"b" * 100)
        statuses = []
        for wire in (first, second):
            try:
                statuses.append(wire.answer("PATCH").status)
            except NoAnswer:
                statuses.append(0)
    assert statuses.count(204) == 1, statuses
    assert set(statuses) <= {204, 409, 423, 0}
    assert tus.stored_bytes(url) in (b"a" * 1000, b"b" * 1000)
    assert tus.offset(url) == 1000


@checklist("CONC-02")
def test_head_is_answered_while_a_patch_runs(tus: TusClient) -> None:
    content = pattern(200_000)
    url = tus.create(len(content))
    with tus.open_patch(url, 0, len(content)) as wire:
        wire.send(content[:100_000])
        for _ in range(5):
            assert 0 <= tus.offset(url) <= 100_000
        # What has arrived is told within about a second: the writer flushes.
        assert tus.wait_for_offset(url, 100_000) == 100_000
        wire.send(content[100_000:])
        assert wire.answer("PATCH").offset == len(content)
    assert tus.stored_bytes(url) == content


@checklist("CONC-03", "CONC-04")
def test_a_client_that_vanished_silently_is_taken_over_from(tus: TusClient) -> None:
    """After a second of silence and two of waiting; who never takes over waits for the idle timeout."""
    content = pattern(200_000)
    url = tus.create(len(content))
    with tus.open_patch(url, 0, len(content)) as old:
        old.send(content[:100_000])
        tus.wait_for_offset(url, 100_000)
        tus.resume(url, content)
        old.send_until_answered(b"!" * 50_000)
        assert old.is_closed()
    tus.assert_unchanged(url, len(content), len(content), content)
    assert tus.finishes(url) == 1


@checklist("CONC-03")
def test_late_bytes_after_a_take_over_are_never_applied(tus: TusClient) -> None:
    url = tus.create(1000)
    with tus.open_patch(url, 0, 1000) as old:
        old.send(b"a" * 100)
        assert tus.wait_for_offset(url, 100) == 100
        deadline = time.monotonic() + TIMEOUT
        while (answer := tus.patch(url, 100, b"b" * 100)).status != 204:
            assert answer.status in (409, 423)
            assert time.monotonic() < deadline, answer
            time.sleep(0.1)
        old.send_until_answered(b"!" * 900)
        assert old.is_closed()
    tus.assert_unchanged(url, 200, 1000, b"a" * 100 + b"b" * 100)


@checklist("CONC-03")
def test_a_lock_that_is_not_free_says_when_to_come_back(tus: TusClient) -> None:
    """While the holder is active the newcomer waits in vain: 423 with Retry-After, and nothing changes."""
    url = tus.create(100_000)
    with ExitStack() as stack, tus.open_patch(url, 0, 100_000) as busy:
        sent = 500
        busy.send(b"a" * sent)
        assert tus.wait_for_offset(url, sent) == sent
        late = stack.enter_context(tus.open_patch(url, sent, 10))
        late.send(b"!" * 10)
        while not late.is_answered(0.05) and sent < 100_000:
            busy.send(b"a" * 500)
            sent += 500
        answer = late.answer("PATCH")
        assert answer.status in (409, 423)
        if answer.status == 423:
            assert int(answer.header("Retry-After") or "") >= 1
        tus.check("PATCH", answer)
        busy.send(b"a" * (100_000 - sent))
        assert busy.answer("PATCH").offset == 100_000
    assert tus.stored_bytes(url) == b"a" * 100_000


@checklist("CONC-04")
def test_an_offset_that_head_gave_is_accepted(tus: TusClient) -> None:
    """Cut, ask, go on at once: 423 means later, 409 would mean that HEAD told bytes that still moved."""
    content = pattern(40_000)
    url = tus.create(len(content))
    for round_ in range(8):
        with tus.open_patch(url, tus.offset(url), len(content) - tus.offset(url)) as wire:
            wire.send(content[round_ * 4000 :][:4000])
            if round_ % 2:
                wire.rst()
        told = tus.offset(url)
        answer = tus.patch(url, told, b"")
        # Between HEAD and PATCH the cut request may still have stored what had arrived.
        assert answer.status in (204, 423) or tus.offset(url) > told, answer
        assert tus.wait_for_offset(url, (round_ + 1) * 4000, within=1.0) <= (round_ + 1) * 4000
        tus.resume(url, content[: (round_ + 1) * 4000]) if tus.offset(url) < (round_ + 1) * 4000 else None
    tus.resume(url, content)


@checklist("CONC-05")
def test_delete_ends_a_running_patch_for_good(tus: TusClient) -> None:
    url = tus.create(1_000_000)
    with tus.open_patch(url, 0, 1_000_000) as wire:
        wire.send(b"a" * 100_000)
        tus.wait_for_offset(url, 100_000)
        deadline = time.monotonic() + TIMEOUT
        while (answer := tus.delete(url)).status != 204:
            assert answer.status == 423, answer
            assert time.monotonic() < deadline, answer
            time.sleep(0.1)
        wire.send_until_answered(b"!" * 900_000)
        assert wire.is_closed()
    assert tus.head(url).status in (404, 410)
    assert tus.stored_files(url) == []
    assert tus.finishes(url) == 0


@checklist("CONC-06")
def test_parallel_creations_and_uploads_do_not_mix(tus: TusClient) -> None:
    contents = [pattern(200_000, number) for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        urls = list(pool.map(tus.upload, contents))
    assert len(set(urls)) == len(contents)
    assert [tus.stored_bytes(url) for url in urls] == contents
    assert [tus.finishes(url) for url in urls] == [1] * len(urls)


@checklist("CONC-07")
def test_stalled_patches_do_not_keep_others_from_being_served(tus: TusClient) -> None:
    with ExitStack() as stack:
        for _ in range(8):
            url = tus.create(1000)
            stack.enter_context(tus.open_patch(url, 0, 1000)).send(b"a" * 10)
        assert tus.stored_bytes(tus.upload(b"abc" * 10_000)) == b"abc" * 10_000
