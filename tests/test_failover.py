"""The primary dies, and a standby takes over that has not heard everything. Nothing is moved twice."""

import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from runner.sandbox.embedded_postgres import EmbeddedPostgres
from runner.sandbox.simulator import LoggedRequest, SimulatorClient
from tests.support.databases import Database, open_database, row, rows, value
from tests.support.dumps import dumped, restored
from tests.support.migrations import migrate_database
from tests.support.orders import open_rows, order_payouts, pay_sellers, refund, set_delays, transfer_of
from tests.support.replication import DATABASE, Pair, primary_with_standby
from tests.support.runners import Runner, StartRunner, runners, wait_until
from tests.support.transfers import call

LEASE_SECONDS = 1.5
PAID = ("asked", "lost", "flying", "whole")
SENT = ("created", "late")


def prepare(db: Database) -> None:
    """Times for a test, and a runner that was seen before the standby lost touch."""
    # Of no lease that was given: the first one says how long they are, and is lost.
    db.execute("update marketplace.stripe_control set longest_lease = '1 s'")
    db.execute("update marketplace.retry_policy set quiet = '5 s' where verdict = 'unknown'")
    set_delays(db, "unknown", "200 ms")
    set_delays(db, "throttled", "200 ms")
    call(db, "register_runner", p_worker="early", p_version="1", p_stripe_account=None, p_livemode=False)


def ask_part(db: Database, name: str) -> None:
    """A refund takes a part of the order's money back."""
    call(db, "request_reversal", p_order_id=f"order-{name}", p_reversal_request_id=f"re_{name}", p_amount=300)


def moved(stripe: SimulatorClient, kind: str) -> dict[str, list[int]]:
    """What was sent to each seller, or taken back: amounts."""
    found: dict[str, list[int]] = {}
    for entry in stripe.ledger(kind=kind):
        account = entry.credit if kind == "transfer" else entry.debit
        found.setdefault(account.removeprefix("acct_"), []).append(entry.amount)
    return found


def lose_work(pair: Pair, stripe: SimulatorClient, transfers: dict[str, str], start: StartRunner) -> Runner:
    """Everything is asked for and done while the standby hears nothing of it; one request is still under way."""
    stripe.add_fault("hold", name="flying", when="before", match={"method": "POST", "transfer": transfers["flying"]})
    with closing(open_database(pair.primary.dsn(DATABASE))) as db:
        order_payouts(db, stripe, "late")
        ask_part(db, "lost")
        refund(db, "whole")
        runner = start(lease_seconds=LEASE_SECONDS, call_deadline_seconds=1, poll_seconds=0.5)
        stripe.wait_for_held("flying")
        done = "status in ('completed', 'reversed') or call_unknown or lease_token is not null"
        wait_until(
            lambda: (
                value(db, f"select bool_and({done}) from marketplace.seller_transfers")
                and set(moved(stripe, "reversal")) == {"asked", "lost", "whole"}
                and set(moved(stripe, "transfer")) == {*PAID, *SENT}
            ),
            "the runner has done what it can",
        )
    pair.kill_primary()
    return runner


def calls_since(stripe: SimulatorClient, since: float) -> list[LoggedRequest]:
    """What was asked about transfers from that moment of the monotonic clock on."""
    return [
        each
        for each in stripe.requests()
        if each.arrived_monotonic >= since and each.path.startswith("/v1/transfers") and each.late_of is None
    ]


