"""Bugs in what a withdrawn request undoes, and in what comes after a row that ended."""

from tests.mutants.mutant import mutant

_WITHDRAW = "test_withdraw.py"
_SETTLE = "db/functions/settle_withdrawn.sql"
_OFFER = "db/functions/offer.sql"
_FAMILY = "db/functions/family.sql"
_TOTALS = "db/functions/transfer_totals.sql"
_EVENT = "db/functions/reversed_elsewhere.sql"
_REST = "db/functions/read_rest.sql"
_LATE = "db/functions/late_evidence.sql"
_SHARES = "db/functions/request_shares.sql"

MUTANTS = (
    mutant(
        "compensation-taken-by-its-own-request",
        "What is paid again because a refund failed is taken back at once for that same refund.",
        _WITHDRAW,
        (
            _OFFER,
            "r.order_id = v_row.order_id and r.is_whole and r.withdrawn_at is null and",
            "r.order_id = v_row.order_id and r.is_whole and",
        ),
    ),
    mutant(
        "successor-counted-twice",
        "A row that another took over from stays in the totals: more money than there is.",
        "test_successor.py::test_a_row_that_was_succeeded_is_in_no_total",
        (_TOTALS, "where s.successor_of = t.id\n", "where false\n"),
    ),
    mutant(
        "freed-money-to-the-newest-request",
        "What becomes free goes to the last who asked: the first refund stays untaken.",
        "test_withdraw.py::test_what_becomes_free_goes_to_the_oldest_request_that_wants_it",
        (_OFFER, "order by w.unmet is null, w.requested_at, w", "order by w.unmet is null, w.requested_at desc, w"),
    ),
    mutant(
        "share-counted-with-its-successor",
        "A refund that was given up and goes on is shown twice: finance writes off what is on its way back.",
        "test_request_shares.py",
        (_SHARES, "where s.successor_of = t.id\n", "where false\n"),
    ),
    mutant(
        "withdrawn-while-unknown",
        "A reversal that may have been made is given up as not made: the books say paid, the seller is not.",
        _WITHDRAW,
        (_SETTLE, "or p_row.call_unknown or", "or"),
    ),
    mutant(
        "lapsed-lease-taken-for-nothing",
        "A request that its worker did not report on counts as never made when the refund is withdrawn.",
        _WITHDRAW,
        (_SETTLE, "if p_row.lease_token is not null or", "if"),
    ),
    mutant(
        "withdrawn-after-a-failover-unseen",
        "What a lost history may have reversed is given up without a look.",
        _WITHDRAW,
        (_SETTLE, "return v_lost_until is null or", "return true or"),
    ),
    mutant(
        "parts-counted-per-family",
        "Two transfers are paid again under one name, so Stripe makes one: a seller is not paid.",
        "test_withdraw.py::test_parts_are_counted_over_all_that_was_paid_for_a_key",
        (
            _FAMILY,
            "from marketplace._rows_of_key(marketplace._key_root(v_root)) as k",
            "from marketplace._family(v_root.id) as k",
        ),
    ),
    mutant(
        "evidence-while-under-way",
        "A reversal of ours that is under way counts as made elsewhere, too: its amount is taken off twice.",
        "test_elsewhere.py",
        (_EVENT, "    perform marketplace._require_nothing_under_way(v_stripe_id);\n", "    null;\n"),
    ),
    mutant(
        "evidence-believed-unseen",
        "What an event tells of is believed as far as the row goes, whatever the look-up finds.",
        "test_elsewhere.py",
        (_REST, "_read_evidence(p_row, v_unused,", "_read_evidence(p_row, p_row.amount,"),
    ),
    mutant(
        "late-payment-kept",
        "A send that proves to have been made after its order was refunded stays with the seller.",
        "test_successor.py",
        (_LATE, "set met = l.met - p_row.amount, unmet = l.unmet + p_row.amount", "set met = l.met"),
    ),
)
