"""Bugs in what a report does: whose it is, what it proves, what it costs."""

from tests.mutants.mutant import mutant

_OUTCOMES = "db/functions/outcomes.sql"
_READ = "db/functions/read_outcomes.sql"
_REPORTS = "db/functions/reports.sql"
_STALE = "db/functions/stale_reports.sql"
_DOUBT = "db/functions/doubt_row.sql"
_RECORD = "db/functions/record_outcomes.sql"
_VERDICT = "db/functions/reversal_verdict.sql"
_CLASSIFY = "db/functions/classify.sql"
_SETTLE = "db/functions/settle.sql"
_WAITS = "db/functions/row_waits.sql"
_BURST = "db/functions/not_found_burst.sql"
_WRONG_REVERSAL = "test_settle.py::test_a_reversal_that_is_not_the_one_asked_for_parks_the_row"
_FENCE = "if v_row.lease_token is distinct from p_outcome.lease_token then"

MUTANTS = (
    mutant(
        "no-lease-token-check",
        "The answer to a lost lease decides about the request that is under way now.",
        "test_reports.py",
        (_OUTCOMES, _FENCE, "if v_row.lease_token is null then"),
    ),
    mutant(
        "released-lease-still-counts",
        "A report about a lease that is over changes a row that nobody holds.",
        "test_reports.py",
        (_OUTCOMES, _FENCE, "if v_row.lease_token <> p_outcome.lease_token then"),
    ),
    mutant(
        "outcome-applied-twice",
        "A report sent again after a cut connection spends a second retry and mints a second key.",
        "test_reports.py",
        (_OUTCOMES, "if v_known.facts_sha256 = p_outcome.facts_sha256 then", "if false then"),
        (_OUTCOMES, _FENCE, "if v_row.lease_token <> p_outcome.lease_token then"),
    ),
    mutant(
        "late-proof-ignored",
        "A lost worker reports success, and the row is sent or given up without a look.",
        "test_reports.py",
        (_STALE, "elsif v_is_open and v_is_proof and", "elsif false and"),
    ),
    mutant(
        "late-proof-raises-no-doubt",
        "A lost worker proves that the money moved, after a look that came too early; it is sent again.",
        "test_reports.py",
        (_DOUBT, "set call_unknown = true, call_absent_at = null, call_last_sent_at", "set call_last_sent_at"),
    ),
    mutant(
        "second-reversal-not-said",
        "The proof that money moved twice is filed away as a success.",
        "test_reports.py",
        (_STALE, "if v_is_done and v_is_another then", "if false then"),
    ),
    mutant(
        "late-success-not-said",
        "A row was given up and its money has moved after all; nobody hears of it.",
        "test_reports.py",
        (_STALE, "elsif p_row.status = 'permanently_failed' and not v_is_done and v_is_proof then", "elsif false then"),
    ),
    mutant(
        "other-action-reported",
        "A report about a look is taken for the answer to a request.",
        "test_look_up.py",
        (_REPORTS, "if p_outcome.action <> p_action then", "if false then"),
    ),
    mutant(
        "not-said-is-not-sent",
        "A report that does not say whether it was sent gives the lease back as if nothing had happened.",
        "test_read_outcomes.py",
        (
            _READ,
            "o.facts -> 'sent' is distinct from 'false'::jsonb,",
            "o.facts -> 'sent' is not distinct from 'true'::jsonb,",
        ),
    ),
    mutant(
        "texts-not-cleaned",
        "A control character in Stripe's words hides from a person what happened to the money.",
        "test_read_outcomes.py",
        (_READ, "regexp_replace(left(p_text, p_limit), '[[:cntrl:]]+', ' ', 'g')", "left(p_text, p_limit)"),
    ),
    mutant(
        "long-text-not-cut",
        "A long message breaks a CHECK, the whole batch is refused, and what Stripe did is lost.",
        "test_read_outcomes.py",
        (_READ, "regexp_replace(left(p_text, p_limit),", "regexp_replace(p_text,"),
    ),
    mutant(
        "answered-amount-not-compared",
        "Stripe reversed another amount than was asked for, and the row ends.",
        _WRONG_REVERSAL,
        (_VERDICT, "\n    or v_object -> 'amount' is distinct from to_jsonb(p_transfer.amount)", ""),
    ),
    mutant(
        "answered-currency-not-compared",
        "Stripe reversed in another currency than was asked for, and the row ends.",
        _WRONG_REVERSAL,
        (_VERDICT, "\n    or v_object ->> 'currency' is distinct from p_transfer.currency", ""),
    ),
    mutant(
        "answered-transfer-not-compared",
        "Stripe reversed another seller's transfer, and the row ends.",
        _WRONG_REVERSAL,
        (_VERDICT, "\n    or v_object ->> 'transfer' is distinct from p_transfer.stripe_transfer_id then", " then"),
    ),
    mutant(
        "answered-evidence-of-another-row",
        "One reversal at Stripe settles two debts, or one such report refuses a whole batch.",
        "test_outcomes.py::test_a_reversal_that_is_another_rows_evidence_parks_the_row_and_refuses_nobody",
        (_VERDICT, "if p_taken\n    or", "if"),
    ),
    mutant(
        "any-2xx-is-success",
        "An answer that is no reversal ends the row.",
        "test_settle.py::test_a_success_that_is_about_something_else_says_nothing",
        (
            _VERDICT,
            "p_object ->> 'object' is not distinct from 'transfer_reversal'\n",
            "true\n",
        ),
    ),
    mutant(
        "held-reversal-ends-the-row",
        "Stripe accepted a reversal and may drop it for 45 days; the row ends at once.",
        "test_open_reversals.py",
        (_VERDICT, "when 'pending' then 'accepted'", "when 'pending' then 'succeeded'"),
    ),
    mutant(
        "failed-answer-ends-the-row",
        "A reversal that Stripe answers as failed ends the row: the seller keeps the money.",
        "test_settle.py::test_an_answer_that_is_a_failed_reversal_at_once_waits_like_a_balance_too_low",
        (_VERDICT, "when 'failed' then 'insufficient_balance'", "when 'failed' then 'succeeded'"),
    ),
    mutant(
        "proxy-error-is-a-refusal",
        "A 400 page of some proxy counts as Stripe's no, while Stripe has moved the money.",
        "test_classify.py",
        (_CLASSIFY, "\n    or coalesce(btrim(p_error_type), '') = '' then", " then"),
    ),
    mutant(
        "500-is-a-refusal",
        "Stripe's own trouble counts as its no, and a new key is made while the first may have moved the money.",
        "test_classify.py",
        (
            _CLASSIFY,
            "p_http_status not in (400, 401, 402, 403, 404, 409, 429)",
            "p_http_status not in (400, 401, 402, 403, 404, 409, 429, 500)",
        ),
    ),
    mutant(
        "retry-spent-on-401",
        "A revoked key uses up every row's retries, and all of them are given up.",
        "test_pause.py",
        (
            _SETTLE,
            "v_row.failure_code := 'configuration';\n",
            "v_row.failure_code := 'configuration';\n    v_row.retry_count := p_row.retry_count + 1;\n",
        ),
    ),
    mutant(
        "401-does-not-pause",
        "A revoked key is used for every row again and again, and nobody is told.",
        "test_pause.py",
        (_RECORD, "if v_refusal is not null then", "if false then"),
    ),
    mutant(
        "429-clears-unknown",
        "The first request may have moved the money; a throttled second one makes that forgotten.",
        "test_next_action.py",
        (
            _SETTLE,
            "when 'throttled' then\n      if p_outcome.http_status = 409 then",
            "when 'throttled' then\n      v_row.call_unknown := false;\n      if p_outcome.http_status = 409 then",
        ),
    ),
    mutant(
        "409-not-unknown",
        "A request with this key is under way at Stripe, and the next one is sent as if there were none.",
        "test_next_action.py",
        (_SETTLE, "if p_outcome.http_status = 409 then", "if false then"),
    ),
    mutant(
        "mismatch-not-parked",
        "A wrong answer is tried again and again instead of being shown to a person.",
        "test_open_reversals.py",
        (_SETTLE, "v_row.parked_reason := left(format('mismatch:", "v_row.failure_message := left(format('mismatch:"),
    ),
    mutant(
        "conflict-not-parked",
        "A key that Stripe knows with other parameters is sent for ever, and nobody looks.",
        "test_open_reversals.py",
        (_SETTLE, "v_row.parked_reason := left('conflict:", "v_row.failure_message := left('conflict:"),
    ),
    mutant(
        "no-end-of-retries",
        "A request that Stripe always refuses is made for ever, and nobody learns that the money stays away.",
        "test_look_up.py",
        (_SETTLE, "if v_row.retry_count > v_max_retries and", "if false and"),
    ),
    mutant(
        "45-days-restarting",
        "A seller without balance is waited for without end: each failed reversal starts the 45 days anew.",
        "test_look_up.py",
        (
            _WAITS,
            "p_row.stripe_reversal_id := null;\n  p_row.waiting_since := coalesce(p_row.waiting_since, p_now);",
            "p_row.stripe_reversal_id := null;\n  p_row.waiting_since := p_now;",
        ),
    ),
    mutant(
        "burst-of-404-not-spared",
        "The key of another account gives up every seller's money within a minute.",
        "test_not_found_burst.py",
        (_OUTCOMES, "when v_read.verdict = 'not_found' and p_burst and", "when false and"),
    ),
    mutant(
        "burst-despite-success",
        "Five wrong ids stop all calls although the key is right.",
        "test_not_found_burst.py",
        (_BURST, " and not exists (select from answers as g where g.is_answered)", ""),
    ),
)
