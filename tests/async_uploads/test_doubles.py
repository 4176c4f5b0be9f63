"""The tests that matter fail on the reference's design, for the reason that they speak of: so they would notice it.

Every test of ``test_promotion`` and ``test_saving`` stands in one of three lists: the reference breaks what it promises
(``BROKEN``), keeps it (``KEPT``), or it speaks of a mechanism that only we have (``OURS``).
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from tests.async_uploads import test_cleanup, test_promotion, test_saving
from tests.async_uploads.doubles import reference_design
from tests.async_uploads.promoting import media
from tests.async_uploads.test_promotion import unpromoted
from tests.async_uploads.test_saving import other

assert media
assert unpromoted
assert other

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("media")]


class Reason:
    """How a test fails on the reference's design.

    Args:
        error: What is raised.
        lines: How the test's own line begins that raises it; several where it depends on parameters or versions.
    """

    def __init__(self, error: type[BaseException], *lines: str) -> None:
        self.error, self.lines = error, lines


def refusal(name: str) -> Reason:
    """What should be refused is accepted."""
    return Reason(pytest.fail.Exception, f"with pytest.raises({name}):")


BROKEN = {
    test_promotion.test_a_claim_lost_between_the_check_and_the_save_is_refused: refusal("AlreadyClaimed"),
    test_promotion.test_a_copied_and_a_pickled_instance_carry_the_claim: Reason(
        AttributeError, "assert each.file.claim.key == key"
    ),
    test_promotion.test_a_failed_promotion_is_recorded_and_not_raised: Reason(
        AssertionError, "assert row.attempts == 1"
    ),
    test_promotion.test_a_key_is_taken_once: refusal("AlreadyClaimed"),
    test_promotion.test_a_moved_file_of_the_wrong_size_is_not_called_promoted: Reason(
        AssertionError, "assert not row_of(key).is_promoted"
    ),
    test_promotion.test_a_name_that_a_foreign_file_takes_before_the_commit_is_left_to_it: Reason(
        FileExistsError, '(media / "docs").mkdir()'
    ),
    test_promotion.test_a_refusal_that_no_form_catches_is_a_bad_request: refusal("SuspiciousOperation"),
    test_promotion.test_a_replacement_refused_too_late_leaves_the_old_file: refusal("AlreadyClaimed"),
    test_promotion.test_a_rollback_leaves_the_storage_unchanged_and_the_key_can_be_used_again: Reason(
        AssertionError, "assert tree(media) == before"
    ),
    test_promotion.test_a_rolled_back_instance_is_refused_when_another_record_took_its_upload: refusal(
        "AlreadyClaimed"
    ),
    test_promotion.test_a_savepoint_rolled_back_and_the_same_instance_saved_again_keeps_the_file: Reason(
        AssertionError, "assert row_of(key).is_promoted"
    ),
    test_promotion.test_a_stale_instance_saved_after_promotion_gets_the_permanent_name: Reason(
        AssertionError, 'assert Document.objects.get().file.name == "docs/a.txt"'
    ),
    test_promotion.test_a_storage_of_three_methods_is_asked_for_the_key_until_promotion: Reason(
        AssertionError, "assert Elsewhere.objects.get().file.stored_name == key"
    ),
    test_promotion.test_a_view_that_fails_under_atomic_requests_leaves_the_upload_for_the_next_submission: Reason(
        AssertionError, "assert tree(media) == before"
    ),
    test_promotion.test_an_incomplete_upload_is_refused: refusal("IncompleteUpload"),
    test_promotion.test_an_unknown_key_is_refused: refusal("InvalidUpload"),
    test_promotion.test_an_upload_that_the_cleanup_is_removing_is_refused: refusal("InvalidUpload"),
    test_promotion.test_an_upload_that_was_refused_too_early_is_taken_later: refusal("IncompleteUpload"),
    test_promotion.test_another_instance_reads_the_file_before_it_is_promoted: Reason(
        AssertionError, "assert list(tree(media)) == [key]"
    ),
    test_promotion.test_deleting_a_pending_file_leaves_the_upload_to_the_cleanup: Reason(
        AssertionError, "assert list(tree(media)) == [key]"
    ),
    test_promotion.test_deleting_the_record_before_the_commit_gives_the_claim_back: Reason(
        AssertionError, "assert list(tree(media)) == [key]"
    ),
    test_promotion.test_promotion_after_a_crash_before_it_was_recorded_records_it: Reason(
        AssertionError, "assert promotion.promote(row_of(key))"
    ),
    test_promotion.test_promotion_after_a_crash_between_link_and_unlink_finishes_the_move: Reason(
        AssertionError, "assert promotion.promote(row_of(key))"
    ),
    test_promotion.test_reads_work_in_a_test_case_where_no_commit_happens: Reason(
        AssertionError, "assert list(tree(media)) == [key]"
    ),
    test_promotion.test_records_racing_for_one_key_leave_one_winner: Reason(
        AssertionError,
        'assert sorted(type(each).__name__ for each in results) == ["AlreadyClaimed"] * 3 + ["Document"]',
    ),
    test_promotion.test_the_key_of_another_field_is_refused: refusal("InvalidUpload"),
    test_promotion.test_the_same_record_may_submit_the_same_key_again: Reason(
        AssertionError, 'assert again.file.name == "docs/a.txt"'
    ),
    test_promotion.test_replacing_three_files_costs_five_statements: Reason(
        AssertionError, "assert count_statements(triple.save) == count_statements(plain.save) + 5"
    ),
    test_promotion.test_three_pending_fields_cost_five_statements: Reason(
        AssertionError, "assert pending == plain + 5"
    ),
    test_promotion.test_whichever_statement_fails_the_file_is_readable_and_ends_in_one_place: Reason(
        AssertionError,
        'assert Document.objects.get().file.name == f"docs/{number}.txt"',
        "assert tree(media) == before",
    ),
    test_saving.test_a_create_form_sent_twice_makes_one_record_with_the_file: refusal("AlreadyClaimed"),
    test_saving.test_a_key_that_is_written_twice_in_bulk_has_one_owner_and_the_other_is_reported: Reason(
        ValueError, "[problem] = reconcile().problems"
    ),
    test_saving.test_a_key_written_by_an_update_in_another_database_is_adopted_there: Reason(
        AssertionError, "assert reconcile().adopted == 1"
    ),
    test_saving.test_an_update_of_a_query_set_is_left_to_the_cleanup: Reason(
        AssertionError, "assert reconcile().adopted == 1"
    ),
    test_saving.test_bulk_create_adopts_at_its_commit: Reason(
        AssertionError, "assert all(row_of(key).is_promoted for key in keys)"
    ),
    test_saving.test_bulk_create_gives_names_that_hold_the_primary_key: Reason(
        AssertionError, 'assert record.file.name == f"by-key/{record.pk}/a.txt"'
    ),
    test_saving.test_bulk_create_in_a_transaction_moves_nothing_before_its_commit_and_nothing_after_a_rollback: Reason(
        AssertionError, 'assert tree(media) == {"docs/a.txt": b"hello"}'
    ),
    test_saving.test_bulk_create_in_autocommit_adopts_at_once_or_is_left_to_the_cleanup: Reason(
        AssertionError,
        "assert row_of(key).is_promoted or django.VERSION >= (6,)",
        'assert tree(media) == {"docs/a.txt": b"hello"}',
    ),
    test_saving.test_bulk_create_refuses_what_is_no_upload_for_the_field: refusal("InvalidUpload"),
    test_saving.test_bulk_create_that_ignores_conflicts_adopts_records_with_known_keys: Reason(
        AssertionError, 'assert Document.objects.get(pk=2).file.name == "docs/c.txt"'
    ),
    test_saving.test_bulk_create_that_ignores_conflicts_is_left_to_the_cleanup: Reason(
        AssertionError, "assert (report.adopted, report.problems) == (1, [])"
    ),
    test_saving.test_bulk_create_that_updates_conflicts_adopts: Reason(
        AssertionError, 'assert Unique.objects.get().file.name == "unique/new.txt"'
    ),
    test_saving.test_bulk_update_adopts_at_its_commit: Reason(
        AssertionError,
        "assert {each.title: each.file.name for each in Document.objects.all()}",
    ),
    test_saving.test_clearing_a_pending_file_in_its_own_transaction_gives_the_upload_back: Reason(
        AssertionError, "assert list(tree(media)) == [key]"
    ),
    test_saving.test_deleting_the_record_after_promotion_leaves_its_file_as_django_does: refusal("AlreadyClaimed"),
    test_saving.test_deleting_the_record_between_commit_and_promotion_gives_the_upload_back: Reason(
        AssertionError, "assert reconcile().returned == 1"
    ),
    test_saving.test_loading_a_fixture_adopts_at_its_commit: Reason(
        AssertionError, 'assert Document.objects.get().file.name == "docs/a.txt"'
    ),
    test_saving.test_nothing_moves_before_the_outermost_of_nested_transactions_commits: Reason(
        AssertionError, "assert list(tree(media)) == [key]"
    ),
    test_saving.test_records_in_another_database_adopt_there: Reason(
        AssertionError,
        'assert [each.file.name for each in Document.objects.using(other).order_by("title")]',
    ),
    test_saving.test_replacing_a_pending_file_in_its_own_transaction_gives_the_first_upload_back: Reason(
        AssertionError, 'assert sorted(tree(media)) == sorted([first, "docs/two.txt"])'
    ),
    test_cleanup.test_claimed_files_are_promoted: Reason(AssertionError, "assert reconcile().promoted == 1"),
}

#: What the reference does as well as we do, and why.
KEPT = {
    "nothing goes wrong: its commit follows at once": (
        test_promotion.test_a_child_with_a_table_of_its_own_adopts_its_parents_fields_too,
        test_promotion.test_a_field_of_an_abstract_model_belongs_to_each_concrete_one,
        test_promotion.test_a_proxy_adopts,
        test_promotion.test_a_saved_upload_lies_in_its_permanent_place,
        test_promotion.test_a_storage_of_three_methods_works,
        test_promotion.test_only_the_named_fields_are_adopted,
        test_promotion.test_the_primary_key_can_be_part_of_the_name,
        test_promotion.test_the_value_of_a_form_is_taken_too,
        test_promotion.test_two_fields_of_one_record_get_two_names,
        test_promotion.test_two_uploads_of_one_name_get_two_names,
        test_promotion.test_a_promotion_done_twice_at_once_leaves_one_file,
        test_saving.test_a_formset_saves_an_upload_for_each_of_its_forms,
        test_saving.test_a_record_created_in_bulk_and_saved_before_the_commit_is_adopted_once,
        test_saving.test_a_record_with_a_primary_key_of_its_own,
        test_saving.test_a_transaction_of_one_database_does_not_keep_files_of_another_waiting,
        test_saving.test_an_inline_formset_saves_replaces_and_deletes,
        test_saving.test_an_inline_of_the_admin_saves_with_its_parent,
        test_saving.test_asave_and_acreate,
        test_saving.test_saving_as_new_in_the_admin_gives_the_new_record_the_upload_and_leaves_the_old_one,
        test_saving.test_update_or_create_and_get_or_create,
    ),
    "as Django's own file field": (
        test_promotion.test_a_copy_of_the_record_shares_the_file_as_with_django,
        test_promotion.test_a_file_assigned_by_code_is_stored_as_by_django,
        test_promotion.test_replacing_a_file_keeps_the_old_one_as_django_does,
        test_saving.test_a_copy_made_by_an_empty_primary_key_shares_the_promoted_file,
        test_saving.test_a_promoted_file_assigned_to_another_field_is_only_named_there,
        test_saving.test_a_value_assigned_to_another_record_is_shared_as_with_django,
        test_saving.test_dumping_a_record_and_loading_it_again_keeps_its_file,
    ),
    "nothing was written, so nothing is moved": (
        test_promotion.test_a_failed_insert_in_autocommit_loses_nothing,
        test_promotion.test_a_save_with_nothing_pending_costs_nothing,
        test_promotion.test_nobody_listens_to_models_without_async_fields,
        test_promotion.test_fixtures_are_left_to_the_cleanup,
    ),
    "the file is read where it lies, though it lies there too early or for ever": (
        test_promotion.test_a_file_read_before_its_promotion_can_be_opened_again,
        test_promotion.test_a_key_that_nobody_adopted_stays_in_the_column_and_reads_work,
        test_promotion.test_records_racing_for_one_name_get_a_name_each,
        test_saving.test_another_instance_reads_the_file_in_the_same_transaction,
        test_saving.test_an_instance_that_is_read_anew_before_the_commit_keeps_its_file,
    ),
    "it asks the storage for a free name, where the other file lies already": (
        test_promotion.test_a_file_saved_by_django_avoids_a_promised_name,
        test_promotion.test_a_name_that_was_taken_between_its_choice_and_the_claim_is_not_promised,
        test_promotion.test_a_rolled_back_instance_takes_another_name_when_its_own_is_taken_meanwhile,
    ),
    "the save that was rolled back has moved the file, and the instance knows its name": (
        test_saving.test_a_process_that_dies_while_it_saves_again_after_a_rollback_loses_nothing,
        test_saving.test_an_instance_whose_save_was_rolled_back_keeps_its_file_when_created_in_bulk,
    ),
}

#: What speaks of a mechanism of ours, or of this repository.
OURS = {
    test_promotion.test_a_late_giver_does_not_take_a_file_back_from_its_new_record: "claims",
    test_promotion.test_a_promotion_that_begins_late_asks_for_more_time_by_one_statement: "turns",
    test_promotion.test_a_process_that_moves_a_deleted_records_file_and_dies_loses_nothing: "turns",
    test_promotion.test_a_process_that_thaws_when_its_time_is_over_moves_nothing: "turns",
    test_promotion.test_a_record_that_is_deleted_while_its_file_is_moved_leaves_the_upload_at_its_key: "claims",
    test_promotion.test_a_claim_that_was_not_quite_given_back_is_so_by_the_next_run: "claims",
    test_promotion.test_a_plain_file_field_costs_the_statement_that_keeps_it_off_promised_names: "promised names",
    test_promotion.test_a_record_that_is_saved_again_while_its_claim_is_given_back_keeps_it: "claims",
    test_saving.test_the_table_of_ways_has_a_line_for_each: "the documentation",
    test_saving.test_the_table_of_ways_names_a_test_for_each_and_every_test_of_this_module: "the documentation",
}


@contextmanager
def on_the_double(fixtures: Mapping[str, Any]) -> Iterator[None]:
    """Run a test on the reference's design; what it patches itself is taken back before the design is."""
    with reference_design():
        try:
            yield
        finally:
            if "monkeypatch" in fixtures:
                fixtures["monkeypatch"].undo()


