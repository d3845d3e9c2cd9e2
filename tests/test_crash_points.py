"""Runners killed at every point of a call, whatever Stripe answered or would have: each amount moves once.

A point is reached with every kind of answer at once: simulator holds, held answers of the database and row locks stop a
runner there, or one for each kind of work, and a SIGKILL ends it. Then orders are refunded, and another runner does the
rest. What came of it is read from Stripe's ledger and the rows; tests/support/every_answer.py and every_send.py have
the tables of what must.

Each point has a third of the answers here, and each answer is met at two points and in each of its kinds and stories.
`make sweep` has every answer at every point.
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from runner.sandbox.simulator import SimulatorClient
from tests.support.crash_points import POINTS, REVERSALS, SENDS, Side, refunded
from tests.support.cutting_proxy import cutting_proxy
from tests.support.databases import Database, SchemaCopy, ServerAddress, open_database, value
from tests.support.every_answer import (
    ALL,
    AMOUNTS,
    Asked,
    Share,
    add_answers,
    ask,
    deviations,
    pay_for_every_answer,
    settle_pending,
)
from tests.support.every_send import (
    Send,
    add_answers_to_sends,
    create_sends,
    deviations_of_sends,
    every_send,
    hold_sends,
    refund_sends,
)
from tests.support.long_runs import IS_LONG
from tests.support.orders import open_rows, pay_sellers, refund
from tests.support.runners import StartRunner, runners, wait_until, wait_until_listening

# However slow the machine is, a runner gets to its point before a call or a lease is over.
KILLED: dict[str, Any] = {"slots": 100, "lease_seconds": 120, "call_deadline_seconds": 60, "poll_seconds": 300}
FINISHER: dict[str, Any] = {"slots": 100, "lease_seconds": 20, "call_deadline_seconds": 10, "poll_seconds": 0.5}


@dataclass(slots=True)
class Scene:
    """One point: a database of its own with every answer to every amount, who dies there, and who does the rest."""

    name: str
    db: Database
    stripe: SimulatorClient
    asked: list[Asked]
    sends: list[Send]
    sides: list[Side]
    start: StartRunner

    def held(self) -> list[int]:
        """The requests of this scene that stand still at Stripe."""
        return [each for side in self.sides for each in side.held()]

    def release(self) -> None:
        for side in self.sides:
            for name in side.holds:
                self.stripe.release(name)


def shorten_delays(db: Database) -> None:
    """Have everything tried again after a moment."""
    db.execute(
        "update marketplace.retry_policy set base_delay = '200 ms', factor = 1, jitter = 0,"
        " slow_after = null, slow_delay = null"
    )
    db.execute("update marketplace.retry_policy set quiet = '2 s' where verdict = 'unknown'")


@contextmanager
def scenes(
    schema_copy: SchemaCopy, address: ServerAddress, stripe: SimulatorClient, folder: Path
) -> Iterator[list[Scene]]:
    """A scene for each point, with the runners that are to die under way."""
    with ExitStack() as stack:
        made = []
        for number, (point, when, runs) in enumerate(POINTS):
            name = point.__name__
            share = ALL if IS_LONG else Share(number, of=6)
            dbname = f"crash_{name}"
            dsn = stack.enter_context(schema_copy(dbname))
            db = stack.enter_context(closing(open_database(dsn)))
            shorten_delays(db)
            asked = pay_for_every_answer(db, stripe, list(AMOUNTS), name, share)
            sends = every_send(name, share)
            if when is not None:
                hold_sends(stripe, sends, name, when)
            add_answers(stripe, asked, None if when is None else {"name": name, "when": when})
            add_answers_to_sends(stripe, sends)
            line = stack.enter_context(cutting_proxy(address))
            (folder / name).mkdir()
            through = stack.enter_context(runners(line.dsn(address, dbname), stripe.base_url, folder / name))
            start = stack.enter_context(runners(dsn, stripe.base_url, folder / name))
            begins = {REVERSALS: partial(ask, db, asked), SENDS: partial(create_sends, db, stripe, sends)}
            holds = {REVERSALS: [name], SENDS: [f"{name} sends", refunded(name)]}
            sides = []
            for works in runs:
                kind = works[0].name if len(works) == 1 else None
                killed = through(f"killed-{kind}", wait=False, only=kind, **KILLED)
                held = [hold for work in works for hold in holds[work]]
                sides.append(Side(name, works, db, dsn, stripe, line, [begins[work] for work in works], held, killed))
            made.append(Scene(name, db, stripe, asked, sends, sides, start))
        for scene in made:
            for each in scene.sides:
                wait_until_listening(each.dsn, each.killed)
        yield made


def take_over(scene: Scene) -> None:
    """Refund what is being sent, and have another runner find it all, as if the leases had been shorter."""
    refund_sends(scene.db, scene.sends)
    # A request that nobody waits for any more arrives within `quiet`, or the refund would find that nobody was paid.
    scene.stripe.release(refunded(scene.name))
    scene.start("other", wait=False, **FINISHER)
    scene.db.execute(
        "update marketplace.seller_transfers set lease_expires_at = clock_timestamp() where leased_by like 'killed-%'"
    )


def let_the_rest_go(scene: Scene) -> None:
    """What Stripe still holds goes on when the other runner has had to do with every row that was in hand."""
    taken_over = (
        "select count(distinct transfer_id) from marketplace.transfer_attempts where worker = 'other' and kind = 'call'"
    )
    leased = sum(side.leased for side in scene.sides)
    wait_until(lambda: value(scene.db, taken_over) >= leased, f"{scene.name}: the other runner is at it")
    scene.release()


def is_over(scene: Scene) -> bool:
    # A second slice meets its hold when the first one is done, in the hands of the other runner.
    scene.release()
    settle_pending(scene.db, scene.stripe, scene.asked)
    return open_rows(scene.db, parked=False) == 0


def wait_until_over(made: list[Scene]) -> None:
    left = list(made)

    def none_left() -> bool:
        left[:] = [scene for scene in left if not is_over(scene)]
        return not left

    # Looking is what costs most here: seldom, and not at what is over.
    wait_until(none_left, "all is over", within_seconds=60, pause_seconds=0.2)


def test_a_runner_killed_at_any_point_of_any_call_leaves_each_amount_moved_once(
    schema_copy: SchemaCopy, server_address: ServerAddress, simulator: SimulatorClient, tmp_path: Path
) -> None:
    with scenes(schema_copy, server_address, simulator, tmp_path) as made:
        for scene, (reach, _, _) in zip(made, POINTS, strict=True):
            for side in scene.sides:
                reach(side)
            take_over(scene)
        for scene in made:
            if scene.held():
                let_the_rest_go(scene)
        with suppress(AssertionError):  # a row that is still open deviates, and is named below
            wait_until_over(made)
        # What was put off on its way arrives when all is done.
        assert simulator.run_late() > 0

        # Each was killed where it says.
        for side in (side for scene in made[:4] for side in scene.sides):
            assert side.lost_calls() == side.leased > 0, side.name
        for reports, records in zip(made[4].sides, made[5].sides, strict=True):
            assert reports.lost_calls() < reports.leased, reports.work.name
            assert records.lost_calls() == records.leased < 20, records.work.name

        found = [line for scene in made for line in deviations(scene.db, simulator, scene.asked)]
        ledger = simulator.ledger()
        for scene, (_, when, _) in zip(made, POINTS, strict=True):
            found += deviations_of_sends(scene.db, ledger, scene.sends, was_sent=when is not None)
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


def test_the_comparison_names_what_must_not_be_of_sends(db: Database, simulator: SimulatorClient) -> None:
    made = {"right": [1000], "twice": [1000, 1000], "short": [999], "never": [], "kept": [1000]}
    sends = [Send(name, "success", "refunded" if name == "kept" else "plain") for name in made]
    create_sends(db, simulator, sends)
    for name, amounts in made.items():
        params = {"currency": "usd", "destination": f"acct_{name}"}
        ids = [simulator.stripe("POST", "/v1/transfers", params | {"amount": each}).json()["id"] for each in amounts]
        db.execute(
            "update marketplace.seller_transfers set status = 'completed', completed_at = clock_timestamp(),"
            " next_retry_at = null, stripe_transfer_id = %s where transfer_key = %s",
            [(ids or ["tr_none"])[-1], f"key-{name}"],
        )

    def found(*, was_sent: bool) -> dict[str, str]:
        lines = deviations_of_sends(db, simulator.ledger(), sends, was_sent=was_sent)
        return {line.partition(" ")[0]: line.partition(", not as")[0].partition(" ended as ")[2] for line in lines}

    paid = "rows=(('completed', 1000, None),), sent="
    assert found(was_sent=True) == {
        "twice": f"End({paid}(1000, 1000), back=0, names_another=False)",
        "short": f"End({paid}(999,), back=0, names_another=False)",
        "never": f"End({paid}(), back=0, names_another=True)",
        "kept": f"End({paid}(1000,), back=0, names_another=False)",
    }
    assert list(found(was_sent=False)) == ["twice", "short", "never", "kept"]


def reverse(stripe: SimulatorClient, asked: Asked, amount: int, request: str) -> str:
    """Reverse some of a transfer as runners do; gives the reversal's id."""
    answer = stripe.stripe(
        "POST",
        f"/v1/transfers/{asked.transfer}/reversals",
        {"amount": amount, "metadata[reversal_request_id]": request},
    )
    return str(answer.json()["id"])
