"""The CHECKs of seller_transfers: each refuses a row that breaks it and nothing else, and takes its neighbour.

The triggers are off here: they refuse births and changes that a CHECK, which sees one version of a row, is to judge.
"""

from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.support.databases import Database, rows
from tests.support.raw_transfers import add_transfer, insert_transfer

pytest_plugins = ("tests.support.rolled_back",)

NOW = "now"
LEASE = {
    "lease_token": uuid4(),
    "leased_at": NOW,
    "lease_expires_at": NOW,
    "leased_by": "worker",
    "lease_action": "reverse",
}
STREAK = {"streak": 1, "streak_verdict": "unknown", "streak_since": NOW}
CALL = {"call_generation": 1, "call_minted_at": NOW}
PAID = {"completed_at": NOW, "stripe_transfer_id": "tr_1"}
FAILURE = {"failure_code": "code", "failure_message": "message"}

TAKEN_ID = 1_000_000
SUCCEEDED_ID = 1_000_001
SLICE = {"transfer_key": None, "root_id": TAKEN_ID, "split_from": TAKEN_ID}
SUCCESSOR = {"transfer_key": None, "root_id": TAKEN_ID, "successor_of": TAKEN_ID}
COMPENSATION = {"transfer_key": None, "compensates": TAKEN_ID, "made_for": "re_raw:1"}

# A row of each status as plain as it may be.
PLAIN: dict[str, dict[str, Any]] = {
    "pending": {"next_retry_at": NOW, **CALL},
    "completed": PAID,
    "failed": {"next_retry_at": NOW, **CALL},
    "reversal_pending": {**PAID, "reversal_request_id": "re_raw", "next_retry_at": NOW, **CALL, "call_part": 1},
    "reversed": {**PAID, "reversal_request_id": "re_raw", "stripe_reversal_id": "trr_1"},
    "permanently_failed": FAILURE,
}


@dataclass(frozen=True, slots=True)
class Case:
    """A plain row of `status` that `broken` makes break `constraint`, and only it, and that `kept` does not."""

    constraint: str
    status: str
    broken: dict[str, Any]
    kept: dict[str, Any] = field(default_factory=dict)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    return rolled_back_db


def each(constraint: str, statuses: str, broken: dict[str, Any], kept: dict[str, Any] | None = None) -> list[Case]:
    """The same case for several statuses."""
    return [Case(constraint, status, broken, kept or {}) for status in statuses.split()]


def longer_than(limit: int, column: str, prefix: str = "", beside: dict[str, Any] | None = None) -> Case:
    """A text one character too long, and one that just fits."""
    fitting = prefix + "x" * (limit - len(prefix))
    others = beside or {}
    return Case(
        "chk_texts_are_bounded", "reversal_pending", {**others, column: fitting + "x"}, {**others, column: fitting}
    )


