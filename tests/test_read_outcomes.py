"""db/functions/read_outcomes.sql: the frame of a report must be right; what Stripe said may be anything."""

from typing import Any

import psycopg
import pytest

from tests.support.databases import Database, rows
from tests.support.transfers import (
    Facts,
    attempts,
    claim,
    claimed_call,
    record,
    record_one,
    refunded_transfers,
    refusal,
    report,
    reversal_object,
    success,
    transfer,
)

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def hostile(db: Database, *facts: Facts) -> list[str | None]:
    """The verdicts on calls of which these facts are reported, each beside an honest success, all in one batch."""
    refunded_transfers(db, len(facts) + 1)
    honest, *others = claim(db, limit=1000)

    recorded = record(
        db, *[report(leased, **each) for leased, each in zip(others, facts, strict=True)], success(honest)
    )

    assert {each["result"] for each in recorded} == {"applied"}
    assert recorded[-1]["status"] == "reversed"
    return [each["verdict"] for each in recorded[:-1]]


def test_a_status_that_is_no_status_counts_as_not_said(db: Database) -> None:
    strange: list[Any] = ["400", 400.4, 199.9, -400, 0, 99, 600, 10**400, [400], {"is": 400}, True, None]

    said = {"error_type": "invalid_request_error"}
    assert hostile(db, *[{**said, "http_status": each} for each in strange]) == ["unknown"] * len(strange)
    assert (
        rows(db, "select from marketplace.transfer_attempts where http_status is not null and verdict = 'unknown'")
        == []
    )


def test_an_error_body_of_wrong_types_is_no_error_body_of_stripes(db: Database) -> None:
    strange: list[Any] = [5, True, [], ["invalid_request_error"], {}, {"type": "invalid_request_error"}, "", "  ", "\n"]

    assert hostile(db, *[{"http_status": 400, "error_type": each} for each in strange]) == ["unknown"] * len(strange)


def test_a_code_or_message_of_wrong_type_counts_as_not_said(db: Database) -> None:
    said = {"http_status": 400, "error_type": "invalid_request_error"}
    already = "The transfer tr_1 is already fully reversed."

    assert (
        hostile(
            db,
            {**said, "error_code": ["balance_insufficient"]},
            {**said, "error_code": {"code": "balance_insufficient"}},
            {**said, "error_message": [already]},
            {**said, "error_message": {"text": already}},
            {**said, "error_message": 5, "stripe_request_id": {"a": 1}, "duration_ms": "long", "replayed": "true"},
        )
        == ["transient"] * 5
    )
    kept = rows(
        db,
        "select distinct error_code, error_message, stripe_request_id, duration_ms, replayed "
        "from marketplace.transfer_attempts where verdict = 'transient'",
    )
    assert [tuple(each.values()) for each in kept] == [(None, None, None, None, False)]


def test_an_object_that_is_none_is_not_looked_into(db: Database) -> None:
    strange: list[Any] = [
        [],
        [{"id": "trr_1", "object": "transfer_reversal"}],
        "trr_1",
        5,
        True,
        {},
        {"id": {}},
        {"id": 5},
    ]

    assert hostile(db, *[{"http_status": 200, "object": each} for each in strange]) == ["unknown"] * len(strange)


def test_numbers_too_large_for_any_column_refuse_nothing(db: Database) -> None:
    leased = claimed_call(db)

    (recorded,) = record(
        db,
        report(
            leased,
            http_status=200,
            duration_ms=10**30,
            object=reversal_object(leased, amount=10**400),
        ),
    )

    assert (recorded["result"], recorded["verdict"]) == ("applied", "mismatch")
    assert attempts(db, leased["id"])[0]["duration_ms"] is None


def test_texts_are_cleaned_and_cut(db: Database) -> None:
    leased = claimed_call(db)
    message = "\x1b[31mNo.\x07\r\n\tReally\x7fnot." + "x" * 10_000_000

    record_one(db, refusal(leased, 400, "c" * 1000, message, error_type="t" * 1000, stripe_request_id="r" * 1000))

    (attempt,) = attempts(db, leased["id"])
    held = transfer(db, leased["id"])
    assert attempt["error_message"].startswith("[31mNo. Really not.xxx")
    assert len(attempt["error_message"]) <= 1000
    assert held["failure_message"] == attempt["error_message"]
    assert (attempt["error_type"], attempt["error_code"], attempt["stripe_request_id"]) == (
        "t" * 100,
        "c" * 100,
        "r" * 255,
    )
    assert held["failure_code"] == "c" * 100


def test_sql_in_a_text_is_a_text(db: Database) -> None:
    leased = claimed_call(db)
    words = "'); drop table marketplace.seller_transfers; -- $$ %s {} \\"

    record_one(db, refusal(leased, 400, words, words, error_type=words, stripe_request_id=words))

    (attempt,) = attempts(db, leased["id"])
    assert {attempt[name] for name in ("error_type", "error_code", "error_message", "stripe_request_id")} == {words}


def test_a_large_or_deep_object_refuses_nothing(db: Database) -> None:
    deep: Any = "x"
    for _ in range(200):
        deep = {"deeper": [deep]}
    leased = claimed_call(db)

    recorded = record_one(
        db, success(leased, metadata={"deep": deep, "long": "x" * 10_000_000}, extra=list(range(10_000)))
    )

    assert recorded["verdict"] == "succeeded"


def test_a_mismatch_is_parked_in_bounded_words_whatever_its_object_holds(db: Database) -> None:
    leased = claimed_call(db)

    record_one(db, success(leased, amount=1, metadata={"\x1b[31m": "x" * 100_000}))

    assert len(transfer(db, leased["id"])["parked_reason"]) <= 1000


def test_absent_facts_are_null_and_unknown_ones_are_ignored(db: Database) -> None:
    leased = claimed_call(db)
    bare = {"id": leased["id"], "action": "reverse", "lease_token": str(leased["lease_token"]), "colour": "green"}

    assert record_one(db, bare)["verdict"] == "unknown"


def test_only_a_plain_false_says_that_nothing_was_sent(db: Database) -> None:
    strange: list[Any] = [None, 0, "false", "", [], {}]

    assert hostile(db, *[{"sent": each} for each in strange]) == ["unknown"] * len(strange)


def test_a_frame_that_cannot_be_meant_refuses_the_batch(db: Database) -> None:
    refunded_transfers(db, 2)
    first, second = claim(db)
    frames: list[tuple[Facts, str]] = [
        ({"id": None}, "22023"),
        ({"id": "1"}, "22023"),
        ({"id": True}, "22023"),
        ({"id": 1.5}, "22P02"),
        ({"id": 10**19}, "22003"),
        ({"action": None}, "22023"),
        ({"action": "send"}, "22023"),
        ({"action": ["reverse"]}, "22023"),
        ({"lease_token": None}, "22023"),
        ({"lease_token": 7}, "22023"),
        ({"lease_token": "not a uuid"}, "22P02"),
    ]

    for frame, sqlstate in frames:
        with pytest.raises(psycopg.Error) as refused, db.transaction():
            record(db, success(first), {**success(second), **frame})
        assert (frame, refused.value.sqlstate) == (frame, sqlstate)

    assert transfer(db, first["id"])["status"] == "reversal_pending"
    assert attempts(db, first["id"]) == []
