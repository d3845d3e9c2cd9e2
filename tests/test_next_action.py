"""db/functions/next_action.sql: what may be asked of Stripe next, a request or a look."""

import pytest

from tests.support.databases import Database
from tests.support.look_ups import pass_time, seen
from tests.support.transfers import (
    call,
    claim,
    claim_again,
    claimed_call,
    create_transfer,
    lapse_lease,
    record_one,
    refunded_transfer,
    refusal,
    report,
    success,
    timeout,
    transfer,
)

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def action(db: Database, transfer_id: int) -> str:
    return str(claim_again(db, transfer_id)["action"])


def fail_over(db: Database, ago: str = "0 s") -> None:
    """As if the database had lost what was committed last, so long ago."""
    db.execute("update marketplace.stripe_control set look_up_first_since = clock_timestamp() - %s::interval", [ago])


def test_the_first_call_for_a_whole_transfer_is_the_reversal(db: Database) -> None:
    assert claimed_call(db)["action"] == "reverse"


@pytest.mark.parametrize(("age", "next_action"), [("19:59:59", "reverse"), ("20:00:00", "look_up_reversals")])
def test_a_key_is_sent_only_while_it_is_younger_than_twenty_hours(db: Database, age: str, next_action: str) -> None:
    waiting = refunded_transfer(db)
    pass_time(db, waiting["id"], age)

    assert claim(db)[0]["action"] == next_action


def test_the_age_counts_from_the_minting_and_not_from_the_last_call(db: Database) -> None:
    leased = claimed_call(db)
    for _ in range(7):
        record_one(db, refusal(leased, 429, "lock_timeout"))
        pass_time(db, leased["id"], "3 hours")
        leased = claim_again(db, leased["id"])

    assert leased["action"] == "look_up_reversals"


@pytest.mark.parametrize(
    ("answer", "next_action"),
    [
        (timeout, "look_up_reversals"),
        (lambda c: report(c, http_status=500, error_type="api_error"), "look_up_reversals"),
        (lambda c: report(c, http_status=200), "look_up_reversals"),
        (lambda c: success(c, status="pending"), "look_up_reversals"),
        (lambda c: refusal(c, 409, "idempotency_key_in_use"), "look_up_reversals"),
        (lambda c: refusal(c, 400), "look_up_reversals"),
        (lambda c: refusal(c, 400, "balance_insufficient"), "look_up_reversals"),
        (lambda c: refusal(c, 429, "rate_limit"), "reverse"),
        (lambda c: report(c) | {"sent": False}, "reverse"),
    ],
    ids=["silence", "500", "strange 200", "accepted", "409", "400", "no balance", "429", "not sent"],
)
def test_what_follows_a_call(db: Database, answer: object, next_action: str) -> None:
    leased = claimed_call(db)
    record_one(db, answer(leased))  # type: ignore[operator]

    assert action(db, leased["id"]) == next_action


def test_a_look_that_found_nothing_lasts_until_there_is_a_new_reason(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, timeout(leased))
    record_one(db, seen(claim_again(db, leased["id"])))
    record_one(db, refusal(claim_again(db, leased["id"]), 429, "rate_limit"))
    assert action(db, leased["id"]) == "reverse"


def test_a_request_lost_with_its_worker_is_a_new_reason_to_look(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, timeout(leased))
    record_one(db, seen(claim_again(db, leased["id"])))
    assert action(db, leased["id"]) == "reverse"
    lapse_lease(db, leased["id"])

    assert action(db, leased["id"]) == "look_up_reversals"


def test_throttling_takes_no_doubt_away(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, timeout(leased))
    record_one(db, seen(claim_again(db, leased["id"])))
    record_one(db, refusal(claim_again(db, leased["id"]), 429, "rate_limit"))
    assert transfer(db, leased["id"])["call_unknown"]


# A database that is not the one it was


def test_nothing_is_claimed_while_leases_of_the_lost_history_may_be_live(db: Database) -> None:
    refunded_transfer(db)
    fail_over(db, "119 s")
    assert claim(db, lease="60 s") == []
    fail_over(db, "121 s")
    assert len(claim(db, lease="60 s")) == 1


