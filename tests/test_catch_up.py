"""Reading from Stripe what the webhook missed: all of it, oldest first, once, and saying what is left."""

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner, Result
from psycopg.conninfo import make_conninfo

from runner.catch_up import BadSince, read_since
from runner.cli import main
from tests.support.databases import Database, rows, value
from tests.support.event_list import ACCOUNT, Answer, EventList, event_list, refusal
from tests.support.events import asked, by_events, charge, refund, refunded
from tests.support.inbox import comes_to, inbox_that_runs, stored, stored_event
from tests.support.transfers import record_transfer
from tests.support.webhooks import event

KEY = "sk_test_51Secret"
HOUR = 3600
NOW = datetime(2026, 11, 20, 12, 0, 0, 500, tzinfo=UTC)


@pytest.fixture
def stripe() -> Iterator[EventList]:
    with event_list() as stripe:
        yield stripe


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries again without waiting."""
    monkeypatch.setattr("runner.waiting.RETRY_DELAYS", (0.0, 0.0, 0.0))


@pytest.fixture
def inbox(db: Database) -> Database:
    act_on(db, "'customer.created'")
    db.execute("create table seen (n bigint generated always as identity, event_id text)")
    return db


def act_on(db: Database, types: str) -> None:
    """Have these types be those that something is done about; `types` is SQL. The usual one comes to nothing."""
    db.execute(
        "create or replace function marketplace.acted_event_types() returns setof text language sql"
        f" as $$ select {types} $$".encode()
    )


def catch_up(dsn: str, stripe: EventList, since: str = "3d") -> Result:
    environment = {"DATABASE_URL": dsn, "STRIPE_API_KEY": KEY, "SELLER_TRANSFERS_STRIPE_API_BASE": stripe.base}
    return CliRunner().invoke(main, ["catch-up", "--since", since], env=environment, catch_exceptions=False)


def missed(event_id: str, created: int, **fields: Any) -> dict[str, Any]:
    """An event of the type that is asked for."""
    return event(event_id, created=created, **fields)


def ago(hours: float) -> int:
    return int(time.time() - hours * HOUR)


def noted(statement: str = "") -> str:
    """PL/pgSQL that notes in what order events come."""
    return f"insert into public.seen (event_id) values (p_event ->> 'id'); {statement} {comes_to('acted')}"


def seen(db: Database) -> list[str]:
    return [each["event_id"] for each in rows(db, "select event_id from seen order by n")]


def totals(result: Result) -> str:
    """The first line, from its numbers on."""
    said = re.fullmatch(r"events since \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ: (.*)", result.stdout.splitlines()[0])
    assert said, result.output
    return said[1]


def test_what_was_missed_is_read_oldest_first_and_what_is_there_is_passed_over(
    dsn: str, inbox: Database, stripe: EventList
) -> None:
    stripe.events = [missed(f"evt_{hours}", ago(hours)) for hours in (0, 1, 2, 30, 71)]
    stripe.events.append(missed("evt_73", ago(73)))

    with inbox_that_runs(inbox, noted()):
        result = catch_up(dsn, stripe)

    assert (result.exit_code, totals(result)) == (
        0,
        "5 read, 5 new or tried again (5 acted, 0 ignored, 0 kept), 0 already known",
    )
    assert seen(inbox) == ["evt_71", "evt_30", "evt_2", "evt_1", "evt_0"]


def test_doing_it_again_changes_nothing(dsn: str, inbox: Database, stripe: EventList) -> None:
    stripe.events = [missed(f"evt_{n}", ago(n)) for n in range(3)]

    first, second = catch_up(dsn, stripe), catch_up(dsn, stripe)

    assert stored(inbox) == ["evt_0", "evt_1", "evt_2"]
    assert stored_event(inbox, "evt_1") == stripe.events[1]
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert totals(second) == "3 read, 0 new or tried again (0 acted, 0 ignored, 0 kept), 3 already known"


def test_only_what_is_acted_on_is_asked_for_twenty_types_at_a_time(
    dsn: str, inbox: Database, stripe: EventList
) -> None:
    types = {f"kind.{n}" for n in range(45)}
    act_on(inbox, "'kind.' || n from generate_series(0, 44) as n")
    stripe.events = [event(f"evt_{n}", event_type=f"kind.{n}", created=ago(1) - n % 7) for n in range(50)]

    with inbox_that_runs(inbox, noted()):
        result = catch_up(dsn, stripe, "2h")

    assert totals(result).startswith("45 read, ")
    assert set().union(*stripe.types_asked()) == types
    assert max(len(asked) for asked in stripe.types_asked()) == 20
    order = {each["id"]: each["created"] for each in stripe.events}
    times = [order[event_id] for event_id in seen(inbox)]
    assert times == sorted(times)


def test_a_busy_time_is_read_in_pieces_and_nothing_is_missed_or_read_twice(
    dsn: str, inbox: Database, stripe: EventList, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.catch_up._SPAN_PAGES", 1)
    # 250 of one second, which no piece can be shorter than, and some around.
    busy = ago(2)
    stripe.events = [missed("evt_after", busy + 1)]
    stripe.events += [missed(f"evt_{n:03}", busy) for n in reversed(range(250))]
    stripe.events += [missed("evt_before", busy - 1), missed("evt_old", busy - 40 * HOUR)]

    with inbox_that_runs(inbox, noted()):
        result = catch_up(dsn, stripe)

    assert result.exit_code == 0
    assert seen(inbox) == ["evt_old", "evt_before", *(f"evt_{n:03}" for n in range(250)), "evt_after"]
    assert len(stripe.asked) < 40


@pytest.mark.parametrize("status", [429, 500])
def test_a_request_that_stripe_does_not_answer_is_made_again(
    dsn: str, inbox: Database, stripe: EventList, status: int
) -> None:
    stripe.events = [missed(f"evt_{hours:02}", ago(hours)) for hours in (1, 20, 60)]
    stripe.spoil = lambda _: refusal(status, "Not now.") if len(stripe.asked) in (2, 3, 4) else None

    result = catch_up(dsn, stripe)

    assert (result.exit_code, len(stored(inbox))) == (0, 3), result.output
    again = f"Stripe does not give what was asked for: HTTP {status}: Not now.; trying again in 0 s"
    assert result.stderr.splitlines() == [f"seller-transfers: {again}"] * 3


def test_a_stripe_that_fails_half_way_means_1_and_the_command_to_go_on_with(
    dsn: str, inbox: Database, stripe: EventList
) -> None:
    stripe.events = [missed(f"evt_{hours:02}", ago(hours)) for hours in range(0, 60, 4)]
    middle = ago(30)

    def fail(query: dict[str, list[str]]) -> Answer | None:
        return refusal(500, "Something went wrong.") if int(query["created[lt]"][0]) > middle else None

    stripe.spoil = fail
    first = catch_up(dsn, stripe)
    (advice,) = re.findall(r"^to go on: seller-transfers catch-up --since (\S+)$", first.stdout, re.MULTILINE)
    missing = {each["id"] for each in stripe.events} - set(stored(inbox))
    stripe.spoil = lambda _: None
    second = catch_up(dsn, stripe, advice)

    assert (first.exit_code, second.exit_code) == (1, 0)
    assert "ended early: Stripe does not give what was asked for: HTTP 500: Something went wrong." in first.stdout
    assert 0 < len(missing) < 15
    assert totals(second).startswith(f"{len(missing)} read, {len(missing)} new or tried again ")
    assert len(stored(inbox)) == 15


def test_a_database_that_fails_half_way_means_the_same(dsn: str, inbox: Database, stripe: EventList) -> None:
    stripe.events = [missed(f"evt_{hours:02}", ago(hours)) for hours in (1, 20, 60)]
    fails = "if p_event ->> 'id' = 'evt_20' then raise exception using errcode = '40001'; end if;"

    with inbox_that_runs(inbox, noted(fails)):
        first = catch_up(dsn, stripe)
    (advice,) = re.findall(r"^to go on: seller-transfers catch-up --since (\S+)$", first.stdout, re.MULTILINE)
    second = catch_up(dsn, stripe, advice)

    assert (first.exit_code, second.exit_code) == (1, 0)
    assert seen(inbox) == ["evt_60"]
    assert {"evt_01", "evt_20"} <= set(stored(inbox))


def test_an_event_that_is_still_kept_is_named_and_means_1(dsn: str, db: Database, stripe: EventList) -> None:
    by_events(db)
    stripe.events = [
        event(f"evt_{n}", event_type="refund.updated", created=ago(3 - n), data={"object": refund(f"re_{n}")})
        for n in (2, 1)
    ]

    # As a runner's login, which is all that it needs.
    db.execute("create role catcher login in role marketplace_runner")
    try:
        result = catch_up(make_conninfo(dsn, user="catcher"), stripe)
    finally:
        db.execute("drop role catcher")

    assert result.exit_code == 1
    assert totals(result) == "2 read, 2 new or tried again (0 acted, 0 ignored, 2 kept), 0 already known"
    assert result.stdout.splitlines()[1:] == [
        "kept evt_1 (refund.updated): ST010: no order is known for charge ch_1",
        "kept evt_2 (refund.updated): ST010: no order is known for charge ch_1",
    ]


def test_what_was_kept_is_tried_again_at_the_end_though_no_webhook_runs(
    dsn: str, db: Database, stripe: EventList
) -> None:
    by_events(db)
    record_transfer(db, 1)
    long_ago = refunded(db, "re_1", 10)
    db.execute("insert into marketplace.charges (charge_id, amount, order_id) values ('ch_1', 100, 'order-1')")
    told = {"refund.created": refund("re_2", charge="ch_2"), "charge.updated": charge("ch_2", transfer_group="order-2")}
    stripe.events = [
        event(f"evt_{n}", event_type=name, created=ago(9 - n), data={"object": object_})
        for n, (name, object_) in enumerate(told.items(), start=1)
    ]
    stripe.events.reverse()
    record_transfer(db, 2)

    result = catch_up(dsn, stripe)

    assert (long_ago["result"], result.exit_code) == ("kept", 0)
    assert result.stdout.splitlines()[1:] == []
    assert totals(result) == "2 read, 2 new or tried again (2 acted, 0 ignored, 0 kept), 0 already known"
    assert asked(db) == {"key-1": 100, "key-2": 500}


def test_an_event_that_cannot_be_taken_is_named_and_holds_up_no_other(
    dsn: str, inbox: Database, stripe: EventList
) -> None:
    stripe.events = [
        missed("evt_3", ago(1)),
        missed("evt_2", ago(2), data={"object": None}),
        missed("evt_1", ago(3)),
        missed("evt_0", ago(4), amount=2**70),
    ]
    refuses = "if p_event ->> 'id' = 'evt_1' then raise exception using errcode = '22023'; end if;"

    with inbox_that_runs(inbox, noted(refuses)):
        result = catch_up(dsn, stripe)

    assert result.exit_code == 1
    assert totals(result) == "4 read, 1 new or tried again (1 acted, 0 ignored, 0 kept), 0 already known"
    assert result.stdout.splitlines()[1:] == [
        "not taken evt_0: a number in it is out of range",
        "not taken evt_1: the database cannot read it (SQLSTATE 22023)",
        "not taken evt_2: it has no data.object",
    ]


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ({"object": "list", "data": [], "has_more": True}, "said to go on, and does not"),
        ({"object": "list", "data": [{"id": 7}], "has_more": True}, "said to go on, and does not"),
        ({"object": "list", "data": [{"id": "evt_1"}], "has_more": True}, "said to go on, and does not"),
        ({"object": "list", "data": [], "has_more": None}, "has_more is None"),
        ({"object": "list", "data": ["evt_1"], "has_more": False}, "not a list of objects"),
        ({"object": "event"}, "not 'list'"),
        ([], "without a JSON object"),
    ],
)
def test_a_list_that_cannot_be_read_to_its_end_is_said_to_be_so(
    dsn: str, inbox: Database, stripe: EventList, page: object, words: str
) -> None:
    stripe.spoil = lambda _: (200, page)

    result = catch_up(dsn, stripe)

    assert (result.exit_code, words in result.stdout) == (1, True), result.output
    assert "\nto go on: seller-transfers catch-up --since " in result.stdout
    assert stored(inbox) == []


def test_a_key_that_may_not_read_events_is_said_to_be_so(dsn: str, inbox: Database, stripe: EventList) -> None:
    stripe.spoil = lambda _: refusal(403, "The provided key 'rk_test_***' does not have the required permissions.")

    result = catch_up(dsn, stripe)

    assert result.exit_code == 1
    assert "ended early: Stripe does not let the key read events: HTTP 403: The provided key" in result.stdout


def test_a_key_of_another_account_reads_nothing(dsn: str, inbox: Database, stripe: EventList) -> None:
    rows(inbox, "select * from marketplace.register_runner('first', '1.0', 'acct_1Own', false)")

    result = catch_up(dsn, stripe)

    assert (result.exit_code, result.stdout, stripe.asked) == (5, "", [])
    assert f"account {ACCOUNT} in test mode" in result.stderr


def test_events_without_end_do_not_hold_it_for_ever(
    dsn: str, inbox: Database, stripe: EventList, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.catch_up._LAST_SPAN_PAGES", 3)
    monkeypatch.setattr("runner.catch_up._SPAN_PAGES", 2)
    stripe.spoil = lambda _: (
        200,
        {"object": "list", "data": [missed(f"evt_{len(stripe.asked)}", ago(1))], "has_more": True},
    )

    result = catch_up(dsn, stripe)

    assert result.exit_code == 1
    assert "the list of the events of one second does not end" in result.stdout
    assert value(inbox, "select count(*) from marketplace.stripe_events") == 0


@pytest.mark.parametrize(
    ("text", "since"),
    [
        ("3d", NOW - timedelta(days=3)),
        (" 12H ", NOW - timedelta(hours=12)),
        ("90m", NOW - timedelta(minutes=90)),
        ("45 s", NOW - timedelta(seconds=45)),
        ("2w", NOW - timedelta(days=14)),
        ("30d", NOW - timedelta(days=30)),
        ("0s", NOW),
        ("2026-11-20T08:00:00Z", datetime(2026, 11, 20, 8, tzinfo=UTC)),
        ("2026-11-20 08:00:00.9+05:30", datetime(2026, 11, 20, 2, 30, tzinfo=UTC)),
        ("2026-11-20T06:00-0500", datetime(2026, 11, 20, 11, tzinfo=UTC)),
    ],
)
def test_a_time_is_so_long_ago_or_iso_with_an_offset(text: str, since: datetime) -> None:
    assert read_since(text, NOW) == since.replace(microsecond=0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "neither a time ago"),
        ("yesterday", "neither a time ago"),
        ("-3d", "neither a time ago"),
        ("3", "neither a time ago"),
        ("3y", "neither a time ago"),
        ("1e3d", "neither a time ago"),
        ("99999999d", "neither a time ago"),
        ("2026-11-31T00:00:00Z", "neither a time ago"),
        ("2026-11-20", "in which time zone?"),
        ("2026-11-20T08:00:00", "in which time zone? Say 2026-11-20T08:00:00Z"),
        ("2026-11-20T12:00:01Z", "has not come yet"),
        ("9999-12-31T23:59:59-12:00", "has not come yet"),
        ("31d", "Stripe keeps events for 30 days"),
        ("99999w", "Stripe keeps events for 30 days"),
        ("0001-01-01T00:00:00+14:00", "Stripe keeps events for 30 days"),
    ],
)
def test_another_time_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(BadSince, match=re.escape(words)):
        read_since(text, NOW)
