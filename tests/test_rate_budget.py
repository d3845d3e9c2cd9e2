"""db/functions/rate_budget.sql, rate_cut.sql and stripe_rate.sql: how many calls all runners together may make.

Time is moved by moving what is kept of it, into the past: the numbers are then what a person works out by hand.
"""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from psycopg.rows import DictRow

from tests.support.databases import Connect, Database, row, rows, value
from tests.support.sessions import impatient, wait_until_blocked
from tests.support.transfers import (
    Facts,
    claim,
    lapse_lease,
    make_due,
    record,
    record_one,
    record_transfer,
    refunded_transfers,
    refusal,
    report,
    request_reversal,
    success,
    timeout,
)

pytest_plugins = ("tests.support.rolled_back",)


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """For tests that need one session; the others open all of theirs."""
    return rolled_back_db


def set_rate(db: Database, per_second: float | None, burst: int | None = None) -> DictRow:
    (control,) = rows(
        db,
        "select * from marketplace.set_stripe_rate(%(rate)s::numeric, 'a test', %(burst)s)",
        rate=per_second,
        burst=burst,
    )
    return control


def standing(db: Database, tokens: float, *, rate: float = 20, burst: int = 5) -> None:
    """A bucket with so many tokens in it, and no more of them before the next claim."""
    set_rate(db, rate, burst)
    db.execute("update marketplace.stripe_control set tokens = %s", [tokens])
    stand_still(db)


def stand_still(db: Database) -> None:
    """No token comes in before the next claim."""
    db.execute("update marketplace.stripe_control set tokens_at = clock_timestamp() + interval '1 h'")


def let_pass(db: Database, seconds: float) -> None:
    """As if the bucket had been left alone for so long, and a moment more."""
    db.execute("update marketplace.stripe_control set tokens_at = clock_timestamp() - %s * interval '1 s'", [seconds])


def control(db: Database) -> DictRow:
    return row(db, "select * from marketplace.stripe_control")


def log(db: Database) -> list[tuple[str, str]]:
    found = rows(db, "select change, reason from marketplace.stripe_control_log order by id")
    return [(each["change"], each["reason"]) for each in found]


def rate_now(db: Database) -> Decimal | None:
    found: Decimal | None = value(db, "select rate_now from marketplace.rate_budget")
    return found


def next_due_in(db: Database) -> timedelta | None:
    found: timedelta | None = value(db, "select marketplace.next_due_in()")
    return found


def rate_limited(leased: DictRow) -> Facts:
    return refusal(leased, 429, "rate_limit", error_type="rate_limit_error")


def test_a_new_database_makes_twenty_calls_a_second_and_five_at_once(db: Database) -> None:
    defaults = rows(
        db,
        "select column_name as name, column_default as given from information_schema.columns"
        " where table_schema = 'marketplace' and table_name = 'stripe_control'"
        " and column_name in ('rate', 'burst', 'tokens')",
    )
    assert {each["name"]: each["given"] for each in defaults} == {"rate": "20", "burst": "5", "tokens": "5"}


def test_a_person_sets_the_rate_and_the_log_says_why(db: Database) -> None:
    (first,) = rows(db, "select * from marketplace.set_stripe_rate(12.5, 'a second program shares the account', 3)")
    (second,) = rows(db, "select * from marketplace.set_stripe_rate(p_per_second => null, p_reason => 'a trial')")

    assert (first["rate"], first["burst"], second["rate"], second["burst"]) == (Decimal("12.5"), 3, None, 3)
    assert log(db) == [
        ("rate set by person", "12.5 calls a second, burst 3: a second program shares the account"),
        ("rate set by person", "no limit, burst 3: a trial"),
    ]


def test_setting_the_rate_wakes_the_runners(connect: Connect) -> None:
    db, listener = connect(), connect()
    listener.execute("listen seller_transfers_due")

    set_rate(db, 20)

    assert [notify.channel for notify in listener.notifies(timeout=10, stop_after=1)] == ["seller_transfers_due"]


def test_a_claim_takes_no_more_rows_than_there_are_tokens_and_pays_for_them(db: Database) -> None:
    refunded_transfers(db, 10)
    standing(db, 3.75)

    assert len(claim(db, limit=10)) == 3

    assert control(db)["tokens"] == Decimal("0.75")
    stand_still(db)
    assert claim(db, limit=10) == []


def test_a_claim_that_asks_for_less_pays_for_less(db: Database) -> None:
    refunded_transfers(db, 10)
    standing(db, 4)

    assert len(claim(db, limit=1)) == 1

    assert control(db)["tokens"] == 3


