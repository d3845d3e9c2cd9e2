"""The points of a call at which a runner can be killed, and how it is brought to each of them."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from runner.sandbox.simulator import SimulatorClient
from tests.support.cutting_proxy import CuttingProxy
from tests.support.databases import Database, open_database, rows, value
from tests.support.runners import Runner, wait_until


@dataclass(frozen=True, slots=True)
class Work:
    """A kind of work: its name, what moves money, the database's functions, the status of a row that is due."""

    name: str
    action: str
    claim: str
    record: str
    status: str


REVERSALS = Work("reversals", "reverse", "claim_due_reversals", "record_reversal_outcomes", "reversal_pending")
SENDS = Work("transfers", "send", "claim_due_transfers", "record_transfer_outcomes", "pending")


def refunded(point: str) -> str:
    """Where requests stand whose orders are refunded meanwhile."""
    return f"{point} refunded"


@dataclass(slots=True)
class Side:
    """A runner that dies at a point: its work, how that begins, and the names under which its requests are held."""

    name: str
    works: tuple[Work, ...]
    db: Database
    dsn: str
    stripe: SimulatorClient
    line: CuttingProxy
    begins: list[Callable[[], None]]
    holds: list[str]
    killed: Runner
    # Rows for which the killed runner was to make the call.
    leased: int = 0

    @property
    def work(self) -> Work:
        """Its only kind of work."""
        (only,) = self.works
        return only

    @property
    def actions(self) -> list[str]:
        """What it does that moves money."""
        return [work.action for work in self.works]

    def begin(self) -> None:
        """Give it its work."""
        for begin in self.begins:
            begin()

    def held(self) -> list[int]:
        """The requests of this side that stand still at Stripe, by their number."""
        return [each["request"] for name in self.holds for each in self.stripe.held(name)]

    def kill(self) -> None:
        self.leased = value(
            self.db,
            "select count(*) from marketplace.seller_transfers where lease_action = any (%(actions)s)",
            actions=self.actions,
        )
        self.killed.send(signal.SIGKILL)
        assert self.killed.exit_code() == -signal.SIGKILL

    def lost_calls(self) -> int:
        """How many calls of the killed runner were never reported."""
        return int(
            value(
                self.db,
                "select count(*) from marketplace.transfer_attempts"
                " where worker = %(worker)s and kind = 'lost_lease' and action = any (%(actions)s)",
                worker=self.killed.worker,
                actions=self.actions,
            )
        )


def claims_sleep(side: Side) -> None:
    """Wait out the claims of a runner that has just begun: the next one is to be the one that finds the rows."""
    asleep = (
        "select from pg_stat_activity where datname = current_database()"
        " and application_name = %(name)s and state = 'idle' and query like '%%next_due_in%%'"
    )
    name = f"seller-transfers claims {side.killed.worker}"
    wait_until(lambda: rows(side.db, asleep, name=name), "the runner sleeps")


def stand_at_stripe(side: Side) -> None:
    """Begin, and wait until the runner can do no more: each row, or one of its transfer's, has its request held."""
    query = """
        select count(lease_token) as leased, count(*) filter (
          where lease_token is null and not exists (
            select from marketplace.seller_transfers as s
            where s.stripe_transfer_id = t.stripe_transfer_id and s.lease_token is not null)) as idle
        from marketplace.seller_transfers as t where t.status = any (%(statuses)s)
    """

    def all_stand() -> bool:
        (found,) = rows(side.db, query, statuses=[work.status for work in side.works])
        return bool(found["idle"] == 0 and found["leased"] == len(side.held()))

    side.begin()
    wait_until(all_stand, f"{side.name}: every request stands at Stripe")