def test_a_standby_that_lost_commits_takes_over_and_nothing_is_moved_twice(
    simulator: SimulatorClient, tmp_path: Path
) -> None:
    with primary_with_standby() as pair:
        migrate_database(pair.dsn)
        simulator.set_platform_balance(1_000_000, "usd")
        with closing(open_database(pair.primary.dsn(DATABASE))) as db:
            prepare(db)
            transfers = dict(zip(PAID, pay_sellers(db, simulator, *PAID), strict=True))
            order_payouts(db, simulator, "created")
            for name in ("asked", "flying"):
                ask_part(db, name)
        pair.catch_up()
        pair.sever()
        with runners(pair.dsn, simulator.base_url, tmp_path) as start:
            runner = lose_work(pair, simulator, transfers, start)
            taken_over_at = time.monotonic()
            with closing(pair.promote()) as db:
                simulator.release("flying")
                # The app asks again for what the database does not know; and a refund comes for what it does not know
                # to have been sent.
                order_payouts(db, simulator, "late")
                ask_part(db, "lost")
                refund(db, "whole", "created")
                wait_until(lambda: open_rows(db) == 0, "all is done", within_seconds=30)

                calls = calls_since(simulator, taken_over_at)
                noticed = row(db, "select * from marketplace.stripe_control")
                silent_until = noticed["look_up_first_since"] + timedelta(seconds=2 * LEASE_SECONDS)
                assert min(each.arrived_at for each in calls) >= silent_until.timestamp()
                # Everything was done already, but for what came to be wanted only now.
                created = transfer_of(db, "created")["stripe_transfer_id"]
                assert [each.path for each in calls if each.method == "POST"] == [f"/v1/transfers/{created}/reversals"]
                assert moved(simulator, "transfer") == {name: [1000] for name in (*PAID, *SENT)}
                assert moved(simulator, "reversal") == {
                    "asked": [300],
                    "lost": [300],
                    "flying": [300],
                    "whole": [1000],
                    "created": [1000],
                }
                assert_the_books_agree(db, simulator)
                assert runner.process.poll() is None
                assert runner.log("the database is not the one it was")


def assert_the_books_agree(db: Database, stripe: SimulatorClient) -> None:
    """What the rows say was paid and taken back is what Stripe has."""
    held = rows(
        db,
        "select stripe_transfer_id, stripe_reversal_id, amount, status from marketplace.seller_transfers",
    )
    assert {each["status"] for each in held} == {"completed", "reversed"}
    taken = {each.reversal: each.amount for each in stripe.ledger(kind="reversal")}
    assert {each["stripe_reversal_id"]: each["amount"] for each in held if each["status"] == "reversed"} == taken
    paid = {each.transfer for each in stripe.ledger(kind="transfer")}
    assert {each["stripe_transfer_id"] for each in held} == paid


def dump_and_restore(server: EmbeddedPostgres, source: str, target: str) -> None:
    """As a backup comes back on another database."""
    assert restored(server.dsn(target), dumped(server.dsn(source))) == ""


def clone(server: EmbeddedPostgres, source: str, target: str) -> None:
    """As a copy is made for staging."""
    with closing(open_database(server.dsn("postgres"))) as db:
        db.execute(f"drop database {target}".encode())
        db.execute(f"create database {target} template {source}".encode())


@pytest.mark.parametrize("copy", [dump_and_restore, clone], ids=["restored dump", "clone"])
def test_a_copy_makes_no_call_and_a_person_is_told(
    copy: Callable[[EmbeddedPostgres, str, str], None],
    dsn: str,
    empty_dsn: str,
    embedded_postgres: EmbeddedPostgres,
    simulator: SimulatorClient,
    tmp_path: Path,
) -> None:
    with closing(open_database(dsn)) as db:
        prepare(db)
        simulator.set_platform_balance(1_000_000, "usd")
        pay_sellers(db, simulator, "one")
        refund(db, "one")
        name = str(value(db, "select current_database()"))
    copy(embedded_postgres, name, "empty")

    with runners(empty_dsn, simulator.base_url, tmp_path) as start, closing(open_database(empty_dsn)) as db:
        runner = start(lease_seconds=LEASE_SECONDS, call_deadline_seconds=1, poll_seconds=0.1)
        order_payouts(db, simulator, "two")  # is taken in, and noticed by the runner
        runner.wait_for("the database is not the one it was")
        (found,) = rows(db, "select problem, is_urgent, next_step from marketplace.needs_attention_full")
        assert (found["problem"], found["is_urgent"]) == ("to reconcile", True)
        assert value(db, "select count(*) from marketplace.self_check()") == 1  # quiet is short, for tests
        db.execute("select marketplace._reconciled(clock_timestamp(), 'compared by a test')")
        wait_until(lambda: open_rows(db) == 0, "once it is reconciled it goes on", within_seconds=20)
    assert [each.method for each in calls_since(simulator, 0)][:2] == ["GET", "GET"]
    assert (moved(simulator, "transfer"), moved(simulator, "reversal")) == (
        {"one": [1000], "two": [1000]},
        {"one": [1000]},
    )