def test_without_a_rate_nothing_is_counted(db: Database) -> None:
    refunded_transfers(db, 101)
    set_rate(db, None)
    claim(db, limit=1)  # the first claim of all notes which database it is
    before = control(db)

    assert len(claim(db, limit=100)) == 100

    assert control(db) == before
    assert next_due_in(db) is not None


def test_tokens_come_in_at_the_rate_and_no_more_than_the_burst_are_kept(db: Database) -> None:
    refunded_transfers(db, 20)
    standing(db, 0, rate=0.1, burst=5)
    let_pass(db, 31)
    assert len(claim(db, limit=20)) == 3

    let_pass(db, 3600)
    assert len(claim(db, limit=20)) == 5


def test_a_row_that_no_call_is_made_for_costs_nothing(db: Database) -> None:
    record_transfer(db, 1, p_stripe_transfer_id=None)
    request_reversal(db, 1)
    standing(db, 2)

    assert claim(db) == []

    assert control(db)["tokens"] == 2


def test_a_trial_call_costs_a_token_too(db: Database) -> None:
    refunded_transfers(db, 3)
    (leased,) = claim(db, limit=1)
    record_one(db, refusal(leased, 403, "account_invalid"))
    db.execute("update marketplace.stripe_control set probe_at = clock_timestamp() - interval '1 s'")
    standing(db, 0.5)
    assert claim(db) == []
    assert control(db)["probe_count"] == 0

    standing(db, 1.5)
    assert len(claim(db)) == 1
    assert (control(db)["tokens"], control(db)["probe_count"]) == (Decimal("0.5"), 1)


def test_a_call_taken_over_from_a_dead_worker_costs_another_token(db: Database) -> None:
    refunded_transfers(db, 1)
    standing(db, 3)
    (leased,) = claim(db)
    lapse_lease(db, leased["id"])
    stand_still(db)

    assert len(claim(db)) == 1

    assert control(db)["tokens"] == 1


def test_a_call_that_was_not_made_gives_its_token_back(db: Database) -> None:
    refunded_transfers(db, 3)
    standing(db, 3)
    first, second, third = claim(db)
    assert control(db)["tokens"] == 0

    record(db, report(first, sent=False), report(second, sent=False), timeout(third))
    assert control(db)["tokens"] == 2

    # Told again it counts once; told of a lease that is gone, not at all.
    record(db, report(first, sent=False))
    db.execute(
        "update marketplace.seller_transfers set lease_token = null, leased_at = null, lease_expires_at = null,"
        " leased_by = null, lease_action = null where lease_token is not null"
    )
    assert control(db)["tokens"] == 2


def test_tokens_given_back_do_not_fill_the_bucket_beyond_its_brim(db: Database) -> None:
    refunded_transfers(db, 4)
    standing(db, 5)
    leased = claim(db)
    standing(db, 4)

    record(db, *[report(each, sent=False) for each in leased])

    assert control(db)["tokens"] == 5


def test_a_clock_that_stepped_back_neither_fills_the_bucket_nor_stops_it(db: Database) -> None:
    refunded_transfers(db, 3)
    standing(db, 0, rate=0.1)

    assert claim(db) == []
    assert control(db)["tokens"] == 0
    assert control(db)["tokens_at"] <= value(db, "select clock_timestamp()")
    left = next_due_in(db)
    assert left is not None
    assert timedelta(0) < left <= timedelta(seconds=10)


@pytest.mark.parametrize(
    ("tokens", "rate", "milliseconds"), [(0, 20, 50), (0.5, 20, 25), (0, 0.1, 10_000), (0.25, 3, 250), (1, 20, 0)]
)
def test_with_rows_due_and_the_bucket_empty_the_next_token_is_waited_for(
    db: Database, tokens: float, rate: float, milliseconds: int
) -> None:
    refunded_transfers(db, 1)
    standing(db, tokens, rate=rate)

    assert next_due_in(db) == timedelta(milliseconds=milliseconds)


def test_what_comes_later_than_the_next_token_is_waited_for(db: Database) -> None:
    (only,) = refunded_transfers(db, 1)
    standing(db, 0)
    db.execute(
        "update marketplace.seller_transfers set next_retry_at = clock_timestamp() + interval '10 min' where id = %s",
        [only],
    )

    left = next_due_in(db)

    assert left is not None
    assert timedelta(minutes=9) < left <= timedelta(minutes=10)


