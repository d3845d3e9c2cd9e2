"""Bugs in who may call Stripe for a row, and when nobody may."""

from tests.mutants.mutant import mutant

_CLAIM = "db/functions/claim.sql"
_LEASE = "db/functions/lease.sql"
_LOST = "db/functions/lost_lease.sql"
_PAUSE = "db/functions/pause.sql"
_RECORD = "db/functions/record_outcomes.sql"
_LOCK = "select * into strict v_control from marketplace.stripe_control for no key update;"
_DUE = "where t.status = 'reversal_pending' and t.parked_reason is null\n        and t.next_retry_at <= p_now"
_UNLEASED = " and (t.lease_expires_at is null or t.lease_expires_at <= p_now)"
_NO_SIBLING = (
    "\n        and (v_refused is null or t.destination_account <> all (v_refused))"
    "\n        and not marketplace._has_leased_sibling"
)

MUTANTS = (
    mutant(
        "live-lease-taken",
        "Two workers call Stripe for one row at once.",
        "test_lease.py::test_claim_skips_rows_that_are_not_due_parked_or_leased",
        (_LEASE, _UNLEASED + _NO_SIBLING, _NO_SIBLING),
    ),
    mutant(
        "parked-row-claimed",
        "A row on which a person has to look is sent on before anybody has.",
        "test_lease.py::test_claim_skips_rows_that_are_not_due_parked_or_leased",
        (_LEASE, _DUE, _DUE.replace(" and t.parked_reason is null", "")),
        (
            _CLAIM,
            "and t.status <> 'permanently_failed' and t.parked_reason is null\n",
            "and t.status <> 'permanently_failed'\n",
        ),
    ),
    mutant(
        "in-subquery-claim",
        "The claim leases more rows than there are slots: calls start late, after their leases.",
        "test_claim.py::test_eight_sessions_at_once_get_200_distinct_rows_and_never_more_than_asked_for",
        (
            _CLAIM,
            "where t.id = any (v_ids) and t.status <> 'permanently_failed' and t.parked_reason is null",
            "where t.id in (\n"
            "        select c.id from marketplace.seller_transfers as c\n"
            "        where c.status = 'reversal_pending' and c.parked_reason is null and c.next_retry_at <= v_now\n"
            "          and (c.lease_expires_at is null or c.lease_expires_at <= v_now)\n"
            "        order by c.next_retry_at limit p_limit for no key update skip locked)",
        ),
    ),
    mutant(
        "control-locked-inside-the-claim",
        "The claim has looked before it waits: it does not see a pause, nor a sibling's lease, committed meanwhile.",
        "test_claim.py::test_no_claim_returns_a_row_once_a_pause_is_committed_even_if_it_began_before",
        (_CLAIM, _LOCK, _LOCK.replace(" for no key update", "")),
        (
            _LEASE,
            "'reversals' then\n    v_ids := array(\n      select t.id\n      from marketplace.seller_transfers as t\n",
            "'reversals' then\n    v_ids := array(\n"
            "      with control as materialized (select from marketplace.stripe_control for no key update)\n"
            "      select t.id\n      from control cross join marketplace.seller_transfers as t\n",
        ),
        (_LEASE, "for no key update skip locked\n    );\n  else", "for no key update of t skip locked\n    );\n  else"),
    ),
    mutant(
        "control-not-locked",
        "Claims do not follow one another: neither sees the other's leases.",
        "test_claim.py::test_a_claim_waits_for_the_one_before_and_sees_its_leases",
        (_CLAIM, _LOCK, _LOCK.replace(" for no key update", "")),
    ),
    mutant(
        "old-snapshot-allowed",
        "In REPEATABLE READ a claim does not see the leases of the others.",
        "test_claim.py::test_a_claim_with_an_old_snapshot_is_refused",
        (_CLAIM, "  perform marketplace._require_read_committed();\n", ""),
    ),
    mutant(
        "sequence-token",
        "A number comes back after a failover: the report of a lost lease is applied to another call.",
        "test_lease.py::test_a_lease_token_never_comes_back_even_if_every_sequence_does",
        (
            _CLAIM,
            "lease_token = gen_random_uuid(),",
            "lease_token = lpad(nextval('marketplace.transfer_attempts_id_seq')::text, 32, '0')::uuid,",
        ),
    ),
    mutant(
        "lost-post-not-unknown",
        "A worker died with its request on the way, and the next one sends without a look.",
        "test_reports.py",
        (
            _LOST,
            "call_unknown = t.call_unknown or marketplace._moves_money(t.lease_action),",
            "call_unknown = t.call_unknown,",
        ),
    ),
    mutant(
        "lost-post-keeps-the-absence",
        "Nothing had been found before the request that a dead worker sent, so nobody looks again.",
        "test_next_action.py",
        (
            _LOST,
            "call_absent_at = case when not marketplace._moves_money(t.lease_action) then t.call_absent_at end,",
            "call_absent_at = t.call_absent_at,",
        ),
    ),
    mutant(
        "quiet-from-the-claim-of-a-lost-lease",
        "The dead worker may have sent up to the end of its lease; quiet is counted from its beginning.",
        "test_next_action.py",
        (
            _LOST,
            "then t.lease_expires_at else t.call_last_sent_at end,",
            "then t.leased_at else t.call_last_sent_at end,",
        ),
    ),
    mutant(
        "pause-not-heeded",
        "A person has stopped all calls, and calls go on.",
        "test_pause.py",
        (
            _CLAIM,
            "if v_control.paused_by is not null and coalesce(v_control.probe_at > v_now, true) then",
            "if v_control.probe_at > v_now then",
        ),
    ),
    mutant(
        "probe-skipped",
        "Paused for a refused key, calls never begin again by themselves: no money comes back.",
        "test_pause.py",
        (_CLAIM, "coalesce(v_control.probe_at > v_now, true)", "true"),
    ),
    mutant(
        "probe-takes-all",
        "With a refused key every row is tried at once instead of one.",
        "test_pause.py",
        (_CLAIM, "case when v_control.paused_by is null then p_limit else 1 end", "p_limit"),
    ),
    mutant(
        "persons-pause-taken-over",
        "A refused key makes a person's pause one that the next answer lifts.",
        "test_pause.py",
        (_PAUSE, "where paused_by is null or (p_probe_at is null and probe_at is not null);", "where true;"),
    ),
    mutant(
        "persons-pause-lifted-by-an-answer",
        "A call that was under way when a person stopped everything starts everything again.",
        "test_pause.py",
        (
            _RECORD,
            "if exists (select from marketplace.stripe_control as c where c.paused_by = 'verdict') then",
            "if true then",
        ),
        (
            _PAUSE,
            "where c.paused_by = 'verdict' and c.probe_at is not null\n    and a.lease_token",
            "where a.lease_token",
        ),
        (_PAUSE, "\n    and a.started_at > c.paused_at", ""),
        (_PAUSE, "else proven_by end\n  where paused_by = 'verdict' and probe_at is not null;", "else proven_by end;"),
    ),
    mutant(
        "answer-from-before-the-pause-lifts-it",
        "The key is refused, an older call succeeds, and every row is tried with the refused key.",
        "test_pause.py",
        (_PAUSE, "\n    and a.started_at > c.paused_at", ""),
    ),
)
