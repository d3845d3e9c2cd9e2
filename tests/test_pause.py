"""db/functions/pause.sql: whether calls are made at all."""

from datetime import timedelta

import pytest
from psycopg.rows import DictRow

from tests.support.databases import Connect, Database, row, value
from tests.support.transfers import (
    Facts,
    call,
    claim,
    claim_sends,
    claimed_call,
    create_transfer,
    record,
    record_one,
    record_transfer,
    refunded_transfer,
    refunded_transfers,
    refusal,
    report,
    request_reversal,
    success,
    timeout,
    transfer,
)

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """For tests that need one session; the others open all of theirs."""
    return rolled_back_db


def control(db: Database) -> DictRow:
    return row(db, "select * from marketplace.stripe_control")


def revoked(leased: DictRow) -> Facts:
    return refusal(leased, 401, message="Invalid API Key provided: sk_test_***")


def probe_is_due(db: Database) -> None:
    db.execute("update marketplace.stripe_control set probe_at = clock_timestamp() - interval '1 s'")


def paused_by_verdict(db: Database, transfers: int = 3) -> DictRow:
    """The call that was refused; the other rows were never tried."""
    refunded_transfers(db, transfers)
    (leased,) = claim(db, limit=1)
    record_one(db, revoked(leased))
    return leased


def test_a_person_pauses_and_resumes(db: Database) -> None:
    refunded_transfers(db, 1)

    (paused,) = call(db, "pause_stripe_calls", p_reason="Stripe asked us to")
    assert (paused["paused_by"], paused["pause_reason"], paused["probe_at"]) == ("person", "Stripe asked us to", None)
    assert paused["paused_by_user"] == value(db, "select session_user")
    assert claim(db) == []

    (resumed,) = call(db, "resume_stripe_calls", p_reason="Stripe says go on")
    assert {resumed[name] for name in ("paused_at", "paused_by", "paused_by_user", "pause_reason", "probe_at")} == {
        None
    }
    assert len(claim(db)) == 1


def test_a_pause_counts_from_its_beginning(db: Database) -> None:
    (first,) = call(db, "pause_stripe_calls", p_reason="Stripe asked us to")
    (second,) = call(db, "pause_stripe_calls", p_reason="and still does")

    assert (second["paused_at"], second["pause_reason"]) == (first["paused_at"], "and still does")


def test_resuming_wakes_the_runners(connect: Connect) -> None:
    db = connect()
    listener = connect()
    listener.execute("listen seller_transfers_due")
    call(db, "pause_stripe_calls", p_reason="Stripe asked us to")

    call(db, "resume_stripe_calls", p_reason="Stripe says go on")

    assert [notify.channel for notify in listener.notifies(timeout=10, stop_after=1)] == ["seller_transfers_due"]


def test_a_refused_key_pauses_and_spends_nothing_of_the_row(db: Database) -> None:
    leased = claimed_call(db)
    before = transfer(db, leased["id"])

    recorded = record_one(db, revoked(leased))

    assert (recorded["result"], recorded["verdict"], recorded["status"]) == (
        "applied",
        "configuration",
        "reversal_pending",
    )
    paused = control(db)
    assert (paused["paused_by"], paused["pause_reason"]) == ("verdict", "Invalid API Key provided: sk_test_***")
    assert (paused["probe_at"] - paused["paused_at"], paused["probe_count"]) == (timedelta(seconds=30), 0)
    after = transfer(db, leased["id"])
    assert {name for name in after if after[name] != before[name]} == {
        "lease_token",
        "leased_at",
        "lease_expires_at",
        "leased_by",
        "lease_action",
        "call_last_sent_at",
        "failure_code",
        "failure_message",
        "updated_at",
    }
    assert after["failure_code"] == "configuration"


def test_a_waiting_time_goes_on_through_a_refused_key(db: Database) -> None:
    leased = claimed_call(db)
    db.execute(
        "update marketplace.seller_transfers set streak = 4, streak_verdict = 'insufficient_balance', "
        "streak_since = clock_timestamp() - interval '2 days', waiting_since = clock_timestamp() - interval '20 days', "
        "retry_count = 2"
    )
    before = transfer(db, leased["id"])

    record_one(db, revoked(leased))

    after = transfer(db, leased["id"])
    kept = (
        "streak",
        "streak_verdict",
        "streak_since",
        "waiting_since",
        "retry_count",
        "call_generation",
        "call_params",
        "next_retry_at",
    )
    assert [after[name] for name in kept] == [before[name] for name in kept]


def test_until_the_probe_is_due_no_row_is_claimed_and_then_one(db: Database) -> None:
    paused_by_verdict(db, transfers=5)
    assert claim(db, limit=10) == []

    probe_is_due(db)

    assert len(claim(db, limit=10)) == 1
    assert claim(db, limit=10) == []


