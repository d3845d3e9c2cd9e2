"""Runners killed at every point of a call, whatever Stripe answered or would have: each amount is reversed once.

A point is reached with every kind of answer at once: simulator holds, held answers of the database and row locks stop
a runner there, and a SIGKILL ends it. Another runner does the rest. What came of it is read from Stripe's ledger and
the rows, by SQL; tests/support/every_answer.py has the table of what must.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_postgresql.executors import NoopExecutor
from pytest_postgresql.janitor import DatabaseJanitor

from runner.sandbox.simulator import SimulatorClient
from tests.support.cutting_proxy import CuttingProxy, cutting_proxy
from tests.support.databases import Database, ServerAddress, open_database, rows, value
from tests.support.every_answer import (
    AMOUNTS,
    Asked,
    add_answers,
    ask,
    deviations,
    pay_for_every_answer,
    settle_pending,
)
from tests.support.orders import pay_sellers, refund
from tests.support.runners import Runner, StartRunner, runners, wait_until, wait_until_listening

# However slow the machine is, a runner gets to its point before a call or a lease is over.
KILLED: dict[str, Any] = {"slots": 100, "lease_seconds": 120, "call_deadline_seconds": 60, "poll_seconds": 300}
FINISHER: dict[str, Any] = {"slots": 100, "lease_seconds": 20, "call_deadline_seconds": 10, "poll_seconds": 0.5}


@dataclass(slots=True)
class Scene:
    """One point: a database of its own with every answer to every amount, the runner that dies there and the other."""

    name: str
    db: Database
    dsn: str
    stripe: SimulatorClient
    line: CuttingProxy
    asked: list[Asked]
    start: StartRunner
    killed: Runner
    # Rows for which the killed runner was to make the call.
    leased: int = 0
    others: list[Runner] = field(default_factory=list)

    def held(self) -> list[int]:
        """The requests of this scene that stand still at Stripe, by their number."""
        return [each["request"] for each in self.stripe.held(self.name)]

    def kill(self) -> None:
        self.leased = value(self.db, "select count(*) from marketplace.seller_transfers where lease_action = 'reverse'")
        self.killed.send(signal.SIGKILL)
        assert self.killed.exit_code() == -signal.SIGKILL
        self.others.append(self.start("other", wait=False, **FINISHER))


def claims_sleep(scene: Scene) -> None:
    """Wait out the claims of a runner that has just begun: the next one is to be the one that finds the rows."""
    asleep = (
        "select from pg_stat_activity where datname = current_database()"
        " and application_name = 'seller-transfers claims killed' and state = 'idle' and query like '%%next_due_in%%'"
    )
    wait_until(lambda: rows(scene.db, asleep), "the runner sleeps")


def stand_at_stripe(scene: Scene) -> None:
    """Ask, and wait until the runner can do nothing more: each row, or one of its transfer's, has its request held."""
    query = """
        select count(lease_token) as leased, count(*) filter (
          where lease_token is null and not exists (
            select from marketplace.seller_transfers as s
            where s.stripe_transfer_id = t.stripe_transfer_id and s.lease_token is not null)) as idle
        from marketplace.seller_transfers as t where t.status = 'reversal_pending'
    """

    def all_stand() -> bool:
        (found,) = rows(scene.db, query)
        return bool(found["idle"] == 0 and found["leased"] == len(scene.held()))

    ask(scene.db, scene.asked)
    wait_until(all_stand, f"{scene.name}: every request stands at Stripe")


def let_answers_through(scene: Scene, count: int | None = None) -> None:
    """Let held requests go on, and wait until Stripe is done with them."""
    standing = scene.held()[:count]
    scene.stripe.release(scene.name, count)

    def answered() -> bool:
        done = {e.seq for e in scene.stripe.requests(since=standing[0] - 1) if e.finished_at is not None}
        return done.issuperset(standing)

    wait_until(answered, f"{scene.name}: Stripe has answered")


def report_waits(scene: Scene) -> bool:
    return bool(
        rows(
            scene.db,
            "select from pg_stat_activity where datname = current_database()"
            " and application_name = 'seller-transfers reports killed' and wait_event_type = 'Lock'"
            # It gives up after a second: there must be time to kill its sender before that.
            " and query_start > clock_timestamp() - interval '0.4 s'",
        )
    )


def no_report_waits(scene: Scene) -> bool:
    return not rows(
        scene.db,
        "select from pg_stat_activity where datname = current_database()"
        " and application_name = 'seller-transfers reports killed'",
    )


