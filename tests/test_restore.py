"""A database that comes back as it was earlier: nothing moves a second time, also when the app asks again.

The first one goes on after its copy was made, and all that it does then is lost. Whatever the copy knew or did not know
of it is here: rows that were due and have been called for, parts, what was given back, orders that are gone altogether.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result
from psycopg.types.json import Jsonb

from runner.cli import main
from runner.sandbox.simulator import TEST_KEY, SimulatorClient
from tests.support.databases import Database, ServerAddress, open_database, rows, value
from tests.support.failovers import control, pass_since_failover
from tests.support.orders import open_rows, order_payouts, refund
from tests.support.runners import runners, wait_until
from tests.support.transfers import call, claim, claim_sends
from tests.support.withdrawals import withdraw

# What Stripe has done for each order when the first database is lost: paid, and kept by the seller.
AT_THE_END = {
    "kept": 1000,
    "due": 1000,
    "back": 0,
    "half": 500,
    "given": 1000,
    "part": 600,
    "other": 600,
    "lost": 1000,
    "lostback": 0,
}


@pytest.fixture
def restored_dsn(server_address: ServerAddress) -> Iterator[str]:
    """Where the copy comes back; it does not exist yet."""
    yield server_address.dsn("restored")
    with closing(open_database(server_address.dsn("postgres"))) as server:
        server.execute("drop database if exists restored with (force)")


def copy(dsn: str, server_address: ServerAddress) -> None:
    """Make the copy; nobody may be connected."""
    name = psycopg.conninfo.conninfo_to_dict(dsn)["dbname"]
    with closing(open_database(server_address.dsn("postgres"))) as server:
        wait_until(
            lambda: not value(server, "select count(*) from pg_stat_activity where datname = %(name)s", name=name),
            "nobody is connected",
        )
        server.execute(f'create database restored template "{name}"'.encode())


def take_back(db: Database, name: str, amount: int, request: str) -> None:
    """Ask for a part of an order."""
    part = [{"transfer_key": f"key-{name}", "amount": amount}]
    call(
        db,
        "request_reversal",
        p_order_id=f"order-{name}",
        p_reversal_request_id=request,
        p_allocation=Jsonb(part),
    )


def wait_until_done(db: Database) -> None:
    wait_until(lambda: open_rows(db) == 0, "every row is at its end", within_seconds=30)


def what_is_lost(db: Database) -> None:
    """What the app asks for after the copy was made, and later again; some of it waits for the rest."""
    order_payouts_again(db, "lost", "lostback")
    take_back(db, "half", 200, "re_half2")
    take_back(db, "part", 400, "re_part")
    withdraw(db, request="re_given")


def order_payouts_again(db: Database, *names: str) -> None:
    for name in names:
        call(
            db,
            "create_transfer",
            p_transfer_key=f"key-{name}",
            p_order_id=f"order-{name}",
            p_seller_id=f"seller-{name}",
            p_destination_account=f"acct_{name}",
            p_amount=1000,
            p_currency="usd",
        )


def command(dsn: str, stripe: SimulatorClient, *arguments: str) -> Result:
    environment = {"DATABASE_URL": dsn, "STRIPE_API_KEY": TEST_KEY, "SELLER_TRANSFERS_STRIPE_API_BASE": stripe.base_url}
    return CliRunner().invoke(main, arguments, env=environment, catch_exceptions=False)


def reconcile(dsn: str, stripe: SimulatorClient, *options: str) -> Result:
    return command(dsn, stripe, "reconcile", *options)


def kept_by_sellers(stripe: SimulatorClient) -> dict[str, int]:
    return {account.removeprefix("acct_"): held.get("usd", 0) for account, held in stripe.sent_minus_reversed().items()}


def kept_by_rows(db: Database) -> dict[str, int]:
    found = rows(
        db,
        """
        select substr(t.order_id, 7) as name, coalesce(sum(t.amount) filter (where t.status = 'completed'), 0) as held
        from marketplace.seller_transfers as t
        where not exists (select from marketplace.seller_transfers as s where s.successor_of = t.id)
        group by 1
        """,
    )
    return {each["name"]: int(each["held"]) for each in found}


def test_after_a_restore_nothing_moves_twice_and_the_books_are_the_ledger(
    dsn: str, server_address: ServerAddress, restored_dsn: str, simulator: SimulatorClient, tmp_path: Path
) -> None:
    simulator.fund(1_000_000, "usd")
    with closing(open_database(dsn)) as db:
        db.execute("update marketplace.retry_policy set quiet = '0.8 s' where verdict = 'unknown'")
        order_payouts(db, simulator, "kept", "half", "back", "given", "part", "other")
        for name in ("due", "lost", "lostback"):
            simulator.create_account(f"acct_{name}")
        with runners(dsn, simulator.base_url, tmp_path) as start:
            start("blue")
            wait_until_done(db)
            refund(db, "given")
            take_back(db, "half", 300, "re_half1")
            wait_until_done(db)
        order_payouts_again(db, "due")
        refund(db, "back")

    copy(dsn, server_address)
    with closing(open_database(dsn)) as db, runners(dsn, simulator.base_url, tmp_path) as start:
        start("red")
        what_is_lost(db)
        take_back(db, "other", 400, "re_other")
        wait_until_done(db)
        refund(db, "lostback")
        wait_until_done(db)
    moved = [(entry.kind, entry.amount) for entry in simulator.ledger()]
    assert kept_by_sellers(simulator) == AT_THE_END

    with closing(open_database(restored_dsn)) as db:
        assert claim(db) == claim_sends(db) == []
        result = reconcile(restored_dsn, simulator)
        found = call(db, "reconcile_differences")
        assert (result.exit_code, Counter(each["kind"] for each in found)) == (
            1,
            {"lost transfer": 3, "lost reversal": 4, "paid unheard": 1, "reversed unheard": 1},
        )
        assert not any(each["is_urgent"] for each in found)
        assert claim(db) == claim_sends(db) == []

        # What is ours and was lost waits for the app to ask again; Stripe tells of it all the same.
        caught_up = command(restored_dsn, simulator, "catch-up", "--since", "1h")
        assert (caught_up.exit_code, caught_up.stdout.count("ask for that again")) == (1, 3), caught_up.output
        assert claim(db) == claim_sends(db) == []

        resumed = reconcile(restored_dsn, simulator, "--resume", "restored from the copy")
        assert (resumed.exit_code, "\nResumed: " in resumed.stdout) == (1, True), resumed.output
        assert claim(db) == claim_sends(db) == []  # for two leases yet
        what_is_lost(db)
        refund(db, "lostback")
        # Asked for otherwise than before: all of it, where 400 have gone back.
        call(db, "request_reversal", p_order_id="order-other", p_reversal_request_id="re_other2")
        pass_since_failover(db, "3 min")
        with runners(restored_dsn, simulator.base_url, tmp_path) as start:
            start("white")
            wait_until_done(db)

        now_moved = [(entry.kind, entry.amount) for entry in simulator.ledger()]
        assert now_moved[: len(moved)] == moved
        assert now_moved[len(moved) :] == [("reversal", 600)]
        assert kept_by_sellers(simulator) == {**AT_THE_END, "other": 0}
        assert kept_by_rows(db) == {**AT_THE_END, "other": 0}

        call(db, "retry_events")
        assert call(db, "read_kept_events") == []

        last = reconcile(restored_dsn, simulator, "--resume", "all is known")
        assert (last.exit_code, "\nResumed: " in last.stdout) == (0, True), last.output
        assert control(db)["look_up_first_since"] is None