def test_probes_come_at_doubling_intervals_up_to_ten_minutes(db: Database) -> None:
    first = paused_by_verdict(db)
    paused = control(db)
    intervals = [(paused["probe_at"] - paused["paused_at"]).total_seconds()]
    for _ in range(7):
        probe_is_due(db)
        (probe,) = claim(db)
        intervals.append((control(db)["probe_at"] - transfer(db, probe["id"])["leased_at"]).total_seconds())
        record_one(db, revoked(probe))

    assert intervals == [30, 60, 120, 240, 480, 600, 600, 600]
    assert (control(db)["probe_count"], control(db)["paused_at"]) == (7, paused["paused_at"])
    assert transfer(db, first["id"])["retry_count"] == 0


def test_the_probe_is_a_row_that_was_not_itself_refused(db: Database) -> None:
    refused = paused_by_verdict(db, transfers=2)
    probe_is_due(db)

    (probe,) = claim(db)

    assert probe["id"] != refused["id"]


def test_a_row_that_was_refused_is_the_probe_when_there_is_no_other(db: Database) -> None:
    refused = paused_by_verdict(db, transfers=1)
    probe_is_due(db)

    (probe,) = claim(db)

    assert (probe["id"], probe["idempotency_key"]) == (refused["id"], refused["idempotency_key"])


def test_a_row_that_no_call_can_be_made_for_is_no_probe(db: Database) -> None:
    paused_by_verdict(db, transfers=1)
    record_transfer(db, 2, p_stripe_transfer_id=None)
    (without,) = request_reversal(db, 2)
    db.execute(
        "update marketplace.seller_transfers set next_retry_at = now() - interval '1 day' where id = %s",
        [without["id"]],
    )
    probe_is_due(db)

    assert claim(db) == []

    assert control(db)["probe_count"] == 0
    assert len(claim(db)) == 1


def test_a_row_refused_twice_while_another_succeeded_is_parked_as_the_one_at_fault(db: Database) -> None:
    """Otherwise one seller who disconnected would stop everybody, again and again."""
    at_fault = paused_by_verdict(db, transfers=2)
    probe_is_due(db)
    (other,) = claim(db)
    record_one(db, success(other))
    (again,) = claim(db)
    assert again["id"] == at_fault["id"]

    recorded = record_one(db, refusal(again, 403, "account_invalid", "The account was closed."))

    parked = transfer(db, at_fault["id"])
    assert (recorded["verdict"], parked["status"]) == ("configuration", "reversal_pending")
    assert parked["parked_reason"].startswith("configuration: ")
    assert "The account was closed." in parked["parked_reason"]
    assert control(db)["paused_by"] is None


def test_a_row_refused_twice_while_nothing_succeeded_is_not_at_fault(db: Database) -> None:
    refused = paused_by_verdict(db, transfers=1)
    probe_is_due(db)
    (again,) = claim(db)

    record_one(db, revoked(again))

    assert transfer(db, refused["id"])["parked_reason"] is None
    assert control(db)["paused_by"] == "verdict"


@pytest.mark.parametrize(
    "answer",
    [
        success,
        refusal,
        lambda leased: refusal(leased, 429, "rate_limit", error_type="rate_limit_error"),
        lambda leased: refusal(leased, 500, error_type="api_error"),
    ],
    ids=["success", "400", "429", "500"],
)
def test_any_other_answer_to_the_probe_lifts_the_pause_and_wakes_the_runners(connect: Connect, answer: object) -> None:
    db = connect()
    assert callable(answer)
    paused_by_verdict(db)
    probe_is_due(db)
    (probe,) = claim(db)
    listener = connect()
    listener.execute("listen seller_transfers_due")

    record_one(db, answer(probe))

    lifted = control(db)
    assert (lifted["paused_by"], lifted["paused_at"], lifted["probe_at"], lifted["probe_count"]) == (
        None,
        None,
        None,
        0,
    )
    assert len(list(listener.notifies(timeout=10, stop_after=1))) == 1
    assert len(claim(db)) >= 1


@pytest.mark.parametrize(
    "answer", [revoked, timeout, lambda leased: report(leased, sent=False)], ids=["401", "no answer", "not sent"]
)
def test_a_probe_that_proves_nothing_leaves_the_pause(db: Database, answer: object) -> None:
    assert callable(answer)
    paused_by_verdict(db)
    probe_is_due(db)
    (probe,) = claim(db)
    before = control(db)

    record_one(db, answer(probe))

    assert control(db) == before


def test_an_answer_to_a_call_from_before_the_pause_does_not_lift_it(db: Database) -> None:
    refunded_transfers(db, 2)
    first, second = claim(db)
    record_one(db, revoked(first))

    record_one(db, success(second))

    assert control(db)["paused_by"] == "verdict"