def expect_failure(test: Callable[..., None], reason: Reason) -> Callable[..., None]:
    """Return a test with the same fixtures and parameters: this one fails on the double, as is said."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        with on_the_double(named), pytest.raises(reason.error) as caught:
            test(*arguments, **named)
        own = [frame for frame in traceback.extract_tb(caught.tb) if frame.name == test.__name__]
        line = own[-1].line or ""
        assert line.startswith(reason.lines), f"it failed, but where it says {line}"

    return run


def expect_success(test: Callable[..., None]) -> Callable[..., None]:
    """Return a test with the same fixtures and parameters: this one does not notice the double."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        with on_the_double(named):
            test(*arguments, **named)

    return run


for each, why in BROKEN.items():
    globals()[f"{each.__name__}__fails"] = expect_failure(each, why)
for each in (test for tests in KEPT.values() for test in tests):
    globals()[f"{each.__name__}__passes"] = expect_success(each)


def test_every_test_about_saving_and_promotion_is_in_one_list() -> None:
    listed = [*BROKEN, *OURS, *(test for tests in KEPT.values() for test in tests)]
    assert len(listed) == len(set(listed))
    found = {
        test for module in (test_promotion, test_saving) for name, test in vars(module).items() if name[:5] == "test_"
    }
    assert found - set(listed) == set(), "run it under reference_design(), and list it with how it ends"
    assert set(listed) - found <= {test_cleanup.test_claimed_files_are_promoted}


def test_a_test_that_fails_for_another_reason_is_noticed() -> None:
    def test_something() -> None:
        assert 1 + 1 == 3

    expect_failure(test_something, Reason(AssertionError, "assert 1 + 1 == 3"))()
    with pytest.raises(AssertionError, match="where it says"):
        expect_failure(test_something, Reason(AssertionError, "assert 1 + 1 == 4"))()
    with pytest.raises(AssertionError, match="1 \\+ 1"):
        expect_failure(test_something, refusal("ValueError"))()
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        expect_failure(lambda: None, Reason(AssertionError))()