def test_after_that_every_open_row_is_looked_up_first_and_sent_once_nothing_was_found(db: Database) -> None:
    waiting = refunded_transfer(db)
    fail_over(db, "10 min")

    (looked,) = claim(db)
    assert looked["action"] == "look_up_reversals"
    record_one(db, seen(looked))
    assert action(db, waiting["id"]) == "reverse"


def test_a_look_from_before_it_does_not_count(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, timeout(leased))
    record_one(db, seen(claim_again(db, leased["id"])))
    pass_time(db, leased["id"], "10 min")
    fail_over(db, "5 min")

    assert action(db, leased["id"]) == "look_up_reversals"


def test_an_old_key_is_given_no_new_date_until_what_was_lost_cannot_arrive_any_more(db: Database) -> None:
    waiting = refunded_transfer(db)
    pass_time(db, waiting["id"], "21 h")
    fail_over(db, "10 min")

    record_one(db, seen(claim_again(db, waiting["id"])))
    assert action(db, waiting["id"]) == "look_up_reversals"
    record_one(db, report(claim_look(db, waiting["id"])) | {"sent": False})
    fail_over(db, "61 min")
    record_one(db, seen(claim_again(db, waiting["id"])))
    assert action(db, waiting["id"]) == "reverse"
    assert transfer(db, waiting["id"])["call_generation"] == 1


def claim_look(db: Database, transfer_id: int) -> dict[str, object]:
    """The row's present lease, as its worker was given it."""
    row = transfer(db, transfer_id)
    return {"id": row["id"], "action": row["lease_action"], "lease_token": row["lease_token"]}


def test_nothing_is_given_up_while_what_was_lost_may_arrive(db: Database) -> None:
    leased = claimed_call(db)
    record_one(db, refusal(leased, 400, "balance_insufficient"))
    db.execute("update marketplace.seller_transfers set waiting_since = waiting_since - interval '46 days'")
    fail_over(db, "10 min")
    record_one(db, seen(claim_again(db, leased["id"])))

    assert record_one(db, refusal(claim(db)[0], 400, "balance_insufficient"))["status"] == "reversal_pending"


def test_a_runner_sleeps_while_no_call_may_be_made(db: Database) -> None:
    refunded_transfer(db)
    fail_over(db)
    (due,) = call(db, "next_due_in")
    assert 110 < due["next_due_in"].total_seconds() <= 120


def test_quiet_counts_from_the_end_of_a_lost_lease(db: Database) -> None:
    leased = claimed_call(db)
    db.execute(
        """
        update marketplace.seller_transfers
        set leased_at = clock_timestamp() - interval '90 min', lease_expires_at = clock_timestamp() - interval '30 min'
        where id = %s
        """,
        [leased["id"]],
    )

    record_one(db, seen(claim(db)[0]))

    assert transfer(db, leased["id"])["call_unknown"]


def test_quiet_and_the_age_of_a_key_are_policy_within_bounds(db: Database) -> None:
    for wrong in ("quiet = '0 s'", "quiet = null", "key_max_age = '20 h 1 s'", "key_max_age = null"):
        with pytest.raises(Exception, match="chk_quiet_fits_its_verdict"), db.transaction():
            db.execute(f"update marketplace.retry_policy set {wrong} where verdict = 'unknown'".encode())
    with pytest.raises(Exception, match="chk_quiet_fits_its_verdict"), db.transaction():
        db.execute("update marketplace.retry_policy set quiet = '1 h' where verdict = 'transient'")


def test_a_quiet_that_is_too_short_to_trust_is_a_problem(db: Database) -> None:
    db.execute("update marketplace.retry_policy set quiet = '9 min' where verdict = 'unknown'")
    assert [found["problem"] for found in call(db, "self_check")] == ["quiet is short"]


def test_a_transfer_still_to_be_sent_is_no_reversal_to_claim(db: Database) -> None:
    create_transfer(db)
    assert claim(db) == []