def test_when_the_next_token_is_said_to_be_there_it_is(db: Database) -> None:
    """Else a runner would wake for nothing, a moment too early, at every call."""
    for tokens, rate in ((0, 3), (0.1, 7), (0.999, 0.3), (0.123456789, 19.999)):
        standing(db, tokens, rate=rate)
        found = value(
            db,
            """
            select marketplace._tokens_now(c, marketplace._next_token_at(c, n.now))
            from marketplace.stripe_control as c
            cross join (select clock_timestamp() + interval '1 h' as now) as n
            """,
        )
        assert 1 <= found < Decimal("1.03")


def test_a_429_for_the_rate_halves_it_and_is_logged(db: Database) -> None:
    refunded_transfers(db, 2)
    standing(db, 5)
    first, _ = claim(db)
    stand_still(db)

    record_one(db, rate_limited(first))

    cut = control(db)
    assert (cut["rate"], cut["cut_rate"], cut["tokens"]) == (20, 10, 3)
    assert log(db)[-1] == (
        "rate turned down",
        f"from 20 to 10 calls a second: Stripe answered the call for transfer {first['id']} with 429 rate_limit",
    )


@pytest.mark.parametrize(
    "answer",
    [
        success,
        timeout,
        lambda leased: refusal(leased, 429, "lock_timeout"),
        lambda leased: refusal(leased, 409, "idempotency_key_in_use", error_type="idempotency_error"),
        lambda leased: refusal(leased, 400),
    ],
    ids=["200", "no answer", "lock_timeout", "409", "400"],
)
def test_nothing_else_turns_the_rate_down(db: Database, answer: Any) -> None:
    refunded_transfers(db, 1)
    standing(db, 5)
    (leased,) = claim(db)

    record_one(db, answer(leased))

    assert control(db)["cut_at"] is None


def test_calls_claimed_before_the_rate_was_turned_down_do_not_turn_it_down_again(db: Database) -> None:
    refunded_transfers(db, 5)
    standing(db, 5)
    first, second, third, fourth, _ = claim(db)

    record(db, rate_limited(first), rate_limited(second))
    record_one(db, rate_limited(third))
    record_one(db, rate_limited(fourth))

    assert control(db)["cut_rate"] == 10
    assert [change for change, _ in log(db)].count("rate turned down") == 1


def turned_down(db: Database, rate: float, to: float, *, seconds_ago: float) -> None:
    set_rate(db, rate, 5)
    db.execute(
        "update marketplace.stripe_control"
        " set cut_rate = %s, cut_at = clock_timestamp() - %s * interval '1 s', tokens_at = clock_timestamp()",
        [to, seconds_ago],
    )


@pytest.mark.parametrize(
    ("seconds_ago", "expected"), [(0, "10"), (6, "12"), (15, "15"), (29.7, "19.9"), (30, "20"), (3600, "20")]
)
def test_the_rate_grows_back_steadily_by_a_sixtieth_each_second(
    db: Database, seconds_ago: float, expected: str
) -> None:
    turned_down(db, 20, 10, seconds_ago=seconds_ago)

    found = rate_now(db)

    # A moment has passed since: a third of a call a second comes with each second.
    assert found is not None
    assert Decimal(expected) <= found <= min(Decimal(20), Decimal(expected) + 1)


def test_a_grown_rate_is_halved_from_where_it_is(db: Database) -> None:
    refunded_transfers(db, 1)
    turned_down(db, 20, 4, seconds_ago=12)  # eight by now
    (leased,) = claim(db)
    db.execute("update marketplace.stripe_control set cut_at = clock_timestamp() - interval '12 s'")

    record_one(db, rate_limited(leased))

    assert 4 <= control(db)["cut_rate"] < Decimal("4.5")


def test_the_rate_is_never_turned_down_below_one_call_a_second(db: Database) -> None:
    refunded_transfers(db, 1)
    turned_down(db, 20, 1.1, seconds_ago=0)
    (leased,) = claim(db)

    record_one(db, rate_limited(leased))

    assert (control(db)["cut_rate"], log(db)[-1][0]) == (1, "rate turned down")


def test_a_set_rate_below_one_call_a_second_is_not_raised_by_being_turned_down(db: Database) -> None:
    refunded_transfers(db, 1)
    standing(db, 1, rate=0.5)
    (leased,) = claim(db)

    record_one(db, rate_limited(leased))

    assert (control(db)["cut_at"], rate_now(db)) == (None, Decimal("0.5"))