CASES = [
    *[
        Case("chk_status_is_known", "completed", {"status": status}, {"status": "completed"})
        for status in ("refunded", "Completed", "completed ", "")
    ],
    Case("chk_amount_is_positive", "pending", {"amount": 0}, {"amount": 1}),
    Case("chk_amount_is_positive", "pending", {"amount": -1}, {"amount": 1}),
    Case("chk_amount_is_positive", "pending", {"amount": 1001}, {"amount": 1000}),
    Case(
        "chk_original_amount_is_bounded",
        "pending",
        {"original_amount": 1_000_000_000_000},
        {"original_amount": 999_999_999_999, "amount": 999_999_999_999},
    ),
    *[
        Case(
            "chk_ids_are_of_their_kind", "pending", {"destination_account": account}, {"destination_account": "acct_Z9"}
        )
        for account in ("acct_", "acct_1 ", "acct_1\n", " acct_1", "acct_1/2", "Acct_1", "xacct_1", "ca_1", "")
    ],
    *[
        Case("chk_ids_are_of_their_kind", "pending", {"source_charge": charge}, {"source_charge": kept})
        for charge, kept in (("pi_1", "py_1"), ("ch_", "ch_1"), ("ch_1\n", "ch_1"), ("", None))
    ],
    *[
        Case("chk_ids_are_of_their_kind", "completed", {"stripe_transfer_id": transfer}, {"stripe_transfer_id": kept})
        for transfer, kept in (("trr_1", "tr_1"), ("tr_", "tr_Z9"), ("tr_1?x", "tr_1x"), ("", None))
    ],
    *[
        Case(
            "chk_ids_are_of_their_kind", "reversed", {"stripe_reversal_id": reversal}, {"stripe_reversal_id": "trr_Z9"}
        )
        for reversal in ("tr_1", "trr_", "trr_1 ", "")
    ],
    *[
        Case("chk_texts_are_bounded", "pending", {column: ""}, {column: " "})
        for column in ("transfer_key", "order_id", "seller_id")
    ],
    longer_than(255, "transfer_key"),
    longer_than(255, "order_id"),
    longer_than(255, "seller_id"),
    longer_than(255, "destination_account", "acct_"),
    longer_than(255, "source_charge", "ch_"),
    longer_than(255, "stripe_transfer_id", "tr_"),
    longer_than(255, "stripe_reversal_id", "trr_"),
    longer_than(1000, "parked_reason"),
    longer_than(100, "failure_code"),
    longer_than(1000, "failure_message"),
    longer_than(100, "streak_verdict", beside=STREAK),
    longer_than(255, "leased_by", beside=LEASE),
    longer_than(100, "lease_action", beside=LEASE),
    *each("chk_completed_at_says_paid", "pending failed", {"completed_at": NOW}),
    *each(
        "chk_completed_at_says_paid",
        "completed reversal_pending reversed",
        {"completed_at": None, "stripe_transfer_id": None},
        {"stripe_transfer_id": None},
    ),
    *each("chk_unpaid_has_no_stripe_transfer", "pending failed permanently_failed", {"stripe_transfer_id": "tr_1"}),
    Case(
        "chk_unpaid_has_no_stripe_transfer",
        "permanently_failed",
        {"stripe_transfer_id": "tr_1"},
        {"stripe_transfer_id": "tr_1", "completed_at": NOW},
    ),
    *each("chk_reversal_has_a_request", "reversal_pending reversed", {"reversal_request_id": None}),
    *each("chk_reversal_has_a_request", "pending completed failed", {"reversal_request_id": "re_raw"}),
    Case(
        "chk_reversed_has_evidence",
        "reversed",
        {"stripe_reversal_id": None},
        {"stripe_reversal_id": None, "failure_message": "Elsewhere."},
    ),
    *each("chk_stripe_reversal_belongs_to_a_reversal", "pending completed failed", {"stripe_reversal_id": "trr_1"}),
    *each(
        "chk_named_reversal_is_awaited",
        "pending completed failed reversed permanently_failed",
        {"named_reversal_id": "trr_x"},
    ),
    Case(
        "chk_named_reversal_is_awaited",
        "reversal_pending",
        {"named_reversal_id": "trr_x", "stripe_reversal_id": "trr_1"},
        {"named_reversal_id": "trr_x"},
    ),
    *[
        Case("chk_named_reversal_is_awaited", "reversal_pending", {"named_reversal_id": named})
        for named in ("tr_1", "trr_", "trr_1 ", "", "trr_" + "x" * 252)
    ],
    *each("chk_permanently_failed_says_why", "permanently_failed", {"failure_code": None}),
    *each("chk_permanently_failed_says_why", "permanently_failed", {"failure_message": None}),
    *each("chk_unsent_has_next_retry_at", "pending failed", {"next_retry_at": None}),
    *each("chk_reversal_pending_has_next_retry_at", "reversal_pending", {"next_retry_at": None}),
    *each("chk_settled_has_no_next_retry_at", "completed reversed permanently_failed", {"next_retry_at": NOW}),
    *each("chk_settled_is_not_parked", "completed reversed permanently_failed", {"parked_reason": "why"}),
    *each("chk_settled_is_not_leased", "completed reversed permanently_failed", LEASE),
    *each("chk_end_is_known", "reversed permanently_failed", {"call_unknown": True}),
    Case("chk_times_are_finite", "reversal_pending", {"next_retry_at": "infinity"}),
    Case("chk_times_are_finite", "pending", {"next_retry_at": "-infinity"}),
    Case("chk_times_are_finite", "reversal_pending", {**LEASE, "lease_expires_at": "infinity"}, LEASE),
    *[Case("chk_lease_is_whole", "reversal_pending", {**LEASE, part: None}, LEASE) for part in LEASE],
    *[Case("chk_lease_is_whole", "pending", {part: LEASE[part]}, LEASE) for part in LEASE],
    Case("chk_retry_count_is_not_negative", "reversal_pending", {"retry_count": -1}, {"retry_count": 0}),
    *[
        Case("chk_streak_is_whole", "reversal_pending", {**STREAK, part: None}, STREAK)
        for part in STREAK
        if part != "streak"
    ],
    *[Case("chk_streak_is_whole", "pending", {part: STREAK[part]}, STREAK) for part in STREAK],
    Case("chk_streak_is_whole", "pending", {"streak": -1, "streak_verdict": "unknown", "streak_since": NOW}, STREAK),
    Case("chk_call_is_whole", "completed", {"call_generation": 1}, CALL),
    Case("chk_call_is_whole", "completed", {"call_minted_at": NOW}, CALL),
    Case("chk_call_is_whole", "completed", {"call_params": Jsonb({})}, {"call_params": Jsonb({}), **CALL}),
    Case("chk_call_is_whole", "completed", {"call_part": 1}, {"call_part": 1, **CALL}),
    Case("chk_call_is_whole", "reversal_pending", {"call_generation": 0}, {"call_generation": 1}),
    Case("chk_call_is_whole", "reversal_pending", {"call_part": 0}, {"call_part": 1}),
    *each("chk_open_has_a_call", "pending failed", {"call_generation": None, "call_minted_at": None}),
    *each("chk_reversal_has_a_part", "reversal_pending", {"call_part": None}),
    Case("fk_seller_transfers_currency", "pending", {"currency": "xyz"}, {"currency": "jpy"}),
    Case(
        "fk_seller_transfers_request",
        "reversal_pending",
        {"reversal_request_id": "re_nobody_made"},
    ),
    Case("uq_seller_transfers_transfer_key", "pending", {"transfer_key": "taken"}, {"transfer_key": "free"}),
    Case(
        "idx_seller_transfers_stripe_transfer_id",
        "completed",
        {"stripe_transfer_id": "tr_taken"},
        {"stripe_transfer_id": "tr_taken", **SLICE},
    ),
    Case("chk_root_has_a_key", "completed", {"transfer_key": None}, {"transfer_key": "key"}),
    Case("chk_root_has_a_key", "completed", {**SLICE, "transfer_key": "key"}, SLICE),
    Case("chk_slice_has_a_family", "completed", {**SLICE, "split_from": None}, SLICE),
    Case("chk_slice_has_a_family", "completed", {"transfer_key": "key", "split_from": TAKEN_ID}, SLICE),
    *[
        Case("chk_slice_has_a_family", "completed", {**SLICE, "id": 2_000_000, column: 2_000_000}, SLICE)
        for column in ("root_id", "split_from")
    ],
    *[
        Case("chk_slice_has_a_family", status, {**kind, "id": 2_000_000, column: 2_000_000}, kind)
        for status, kind, column in (("completed", SUCCESSOR, "successor_of"), ("pending", COMPENSATION, "compensates"))
    ],
    Case("chk_slice_has_a_family", "completed", {**SLICE, "successor_of": TAKEN_ID}, SLICE),
    Case("chk_root_has_a_key", "pending", {**SLICE, **COMPENSATION}, SLICE),
    Case("chk_root_has_a_key", "pending", {**COMPENSATION, "transfer_key": "key"}, {"transfer_key": "key"}),
    Case("chk_made_again_says_for_what", "pending", {**COMPENSATION, "made_for": None}, COMPENSATION),
    Case("chk_made_again_says_for_what", "pending", {"transfer_key": "key", "made_for": "re_1:1"}, COMPENSATION),
    Case("chk_stripe_transfer_group_is_bounded", "completed", {"stripe_transfer_group": "g" * 256}),
    Case("idx_seller_transfers_successor_of", "completed", {**SUCCESSOR, "successor_of": SUCCEEDED_ID}, SUCCESSOR),
    Case("idx_seller_transfers_compensates", "pending", {**COMPENSATION, "compensates": SUCCEEDED_ID}, COMPENSATION),
    Case(
        "idx_seller_transfers_made_for",
        "completed",
        {**SUCCESSOR, "made_for": "re_raw:1", "stripe_transfer_id": "tr_again"},
        {**SUCCESSOR, "made_for": "re_raw:1"},
    ),
    Case("fk_seller_transfers_successor_of", "completed", {**SUCCESSOR, "successor_of": -1}, SUCCESSOR),
    Case("fk_seller_transfers_compensates", "pending", {**COMPENSATION, "compensates": -1}, COMPENSATION),
    Case("fk_seller_transfers_root", "completed", {**SLICE, "root_id": -1}, SLICE),
    Case("fk_seller_transfers_split_from", "completed", {**SLICE, "split_from": -1}, SLICE),
    Case("uq_seller_transfers_stripe_reversal_id", "reversed", {"stripe_reversal_id": "trr_taken"}),
]


