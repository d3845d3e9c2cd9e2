"""Two sessions on one transfer: what each may do, and what the other finds; the fixture is in stage.py."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psycopg
from psycopg.rows import DictRow

from tests.support.databases import Database, value
from tests.support.sessions import wait_until_blocked
from tests.support.transfers import (
    Facts,
    call,
    claim,
    claim_again,
    claimed_call,
    lapse_lease,
    record_one,
    refunded_transfer,
    refusal,
    report,
    request_reversal,
    timeout,
    transfer,
)

SECONDS = 20

Before = Callable[[Database, int], DictRow]
Act = Callable[[Database, DictRow], str]


@dataclass(frozen=True, slots=True)
class Stage:
    """Two sessions that play, one that holds what they are to wait for, and one that sees them wait."""

    first: Database
    second: Database
    gate: Database
    observer: Database

    def wait_for(self, *sessions: Database) -> None:
        """Return once these wait for a lock."""
        wait_until_blocked(self.observer, *sessions)

    def play(self, first: Act, second: Act, leased: DictRow, *, waits: bool, commits: bool) -> str:
        """What `second` finds that begins when `first` is done and open; it waits for its end, or must not."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            with self.first.transaction(force_rollback=not commits):
                first(self.first, leased)
                doing = pool.submit(tried, second, self.second, leased)
                if waits:
                    self.wait_for(self.second)
                else:
                    doing.result(SECONDS)
            return doing.result(SECONDS)


def tried(act: Act, db: Database, leased: DictRow) -> str:
    """The word for what the session finds; a refusal's is its SQLSTATE."""
    try:
        return act(db, leased)
    except psycopg.Error as error:
        return error.sqlstate or "no SQLSTATE"


def standing(db: Database, transfer_id: int) -> str:
    """The row and the pause in words."""
    held = transfer(db, transfer_id)
    words = [{"reversal_pending": "open", "permanently_failed": "given up"}.get(held["status"], str(held["status"]))]
    if held["leased_by"]:
        words.append(held["leased_by"])
    if held["call_unknown"]:
        words.append("unknown")
    if held["parked_reason"]:
        words.append("parked")
    if pause := value(db, "select paused_by from marketplace.stripe_control"):
        words.append(f"paused by {pause}")
    return ", ".join(words)


# What a session may do to a transfer.


def claims(number: int) -> Act:
    """A worker asks for calls: which actions it gets."""
    words = {"reverse": "reverse", "look_up_reversals": "look"}
    return lambda db, _: ", ".join(words[each["action"]] for each in claim(db, worker=f"worker-{number}")) or "nothing"


def says(outcome: Callable[[DictRow], Facts]) -> Act:
    """worker-1 reports its call: what becomes of the report."""
    return lambda db, leased: str(record_one(db, outcome(leased))["result"])


def not_sent(leased: DictRow) -> Facts:
    """Nothing left us."""
    return report(leased, sent=False)


def key_refused(leased: DictRow) -> Facts:
    """Stripe refuses the key, which pauses all calls."""
    return refusal(leased, 401, message="Invalid API Key provided: sk_test_***")


def sets(assignments: str) -> Act:
    """A DBA changes the row."""

    def act(db: Database, leased: DictRow) -> str:
        db.execute(f"update marketplace.seller_transfers set {assignments} where id = %s".encode(), [leased["id"]])
        return "done"

    return act


NO_LEASE = "lease_token = null, leased_at = null, lease_expires_at = null, leased_by = null, lease_action = null"
OVER = "status = 'permanently_failed', next_retry_at = null, failure_code = 'by_hand', failure_message = 'Over.'"

postpones = sets("next_retry_at = clock_timestamp() + interval '1 h'")
parks = sets("parked_reason = 'a person looks'")
ends = sets(OVER)
takes_it_away = sets(NO_LEASE)
takes_it_away_and_ends = sets(f"{NO_LEASE}, {OVER}")


def pauses(db: Database, _: DictRow) -> str:
    """A person stops all calls."""
    call(db, "pause_stripe_calls", p_reason="an incident")
    return "done"


def resumes(db: Database, _: DictRow) -> str:
    """A person lets them go on."""
    call(db, "resume_stripe_calls", p_reason="it is over")
    return "done"


def refunds(db: Database, leased: DictRow) -> str:
    """The order is refunded once more: how many transfers that takes."""
    order = transfer(db, leased["id"])["order_id"]
    return str(len(request_reversal(db, p_order_id=order, p_reversal_request_id=f"re_again_{leased['id']}")))


def does_nothing(_: Database, __: DictRow) -> str:
    """Nothing."""
    return "done"


# What has happened to transfer number `n` before; the row, or worker-1's call for it.


def due(db: Database, n: int) -> DictRow:
    """Refunded."""
    return refunded_transfer(db, n)


def called(db: Database, n: int) -> DictRow:
    """Claimed by worker-1, to be reversed."""
    return claimed_call(db, n)


def lapsed(db: Database, n: int) -> DictRow:
    """So claimed, and the lease has run out."""
    leased = claimed_call(db, n)
    lapse_lease(db, leased["id"])
    return leased


def looked(db: Database, n: int) -> DictRow:
    """Claimed by worker-1, to be looked up after a call without an answer."""
    leased = claimed_call(db, n)
    record_one(db, timeout(leased))
    return claim_again(db, leased["id"])


def called_beside_a_due_one(db: Database, n: int) -> DictRow:
    """Claimed by worker-1, and another one is due."""
    leased = claimed_call(db, n)
    refunded_transfer(db, 1000 + n)
    return leased


def paused(db: Database, n: int) -> DictRow:
    """Refunded, while a person has stopped all calls."""
    waiting = refunded_transfer(db, n)
    pauses(db, waiting)
    return waiting