def let_answers_through(side: Side, count: int | None = None) -> None:
    """Let held requests go on, of the first name if only some, and wait until Stripe is done with them."""
    standing = side.held()[:count]
    for name in side.holds if count is None else side.holds[:1]:
        side.stripe.release(name, count)

    def answered() -> bool:
        done = {e.seq for e in side.stripe.requests(since=min(standing) - 1) if e.finished_at is not None}
        return done.issuperset(standing)

    if standing:
        wait_until(answered, f"{side.name}: Stripe has answered")


def report_waits(side: Side) -> bool:
    return bool(
        rows(
            side.db,
            "select from pg_stat_activity where datname = current_database()"
            " and application_name = %(name)s and wait_event_type = 'Lock'"
            # It gives up after a second: there must be time to kill its sender before that.
            " and query_start > clock_timestamp() - interval '0.4 s'",
            name=f"seller-transfers reports {side.killed.worker}",
        )
    )


def no_report_waits(side: Side) -> bool:
    return not rows(
        side.db,
        "select from pg_stat_activity where datname = current_database() and application_name = %(name)s",
        name=f"seller-transfers reports {side.killed.worker}",
    )


@contextmanager
def rows_locked(side: Side) -> Iterator[None]:
    """Hold every row with a lease open, so that no report gets through."""
    with closing(open_database(side.dsn)) as session, session.transaction():
        rows(session, "select id from marketplace.seller_transfers where lease_token is not null for update")
        yield


def let_half_go(side: Side) -> None:
    """Let half of the held requests go on; those whose order is to be refunded wait for that."""
    for name in side.holds:
        if name != refunded(side.name):
            side.stripe.release(name, len(side.stripe.held(name)) // 2)


# The points, in the order of a call.


def claimed(side: Side) -> None:
    """The claim is committed, its answer has not come: nothing was sent."""
    claims_sleep(side)
    held = side.line.held
    side.line.hold(side.work.claim)
    side.begin()
    wait_until(lambda: side.line.held == held + 1, "the claim's answer is held")
    side.kill()


def sent(side: Side) -> None:
    """Stripe has the requests and has not executed them; it will, half of them at once and half of them late."""
    stand_at_stripe(side)
    side.kill()
    let_half_go(side)


def executed(side: Side) -> None:
    """Stripe has executed the requests and has not answered."""
    stand_at_stripe(side)
    side.kill()
    let_half_go(side)


def answered(side: Side) -> None:
    """Stripe has answered; no report can be written, and none ever will be."""
    stand_at_stripe(side)
    with rows_locked(side):
        let_answers_through(side)
        wait_until(lambda: report_waits(side), "a report waits for the rows")
        side.kill()
        wait_until(lambda: no_report_waits(side), "the report of the dead is given up")


def reporting(side: Side) -> None:
    """A report is under way and is committed when its sender is dead."""
    stand_at_stripe(side)
    with rows_locked(side):
        let_answers_through(side)
        wait_until(lambda: report_waits(side), "a report waits for the rows")
        side.kill()


def recorded(side: Side) -> None:
    """Outcomes are committed, and the runner has not been told."""
    stand_at_stripe(side)
    # While the answer to the first report is held, the other outcomes come together for the second.
    held = side.line.held
    side.line.hold(side.work.record)
    let_answers_through(side, 1)
    wait_until(lambda: side.line.held == held + 1, "the answer to the first report is held")
    let_answers_through(side)
    side.line.hold(side.work.record)
    side.line.let_go()
    wait_until(lambda: side.line.held == held + 2, "the answer to the second report is held")
    side.kill()


TOGETHER = [(REVERSALS, SENDS)]
# A claim and a report are of one kind of work, and of its runner the only one under way.
APART = [(REVERSALS,), (SENDS,)]
# Each with where Stripe holds the first request of every row, if it does, and with the work of each runner.
POINTS: list[tuple[Callable[[Side], None], str | None, Sequence[tuple[Work, ...]]]] = [
    (claimed, None, APART),
    (sent, "before", TOGETHER),
    (executed, "after", TOGETHER),
    (answered, "before", TOGETHER),
    (reporting, "before", APART),
    (recorded, "before", APART),
]
