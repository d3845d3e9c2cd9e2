"""db/functions/retry_schedule.sql: when to try again, by the numbers in retry_policy."""

import psycopg
import pytest

from tests.support.databases import Database, rows, value
from tests.support.transfers import claim_post, claimed_call, record_one, refusal, transfer

pytest_plugins = ("tests.support.rolled_back",)

MINUTE, HOUR = 60, 3600


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


def delays(db: Database, verdict: str, *streaks: int) -> list[float]:
    """Seconds of delay after that many equal verdicts in a row."""
    found = rows(
        db,
        "select extract(epoch from marketplace._retry_delay(%(verdict)s, n))::double precision as seconds "
        "from unnest(%(streaks)s::integer[]) with ordinality as s (n, place) order by place",
        verdict=verdict,
        streaks=list(streaks),
    )
    return [each["seconds"] for each in found]


def test_delays_double_from_the_base_up_to_the_longest(db: Database) -> None:
    db.execute("update marketplace.retry_policy set jitter = 0")
    table = {
        "configuration": [30, 60, 120, 240, 480, 600, 600],
        "insufficient_balance": [1 * HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, 16 * HOUR, 24 * HOUR, 24 * HOUR],
        "throttled": [1, 2, 4, 8, 16, 32, 60, 60],
        "transient": [MINUTE, 2 * MINUTE, 4 * MINUTE, 8 * MINUTE, 16 * MINUTE, 32 * MINUTE, HOUR, HOUR],
        "accepted": [600, 1200, 2400, 4800, 9600, 19200, 6 * HOUR, 6 * HOUR],
        "unknown": [5, 10, 20, 40, 80, 160, 320, 600, 600],
    }

    assert {verdict: delays(db, verdict, *range(1, len(wanted) + 1)) for verdict, wanted in table.items()} == table
    assert {each["verdict"] for each in rows(db, "select verdict from marketplace.retry_policy")} == table.keys()


def test_unknown_outcomes_are_tried_hourly_after_24_in_a_row(db: Database) -> None:
    db.execute("update marketplace.retry_policy set jitter = 0")

    assert delays(db, "unknown", 23, 24, 25, 26, 10_000) == [600, 600, HOUR, HOUR, HOUR]


def test_no_streak_is_too_long(db: Database) -> None:
    db.execute("update marketplace.retry_policy set jitter = 0, factor = 10")

    assert delays(db, "transient", 100, 2**31 - 1) == [HOUR, HOUR]
    assert delays(db, "accepted", 2**31 - 1) == [6 * HOUR]


def test_jitter_only_adds_and_never_more_than_its_fraction(db: Database) -> None:
    for verdict, least, most in (("transient", 60.0, 66.0), ("throttled", 1.0, 1.5), ("configuration", 30.0, 30.0)):
        found = delays(db, verdict, *[1] * 300)
        assert least <= min(found)
        assert max(found) <= most
        if most > least:
            assert max(found) - min(found) > (most - least) / 2  # rows that failed together do not return together


def test_jitter_is_added_to_the_longest_delay_as_well(db: Database) -> None:
    found = delays(db, "transient", *[50] * 300)

    assert min(found) >= HOUR
    assert HOUR * 1.05 < max(found) <= HOUR * 1.1


def test_a_verdict_without_a_schedule_has_no_delay(db: Database) -> None:
    assert value(db, "select coalesce(marketplace._retry_delay('succeeded', 1)::text, 'none')") == "none"


def test_a_changed_number_counts_from_the_next_outcome_on(db: Database) -> None:
    leased = claimed_call(db)
    db.execute(
        "update marketplace.retry_policy set base_delay = '7 min', max_delay = '2 h', jitter = 0, max_retries = 1 "
        "where verdict = 'transient'"
    )
    record_one(db, refusal(leased))
    first = transfer(db, leased["id"])
    assert (first["next_retry_at"] - first["streak_since"]).total_seconds() == 7 * MINUTE

    assert record_one(db, refusal(claim_post(db, leased["id"])))["status"] == "permanently_failed"


def test_numbers_that_cannot_be_meant_are_refused(db: Database) -> None:
    for change in (
        "base_delay = '0'",
        "base_delay = '-1 min'",
        "base_delay = '2 h'",  # longer than the longest
        "max_delay = '31 days'",
        "factor = 0.5",
        "factor = 11",
        "factor = 'NaN'",
        "jitter = -0.1",
        "jitter = 1.1",
        "jitter = 'NaN'",
        "slow_after = 3",  # without slow_delay
        "slow_after = 0, slow_delay = '1 h'",
        "slow_after = 3, slow_delay = '0'",
        "max_retries = -1",
        "max_age = '1 day'",  # only for insufficient_balance
        "verdict = 'succeeded'",
    ):
        with pytest.raises(psycopg.Error) as refused, db.transaction():
            db.execute(f"update marketplace.retry_policy set {change} where verdict = 'transient'".encode())
        assert (change, refused.value.sqlstate) == (change, "23514")


def test_only_a_rows_own_trouble_has_a_budget(db: Database) -> None:
    """Nothing is given up for throttling, a lost answer or a revoked key, however often."""
    for verdict in ("throttled", "unknown", "configuration", "accepted"):
        for budget in ("max_retries = 5", "max_age = '1 day'"):
            with pytest.raises(psycopg.Error) as refused, db.transaction():
                db.execute(f"update marketplace.retry_policy set {budget} where verdict = '{verdict}'".encode())
            assert refused.value.sqlstate == "23514"


def test_a_schedule_is_never_removed(db: Database) -> None:
    """Without one a row would be due again at once, and a pause would have no trial call."""
    with pytest.raises(psycopg.Error) as refused, db.transaction():
        db.execute("delete from marketplace.retry_policy where verdict = 'transient'")

    assert refused.value.sqlstate == "ST002"
