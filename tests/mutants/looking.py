"""Bugs in looking before sending: when to look, what was seen, and what nothing seen means."""

from tests.mutants.mutant import mutant

_CLAIM = "db/functions/claim.sql"
_NEXT = "db/functions/next_action.sql"
_LOOK = "db/functions/look_up.sql"
_REST = "db/functions/read_rest.sql"
_SEEN = "db/functions/reversals_seen.sql"
_SETTLE_LOOK = "db/functions/settle_look_up.sql"
_CHANGES = "db/functions/row_changes.sql"
_WAITS = "db/functions/row_waits.sql"
_CLASSIFY = "db/functions/classify.sql"

MUTANTS = (
    mutant(
        "no-look-up",
        "After a lost answer the next request goes out without a look at what the first one did.",
        "test_next_action.py",
        (_CLAIM, "marketplace._must_look(t, v_control, v_now));", "false);"),
    ),
    mutant(
        "unknown-sent-without-look",
        "A request of unknown outcome is followed by another one.",
        "test_next_action.py",
        (_NEXT, "p_row.call_unknown\n        or", "false\n        or"),
    ),
    mutant(
        "new-generation-sent-without-look",
        "A key is used for the first time although the one before may have moved the money.",
        "test_next_action.py",
        (_NEXT, "or p_row.call_generation > 1", "or false"),
    ),
    mutant(
        "accepted-row-posted",
        "Stripe holds a reversal of ours and is asked for another one.",
        "test_next_action.py",
        (_NEXT, "p_row.stripe_reversal_id is not null\n    --", "false\n    --"),
    ),
    mutant(
        "replayed-key-posted",
        "A key for which Stripe stored an error is sent again, and by the time it works again the first may have too.",
        "test_look_up.py",
        (_NEXT, "or p_row.call_replayed\n", "or false\n"),
    ),
    mutant(
        "failover-sent-without-look",
        "After a failover the requests of the lost history are made again.",
        "test_next_action.py",
        (_NEXT, "or p_control.look_up_first_since is not null", "or false"),
    ),
    mutant(
        "look-from-before-failover-counts",
        "Nothing was found before the failover; what was sent and lost since then is sent again.",
        "test_next_action.py",
        (
            _NEXT,
            "coalesce(p_row.call_absent_at <= p_control.look_up_first_since, p_row.call_absent_at is null)",
            "p_row.call_absent_at is null",
        ),
    ),
    mutant(
        "leases-of-lost-history-ignored",
        "After a failover rows are claimed while workers of the lost history still make their calls.",
        "test_next_action.py",
        (_CLAIM, "if v_now < marketplace._silent_until(v_control) then", "if false then"),
    ),
    mutant(
        "failover-forgotten-by-quiet",
        "What the lost history sent a moment ago may arrive after its key was replaced.",
        "test_next_action.py",
        (
            _NEXT,
            "p_row.call_last_sent_at, (select c.look_up_first_since from marketplace.stripe_control as c)",
            "p_row.call_last_sent_at",
        ),
    ),
    mutant(
        "quiet-not-applied",
        "A look right after the request is taken for the last word: what arrives later moves the money twice.",
        "test_look_up.py",
        (_NEXT, ") + (select p.quiet from marketplace.retry_policy as p where p.verdict = 'unknown');", ");"),
    ),
    mutant(
        "absence-dated-by-report",
        "A look that waited for its report counts as later than the request that arrived in between.",
        "test_look_up.py",
        (_SETTLE_LOOK, "_absent_row(v_row, p_row.leased_at, p_now)", "_absent_row(v_row, p_now, p_now)"),
    ),
    mutant(
        "look-up-void-rule-missing",
        "A look reported after its lease counts, though another worker may have sent a request meanwhile.",
        "test_look_up.py",
        (_LOOK, "elsif p_now >= p_row.lease_expires_at then", "elsif false then"),
    ),
    mutant(
        "early-absence-takes-the-doubt-away",
        "A look a moment after the request ends the doubt, and the row may be given up while the money moves.",
        "test_look_up.py",
        (_SETTLE_LOOK, "if v_is_quiet then\n", "if true then\n"),
    ),
    mutant(
        "incomplete-list-counts",
        "A list that broke off after its first page is taken for all: our reversal on the second is made again.",
        "test_look_up.py",
        (_LOOK, "if p_outcome.found is null\n    or", "if"),
    ),
    mutant(
        "sum-check-missing",
        "A list without our reversal counts, though Stripe says that more is reversed than it shows.",
        "test_look_up.py",
        (
            _LOOK,
            "not in (v_seen.live_sum, v_seen.live_sum - v_seen.pending_sum) then",
            "< 0 then",
        ),
    ),
    mutant(
        "unreadable-reversal-passed-over",
        "A reversal in a list that cannot be read is as if it were not there; it may be ours.",
        "test_look_up.py",
        (_LOOK, "if not v_seen.readable\n    or", "if"),
    ),
    mutant(
        "another-transfers-look-up-counts",
        "What Stripe says of another transfer decides whether this one is reversed again.",
        "test_look_up.py",
        (
            _LOOK,
            "\n    or p_outcome.object ->> 'id' is distinct from p_row.stripe_transfer_id then\n    words",
            " then\n    words",
        ),
    ),
    mutant(
        "anything-reversed-is-ours",
        "The platform's own partial reversal is taken for ours, and the rest is never taken back.",
        "test_look_up.py",
        (_SEEN, "coalesce(l.identity = p_identity, false) or", "true or"),
    ),
    mutant(
        "failed-reversal-adopted",
        "A reversal that failed at Stripe ends the row: the seller keeps the money.",
        "test_look_up.py",
        (
            _SEEN,
            "count(*) filter (where t.ours and t.live),\n    min(t.id) filter (where t.ours and t.live),",
            "count(*) filter (where t.ours),\n    min(t.id) filter (where t.ours),",
        ),
    ),
    mutant(
        "pending-reversal-ends-the-row",
        "A reversal that Stripe holds counts as made; when it fails, nobody asks again.",
        "test_look_up.py",
        (_LOOK, "case when v_seen.ours_pending then 'accepted' else 'succeeded' end", "'succeeded'"),
    ),
    mutant(
        "same-failed-reversal-counts-twice",
        "One failed reversal replaces one key after the other, each of which may still be held at Stripe.",
        "test_look_up.py",
        (_SEEN, " and t.generation = p_row.call_generation::text", ""),
    ),
    mutant(
        "moved-twice-not-detected",
        "Money has moved twice and the row ends as if it had moved once: nobody gives it back.",
        "test_look_up.py",
        (_LOOK, "if v_seen.ours_live > 1 then", "if false then"),
        (_LOOK, "elsif v_seen.ours_live = 1 then", "elsif v_seen.ours_live >= 1 then"),
    ),
    mutant(
        "found-amount-not-compared",
        "A reversal of ours over another amount ends the row: too little came back, or too much.",
        "test_look_up.py",
        (
            _SEEN,
            "bool_and(t.amount = p_row.amount and t.currency = p_row.currency)",
            "bool_and(t.currency = p_row.currency)",
        ),
    ),
    mutant(
        "found-currency-not-compared",
        "A reversal of ours in another currency ends the row.",
        "test_look_up.py",
        (
            _SEEN,
            "bool_and(t.amount = p_row.amount and t.currency = p_row.currency)",
            "bool_and(t.amount = p_row.amount)",
        ),
    ),
    mutant(
        "found-evidence-of-another-row",
        "One reversal at Stripe settles two debts.",
        "test_look_up.py",
        (
            _LOOK,
            "or exists (\n"
            "        select from marketplace.seller_transfers as t\n"
            "        where t.stripe_reversal_id = v_seen.ours_id and t.id <> p_row.id) then",
            "then",
        ),
    ),
    mutant(
        "transfer-currency-not-compared",
        "The amount of one currency is taken back in another.",
        "test_look_up.py",
        (_REST, "if p_transfer ->> 'currency' is distinct from p_row.currency then", "if false then"),
    ),
    mutant(
        "unexplained-loss-taken-for-reversed",
        "Less is left of the transfer than we ask for and nobody knows why; the row ends as reversed.",
        "test_look_up.py",
        (_REST, "if elsewhere <= v_unused then", "if true then"),
    ),
    mutant(
        "foreign-pending-not-waited-for",
        "Somebody else's reversal is still held at Stripe and parks the row, or is counted before it is made.",
        "test_look_up.py",
        (_REST, "elsif p_foreign_pending then", "elsif false then"),
    ),
    mutant(
        "reversed-elsewhere-while-ours-is-under-way",
        "The row ends by somebody else's reversal; that one fails, and our request arrives unseen.",
        "test_look_up.py",
        (_LOOK, "if verdict = 'already_reversed' and p_row.call_unknown", "if false and p_row.call_unknown"),
    ),
    mutant(
        "absence-outlives-a-request",
        "Nothing was found once, so the next lost answer is not looked up.",
        "test_look_up.py",
        (_WAITS, "p_row.call_unknown := true;\n  p_row.call_absent_at := null;", "p_row.call_unknown := true;"),
    ),
    mutant(
        "absence-outlives-a-generation",
        "Nothing was found once, so the next key is used without a look.",
        "test_look_up.py",
        (_CHANGES, "p_row.call_absent_at := null;", ""),
    ),
    mutant(
        "failed-look-up-ends-the-doubt",
        "A look that was answered with an error is taken for one that found nothing.",
        "test_look_up.py",
        (
            _SETTLE_LOOK,
            "when 'unclear' then\n",
            "when 'unclear' then\n      v_row.call_unknown := false;\n",
        ),
    ),
    mutant(
        "held-row-given-up-on-404",
        "With a wrong key a row is given up while Stripe holds a reversal for it, which is made later.",
        "test_settle.py test_look_up.py",
        (_LOOK, "      p_row.stripe_reversal_id is not null\n      or (", "      ("),
    ),
    mutant(
        "refused-look-up-ends-the-row",
        "Stripe's words to a look end the row, as if they had been said to the request.",
        "test_look_up.py test_classify.py",
        (
            _CLASSIFY,
            "if marketplace._moves_money(p_action) then\n    return v_verdict;",
            "if true then\n    return v_verdict;",
        ),
    ),
)