@pytest.fixture
def table(db: Database) -> Database:
    """The table without its triggers, and with one row whose unique values are taken."""
    add_transfer(db, "pending")
    db.execute("alter table marketplace.seller_transfers disable trigger user")
    taken = {"transfer_key": "taken", "stripe_transfer_id": "tr_taken", "stripe_reversal_id": "trr_taken"}
    insert_transfer(db, id=TAKEN_ID, status="reversed", **(PLAIN["reversed"] | taken))
    before = {**PLAIN["reversed"], **SLICE, "stripe_reversal_id": "trr_before"}
    insert_transfer(db, id=SUCCEEDED_ID, status="reversed", **before)
    after = {**SUCCESSOR, "successor_of": SUCCEEDED_ID, "made_for": "re_raw:1", "stripe_transfer_id": "tr_again"}
    insert_transfer(db, id=SUCCEEDED_ID + 1, status="completed", **(PLAIN["completed"] | after))
    back = {**COMPENSATION, "compensates": SUCCEEDED_ID}
    insert_transfer(db, id=SUCCEEDED_ID + 2, status="pending", **(PLAIN["pending"] | back))
    return db


def refused_by(db: Database, **columns: Any) -> str | None:
    """The constraint that refuses a row of these columns; None if it is taken. Nothing of it stays."""
    try:
        with db.transaction(force_rollback=True):
            insert_transfer(db, **columns)
    except psycopg.errors.IntegrityError as error:
        return error.diag.constraint_name or f"no constraint: {error}"
    return None


