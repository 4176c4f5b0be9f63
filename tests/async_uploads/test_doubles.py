"""The tests that matter fail on the reference's design: so they would notice it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.async_uploads import test_cleanup, test_promotion, test_saving
from tests.async_uploads.doubles import reference_design
from tests.async_uploads.promoting import media

assert media

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("media")]

#: Tests, by what they take besides the directory.
WITH_DIRECTORY = [
    test_promotion.test_a_rollback_leaves_the_storage_unchanged_and_the_key_can_be_used_again,
    test_promotion.test_a_savepoint_rolled_back_and_the_same_instance_saved_again_keeps_the_file,
    test_promotion.test_a_key_is_taken_once,
    test_promotion.test_an_incomplete_upload_is_refused,
    test_promotion.test_promotion_after_a_crash_before_it_was_recorded_records_it,
    test_promotion.test_three_pending_fields_cost_five_statements,
    test_saving.test_nothing_moves_before_the_outermost_of_nested_transactions_commits,
    test_cleanup.test_claimed_files_are_promoted,
]
WITH_PATCHES = [test_promotion.test_promotion_after_a_crash_between_link_and_unlink_finishes_the_move]


@pytest.mark.parametrize("test", WITH_DIRECTORY, ids=lambda test: test.__name__)
def test_the_references_design_fails(test: Callable[..., None], media: Path) -> None:
    with reference_design():
        assert fails(test, media)


@pytest.mark.parametrize("test", WITH_PATCHES, ids=lambda test: test.__name__)
def test_the_references_design_fails_after_a_crash(
    test: Callable[..., None], media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reference_design():
        assert fails(test, media, monkeypatch)


def test_the_references_design_fails_when_a_move_fails(
    media: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with reference_design():
        assert fails(test_promotion.test_a_failed_promotion_is_recorded_and_not_raised, media, monkeypatch, caplog)


@pytest.mark.parametrize("is_after", [False, True])
def test_the_references_design_fails_when_a_statement_fails(media: Path, is_after: bool) -> None:
    swept = test_promotion.test_whichever_statement_fails_the_file_is_readable_and_ends_in_one_place
    with reference_design():
        assert fails(swept, media, True, is_after)


def fails(test: Callable[..., None], *arguments: Any) -> bool:
    """Say whether a test fails, in whatever way."""
    names = test.__code__.co_varnames[: test.__code__.co_argcount]
    try:
        test(*arguments[: len(names)])
    except (Exception, pytest.fail.Exception):
        return True
    return False
