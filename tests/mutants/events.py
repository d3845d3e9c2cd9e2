"""Bugs in what Stripe's events do, and in how they come in: the inbox, the endpoint, catching up."""

from tests.mutants.mutant import mutant

_REFUNDS = "test_refund_events.py"
_INGEST = "db/functions/ingest_event.sql"
_TRY = "db/functions/try_event.sql"
_READ = "db/functions/read_event.sql"
_LOCKS = "db/functions/event_locks.sql"
_ACT = "db/functions/act_on_refund.sql"
_NOTE = "db/functions/note_objects.sql"
_CAUSES = "db/functions/causes.sql"
_ORDER = "db/functions/settle_order.sql"
_DISPUTE = "db/functions/act_on_dispute.sql"
_LESS = "db/functions/ask_for_less.sql"
_ASK = "db/functions/ask.sql"
_SHARES = "db/functions/shares.sql"
_RETRY_ORDER = "db/functions/retry_order.sql"
_RETRY = "db/functions/retry_events.sql"
_WEBHOOK = "runner/webhook.py"
_CALLERS = "runner/callers.py"
_SIGNATURE = "runner/signature.py"
_CATCH_UP = "runner/catch_up.py"

MUTANTS = (
    mutant(
        "asked-before-the-refund-succeeds",
        "A seller gives money back for a refund that the buyer never gets.",
        "test_refund_events.py::test_nothing_is_asked_before_a_refund_succeeds",
        (_ACT, "elsif v_refund.status <> 'succeeded' then", "elsif false then"),
        (
            _CAUSES,
            "r.charge_id = p_charge_id and r.status = 'succeeded'",
            "r.charge_id = p_charge_id and r.ended_at is null",
        ),
        (_NOTE, "case when v_refund.status = 'succeeded'\n", "case when v_refund.ended_at is null\n"),
        (_NOTE, "case when v_status = 'succeeded' then", "case when true then"),
    ),
    mutant(
        "failed-refund-succeeds-again",
        "An older event makes a failed refund count as made: the seller gives money back that the buyer never got.",
        "test_refund_events.py test_event_orders.py",
        (
            _NOTE,
            "if array_position(v_ranks, v_status) <= array_position(v_ranks, v_refund.status)\n",
            "if v_status = v_refund.status\n",
        ),
        (
            _NOTE,
            "v_ranks[greatest(array_position(v_ranks, v_status), array_position(v_ranks, v_refund.status))]",
            "v_status",
        ),
    ),
    mutant(
        "share-not-cumulative",
        "Of each refund after the first only what it has more than the one before is asked of the seller.",
        _REFUNDS,
        (_ORDER, "v_gone := v_gone + v_cause.amount;", "v_gone := v_cause.amount;"),
    ),
    mutant(
        "asked-twice-for-one-refund",
        "Two events of one refund ask the seller for its share twice.",
        "test_refund_events.py test_event_orders.py",
        (
            _ORDER,
            "select (c.cause_id, c.reason, c.amount, q.is_to_ask)",
            "select (c.cause_id, c.reason, c.amount, true)",
        ),
        (_SHARES, "v_of_all - v_by_events - v_spared\n", "v_of_all - v_spared\n"),
    ),
    mutant(
        "what-the-app-took-asked-again",
        "The app has taken back the share of a refund, and events take it once more.",
        _REFUNDS,
        (_SHARES, "else greatest(v_of_app, v_asked - v_by_events - v_spared) end,", "else 0 end,"),
    ),
    mutant(
        "events-ask-although-the-app-does",
        "With refunds_by app the seller is asked by both: by the app as it knows, by events for all.",
        _REFUNDS,
        (_ORDER, "where not c.is_of_app\n", "where true\n"),
        (_ACT, "elsif v_refund.decided_by = 'app' then", "elsif false then"),
    ),
    mutant(
        "part-that-came-back-gives-all-back",
        "A dispute is won in part; the sellers get everything back, and the platform bears what the bank kept.",
        "test_dispute_parts.py",
        (_DISPUTE, "if v_dispute.remaining = 0 or v_dispute.status = 'won' then", "if v_dispute.funds_reinstated then"),
        (_DISPUTE, "if p_dispute.remaining = 0 or p_dispute.status = 'won' then", "if p_dispute.funds_reinstated then"),
    ),
    mutant(
        "part-that-came-back-is-kept",
        "A dispute is won in part after the sellers gave their share: what came back stays with the platform.",
        "test_dispute_parts.py",
        (_LESS, "and (d.has_come_back or not", "and (not"),
    ),
    mutant(
        "takes-what-is-paid-first",
        "Of what is given back the seller is sent more than the difference, and it is taken from him again.",
        "test_dispute_parts.py",
        (_ASK, "greatest(0, least(v_part.unpaid, v_now - v_part.unpaid_before))\n", "0\n"),
        (
            _ASK,
            "least(v_part.free - v_part.unpaid,\n"
            "          v_now - v_part.all_unpaid - (v_part.free_before - v_part.unpaid_before))",
            "least(v_part.free, v_now - v_part.free_before)",
        ),
    ),
    mutant(
        "takes-other-money-for-what-is-under-way",
        "More is taken of the seller than is asked, until a reversal under way is known and given back.",
        "test_dispute_parts.py",
        (_ASK, "v_now := p_asked - v_part.later;", "v_part.later := 0; v_now := p_asked;"),
    ),
    mutant(
        "release-taken-for-a-refund",
        "Sellers give their share of what was authorized and never captured.",
        "test_captures.py",
        (
            _CAUSES,
            "then not coalesce(marketplace._is_release(r),",
            "then true or not coalesce(marketplace._is_release(r),",
        ),
        ("db/functions/act_on_refund.sql", "elsif marketplace._is_release(v_refund) then", "elsif false then"),
    ),
    mutant(
        "acted-outside-the-savepoint",
        "An event that cannot be acted on is refused and lost: Stripe stops delivering it after three days.",
        "test_events.py test_refund_events.py",
        (
            _TRY,
            "  begin\n    perform marketplace._note_event(v_event);",
            "  v_event.detail := marketplace._act_on_event(v_event);\n  begin\n"
            "    perform marketplace._note_event(v_event);",
        ),
        (_TRY, "      v_event.detail := marketplace._act_on_event(v_event);\n      if", "      if"),
    ),
    mutant(
        "told-and-forgotten",
        "That a refund failed is forgotten with the attempt to act on it, and an older event asks for it.",
        _REFUNDS,
        (
            _TRY,
            "    perform marketplace._note_event(v_event);\n    begin\n",
            "    begin\n      perform marketplace._note_event(v_event);\n",
        ),
    ),
    mutant(
        "kept-event-waits-for-ever",
        "The refund came before the transfer was recorded, and nobody asks for its share afterwards.",
        "test_refund_events.py::test_a_refund_of_an_unknown_charge_is_kept_and_done_when_its_transfer_is_recorded",
        (
            _RETRY_ORDER,
            "  perform marketplace._lock_payment('{}', v_charges);\n",
            "  return;\n  perform marketplace._lock_payment('{}', v_charges);\n",
        ),
    ),
    mutant(
        "charge-told-and-nothing-tried",
        "A refund waits for what its charge amounted to; that is told, and the refund waits on.",
        _REFUNDS + " test_event_orders.py",
        (_RETRY, "if v_ids <> '{}' and", "if v_ids = '{}' and"),
    ),
    mutant(
        "kept-event-known-already",
        "An event that is kept comes again and is not tried again.",
        "test_events.py::test_an_event_that_is_kept_is_tried_again_when_it_comes_again",
        (_INGEST, "where e.event_id = p_event ->> 'id' and e.state <> 'kept';", "where e.event_id = p_event ->> 'id';"),
    ),
    mutant(
        "event-without-order-lock",
        "A refund told and a transfer recorded at once do not see each other: its share is never asked.",
        "test_events.py",
        (
            _LOCKS,
            "_lock_payment(v_orders, marketplace._payments_of_event(p_event));",
            "_lock_payment(array[]::text[], array[]::text[]);",
        ),
    ),
    mutant(
        "event-of-another-account-acted-on",
        "What happened on a seller's own account is taken for the platform's.",
        "test_events.py",
        (
            _READ,
            "when p_event.account is distinct from v_control.stripe_account and p_event.account is not null then",
            "when false then",
        ),
    ),
    mutant(
        "2xx-before-commit",
        "Stripe is told that an event was taken which the database then loses: it never comes again.",
        "test_webhook.py::test_nothing_is_said_while_the_transaction_is_open",
        (
            _WEBHOOK,
            "            return await self._inbox.ingest(event, hashlib.sha256(body).hexdigest())\n",
            "            asyncio.ensure_future(self._inbox.ingest(event, hashlib.sha256(body).hexdigest()))\n"
            '            return IngestedEvent(event["id"], event["type"], "acted", None)\n',
        ),
    ),
    mutant(
        "signature-not-checked",
        "Anybody who knows the address takes sellers' money back.",
        "test_webhook.py::test_one_changed_byte_is_a_forgery",
        (_SIGNATURE, "if not genuine:", "if False:"),
    ),
    mutant(
        "old-delivery-taken",
        "A delivery that somebody recorded can be played again at any time.",
        "test_webhook.py::test_a_signature_older_than_five_minutes_is_refused_however_good",
        (_SIGNATURE, "if now - int(timestamps[0]) > TOLERANCE_SECONDS:", "if False:"),
    ),
    mutant(
        "half-deliveries-keep-others-out",
        "Anybody who begins hundreds of deliveries and ends none keeps Stripe's out, and refunds are not heard of.",
        "test_callers.py",
        (_CALLERS, "next(iter(self._strangers or self._known), caller), transport)", "caller, transport)"),
    ),
    mutant(
        "catch-up-reads-first-pages",
        "Of a busy time only the newest events are read: the refunds before them are missed.",
        "test_catch_up.py",
        (_CATCH_UP, "            if not has_more:\n", "            if True:\n"),
    ),
    mutant(
        "catch-up-skips-a-second",
        "Between two pieces of time a second is left out, and a refund with it.",
        "test_catch_up.py",
        (_CATCH_UP, "            begins = before\n", "            begins = before + 1\n"),
    ),
    mutant(
        "catch-up-goes-on-too-late",
        "What stopped half way says to go on after what it has not read.",
        "test_catch_up.py",
        (_CATCH_UP, "            begins = before\n", "            begins = before + seconds\n"),
    ),
)