@contextmanager
def rows_locked(scene: Scene) -> Iterator[None]:
    """Hold every row with a lease open, so that no report gets through."""
    with closing(open_database(scene.dsn)) as session, session.transaction():
        rows(session, "select id from marketplace.seller_transfers where lease_token is not null for update")
        yield


# The points, in the order of a call.


def claimed(scene: Scene) -> None:
    """The claim is committed, its answer has not come: nothing was sent."""
    claims_sleep(scene)
    scene.line.hold("claim_due_reversals")
    ask(scene.db, scene.asked)
    wait_until(lambda: scene.line.held == 1, "the claim's answer is held")
    scene.kill()


def sent(scene: Scene) -> None:
    """Stripe has the requests and has not executed them; it will, half of them at once and half of them late."""
    stand_at_stripe(scene)
    scene.kill()
    scene.stripe.release(scene.name, len(scene.held()) // 2)


def executed(scene: Scene) -> None:
    """Stripe has executed the requests and has not answered."""
    stand_at_stripe(scene)
    scene.kill()
    scene.stripe.release(scene.name, len(scene.held()) // 2)


def answered(scene: Scene) -> None:
    """Stripe has answered; no report can be written, and none ever will be."""
    stand_at_stripe(scene)
    with rows_locked(scene):
        let_answers_through(scene)
        wait_until(lambda: report_waits(scene), "a report waits for the rows")
        scene.kill()
        wait_until(lambda: no_report_waits(scene), "the report of the dead is given up")


def reporting(scene: Scene) -> None:
    """A report is under way and is committed when its sender is dead."""
    stand_at_stripe(scene)
    with rows_locked(scene):
        let_answers_through(scene)
        wait_until(lambda: report_waits(scene), "a report waits for the rows")
        scene.kill()


def recorded(scene: Scene) -> None:
    """Outcomes are committed, and the runner has not been told."""
    stand_at_stripe(scene)
    # While the answer to the first report is held, the other outcomes come together for the second.
    scene.line.hold("record_reversal_outcomes")
    let_answers_through(scene, 1)
    wait_until(lambda: scene.line.held == 1, "the answer to the first report is held")
    let_answers_through(scene)
    scene.line.hold("record_reversal_outcomes")
    scene.line.let_go()
    wait_until(lambda: scene.line.held == 2, "the answer to the second report is held")
    scene.kill()


# Each with where Stripe holds the first request of every row, if it does.
POINTS: list[tuple[Callable[[Scene], None], str | None]] = [
    (claimed, None),
    (sent, "before"),
    (executed, "after"),
    (answered, "before"),
    (reporting, "before"),
    (recorded, "before"),
]


def shorten_delays(db: Database) -> None:
    """Have everything tried again after a moment."""
    db.execute(
        "update marketplace.retry_policy set base_delay = '200 ms', factor = 1, jitter = 0,"
        " slow_after = null, slow_delay = null"
    )
    db.execute("update marketplace.retry_policy set quiet = '500 ms' where verdict = 'unknown'")


@contextmanager
def scenes(
    template: NoopExecutor, address: ServerAddress, stripe: SimulatorClient, folder: Path
) -> Iterator[list[Scene]]:
    """A scene for each point, with its runner under way."""
    with ExitStack() as stack:
        made = []
        for point, when in POINTS:
            name = point.__name__
            dbname = f"crash_{name}"
            stack.enter_context(
                DatabaseJanitor(
                    host=address.host,
                    port=address.port,
                    user=address.user,
                    dbname=dbname,
                    template_dbname=template.template_dbname,
                )
            )
            dsn = address.dsn(dbname)
            db = stack.enter_context(closing(open_database(dsn)))
            shorten_delays(db)
            asked = pay_for_every_answer(db, stripe, list(AMOUNTS), name)
            add_answers(stripe, asked, None if when is None else {"name": name, "when": when})
            line = stack.enter_context(cutting_proxy(address))
            (folder / name).mkdir()
            through = stack.enter_context(runners(line.dsn(address, dbname), stripe.base_url, folder / name))
            start = stack.enter_context(runners(dsn, stripe.base_url, folder / name))
            killed = through("killed", wait=False, **KILLED)
            made.append(Scene(name, db, dsn, stripe, line, asked, start, killed))
        for scene in made:
            wait_until_listening(scene.dsn, scene.killed)
        yield made


def end_leases(scene: Scene) -> None:
    """As if the killed runner's leases had been shorter."""
    scene.db.execute(
        "update marketplace.seller_transfers set lease_expires_at = clock_timestamp() where leased_by = 'killed'"
    )


def let_the_rest_go(scene: Scene) -> None:
    """What Stripe still holds goes on when the other runner has had to do with every row that was in hand."""
    taken_over = (
        "select count(distinct transfer_id) from marketplace.transfer_attempts where worker = 'other' and kind = 'call'"
    )
    wait_until(lambda: value(scene.db, taken_over) >= scene.leased, f"{scene.name}: the other runner is at it")
    scene.stripe.release(scene.name)


def is_over(scene: Scene) -> bool:
    # A second slice meets its hold when the first one is done, in the hands of the other runner.
    scene.stripe.release(scene.name)
    settle_pending(scene.db, scene.stripe, scene.asked)
    (found,) = rows(
        scene.db,
        "select count(*) as open from marketplace.seller_transfers"
        " where status = 'reversal_pending' and parked_reason is null",
    )
    return bool(found["open"] == 0)


def lost_calls(scene: Scene) -> int:
    """How many calls of the killed runner were never reported."""
    lost = (
        "select count(*) from marketplace.transfer_attempts"
        " where worker = 'killed' and kind = 'lost_lease' and action = 'reverse'"
    )
    return int(value(scene.db, lost))


def test_a_runner_killed_at_any_point_of_any_call_leaves_each_amount_reversed_once(
    schema_template: NoopExecutor, server_address: ServerAddress, simulator: SimulatorClient, tmp_path: Path
) -> None:
    with scenes(schema_template, server_address, simulator, tmp_path) as made:
        for scene, (reach, _) in zip(made, POINTS, strict=True):
            reach(scene)
            end_leases(scene)
        for scene in made:
            if scene.held():
                let_the_rest_go(scene)
        with suppress(AssertionError):  # a row that is still open deviates, and is named below
            wait_until(lambda: sum(not is_over(scene) for scene in made) == 0, "all is over", within_seconds=60)
        # What was put off on its way arrives when all is done.
        assert simulator.run_late() > 0

        # Each was killed where it says.
        for scene in made[:4]:
            assert lost_calls(scene) == scene.leased > 0, scene.name
        reports, records = made[4:]
        assert lost_calls(reports) < reports.leased
        assert lost_calls(records) == records.leased < len(records.asked) / 4

        found = [line for scene in made for line in deviations(scene.db, simulator, scene.asked)]
        assert not found, "\n".join(["", *found])


def test_the_comparison_names_what_must_not_be(db: Database, simulator: SimulatorClient) -> None:
    names = {"right": [1000], "twice": [400, 400], "short": [999], "never": [], "givenup": [1000]}
    transfers = pay_sellers(db, simulator, *names)
    refund(db, *names)
    asked = [Asked(f"re_{name}", name, "success", tr, None) for name, tr in zip(names, transfers, strict=True)]
    # Rows as runners leave them; the evidence is what Stripe said last.
    for each in asked:
        made = [reverse(simulator, each, amount, each.request) for amount in names[each.name]]
        end: tuple[str | None, ...] = ("reversed", (made or ["trr_none"])[-1], None, None)
        if each.name == "givenup":
            end = ("permanently_failed", None, "despair", "Enough.")
        db.execute(
            "update marketplace.seller_transfers set next_retry_at = null,"
            " status = %s, stripe_reversal_id = %s, failure_code = %s, failure_message = %s"
            " where reversal_request_id = %s",
            [*end, each.request],
        )
    reverse(simulator, asked[1], 100, "re_nobody")

    (evidence,) = [entry.reversal for entry in simulator.ledger(kind="reversal") if entry.transfer == transfers[1]][1:2]
    assert deviations(db, simulator, asked) == [
        "re_givenup has the evidence {}",
        "re_givenup is given up while it is reversed",
        "re_givenup is permanently_failed",
        "re_givenup says {despair}",
        "re_never has 0 live reversals",
        "re_never has the evidence {trr_none}",
        "re_nobody is reversed, though nobody asked",
        "re_short moved 999",
        "re_twice has 2 live reversals",
        f"re_twice has the evidence {{{evidence}}}",
        "re_twice moved 800",
    ]


def reverse(stripe: SimulatorClient, asked: Asked, amount: int, request: str) -> str:
    """Reverse some of a transfer as runners do; gives the reversal's id."""
    answer = stripe.stripe(
        "POST",
        f"/v1/transfers/{asked.transfer}/reversals",
        {"amount": amount, "metadata[reversal_request_id]": request},
    )
    return str(answer.json()["id"])
