"""What others do to the database and its model alike: operators who pause calls, DBAs who change policy, a failover."""

from copy import deepcopy
from dataclasses import dataclass
from datetime import timedelta

from tests.model.dated.database import Database as Model
from tests.model.dated.policy import Delays
from tests.model.dated.row import Verdict
from tests.support.moved_clock import let_pass
from tests.support.side_by_side import WORKER, SideBySide
from tests.support.transfers import call, record_transfer, register


def pause(both: SideBySide) -> None:
    (seen,) = call(both.db, "pause_stripe_calls", p_reason="a person says so")
    both.model.control.pause("person", seen["paused_at"] + both.moved, None)
    both.read()
    both.compare()


def resume(both: SideBySide) -> None:
    call(both.db, "resume_stripe_calls", p_reason="a person says so")
    both.model.control.resume()
    both.read()
    both.compare()


def set_delays(both: SideBySide, verdict: str, delays: Delays) -> None:
    """A DBA changes how long is waited; nothing is slowed down further."""
    both.model.policy.delays[verdict] = delays
    both.db.execute(
        """
        update marketplace.retry_policy
        set base_delay = make_interval(secs => %s), max_delay = make_interval(secs => %s), jitter = %s,
          slow_after = null, slow_delay = null
        where verdict = %s
        """,
        [delays.base, delays.longest, delays.jitter, verdict],
    )


def set_retries(both: SideBySide, retries: int) -> None:
    both.model.policy.retries = retries
    both.db.execute("update marketplace.retry_policy set max_retries = %s where verdict = 'transient'", [retries])


def set_rule(both: SideBySide, verdict: Verdict) -> None:
    """A DBA says what Stripe's plain "No." means, before all other rules."""
    both.model.verdicts["refused"] = verdict
    both.db.execute(
        """
        insert into marketplace.stripe_error_rules (priority, http_status, message_pattern, verdict, note)
        values (1, 400, '^No[.]$', %(verdict)s, 'A test of it.')
        on conflict on constraint pk_stripe_error_rules do update set verdict = %(verdict)s
        """,
        {"verdict": verdict},
    )


@dataclass(frozen=True, slots=True)
class Backup:
    """What a standby has got."""

    model: Model
    moved: timedelta
    transfers: int
    asked: int


def back_up(both: SideBySide) -> Backup:
    """Whatever is committed from here on does not get to the standby."""
    both.db.execute("savepoint backup")
    return Backup(deepcopy(both.model), both.moved, both.transfers, len(both.asked))


def fail_over(both: SideBySide, backup: Backup) -> None:
    """The standby takes over, and says so; the app asks again for all that it does not know."""
    both.db.execute("rollback to savepoint backup")
    let_pass(both.db, both.moved - backup.moved)
    both.model = backup.model
    (control,) = call(both.db, "look_up_first", p_reason="a standby took over")
    register(both.db, WORKER)
    both.model.took_over(control["look_up_first_since"] + both.moved)
    both.sent_under.clear()
    both.read()
    both.compare()
    for n in range(backup.transfers + 1, both.transfers + 1):
        record_transfer(both.db, n)
    lost, both.asked = both.asked[backup.asked :], both.asked[: backup.asked]
    for asked in lost:
        both.ask_back(*asked)
    # Who holds a call for a row that came back under another id may report what he likes.
    both.held = [held for held in both.held if held.call.row in both.model.rows]