def test_there_is_a_case_for_every_constraint(db: Database) -> None:
    constraints = rows(
        db,
        "select conname from pg_constraint where conrelid = 'marketplace.seller_transfers'::regclass"
        " and contype in ('c', 'f', 'u')",
    )
    unique_in_part = {
        "idx_seller_transfers_compensates",
        "idx_seller_transfers_made_for",
        "idx_seller_transfers_stripe_transfer_id",
        "idx_seller_transfers_successor_of",
    }
    assert {case.constraint for case in CASES} == {each["conname"] for each in constraints} | unique_in_part


def test_a_plain_row_of_each_status_is_taken(table: Database) -> None:
    refused = {status: refused_by(table, status=status, **columns) for status, columns in PLAIN.items()}
    assert refused == dict.fromkeys(PLAIN)


def test_each_constraint_refuses_what_breaks_it(table: Database) -> None:
    for case in CASES:
        row = {"status": case.status, **PLAIN[case.status], **case.broken}
        assert refused_by(table, **row) == case.constraint, case


def test_each_of_those_rows_breaks_nothing_else(table: Database) -> None:
    """Without the constraint the row is taken: no other constraint says the same."""
    for case in CASES:
        row = {"status": case.status, **PLAIN[case.status], **case.broken}
        with table.transaction(force_rollback=True):
            if case.constraint.startswith("idx_"):
                table.execute(f"drop index marketplace.{case.constraint}".encode())
            else:
                table.execute(f"alter table marketplace.seller_transfers drop constraint {case.constraint}".encode())
            assert refused_by(table, **row) is None, case


def test_each_constraint_takes_the_neighbour_of_what_it_refuses(table: Database) -> None:
    for case in CASES:
        row = {"status": case.status, **PLAIN[case.status], **case.kept}
        assert refused_by(table, **row) is None, case
