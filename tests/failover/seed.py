"""One seed: work, a standby that falls behind, a primary that dies in the middle, and the same app, asking again."""

import signal
import time
from contextlib import ExitStack, closing
from pathlib import Path

import click

from runner.sandbox.simulator import SimulatorClient, simulator_process
from tests.failover.oracle import explain, judge, parked
from tests.failover.plan import DEADLINE, KEY_MAX_AGE, KEYS_KEPT, LEASE, QUIET, Asked, Plan, make_plan
from tests.support.databases import Database, open_database, row, rows, value
from tests.support.migrations import migrate_database
from tests.support.orders import open_rows
from tests.support.replication import DATABASE, Pair, primary_with_standby
from tests.support.runners import Runner, StartRunner, runners, wait_until
from tests.support.transfers import call

_PATIENCE_SECONDS = 90.0
_VERDICTS = ("unknown", "throttled", "transient", "insufficient_balance", "accepted", "configuration")


def run_seed(seed: int, orders: int, folder: Path) -> list[str]:
    """Give what is wrong in the end. Logs go to `folder`. To be called in the main thread."""
    plan = make_plan(seed, orders)
    with ExitStack() as stack:
        stripe = stack.enter_context(simulator_process())
        stripe.set_platform_balance(10**9, "usd")
        pair = stack.enter_context(primary_with_standby())
        migrate_database(pair.dsn)
        ids = _pay(stripe, plan)
        start = stack.enter_context(runners(pair.dsn, stripe.base_url, folder))
        crew = _lose(pair, stripe, plan, ids, start)
        with closing(pair.promote()) as db:
            _go_on(db, stripe, plan, ids, crew, start)
            _wait_until_done(db, stripe)
            if _send_what_is_held(db, seed):
                _wait_until_done(db, stripe)
            for order, why in parked(db).items():
                click.echo(f"seed {seed}: {order} waits for a person: {why}")
            found = judge(db, stripe.ledger(), plan)
            evidence = explain(db, stripe, plan) if found else []
            return found + _of_the_failover(db) + evidence


def _lose(pair: Pair, stripe: SimulatorClient, plan: Plan, ids: dict[str, str], start: StartRunner) -> list[Runner]:
    with closing(open_database(pair.primary.dsn(DATABASE))) as db:
        _set_policy(db)
        crew = [_start(start, worker) for worker in ("blue", "green")]
        # Until a runner has registered, and the standby heard of it, nobody can tell the one from the other.
        registered = "select count(*) = 2 from marketplace.runners where worker in ('blue', 'green')"
        wait_until(lambda: value(db, registered), "both have registered")
        stripe.add_faults(plan.troubles)
        _ask(db, stripe, plan.heard, ids)
        pair.catch_up()
        pair.sever()
        _ask(db, stripe, plan.lost, ids)
        _forget(stripe)
    pair.kill_primary()
    for runner in crew if plan.kills_runners else ():
        runner.send(signal.SIGKILL)
    return crew


def _go_on(
    db: Database, stripe: SimulatorClient, plan: Plan, ids: dict[str, str], crew: list[Runner], start: StartRunner
) -> None:
    """The app asks again for everything, in its order, before it asks for anything new."""
    _ask(db, stripe, [*plan.heard, *plan.lost, *plan.after], ids)
    if plan.kills_runners:
        until = time.monotonic() + plan.away_seconds
        wait_until(
            lambda: _forget(stripe) and time.monotonic() > until,
            "the runners are back",
            within_seconds=plan.away_seconds + 5,
            pause_seconds=0.3,
        )
        crew[:] = [_start(start, worker) for worker in ("red", "yellow")]
    stripe.clear_faults()


def _wait_until_done(db: Database, stripe: SimulatorClient) -> None:
    wait_until(
        lambda: _forget(stripe) and open_rows(db, parked=False) == 0,
        "all is done",
        within_seconds=_PATIENCE_SECONDS,
        pause_seconds=0.3,
    )


def _send_what_is_held(db: Database, seed: int) -> bool:
    """The app has asked again for everything: what nothing has taken is owed, and a person says so."""
    query = "select id, amount, order_id from marketplace.seller_transfers where parked_reason like 'held:%'"
    held = rows(db, query)
    for each in held:
        click.echo(f"seed {seed}: {each['amount']} of {each['order_id']} were held, and are sent by a person's word")
        call(db, "retry_now", p_id=each["id"], p_reason="all has been asked again")
    return bool(held)


def _start(start: StartRunner, worker: str) -> Runner:
    return start(worker, lease_seconds=LEASE, call_deadline_seconds=DEADLINE, poll_seconds=0.3, wait=False)


def _set_policy(db: Database) -> None:
    db.execute("update marketplace.stripe_control set longest_lease = '1 s', rate = null")
    for verdict in _VERDICTS:
        db.execute(
            "update marketplace.retry_policy set base_delay = '50 ms', max_delay = '500 ms', factor = 2,"
            " slow_delay = case when slow_after is not null then interval '500 ms' end where verdict = %s",
            [verdict],
        )
    db.execute(
        "update marketplace.retry_policy set quiet = make_interval(secs => %s),"
        " key_max_age = make_interval(secs => %s) where verdict = 'unknown'",
        [QUIET, KEY_MAX_AGE],
    )


def _pay(stripe: SimulatorClient, plan: Plan) -> dict[str, str]:
    for name in plan.created:
        stripe.create_account(f"acct_{name}")
    made = stripe.create_transfers(
        [{"destination": f"acct_{name}", "amount": amount, "currency": "usd"} for name, amount in plan.paid.items()]
    )
    return dict(zip(plan.paid, made, strict=True))


def _ask(db: Database, stripe: SimulatorClient, calls: list[Asked], ids: dict[str, str]) -> None:
    for asked in calls:
        evidence = {"p_stripe_transfer_id": ids[asked.order]} if asked.function.startswith("record") else {}
        call(db, asked.function, **asked.arguments, **evidence)
        _forget(stripe)


def _forget(stripe: SimulatorClient) -> bool:
    stripe.forget_idempotency_keys(older_than_seconds=KEYS_KEPT)
    return True


def _of_the_failover(db: Database) -> list[str]:
    """It was noticed, and nothing was called while leases of the lost history were live."""
    found = []
    noticed = value(db, "select count(*) from marketplace.stripe_control_log where change = 'promotion noticed'")
    if noticed != 1:
        found.append(f"the promotion was noticed {noticed} times")
    since = row(db, "select extract(epoch from look_up_first_since)::float8 as at from marketplace.stripe_control")[
        "at"
    ]
    claimed = value(
        db,
        "select extract(epoch from min(started_at))::float8 from marketplace.transfer_attempts"
        " where started_at > to_timestamp(%(since)s)",
        since=since,
    )
    if claimed is not None and claimed < since + 2 * LEASE:
        found.append(f"a call was claimed {claimed - since:.3f} s after the failover was noticed")
    return found
