"""Bugs in sending: what is sent, what an unknown send may become, and a refund that comes while nobody knows."""

from tests.mutants.mutant import mutant

_SENDING = "test_sending.py"
_DOUBT = "db/functions/doubt_row.sql"
_FAMILY = "db/functions/family.sql"
_FOLLOW_UP = "db/functions/follow_up.sql"
_IDENTITY = "db/functions/call_identity.sql"
_OUTCOMES = "db/functions/outcomes.sql"
_REPORTS = "db/functions/reports.sql"
_SEEN = "db/functions/transfers_seen.sql"
_SETTLE = "db/functions/settle.sql"
_SETTLE_LOOK = "db/functions/settle_look_up.sql"
_STALE = "db/functions/stale_reports.sql"
_UNWANTED = "db/functions/unwanted.sql"
_PROOF_CAME = "test_sending.py::test_a_look_that_began_before_the_proof_came_is_no_quiet_absence"
_ONLY_LOOKED_FOR = "test_sending.py::test_after_a_refund_an_unknown_send_is_only_looked_for_until_it_is_quiet"

MUTANTS = (
    mutant(
        "outcomes-without-order-lock",
        "A refund does not see what a report gives back at that moment: the seller is paid for a refunded order.",
        "test_outcomes_at_once.py::test_a_refund_sees_what_a_report_gives_back_at_the_same_time",
        (_REPORTS, "perform marketplace._lock_order(v_order_id);", "null;"),
    ),
    mutant(
        "unpaid-on-one-empty-look",
        "A send that is still on its way is not found, and the row ends as unpaid while the seller is paid.",
        _ONLY_LOOKED_FOR,
        (_SETTLE_LOOK, "if v_is_quiet then\n", "if v_is_quiet or p_row.completed_at is null then\n"),
        (_SETTLE_LOOK, "elsif not v_is_quiet then", "elsif not v_is_quiet and p_row.completed_at is not null then"),
    ),
    mutant(
        "looked-for-by-transfer-group",
        "Any transfer of the order is taken for ours: the seller is not paid, or another row's payment is lost.",
        _SENDING,
        (
            _SEEN,
            "f.it #>> '{metadata,seller_transfers_identity}' as identity,",
            "case when f.it ->> 'transfer_group' = p_row.order_id then p_identity\n"
            "        else f.it #>> '{metadata,seller_transfers_identity}' end as identity,",
        ),
    ),
    mutant(
        "alike-not-shown",
        "A transfer made by hand for the order is passed over, and the seller is paid a second time.",
        _SENDING,
        (
            _SEEN,
            "when l.identity is null then\n          l.fits and",
            "when l.identity is null then\n          false and",
        ),
    ),
    mutant(
        "sent-after-the-refund",
        "An unknown send is made again although its order was refunded meanwhile.",
        _SENDING,
        (_UNWANTED, "if p_row.completed_at is null then\n", "if p_row.completed_at is null then\n    return false;\n"),
    ),
    mutant(
        "leased-send-taken-for-unpaid",
        "A refund ends a row whose request is at Stripe this moment: the seller is paid and keeps it.",
        _SENDING,
        (_FAMILY, "return p_row.lease_token is not null or p_row.call_unknown", "return p_row.call_unknown"),
    ),
    mutant(
        "unknown-send-taken-for-unpaid",
        "A refund ends a row that may have been paid: the seller keeps the money of a refunded order.",
        _SENDING,
        (
            _FAMILY,
            "p_row.lease_token is not null or p_row.call_unknown or exists",
            "p_row.lease_token is not null or exists",
        ),
    ),
    mutant(
        "paid-row-of-a-refunded-order-kept",
        "What was asked back while the send was under way is forgotten when the answer comes.",
        _SENDING,
        (
            _FOLLOW_UP,
            "    if not exists (\n      select from marketplace.reversal_requests",
            "    if exists (\n      select from marketplace.reversal_requests",
        ),
    ),
    mutant(
        "found-transfer-of-another-amount",
        "A transfer under our mark over another amount counts as the payment: too much was paid, or too little.",
        "test_sending.py::test_what_bears_our_mark_and_is_not_what_was_asked_for_is_a_persons",
        (
            _SEEN,
            "(v_seen.ours_fits and not marketplace._is_recorded(object_id))",
            "not marketplace._is_recorded(object_id)",
        ),
    ),
    mutant(
        "found-transfer-of-another-row",
        "One transfer at Stripe pays two rows.",
        "test_sending.py::test_what_is_another_rows_payment_is_not_adopted",
        (_SEEN, "(v_seen.ours_fits and not marketplace._is_recorded(object_id))", "v_seen.ours_fits"),
    ),
    mutant(
        "send-absence-dated-by-report",
        "A look that waited for its report counts as later than the send that arrived in between.",
        "test_sending.py::test_an_absence_of_a_send_is_dated_by_the_claim_of_the_look_up",
        (
            _SETTLE_LOOK,
            "_absent_row(v_row, p_row.leased_at, p_now)",
            "_absent_row(v_row, case when p_row.completed_at is null then p_now else p_row.leased_at end, p_now)",
        ),
    ),
    mutant(
        "proof-overtaken-by-an-absence",
        "A lost worker proves the payment, and a look that began before makes the row end as unpaid.",
        _PROOF_CAME,
        (_STALE, "and (v_is_send or p_row.lease_token is null) then", "and p_row.lease_token is null then"),
    ),
    mutant(
        "proof-without-a-date",
        "What a lost worker proves to have moved is forgotten by the next look that finds nothing yet.",
        _PROOF_CAME,
        (_DOUBT, "call_absent_at = null, call_last_sent_at = p_now, next", "call_absent_at = null, next"),
    ),
    mutant(
        "proof-overtaken-by-a-refusal",
        "A lost worker proves the payment, and a refusal of the next request makes another key: paid twice.",
        _SENDING,
        (_SETTLE, "and marketplace._was_proven_meanwhile(p_row) then", "and false then"),
    ),
    mutant(
        "reversed-before-found",
        "A transfer that is found and was reversed meanwhile counts as paid: the seller has nothing.",
        _SENDING,
        (_OUTCOMES, "if v_read.reversed > 0 then", "if false then"),
    ),
    mutant(
        "charge-and-group-sent",
        "Stripe refuses a group beside a charge: no seller is paid from a charge.",
        "test_sending.py::test_a_charge_is_named_and_brings_its_own_group",
        (
            _IDENTITY,
            "else jsonb_build_object('source_transaction', p_row.source_charge)",
            "else jsonb_build_object('source_transaction', p_row.source_charge, 'transfer_group', p_row.order_id)",
        ),
    ),
    mutant(
        "unknown-send-fails",
        "A send without an answer counts as refused, though the seller may be paid.",
        _SENDING,
        (
            _SETTLE,
            "v_row.status = 'pending' and v_verdict in ('transient',",
            "v_row.status = 'pending' and v_verdict in ('unknown', 'transient',",
        ),
    ),
)