def test_no_rate_is_turned_down_where_none_is_set(db: Database) -> None:
    refunded_transfers(db, 1)
    set_rate(db, None)
    (leased,) = claim(db)

    record_one(db, rate_limited(leased))

    assert (control(db)["cut_at"], rate_now(db)) == (None, None)


def test_tokens_come_in_slower_after_the_rate_was_turned_down(db: Database) -> None:
    refunded_transfers(db, 10)
    turned_down(db, 2, 0.2, seconds_ago=10)
    db.execute("update marketplace.stripe_control set tokens = 0, tokens_at = cut_at")

    # Two in ten seconds; had it not been turned down, the bucket would be full.
    assert len(claim(db, limit=10)) == 2


def test_a_clock_that_stepped_back_does_not_keep_the_rate_down(db: Database) -> None:
    refunded_transfers(db, 1)
    turned_down(db, 20, 10, seconds_ago=-3600)
    assert rate_now(db) == 10

    claim(db)

    assert control(db)["cut_at"] <= value(db, "select clock_timestamp()")


def test_setting_the_rate_forgets_that_it_was_turned_down_and_fills_nothing(db: Database) -> None:
    turned_down(db, 20, 10, seconds_ago=0)
    db.execute("update marketplace.stripe_control set tokens = 0")

    after = set_rate(db, 0.1, 50)

    assert (after["cut_at"], after["cut_rate"], after["burst"]) == (None, None, 50)
    assert after["tokens"] < 1


def test_a_smaller_burst_pours_out_what_does_not_fit(db: Database) -> None:
    standing(db, 5)

    assert set_rate(db, 20, 2)["tokens"] == 2


def test_the_view_says_why_and_when_the_rate_was_turned_down(db: Database) -> None:
    refunded_transfers(db, 1)
    standing(db, 5)
    before = row(db, "select * from marketplace.read_rate_budget()")
    (leased,) = claim(db)
    record_one(db, rate_limited(leased))

    shown = row(db, "select * from marketplace.read_rate_budget()")

    assert (before["turned_down_at"], before["turned_down_reason"]) == (None, None)
    assert (shown["rate"], shown["burst"]) == (20, 5)
    assert shown["turned_down_at"] == control(db)["cut_at"]
    assert shown["turned_down_reason"].startswith("from 20 to 10 calls a second: ")


def test_two_claims_at_once_from_one_bucket_get_no_more_than_there_is(connect: Connect) -> None:
    first, second = connect(), impatient(connect)
    refunded_transfers(first, 20)
    standing(first, 5, rate=0.1)  # none comes in while the second waits, however long that takes
    with ThreadPoolExecutor(max_workers=1) as pool:
        with first.transaction():
            mine = claim(first, limit=3)
            late = pool.submit(claim, second, limit=10, worker="worker-2")
            wait_until_blocked(connect(), second)
        theirs = late.result()

    assert (len(mine), len(theirs)) == (3, 2)
    assert {each["id"] for each in mine}.isdisjoint(each["id"] for each in theirs)


def test_many_claims_at_once_from_one_bucket_get_exactly_what_there_is(connect: Connect) -> None:
    db = connect()
    refunded_transfers(db, 60)
    sessions = [impatient(connect) for _ in range(4)]
    standing(db, 37, burst=50)

    def work(session: Database) -> int:
        return sum(len(claim_standing(session)) for _ in range(15))

    with ThreadPoolExecutor(max_workers=4) as pool:
        assert sum(pool.map(work, sessions)) == 37


def claim_standing(session: Database) -> list[DictRow]:
    """Claim one row; time stands still for the bucket."""
    with session.transaction():
        leased = claim(session, limit=1)
        session.execute("update marketplace.stripe_control set tokens_at = clock_timestamp() + interval '1 h'")
    return leased


def test_429s_claims_and_settings_at_once_do_not_deadlock(connect: Connect) -> None:
    refunded_transfers(connect(), 40)
    sessions = [impatient(connect, deadlock_timeout="10ms") for _ in range(4)]

    def work(number: int) -> int:
        session, reported = sessions[number], 0
        for turn in range(30):
            if number == 0:
                set_rate(session, 1000, 100)
            leased = claim(session, limit=4)
            answers = [rate_limited(each) if turn % 2 else report(each, sent=False) for each in leased]
            reported += len(record(session, *answers))
            for each in leased:
                make_due(session, each["id"])
        return reported

    with ThreadPoolExecutor(max_workers=4) as pool:
        assert sum(pool.map(work, range(4))) > 40
