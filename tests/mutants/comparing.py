"""Bugs in the comparison with Stripe: what it does not see, what it takes for wrong, and what lets calls go on."""

from tests.mutants.mutant import mutant

_RUN = "db/functions/reconcile_run.sql"
_PAID = "db/functions/reconcile_transfers.sql"
_SENDS = "db/functions/reconcile_sends.sql"
_REVERSALS = "db/functions/reconcile_reversals.sql"
_ELSEWHERE = "db/functions/reconcile_elsewhere.sql"
_ACCOUNT = "db/functions/reconcile_account.sql"
_RESUME = "db/functions/reconcile_resume.sql"
_LOOK_UP = "db/functions/reconcile_look_up.sql"
_HEARD = "db/functions/reversed_elsewhere.sql"
_OBJECTS = "db/functions/reconcile_objects.sql"
_READER = "runner/reconcile.py"
_RULES = "test_reconcile_rules.py"
_RESUMED = "test_reconcile_resume.py"

MUTANTS = (
    mutant(
        "second-payment-unseen",
        "A seller has two transfers for one, and the nightly check says that all is well.",
        _RULES,
        (_SENDS, "where o.database = 'ours' and o.live > 1 and", "where o.database = 'ours' and o.live > 2 and"),
    ),
    mutant(
        "second-reversal-unseen",
        "A seller was charged twice for one refund, and the nightly check says that all is well.",
        _RULES,
        (_REVERSALS, "having count(*) > 1", "having count(*) > 2"),
    ),
    mutant(
        "failed-reversal-counts",
        "Stripe dropped the reversal that a row says was made, and nobody is told that the money is still there.",
        _RULES,
        (_REVERSALS, "and (not coalesce(l.is_live, false)\n", "and (l.row_id is null\n"),
    ),
    mutant(
        "missing-payment-unseen",
        "A row says that the seller was paid, Stripe has no such transfer, and nobody is told.",
        _RULES,
        (_PAID, "and s.known_since < p_run.started_at", "and false"),
    ),
    mutant(
        "work-in-progress-is-alarm",
        "Every send under way is an alarm, until nobody reads alarms any more.",
        _RULES,
        (_SENDS, "and (v_row.lease_token is not null or v_row.call_unknown", "and (v_row.call_generation = 0"),
    ),
    mutant(
        "younger-than-the-list-is-alarm",
        "What was taken back while the list was read is said to be missing, and taken back again by a person.",
        _RULES,
        (_REVERSALS, "and t.updated_at < o.read_since", "and true"),
    ),
    mutant(
        "lost-reversal-taken-for-strange",
        "What was lost and is ours is adopted as somebody else's, and counted again when the app asks again.",
        _RESUMED,
        (_LOOK_UP, "if v_found.is_lost then", "if false then"),
    ),
    mutant(
        "lost-reversal-told-as-strange",
        "After a restore Stripe tells of what was lost; the rows count it as somebody's, and again when asked again.",
        "test_elsewhere.py",
        (_HEARD, "    perform marketplace._require_none_lost(p_transfer);\n", ""),
    ),
    mutant(
        "explained-reversal-lost-again",
        "A lost reversal that the rows count already is asked for again, and the books say twice what was taken.",
        _RULES,
        (_ELSEWHERE, "bigint := v_sum - p_elsewhere - p_evidence;", "bigint := v_sum;"),
    ),
    mutant(
        "another-database-overlooked",
        "Two databases pay the same sellers from one account, and calls go on.",
        f"{_RULES} {_RESUMED}",
        (_SENDS, "where o.database = 'another' and", "where o.database = 'nobody' and"),
    ),
    mutant(
        "another-copy-overlooked",
        "The database that a restored one was copied from still makes calls, and both go on.",
        _RESUMED,
        (_ACCOUNT, "and c.reconcile_needed_since is not null\n", "and false\n"),
    ),
    mutant(
        "another-account-overlooked",
        "With the key of an empty account nothing is found, and all that was lost is sent again there.",
        f"{_RULES} {_RESUMED}",
        (_ACCOUNT, "where n.found * 2 < n.expected", "where n.found < 0"),
    ),
    mutant(
        "resumed-by-a-part",
        "A list that leaves out what is older lets calls go on, and what is not on it is sent again.",
        _RESUMED,
        (_RESUME, "when p_run.created_since is not null then", "when false then"),
    ),
    mutant(
        "resumed-by-an-old-run",
        "A comparison from before the restore lets calls go on.",
        _RESUMED,
        (_RESUME, "when p_run.started_at < p_control.reconcile_needed_since then", "when false then"),
    ),
    mutant(
        "resumed-against-what-forbids-it",
        "Calls go on although another database or another copy makes the same ones.",
        _RESUMED,
        (_RESUME, "and (f.forbids_calls or (", "and (false or ("),
    ),
    mutant(
        "lost-history-looked-for-too-late",
        "What was lost is asked for again after weeks, not found on too short a list, and paid a second time.",
        _RESUMED,
        (_RESUME, "set lost_since = least(v_control.lost_since, v_oldest)", "set lost_since = v_control.lost_since"),
    ),
    mutant(
        "looks-end-with-something-lost",
        "Looks before sends end while something of ours has no row: asked for again, it moves a second time.",
        _RESUMED,
        (_RESUME, "p_control.reconcile_needed_since is null\n    and f.kind", "false\n    and f.kind"),
    ),
    mutant(
        "restored-database-not-noticed",
        "A restored database is compared, nothing is said to be different, and the runner sends at once.",
        _RESUMED,
        (_RUN, "  perform marketplace._notice_change();\n", ""),
    ),
    mutant(
        "list-with-a-hole",
        "An object that cannot be read is passed over: what it was is taken for missing, and done again.",
        "test_bad_input.py",
        (_OBJECTS, "where not coalesce(marketplace._is_listed_object(o.it), false)", "where false"),
    ),
    mutant(
        "half-a-list-compared",
        "Stripe breaks off half way, and what is on the other half is said to be missing.",
        "test_reconcile.py",
        (_READER, "finish_reconcile(run_id, compared.trouble)", "finish_reconcile(run_id)"),
    ),
    mutant(
        "only-the-newest-reversals",
        "Of a transfer with many reversals only the ten newest are compared.",
        "test_reconcile.py",
        (_READER, "return None if has_more else reversals", "return reversals"),
    ),
)
