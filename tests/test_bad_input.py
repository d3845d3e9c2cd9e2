"""Arguments that cannot be meant: every public function refuses them in words, and nothing changes."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.support.databases import Database, rows, value
from tests.support.events import dispute, event, ingest
from tests.support.raw_transfers import insert_transfer
from tests.support.transfers import call, claim, contents, record_transfer, refunded_transfer, success, transfer_values

pytest_plugins = ("tests.support.rolled_back",)

Arguments = dict[str, Any]

MISSING, INVALID = "22004", "22023"
# PostgreSQL's own words for what does not even fit the argument's type; they stand as they are.
NO_NUMBER, TOO_LARGE, NO_SUCH_FUNCTION, NO_INTERVAL, NO_JSON, NUL = "22P02", "22003", "42883", "22007", "22P02", "22P05"
LONG = "x" * 256
# A paid row that was recorded without its id at Stripe.
WITHOUT_ID = 900_001
PENDING = 900_002
# Comparisons with Stripe: one under way, one that may let calls go on.
OPEN_RUN, COMPLETE_RUN = 900_001, 900_002

# A row on its way back, and one that is parked for what looks like it at Stripe.
REFUNDED = 900_003
TWIN = 900_004

NO_ID: list[tuple[Any, str]] = [
    (None, MISSING),
    (0, INVALID),
    (-1, INVALID),
    (2**63, NO_SUCH_FUNCTION),
    ("one", NO_NUMBER),
]
UNUSABLE_TEXT: list[tuple[Any, str]] = [
    (None, MISSING),
    ("", INVALID),
    ("   ", INVALID),
    ("\t", INVALID),
    ("a\nb", INVALID),
    ("a\x1b[31m", INVALID),
    (LONG, INVALID),
]
UNUSABLE_AMOUNT: list[tuple[Any, str]] = [
    (None, MISSING),
    (0, INVALID),
    (-1, INVALID),
    (10**12, INVALID),
    (2**63 - 1, INVALID),
    (2**63, NO_SUCH_FUNCTION),
    (10.5, NO_SUCH_FUNCTION),
    (str(2**63), TOO_LARGE),
    ("ten", NO_NUMBER),
    ("10.50", NO_NUMBER),
    ("", NO_NUMBER),
]

UNUSABLE_BEFORE: list[tuple[Any, str]] = [
    (None, MISSING),
    ("now", INVALID),
    ("infinity", INVALID),
    ("yesterday", INVALID),
    ("", NO_INTERVAL),
    ("long ago", NO_INTERVAL),
]
UNUSABLE_LIMIT: list[tuple[Any, str]] = [(None, MISSING), (0, INVALID), (-1, INVALID), (1001, INVALID)]


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def ids_of_another_kind(*strange: str) -> list[tuple[Any, str]]:
    return [(each, INVALID) for each in ("", "x", "1", "' or 1=1", "ö", *strange)]


TRANSFER_CASES: dict[str, list[tuple[Any, str]]] = {
    "p_transfer_key": UNUSABLE_TEXT,
    "p_order_id": UNUSABLE_TEXT,
    "p_seller_id": UNUSABLE_TEXT,
    "p_destination_account": [
        (None, MISSING),
        *ids_of_another_kind("tr_1", "acct_", "acct-1", "ACCT_1", "acct_1 ", "acct_ö", "acct_1\n", "acct_" + LONG),
    ],
    "p_amount": UNUSABLE_AMOUNT,
    "p_currency": [*UNUSABLE_TEXT, ("USD", INVALID), ("us", INVALID), ("xxx", INVALID), ("usd ", INVALID)],
    "p_source_charge": ids_of_another_kind("pi_1", "tr_1", "ch_", "ch_1/refunds", "ch_" + LONG),
    "p_charge_amount": [each for each in UNUSABLE_AMOUNT if each[0] is not None],
}

SHARE: Arguments = {"transfer_key": "key-2", "amount": 250}

NO_ALLOCATION: list[Any] = [None, {}, [], "[]", 5, SHARE, [5], [None], [[]], [{}], ["key-2"], [[SHARE]]]
NO_AMOUNT: list[Any] = [None, 0, -1, 0.5, 250.5, 10**12, 10**40, "250", "", True, [250], {}]
NO_KEY: list[Any] = [None, "", " ", 2, ["key-2"], LONG, "key-2\n", "key-2 ", "KEY-2", "key-of-nobody", "key-1"]

UNUSABLE_ALLOCATION: list[tuple[Any, str]] = [
    *[(Jsonb(each), INVALID) for each in NO_ALLOCATION],
    *[(Jsonb([{**SHARE, "amount": amount}]), INVALID) for amount in NO_AMOUNT],
    *[(Jsonb([{**SHARE, "transfer_key": key}]), INVALID) for key in NO_KEY],
    *[(Jsonb([{name: SHARE[name]}]), INVALID) for name in SHARE],
    *[(Jsonb([{**SHARE, name: 1}]), INVALID) for name in ("currency", "Amount", "transfer_id", "")],
    (Jsonb([SHARE, SHARE]), INVALID),
    (Jsonb([SHARE, {**SHARE, "amount": 1}]), INVALID),
    (Jsonb([SHARE, {}]), INVALID),
    (Jsonb([{"transfer_key": f"key-{n}", "amount": 1} for n in range(1001)]), INVALID),
    (Jsonb([{**SHARE, "amount": 1001}]), "ST005"),
    ("", NO_JSON),
    ("[", NO_JSON),
    ('[{"transfer_key": "\\u0000", "amount": 1}]', NUL),
    (5, NO_SUCH_FUNCTION),
]

EVENT: Arguments = {"id": "evt_1", "object": "event", "type": "plan.created", "data": {"object": {}}}
NO_EVENT: dict[str, list[Any]] = {
    "object": ["", "Event", "charge", "v2.core.event"],
    "id": ["", "evt_", "re_1", "evt-1", "evt_1 ", "evt_ö", "evt_1\n", "evt_" + LONG],
    "type": ["", " ", "a\nb", LONG],
    "data": ["", {}, {"object": None}, {"object": []}, {"object": "re_1"}, {"Object": {}}],
}

NO_DELAY: list[tuple[Any, str]] = [("0", INVALID), ("-1 s", INVALID), ("31 d", INVALID), ("long", NO_INTERVAL)]
NO_ERROR = (-1, 0, 200, 405, 408, 500, 503)
NO_RUN: list[tuple[Any, str]] = [(None, MISSING), (0, INVALID), (-1, INVALID), (2**64, NO_SUCH_FUNCTION)]
ENDED: list[tuple[Any, str]] = [*NO_RUN, (COMPLETE_RUN, "ST012")]
NOT_COMPLETE: list[tuple[Any, str]] = [*NO_RUN, (OPEN_RUN, "ST012")]
REASON: list[tuple[Any, str]] = [*UNUSABLE_TEXT[:-1], ("x" * 1001, INVALID)]
LIMIT: list[tuple[Any, str]] = [(None, MISSING), (0, INVALID), (-1, INVALID), (1001, INVALID), ("all", NO_NUMBER)]

LISTED: Arguments = {"id": "tr_8", "object": "transfer", "amount": 5, "currency": "usd", "created": 1}
LISTED_WHOLE: Arguments = {**LISTED, "amount_reversed": 0}
REVERSAL: Arguments = {**LISTED, "object": "transfer_reversal", "id": "trr_8", "transfer": "tr_8"}
NO_LISTED: dict[str, list[Any]] = {
    "id": [None, "", "tr_", "tr_1 ", "trr_8", "tr_ö", 8, "tr_" + LONG],
    "object": [None, "", "charge", "Transfer"],
    "amount": [None, -1, 0.5, 10**12, "5"],
    "currency": [None, "", 5, "\n"],
    "created": [None, -1, 0.5, "1", 10**11, True],
    "amount_reversed": [None, -1, "0"],
}
NO_LIST: list[Any] = [{}, 5, "x", [5], [None], [[]], [{}], [LISTED_WHOLE, LISTED], [LISTED]]
UNUSABLE_LIST: list[tuple[Any, str]] = [
    (None, MISSING),
    *[(Jsonb(each), INVALID) for each in NO_LIST],
    *[(Jsonb([{**LISTED_WHOLE, name: wrong}]), INVALID) for name, values in NO_LISTED.items() for wrong in values],
    *[(Jsonb([{**REVERSAL, "transfer": wrong}]), INVALID) for wrong in (None, "", "trr_8", 8)],
    *[(Jsonb([{**REVERSAL, "status": wrong}]), INVALID) for wrong in ("", "done", 5)],
    (Jsonb([LISTED_WHOLE, LISTED_WHOLE]), INVALID),
    (Jsonb([{**LISTED_WHOLE, "id": f"tr_{n}"} for n in range(1001)]), INVALID),
    ("[", NO_JSON),
]

# Per function: arguments that are right, and per argument the values that are not.
TABLE: dict[str, tuple[Arguments, dict[str, list[tuple[Any, str]]]]] = {
    # Of this currency Stripe takes multiples of 10, and what it made already is believed.
    "create_transfer": (
        transfer_values(8, p_source_charge="ch_8", p_currency="kwd"),
        {**TRANSFER_CASES, "p_amount": [*UNUSABLE_AMOUNT, (1, INVALID), (1205, INVALID)]},
    ),
    "record_completed_transfer": (
        transfer_values(8, p_source_charge="ch_8", p_stripe_transfer_id="tr_8"),
        {
            **TRANSFER_CASES,
            "p_stripe_transfer_id": ids_of_another_kind("trr_1", "ch_1", "tr_", "tr_1/reversals", "TR_1", "tr_" + LONG),
        },
    ),
    "request_reversal": (
        {
            "p_order_id": "order-2",
            "p_reversal_request_id": "re_2",
            "p_reason": "refund",
            "p_amount": None,
            "p_allocation": Jsonb([SHARE]),
        },
        {
            "p_amount": [(1, INVALID), *[each for each in UNUSABLE_AMOUNT if each[0] is not None]],
            "p_allocation": UNUSABLE_ALLOCATION,
            "p_order_id": [*UNUSABLE_TEXT, ("order-of-nobody", "ST004")],
            "p_reversal_request_id": [
                *UNUSABLE_TEXT,
                *[(each, INVALID) for each in ("tr_1", "trr_1", "ch_1", "py_1", "pi_1", "acct_1", "evt_1")],
            ],
            "p_reason": [*UNUSABLE_TEXT, ("Refund", INVALID), ("because", INVALID)],
        },
    ),
    "claim_due_reversals": (
        {"p_worker": "worker-1", "p_limit": 10, "p_lease": "60 s"},
        {
            "p_worker": UNUSABLE_TEXT,
            "p_limit": [
                (None, MISSING),
                (0, INVALID),
                (-1, INVALID),
                (1001, INVALID),
                (2**31 - 1, INVALID),
                (2**31, NO_SUCH_FUNCTION),
                (1.5, NO_SUCH_FUNCTION),
                (str(2**31), TOO_LARGE),
                ("all", NO_NUMBER),
            ],
            "p_lease": [
                (None, MISSING),
                ("0", INVALID),
                ("-1 s", INVALID),
                ("1 h 1 s", INVALID),
                (timedelta(days=1), INVALID),
                ("1 year -360 days 60 s", INVALID),  # PostgreSQL compares it as one minute; it is five days
                ("178000000 years", INVALID),
                (60, NO_SUCH_FUNCTION),
                ("soon", NO_INTERVAL),
                ("", NO_INTERVAL),
            ],
        },
    ),
    "record_reversal_outcomes": (
        {"p_outcomes": Jsonb([])},
        {
            "p_outcomes": [
                (None, MISSING),
                (Jsonb(None), INVALID),
                (Jsonb({}), INVALID),
                (Jsonb("[]"), INVALID),
                (Jsonb(5), INVALID),
                (Jsonb([5]), INVALID),
                (Jsonb([None]), INVALID),
                (Jsonb([{}]), INVALID),
                (Jsonb([[]]), INVALID),
                (Jsonb([{}] * 1001), INVALID),
                ("", NO_JSON),
                ("[", NO_JSON),
                ('["\\u0000"]', NUL),
                (5, NO_SUCH_FUNCTION),
            ]
        },
    ),
    "claim_due_transfers": (
        {"p_worker": "worker-1", "p_limit": 10, "p_lease": "60 s"},
        {
            "p_worker": UNUSABLE_TEXT,
            "p_limit": [
                (None, MISSING),
                (0, INVALID),
                (-1, INVALID),
                (1001, INVALID),
                (2**31 - 1, INVALID),
                (2**31, NO_SUCH_FUNCTION),
                (1.5, NO_SUCH_FUNCTION),
                (str(2**31), TOO_LARGE),
                ("all", NO_NUMBER),
            ],
            "p_lease": [
                (None, MISSING),
                ("0", INVALID),
                ("-1 s", INVALID),
                ("1 h 1 s", INVALID),
                (timedelta(days=1), INVALID),
                ("1 year -360 days 60 s", INVALID),  # PostgreSQL compares it as one minute; it is five days
                ("178000000 years", INVALID),
                (60, NO_SUCH_FUNCTION),
                ("soon", NO_INTERVAL),
                ("", NO_INTERVAL),
            ],
        },
    ),
    "record_transfer_outcomes": (
        {"p_outcomes": Jsonb([])},
        {
            "p_outcomes": [
                (None, MISSING),
                (Jsonb(None), INVALID),
                (Jsonb({}), INVALID),
                (Jsonb("[]"), INVALID),
                (Jsonb(5), INVALID),
                (Jsonb([5]), INVALID),
                (Jsonb([None]), INVALID),
                (Jsonb([{}]), INVALID),
                (Jsonb([[]]), INVALID),
                (Jsonb([{}] * 1001), INVALID),
                ("", NO_JSON),
                ("[", NO_JSON),
                ('["\\u0000"]', NUL),
                (5, NO_SUCH_FUNCTION),
            ]
        },
    ),
    "register_runner": (
        {"p_worker": "worker-1", "p_version": "1.0", "p_stripe_account": "acct_8", "p_livemode": False},
        {
            "p_worker": UNUSABLE_TEXT,
            "p_version": UNUSABLE_TEXT,
            "p_stripe_account": ids_of_another_kind("tr_1", "acct_", "acct-1", "acct_1 ", "acct_" + LONG),
            "p_livemode": [(None, MISSING), ("maybe", NO_NUMBER), (1, NO_SUCH_FUNCTION)],
        },
    ),
    "set_stripe_rate": (
        {"p_per_second": Decimal(20), "p_reason": "x", "p_burst": 5},
        {
            "p_per_second": [
                *[(Decimal(wrong), INVALID) for wrong in ("0", "-1", "0.09", "1000.1", "1e30", "NaN", "Infinity")],
                ("fast", NO_NUMBER),
                ("", NO_NUMBER),
            ],
            "p_reason": [*UNUSABLE_TEXT[:-1], ("x" * 1001, INVALID)],
            "p_burst": [
                (0, INVALID),
                (-1, INVALID),
                (1001, INVALID),
                (2**31, NO_SUCH_FUNCTION),
                (str(2**31), TOO_LARGE),
                ("many", NO_NUMBER),
            ],
        },
    ),
    "next_due_in": ({"p_kind": "reversals"}, {"p_kind": [("", INVALID), ("refunds", INVALID), (LONG, INVALID)]}),
    "withdraw_reversal_request": (
        {"p_reversal_request_id": "re_3", "p_reason": "x"},
        {
            "p_reversal_request_id": [
                *UNUSABLE_TEXT,
                *[(each, INVALID) for each in ("tr_1", "trr_1", "ch_1", "py_1", "pi_1", "acct_1", "evt_1")],
            ],
            "p_reason": [*UNUSABLE_TEXT[:-1], ("x" * 1001, INVALID)],
        },
    ),
    "retry_now": (
        {"p_id": PENDING, "p_reason": "x"},
        {
            "p_id": NO_ID,
            "p_reason": [*UNUSABLE_TEXT[:-1], ("x" * 1001, INVALID)],
        },
    ),
    "give_up": (
        {"p_id": PENDING, "p_reason": "x"},
        {"p_id": NO_ID, "p_reason": [*UNUSABLE_TEXT[:-1], ("x" * 1001, INVALID)]},
    ),
    "mark_paid": (
        {"p_id": TWIN, "p_stripe_transfer_id": "tr_8", "p_reason": "x"},
        {
            "p_id": NO_ID,
            "p_stripe_transfer_id": [
                (None, MISSING),
                *ids_of_another_kind("trr_1", "re_1", "tr_", "tr_1/reversals", "TR_1", "tr_" + LONG),
            ],
            "p_reason": [*UNUSABLE_TEXT[:-1], ("x" * 1001, INVALID)],
        },
    ),
    "mark_reversed": (
        {"p_id": REFUNDED, "p_stripe_reversal_id": "trr_8", "p_reason": "x"},
        {
            "p_id": NO_ID,
            "p_stripe_reversal_id": [
                (None, MISSING),
                *ids_of_another_kind("tr_1", "re_1", "trr_", "trr_1/metadata", "TRR_1", "trr_" + LONG),
            ],
            "p_reason": [*UNUSABLE_TEXT[:-1], ("x" * 1001, INVALID)],
        },
    ),
    "add_note": (
        {"p_id": PENDING, "p_note": "x"},
        {"p_id": NO_ID, "p_note": [*UNUSABLE_TEXT[:-1], ("x" * 1001, INVALID)]},
    ),
    "dismiss": (
        {"p_problem_id": f"no-id:{WITHOUT_ID}", "p_reason": "x"},
        {
            "p_problem_id": [*UNUSABLE_TEXT, ("no-id:1", INVALID), ("attempt:1", INVALID), ("x" * 601, INVALID)],
            "p_reason": [*UNUSABLE_TEXT[:-1], ("x" * 1001, INVALID)],
        },
    ),
    # What is no currency is not shown as an amount: null, not an error (tests/test_display.py).
    "format_amount": (
        {"p_amount": 1, "p_currency": "usd"},
        {"p_amount": [(2**63, NO_SUCH_FUNCTION), ("ten", NO_NUMBER)], "p_currency": [(5, NO_SUCH_FUNCTION)]},
    ),
    "read_needs_attention": ({}, {}),
    "reopen": (
        {"p_id": WITHOUT_ID, "p_reason": "x", "p_stripe_transfer_id": "tr_8"},
        {
            "p_id": NO_ID,
            "p_reason": [*UNUSABLE_TEXT[:-1], ("x" * 1001, INVALID)],
            "p_stripe_transfer_id": [(None, MISSING), *ids_of_another_kind("trr_1", "tr_", "TR_1", "tr_" + LONG)],
        },
    ),
    "require_reconcile": (
        {"p_reason": "x", "p_lost_since": "2025-01-01 00:00Z"},
        {
            "p_reason": [*UNUSABLE_TEXT[:-1], ("x" * 1001, INVALID)],
            "p_lost_since": [
                (None, MISSING),
                ("infinity", INVALID),
                ("-infinity", INVALID),
                ("2999-01-01 00:00Z", INVALID),
                ("yesterday morning", NO_INTERVAL),
            ],
        },
    ),
    "trust_database_identity": ({"p_reason": "x"}, {"p_reason": [*UNUSABLE_TEXT[:-1], ("x" * 1001, INVALID)]}),
    "look_up_first": ({"p_reason": "x"}, {"p_reason": [*UNUSABLE_TEXT[:-1], ("x" * 1001, INVALID)]}),
    "read_open_reversals": ({}, {}),
    "read_open_transfers": ({}, {}),
    "acted_event_types": ({}, {}),
    "pause_stripe_calls": ({"p_reason": "x"}, {"p_reason": [*UNUSABLE_TEXT[:-1], ("x" * 1001, INVALID)]}),
    "resume_stripe_calls": ({"p_reason": "x"}, {"p_reason": [*UNUSABLE_TEXT[:-1], ("x" * 1001, INVALID)]}),
    "classify_stripe_outcome": (
        {
            "p_action": "reverse",
            "p_http_status": 400,
            "p_error_type": "invalid_request_error",
            "p_error_code": None,
            "p_error_message": None,
        },
        {
            "p_action": [(None, MISSING), ("", INVALID), ("refund", INVALID), (LONG, INVALID)],
            "p_http_status": [("four", NO_NUMBER), (str(2**31), TOO_LARGE), (2**31, NO_SUCH_FUNCTION)],
        },
    ),
    # Anything unknown is no transition: false, not an error (tests/test_transfer_transitions.py).
    "can_transition_transfer_status": ({"p_from": "nonsense", "p_to": None}, {}),
    "ingest_stripe_event": (
        {"p_event": Jsonb(EVENT), "p_raw_sha256": "0" * 64},
        {
            "p_event": [
                (None, MISSING),
                *[(Jsonb(each), INVALID) for each in (None, {}, [], "{}", 5, True, [EVENT], {"event": EVENT})],
                *[
                    (Jsonb({**EVENT, name: each}), INVALID)
                    for name, wrong in NO_EVENT.items()
                    for each in (None, 5, True, [], *wrong)
                ],
                *[
                    (Jsonb({key: each for key, each in EVENT.items() if key != name}), INVALID)
                    for name in ("object", "id", "type", "data")
                ],
                (Jsonb({**EVENT, "x": "x" * 2**20}), INVALID),
                ("", NO_JSON),
                ("{", NO_JSON),
                ('{"id": "\\u0000"}', NUL),
                (5, NO_SUCH_FUNCTION),
            ],
            "p_raw_sha256": [(each, INVALID) for each in ("", "x", "0" * 63, "0" * 65, "A" * 64, "0" * 63 + "\n")],
        },
    ),
    "retry_events": (
        {"p_limit": 10},
        {
            "p_limit": [
                (None, MISSING),
                (0, INVALID),
                (-1, INVALID),
                (1001, INVALID),
                (2**31, NO_SUCH_FUNCTION),
                ("all", NO_NUMBER),
            ]
        },
    ),
    "note_charge": (
        {
            "p_charge_id": "ch_1",
            "p_amount": 1000,
            "p_payment_intent": "pi_1",
            "p_order_id": "order-2",
            "p_transfer_group": "group-2",
            "p_currency": "usd",
        },
        {
            "p_charge_id": [(None, MISSING), *ids_of_another_kind("pi_1", "tr_1", "ch_", "ch_1/refunds", "ch_" + LONG)],
            "p_amount": [each for each in UNUSABLE_AMOUNT if each[0] is not None],
            "p_payment_intent": ids_of_another_kind("ch_1", "pi_", "pi_1 ", "pi_" + LONG),
            "p_order_id": UNUSABLE_TEXT[1:],
            "p_transfer_group": UNUSABLE_TEXT[1:],
            "p_currency": [*UNUSABLE_TEXT[1:], ("USD", INVALID), ("xxx", INVALID)],
        },
    ),
    "note_reinstated": (
        {"p_dispute_id": "dp_1", "p_amount": 60},
        {
            "p_dispute_id": [
                (None, MISSING),
                ("dp_none", INVALID),
                *ids_of_another_kind("ch_1", "dp_", "dp_1 ", "dp_" + LONG),
            ],
            "p_amount": [each for each in UNUSABLE_AMOUNT if each[0] != 0] + [(101, INVALID)],
        },
    ),
    "set_refunds_by": (
        {"p_who": "events", "p_reason": "x"},
        {
            "p_who": [*UNUSABLE_TEXT, ("Events", INVALID), ("nobody", INVALID)],
            "p_reason": [*UNUSABLE_TEXT[:-1], ("x" * 1001, INVALID)],
        },
    ),
    "set_error_rule": (
        {"p_priority": 1, "p_http_status": 404, "p_verdict": "transient", "p_note": "x", "p_message_pattern": "^gone"},
        {
            "p_priority": [(None, MISSING), (0, INVALID), (-1, INVALID), ("first", NO_NUMBER)],
            "p_http_status": [(None, MISSING), *[(each, INVALID) for each in NO_ERROR], ("4xx", NO_NUMBER)],
            "p_verdict": [*UNUSABLE_TEXT, ("already_reversed", INVALID), ("succeeded", INVALID)],
            "p_note": [*UNUSABLE_TEXT[:-1], ("x" * 1001, INVALID)],
            "p_error_type": [*UNUSABLE_TEXT[1:-1], ("x" * 101, INVALID)],
            "p_error_code": [*UNUSABLE_TEXT[1:-1], ("x" * 101, INVALID)],
            "p_message_pattern": [*UNUSABLE_TEXT[1:-1], ("x" * 501, INVALID), ("(", INVALID), ("a{2,1}", INVALID)],
        },
    ),
    "remove_error_rule": (
        {"p_priority": 200, "p_reason": "x"},
        {
            "p_priority": [(None, MISSING), (0, INVALID), (199, INVALID), ("all", NO_NUMBER)],
            "p_reason": [*UNUSABLE_TEXT[:-1], ("x" * 1001, INVALID)],
        },
    ),
    "set_retry_policy": (
        {"p_verdict": "unknown", "p_reason": "x", "p_base_delay": "6 s", "p_quiet": "2 h"},
        {
            "p_verdict": [*UNUSABLE_TEXT, ("Unknown", INVALID), ("not_found", INVALID)],
            "p_reason": [*UNUSABLE_TEXT[:-1], ("x" * 1001, INVALID)],
            "p_base_delay": NO_DELAY,
            "p_max_delay": NO_DELAY,
            "p_slow_delay": NO_DELAY,
            "p_factor": [(Decimal(each), INVALID) for each in ("0", "0.99", "-2", "10.1", "NaN")],
            "p_jitter": [(Decimal(each), INVALID) for each in ("-0.1", "1.1")],
            "p_slow_after": [(0, INVALID), (-1, INVALID), (1001, INVALID)],
            "p_max_retries": [(-1, INVALID), (1001, INVALID)],
            "p_max_age": [("0", INVALID), ("-1 d", INVALID), ("2 y", INVALID), ("long", NO_INTERVAL)],
            "p_quiet": [("9 min 59 s", INVALID), ("-1 h", INVALID), ("31 d", INVALID), ("long", NO_INTERVAL)],
            "p_key_max_age": [("20 h 1 s", INVALID), ("-1 h", INVALID), ("0", INVALID), ("long", NO_INTERVAL)],
        },
    ),
    "forget_runners": (
        {"p_unseen_for": "30 d", "p_reason": "x"},
        {
            "p_unseen_for": [(None, MISSING), ("59 min", INVALID), ("-1 d", INVALID), ("long", NO_INTERVAL)],
            "p_reason": [*UNUSABLE_TEXT[:-1], ("x" * 1001, INVALID)],
        },
    ),
    "start_reconcile": (
        {"p_stripe_account": "acct_8", "p_livemode": False, "p_created_since": "2026-01-01"},
        {
            "p_stripe_account": [*ids_of_another_kind("acct_", "ACCT_1", "acct_" + LONG), ("acct_other", "ST006")],
            "p_livemode": [(None, MISSING), (True, "ST006"), ("maybe", NO_NUMBER)],
            "p_created_since": [("infinity", INVALID), ("-infinity", INVALID), ("9999-01-01", INVALID)],
        },
    ),
    "pay_for_read": ({"p_run_id": OPEN_RUN}, {"p_run_id": ENDED}),
    "keep_listed_objects": (
        {"p_run_id": OPEN_RUN, "p_objects": Jsonb([LISTED_WHOLE, REVERSAL])},
        {"p_run_id": ENDED, "p_objects": UNUSABLE_LIST},
    ),
    "transfers_to_reread": ({"p_run_id": OPEN_RUN}, {"p_run_id": ENDED, "p_limit": LIMIT}),
    "finish_reconcile": ({"p_run_id": OPEN_RUN}, {"p_run_id": ENDED}),
    # One that there is not has found nothing.
    "reconcile_differences": ({"p_run_id": COMPLETE_RUN}, {"p_run_id": [(2**64, NO_SUCH_FUNCTION)]}),
    "look_up_differences": (
        {"p_run_id": COMPLETE_RUN, "p_reason": "x"},
        {"p_run_id": NOT_COMPLETE, "p_reason": REASON, "p_limit": LIMIT},
    ),
    "resume_after_reconcile": (
        {"p_run_id": COMPLETE_RUN, "p_reason": "x"},
        {"p_run_id": NOT_COMPLETE, "p_reason": REASON},
    ),
    "prunable_history": (
        {"p_before": "2020-01-01", "p_limit": 10},
        {"p_before": UNUSABLE_BEFORE, "p_limit": UNUSABLE_LIMIT},
    ),
    "prune_history": (
        {
            "p_before": "2020-01-01",
            "p_log_sha256": "0" * 64,
            "p_attempts_sha256": "0" * 64,
            "p_reason": "x",
            "p_limit": 10,
        },
        {
            "p_before": UNUSABLE_BEFORE,
            "p_log_sha256": [*UNUSABLE_TEXT, ("0" * 63, INVALID), ("g" * 64, INVALID)],
            "p_attempts_sha256": [*UNUSABLE_TEXT, ("0" * 65, INVALID)],
            "p_reason": [*UNUSABLE_TEXT[:-1], ("x" * 1001, INVALID)],
            "p_limit": UNUSABLE_LIMIT,
        },
    ),
    # These take nothing.
    "read_reconcile_run": ({}, {}),
    "function_sources": ({}, {}),
    "read_clock": ({}, {}),
    "read_kept_events": ({}, {}),
    "read_queue_health": ({}, {}),
    "read_rate_budget": ({}, {}),
    "read_runner_health": ({}, {}),
    "read_transfer_totals": ({}, {}),
    "schema_state": ({}, {}),
    "self_check": ({"p_with_log": False}, {"p_with_log": [("maybe", NO_NUMBER)]}),
    "server_check": ({}, {}),
    "validate_constraints": ({}, {}),
    "verify_log": ({}, {}),
}


def seed(db: Database) -> None:
    """Something to spoil: a leased reversal, one that is due, completed transfers, one of them without its id."""
    refunded_transfer(db, 1)
    claim(db)
    record_transfer(db, 2)
    refunded_transfer(db, 3)
    insert_transfer(
        db, id=REFUNDED, order_id="order-4", status="completed", completed_at="now", stripe_transfer_id="tr_4"
    )
    call(db, "request_reversal", p_order_id="order-4", p_reversal_request_id="re_4")
    insert_transfer(db, id=WITHOUT_ID, status="completed", completed_at="now")
    insert_transfer(db, id=PENDING, status="pending", next_retry_at="now", call_generation=1, call_minted_at="now")
    unpaid = {"status": "pending", "next_retry_at": "now", "call_generation": 1, "call_minted_at": "now"}
    insert_transfer(db, id=TWIN, order_id="order-5", parked_reason="mismatch: tr_8 (1000 usd)", **unpaid)
    db.execute(
        """
        insert into marketplace.transfer_attempts
          (transfer_id, kind, action, lease_token, started_at, verdict, disposition)
        values (%s, 'call', 'look_up_transfer', gen_random_uuid(), clock_timestamp(), 'mismatch', 'applied')
        """,
        [TWIN],
    )
    call(db, "register_runner", p_worker="w", p_version="1", p_stripe_account="acct_8", p_livemode=False)
    ingest(db, event("charge.dispute.created", dispute()))
    db.execute("update marketplace.stripe_control set reconcile_needed_since = now(), reconcile_reason = 'restored'")
    db.execute(
        """
        insert into marketplace.reconcile_runs
          (id, stripe_account, livemode, finished_at, is_complete, differences, urgent)
        overriding system value
        values (%s, 'acct_8', false, null, false, null, null), (%s, 'acct_8', false, clock_timestamp(), true, 0, 0)
        """,
        [OPEN_RUN, COMPLETE_RUN],
    )


def refusal_of(db: Database, function: str, arguments: Arguments) -> psycopg.Error:
    try:
        with db.transaction():
            call(db, function, **arguments)
    except psycopg.Error as error:
        return error
    pytest.fail(f"{function} takes {arguments}")


PUBLIC = "pronamespace = 'marketplace'::regnamespace and proname not like 'tg\\_%' and proname not like '\\_%'"


def test_no_public_function_is_missing_here(db: Database) -> None:
    public = rows(db, f"select distinct proname from pg_proc where {PUBLIC}")

    assert {each["proname"] for each in public} == TABLE.keys()


def test_every_argument_of_every_public_function_is_tried(db: Database) -> None:
    arguments = rows(
        db,
        "select proname, a.name from pg_proc cross join lateral unnest(proargnames, proargmodes) as a (name, mode) "
        f"where {PUBLIC} and coalesce(a.mode, 'i') = 'i'",
    )
    # Any text is a fact that Stripe may have reported, or that ended a comparison; any pair of statuses is a question.
    free = {"p_error_type", "p_error_code", "p_error_message", "p_from", "p_to", "p_trouble"}

    untried = {(each["proname"], each["name"]) for each in arguments if each["name"] not in free} - {
        (function, argument) for function, (_, cases) in TABLE.items() for argument in cases
    }
    assert untried == set()


def test_what_cannot_be_meant_is_refused_in_words_and_changes_nothing(db: Database) -> None:
    seed(db)
    before = contents(db)

    for function, (right, cases) in TABLE.items():
        for argument, values in cases.items():
            for wrong, sqlstate in values:
                diag = refusal_of(db, function, {**right, argument: wrong}).diag
                where = f"{function}({argument} => {str(wrong)[:40]!r})"
                assert (where, diag.sqlstate) == (where, sqlstate)
                if sqlstate in (MISSING, INVALID) or sqlstate.startswith("ST"):
                    assert (where, diag.column_name) == (where, argument)
                    assert diag.message_hint, where
                    assert LONG not in (diag.message_primary or ""), where
        assert refusal_of(db, function, {**right, "p_nonsense": 1}).sqlstate == NO_SUCH_FUNCTION
        assert contents(db) == before, function


def test_the_right_arguments_of_the_table_are_right(db: Database) -> None:
    seed(db)
    for function, (right, _) in TABLE.items():
        with db.transaction(force_rollback=True):
            call(db, function, **right)


def test_a_charge_amount_without_its_charge_is_refused(db: Database) -> None:
    for function in ("create_transfer", "record_completed_transfer"):
        diag = refusal_of(db, function, transfer_values(p_charge_amount=1000)).diag
        assert (diag.sqlstate, diag.column_name) == (INVALID, "p_source_charge")
        assert diag.message_hint


def test_a_thousand_outcomes_are_the_most(db: Database) -> None:
    refunded_transfer(db)
    (leased,) = claim(db)

    assert len(call(db, "record_reversal_outcomes", p_outcomes=Jsonb([success(leased)] * 1000))) == 1000
    diag = refusal_of(db, "record_reversal_outcomes", {"p_outcomes": Jsonb([success(leased)] * 1001)}).diag
    assert (diag.sqlstate, diag.column_name) == (INVALID, "p_outcomes")


def test_the_largest_values_that_can_be_meant_are_taken(db: Database) -> None:
    longest = transfer_values(
        p_transfer_key="ö" * 255,
        p_order_id="ö" * 255,
        p_seller_id="ö" * 255,
        p_destination_account="acct_" + "x" * 250,
        p_amount=10**12 - 1,
        p_source_charge="ch_" + "x" * 252,
        p_charge_amount=10**12 - 1,
        p_stripe_transfer_id="tr_" + "x" * 252,
    )
    call(db, "record_completed_transfer", **longest)
    call(db, "request_reversal", p_order_id="ö" * 255, p_reversal_request_id="ö" * 255)
    call(db, "register_runner", p_worker="ö" * 255, p_version="ö" * 255, p_stripe_account="acct_1", p_livemode=True)
    call(db, "set_stripe_rate", p_per_second=1000, p_reason="ö" * 1000, p_burst=1000)

    (leased,) = call(db, "claim_due_reversals", p_worker="ö" * 255, p_limit=1000, p_lease="1 h")

    assert leased["amount"] == 10**12 - 1
    assert value(db, "select reason from marketplace.transfer_status_log order by id desc limit 1").startswith(
        "refund ö"
    )
