"""Bugs in noticing that the database is not the one it was."""

from tests.mutants.mutant import mutant

_NOTICE = "db/functions/notice_change.sql"
_IDENTITY = "db/functions/database_identity.sql"
_CLAIM = "db/functions/claim.sql"
_NEXT = "db/functions/next_action.sql"
_RECONCILED = "db/functions/reconciled.sql"
_SEEN = "db/functions/transfers_seen.sql"
_TESTS = "test_notice_change.py test_reconciled.py"

MUTANTS = (
    mutant(
        "failover-not-noticed",
        "A standby takes over, and what was sent and lost with the primary is sent again once keys are forgotten.",
        _TESTS,
        (_NOTICE, "or marketplace._is_database_pinned(p_control) then", "or p_control.table_oid is not null then"),
    ),
    mutant(
        "failover-noticed-by-claims-only",
        "A refund that comes before the first claim gives up as never sent what the lost history has sent.",
        _TESTS,
        (
            _NOTICE,
            "  perform marketplace._know_database(v_control, clock_timestamp());",
            "  return;",
        ),
    ),
    mutant(
        "database-not-pinned-again",
        "After a failover every claim is the first of another database: no call is ever made again.",
        _TESTS,
        (_IDENTITY, " wal_timeline = v_is.wal_timeline,", " wal_timeline = coalesce(wal_timeline, v_is.wal_timeline),"),
    ),
    mutant(
        "clone-taken-for-the-original",
        "A clone for staging pays sellers beside the database it was made of.",
        _TESTS,
        (_IDENTITY, "p_control.database_oid = v_is.database_oid and ", ""),
        (_NOTICE, "if p_control.database_oid = v_is.database_oid and ", "if "),
    ),
    mutant(
        "restored-dump-taken-for-a-standby",
        "A dump of last week is restored and makes its calls again.",
        _TESTS,
        (
            _NOTICE,
            "    and p_control.system_identifier is not distinct from v_is.system_identifier\n",
            "",
        ),
    ),
    mutant(
        "old-state-taken-for-a-standby",
        "A state of last week is restored and calls before anybody has compared it with Stripe.",
        _TESTS,
        (_NOTICE, "and v_seen_at > p_now - p_control.promoted_within then", "and v_seen_at < p_now then"),
    ),
    mutant(
        "calls-before-reconcile",
        "A restored dump makes calls although nobody has compared it with Stripe.",
        _TESTS,
        (_CLAIM, "if v_control.reconcile_needed_since is not null then", "if false then"),
    ),
    mutant(
        "silence-of-the-claims-own-lease",
        "A worker of the lost history with a longer lease is at its call while another one claims its row.",
        _TESTS,
        (_NEXT, "+ 2 * p_control.longest_lease;", "+ interval '2 minutes';"),
    ),
    mutant(
        "lost-send-looked-for-a-day-only",
        "What a dump of last week does not know was sent then; asked for again it is not found, and sent again.",
        _TESTS,
        ("db/functions/claim_arguments.sql", "(select c.lost_since from marketplace.stripe_control as c)", "null"),
    ),
    mutant(
        "first-loss-forgotten",
        "A second failover makes the first one's losses look younger than they are: they are not found.",
        _TESTS,
        (_NOTICE, "lost_since = least(lost_since, p_lost_since)", "lost_since = p_lost_since"),
    ),
    mutant(
        "look-ups-first-end-too-early",
        "A comparison with Stripe ends the look-ups while requests of the lost history may still arrive.",
        _TESTS,
        (_RECONCILED, "if p_compared_since < marketplace._lost_until() then", "if p_compared_since < v_since then"),
    ),
    mutant(
        "doubt-ends-with-look-ups-first",
        "Rows that nobody has looked at since the failover are sent without a look once it was compared.",
        _TESTS,
        (_RECONCILED, "    call_unknown = true, call_absent_at = null,\n", ""),
    ),
    mutant(
        "taken-by-a-lost-history-and-kept",
        "What a lost history took for a refund that failed since is never given back to the seller.",
        "test_sending.py",
        ("db/functions/outcomes.sql", "perform marketplace._take_for_withdrawn(v_settled, v_read.reversed);", "null;"),
    ),
    mutant(
        "split-while-more-may-arrive",
        "A transfer found for less is taken for all there is while another of the lost history may still arrive.",
        "test_held_rest.py",
        (_SEEN, "p_row.leased_at >= coalesce(marketplace._quiet_from(p_row), '-infinity')", "true"),
    ),
    mutant(
        "held-part-under-the-rows-name",
        "The part that was not sent goes on under the name of the transfer that was: it is never paid.",
        "test_held_rest.py",
        (
            "db/functions/held_rest.sql",
            "select 'rest:' || coalesce(t.stripe_transfer_id, t.id::text)",
            "select null::text",
        ),
    ),
    mutant(
        "held-part-given-to-any-request",
        "A refund asked again in another order is given the part that was not sent, and another is reversed twice.",
        "test_held_rest.py",
        ("db/functions/held_rest.sql", "call_unknown = p_reversed > 0", "call_unknown = false"),
    ),
    mutant(
        "paid-parts-left-with-the-seller",
        "A part that was paid before it was split off counts as not paid: its refund never comes back.",
        "test_held_rest.py",
        ("db/functions/outcomes.sql", "perform marketplace._pay_slices(v_settled, -v_rest, p_now);", "null;"),
    ),
    mutant(
        "database-not-pinned-by-reconcile",
        "Once reconciled the database is still another one than it was, and is to be reconciled again.",
        _TESTS,
        (_RECONCILED, "  perform marketplace._pin_database('reconciled', p_reason);\n", ""),
    ),
)
