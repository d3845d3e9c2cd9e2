"""Bugs in what proves the books: the log's replay, the pruning of old history, the checks of functions."""

from tests.mutants.mutant import mutant

_REPLAY = "db/functions/verify_log.sql"
_ROWS = "db/functions/verify_rows.sql"
_HISTORY = "db/functions/history.sql"
_PRUNE = "db/functions/prune_history.sql"
_GUARD = "db/functions/prune_guard.sql"
_FUNCTIONS = "db/functions/check_functions.sql"
_LOADER = "db/migrations/post-apply.py"
_PRUNED = "test_prune_history.py"
_TO_THE_BYTE = f"{_PRUNED}::test_the_guards_let_go_of_what_is_on_record_to_the_byte_and_of_nothing_else"

MUTANTS = (
    mutant(
        "log-gap-not-seen",
        "An entry of the log that somebody removed is missed by nobody.",
        "test_verify_log.py::test_an_entry_that_was_removed_leaves_a_gap",
        (_REPLAY, "when e.from_status <> e.was then", "when false then"),
    ),
    mutant(
        "status-past-the-log-not-seen",
        "A status that was written past the guards, a debt that is gone, say, looks like any other.",
        "test_verify_log.py::test_a_status_that_was_changed_past_the_guards_is_not_in_the_log",
        (_REPLAY, "when t.status <> e.to_status then", "when false then"),
    ),
    mutant(
        "second-success-not-seen",
        "A transfer that was paid twice, and recorded so, is found by nobody.",
        "test_verify_log.py::test_an_obligation_that_was_met_twice_is_found",
        (_ROWS, "where a.disposition = 'applied' and a.verdict = 'succeeded'\n", "where false\n"),
    ),
    mutant(
        "evidence-not-compared",
        "A row that names another reversal than Stripe confirmed goes unnoticed.",
        "test_verify_log.py::test_a_success_that_its_row_does_not_have_is_found",
        (_ROWS, "t.stripe_reversal_id is distinct from a.stripe_object_id", "false"),
    ),
    mutant(
        "open-order-pruned",
        "The history of money that is still under way is thrown away.",
        f"{_PRUNED}::test_only_orders_that_are_over_go_and_each_goes_whole",
        (_HISTORY, "t.status not in ('completed', 'reversed', 'permanently_failed')\n", "false\n"),
    ),
    mutant(
        "moved-twice-pruned",
        "What says that money moved twice is thrown away before anybody gave it back.",
        f"{_PRUNED}::test_only_orders_that_are_over_go_and_each_goes_whole",
        (_HISTORY, " or a.verdict in ('moved_twice', 'late_success')", ""),
    ),
    mutant(
        "pruned-unexported",
        "History is deleted that is in no file.",
        f"{_PRUNED}::test_nothing_goes_that_was_not_exported",
        (_PRUNE, "is distinct from (lower(p_log_sha256), lower(p_attempts_sha256)) then", "is null then"),
    ),
    mutant(
        "pruned-unverified",
        "Tampering is covered up by pruning what shows it.",
        f"{_PRUNED}::test_nothing_goes_that_does_not_bear_out_its_rows",
        (
            _PRUNE,
            "  if found then\n    raise exception 'the history",
            "  if false then\n    raise exception 'the history",
        ),
    ),
    mutant(
        "any-pruning-opens-the-guards",
        "Once something was pruned, whoever owns the tables deletes more of it at any time.",
        f"{_PRUNED}::test_a_record_of_another_transaction_lets_go_of_nothing",
        (
            _GUARD,
            "      and p.transaction_id = pg_current_xact_id() and p.began_at = now());",
            "      and true);",
        ),
        (
            _GUARD,
            "    where p.transaction_id = pg_current_xact_id() and p.began_at = now()\n      and v_sha256",
            "    where v_sha256",
        ),
    ),
    mutant(
        "pruning-takes-more-than-it-says",
        "A record of one transfer's pruning is the cover for deleting another's history.",
        _TO_THE_BYTE,
        (_GUARD, "where o.transfer_id = p_transfer_id and", "where"),
        (_GUARD, "if v_lines <> '{}' and not exists (", "if false and not exists ("),
    ),
    mutant(
        "replaced-guard-not-seen",
        "A guard that lets everything pass is taken for the one that was loaded.",
        "test_check_functions.py::test_a_guard_whose_source_was_replaced_is_found",
        (_FUNCTIONS, "      p.prosrc, l.lanname,", "      l.lanname,"),
    ),
    mutant(
        "foreign-function-adopted",
        "A function that somebody brought in is noted as ours at the next deploy.",
        "test_check_functions.py::test_loading_again_mends_what_was_replaced_and_keeps_pointing_at_what_is_foreign",
        (_LOADER, "if (name, body) in defined]", "]"),
    ),
)
