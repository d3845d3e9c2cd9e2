"""Bugs in what is asked for and what is kept: requests, the state machine, frozen rows, the log."""

from tests.mutants.mutant import mutant

_BIRTH = "db/functions/transfer_birth.sql"
_ORDER_LOCK = "db/functions/order_lock.sql"
_FAMILY = "db/functions/family.sql"
_TAKE = "db/functions/take_back.sql"
_GUARDS = "db/functions/transfer_guards.sql"
_MATRIX = "db/functions/transfer_transitions.sql"
_BIND = "db/migrations/0014.bind-guards.sql"
_POLICY = "db/migrations/0020.add-look-ups.sql"
_LOST = "db/functions/lost_lease.sql"
_KEPT = "test_transfer_guards.py::test_no_record_can_be_deleted_or_truncated"

MUTANTS = (
    mutant(
        "order-lock-left-out",
        "A transfer recorded while its refund is requested is seen by neither: it is never taken back.",
        "test_request_reversal.py::test_a_refund_waits_for_a_transfer_that_is_being_recorded",
        (
            _ORDER_LOCK,
            "pg_advisory_xact_lock(hashtextextended('seller-transfers order ' || p_order_id, 0))",
            "length(p_order_id)",
        ),
    ),
    mutant(
        "late-transfer-not-taken",
        "A transfer recorded after its order was refunded stays with the seller.",
        "test_take_back.py::test_a_transfer_recorded_after_the_refund_is_taken_back_at_its_birth",
        (_BIRTH, "  perform marketplace._take_back_newborn(v_id, p_order_id);\n", ""),
    ),
    mutant(
        "same-key-other-amount",
        "A transfer key that comes again with another amount is taken for the same transfer.",
        "test_create_transfer.py::test_the_same_key_with_another_value_is_refused",
        (_BIRTH, "v_known.destination_account, v_known.original_amount,", "v_known.destination_account, p_amount,"),
    ),
    mutant(
        "second-request-starts-over",
        "A second refund of an order begins a reversal that is under way anew.",
        "test_take_back.py",
        (_FAMILY, "return p_row.status = 'completed'\n", "return p_row.status in ('completed', 'reversal_pending')\n"),
    ),
    mutant(
        "row-without-stripe-id-called-for",
        "A transfer of which no Stripe id is known waits for ever instead of saying so.",
        "test_lease.py::test_a_row_without_a_stripe_id_ends_at_the_claim_and_no_call_is_made",
        (_LOST, "where id = any (p_ids) and coalesce(stripe_transfer_id, '') = '';", "where false;"),
    ),
    mutant(
        "trigger-not-enable-always",
        "A session that skips ordinary triggers, a restore for example, may change what money depends on.",
        _KEPT,
        (_BIND, "enable always trigger", "enable trigger"),
    ),
    mutant(
        "delete-allowed",
        "A row can be deleted, and with it the evidence of what was taken back.",
        _KEPT,
        (
            _BIND,
            "before delete on marketplace.seller_transfers\nfor each row execute",
            "before delete on marketplace.seller_transfers\nfor each row when (false) execute",
        ),
    ),
    mutant(
        "status-log-not-written",
        "Nobody can say afterwards when a row was reversed, by whom and why.",
        "test_transfer_status_log.py::test_replaying_the_log_gives_the_status_of_every_row",
        (_BIND, "for each row when (old.status is distinct from new.status)\n", "for each row when (false)\n"),
    ),
    mutant(
        "status-log-by-column",
        "A status changed by another trigger is in no log.",
        "test_transfer_status_log.py::test_a_status_changed_by_a_trigger_of_somebody_else_is_logged_too",
        (
            _BIND,
            "after update on marketplace.seller_transfers\n",
            "after update of status on marketplace.seller_transfers\n",
        ),
    ),
    mutant(
        "reversed-row-reopened",
        "A reversed row goes back to waiting and is reversed again.",
        "test_transfer_transitions.py::test_a_dead_end_has_no_way_out",
        (
            _MATRIX,
            "when 'reversed' then p_to = 'reversed'",
            "when 'reversed' then p_to in ('reversed', 'reversal_pending')",
        ),
    ),
    mutant(
        "ended-row-not-frozen",
        "The evidence of a row that reached its end can be overwritten.",
        "test_transfer_guards.py::test_a_row_that_reached_its_end_is_frozen_in_every_column",
        (_GUARDS, "if OLD.status in ('reversed', 'permanently_failed') then", "if false then"),
    ),
    mutant(
        "key-age-beyond-stripes",
        "A setting makes keys live longer than Stripe remembers them.",
        "test_next_action.py",
        (
            _POLICY,
            "between interval '1 millisecond' and interval '20 hours'",
            "between interval '1 millisecond' and interval '30 days'",
        ),
    ),
)