def test_one_batch_with_a_refused_key_pauses_whatever_else_it_holds(db: Database) -> None:
    refunded_transfers(db, 3)
    first, second, third = claim(db)

    record(db, success(first), revoked(second), success(third))

    assert control(db)["paused_by"] == "verdict"
    assert transfer(db, first["id"])["status"] == transfer(db, third["id"])["status"] == "reversed"


def test_a_stale_refusal_of_the_key_does_not_pause(db: Database) -> None:
    leased = claimed_call(db)
    db.execute("update marketplace.seller_transfers set lease_token = gen_random_uuid()")

    assert record_one(db, revoked(leased))["result"] == "stale"
    assert control(db)["paused_by"] is None


def test_a_pause_by_a_person_is_neither_changed_nor_lifted_by_what_stripe_says(db: Database) -> None:
    refunded_transfers(db, 2)
    first, second = claim(db)
    call(db, "pause_stripe_calls", p_reason="Stripe asked us to")
    before = control(db)

    record(db, revoked(first), success(second))

    assert control(db) == before


def test_a_person_takes_a_pause_by_verdict_over(db: Database) -> None:
    paused_by_verdict(db)

    (paused,) = call(db, "pause_stripe_calls", p_reason="the key is being replaced")

    assert (paused["paused_by"], paused["probe_at"], paused["probe_count"]) == ("person", None, 0)


def test_a_person_may_resume_at_once(db: Database) -> None:
    paused_by_verdict(db)

    call(db, "resume_stripe_calls", p_reason="the key is replaced")

    assert len(claim(db)) == 3


def test_a_fault_that_was_mended_long_ago_is_not_held_against_a_row(db: Database) -> None:
    once_refused = paused_by_verdict(db, transfers=2)
    probe_is_due(db)
    (other,) = claim(db)
    record_one(db, success(other))
    (mended,) = claim(db)
    record_one(db, timeout(mended))
    db.execute("update marketplace.seller_transfers set next_retry_at = now() where id = %s", [once_refused["id"]])
    (again,) = claim(db)

    record_one(db, refusal(again, 403, "account_invalid", "The account was closed."))

    assert transfer(db, once_refused["id"])["parked_reason"] is None
    assert control(db)["paused_by"] == "verdict"


def test_every_pause_and_its_end_is_logged_with_its_reason(db: Database) -> None:
    call(db, "pause_stripe_calls", p_reason="an incident at Stripe")
    call(db, "resume_stripe_calls", p_reason="it is over")
    paused_by_verdict(db, transfers=2)
    probe_is_due(db)
    (other,) = claim(db)
    record_one(db, success(other))

    logged = db.execute(
        "select change, logged_by, reason from marketplace.stripe_control_log"
        " where change <> 'database pinned' order by id"
    ).fetchall()
    user = value(db, "select session_user::text")
    assert [tuple(entry.values()) for entry in logged] == [
        ("paused by person", user, "an incident at Stripe"),
        ("resumed by person", user, "it is over"),
        ("paused by verdict", user, "Invalid API Key provided: sk_test_***"),
        ("resumed by answer", user, f"the trial call for transfer {other['id']} was answered: succeeded"),
    ]


def test_a_trial_call_prefers_another_sellers_row(db: Database) -> None:
    """Many rows of one closed account must not be tried one after the other while everybody waits."""
    refused = paused_by_verdict(db, transfers=1)
    for number in (2, 3):
        record_transfer(db, number, p_destination_account=refused["destination_account"])
        request_reversal(db, number)
    other = record_transfer(db, 4, p_destination_account="acct_other")
    request_reversal(db, 4)
    probe_is_due(db)

    (probe,) = claim(db)

    assert probe["id"] == other["id"]
    # When there is no other seller, one of this one's will do.
    record_one(db, revoked(probe))
    probe_is_due(db)
    assert len(claim(db)) == 1


@pytest.mark.parametrize("refused_kind", ["reversals", "transfers"])
def test_a_trial_call_goes_to_the_kind_of_work_that_has_another_sellers_row(db: Database, refused_kind: str) -> None:
    claims = {"reversals": claim, "transfers": claim_sends}
    make = {"reversals": refunded_transfer, "transfers": create_transfer}
    (other_kind,) = claims.keys() - {refused_kind}
    make[refused_kind](db, 1)
    (leased,) = claims[refused_kind](db)
    record_one(db, refusal(leased, 403, "account_invalid"))
    make[other_kind](db, 2)
    probe_is_due(db)

    assert claims[refused_kind](db) == []
    (probe,) = claims[other_kind](db)

    assert probe["destination_account"] == "acct_2"
    # Should nobody do that kind of work, it is this one's turn after a while.
    make[other_kind](db, 3)
    db.execute("update marketplace.stripe_control set probe_at = clock_timestamp() - interval '11 s'")
    (probe,) = claims[refused_kind](db)
    assert probe["destination_account"] == "acct_1"
