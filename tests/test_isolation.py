"""Claims, reports, a DBA's hand and pauses, interleaved: who waits for whom, and what comes of it.

What a refund and a transfer that is being recorded do to each other is in test_request_reversal.py, batches of reports
at once in test_outcomes_at_once.py, the slices of one transfer in test_isolation_slices.py.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.databases import Connect, Database
from tests.support.transfers import (
    claim,
    claim_post,
    claimed_call,
    nothing_found,
    record_one,
    refunded_transfer,
    refusal,
    success,
    timeout,
    transfer,
)
from tests.support.two_sessions import (
    SECONDS,
    Act,
    Before,
    Stage,
    called,
    called_beside_a_due_one,
    claims,
    does_nothing,
    due,
    ends,
    key_refused,
    lapsed,
    looked,
    not_sent,
    parks,
    paused,
    pauses,
    postpones,
    refunds,
    resumes,
    says,
    standing,
    takes_it_away,
    takes_it_away_and_ends,
)

pytest_plugins = ("tests.support.stage",)


@dataclass(frozen=True, slots=True)
class Case:
    """`first` is done and open when `second` begins: what that finds and how the row stands, by the end of `first`."""

    before: Before
    first: Act
    second: Act
    waits: bool
    committed: tuple[str, str]
    undone: tuple[str, str]


WAITS, PASSES = True, False
ONE, TWO, THREE = "open, worker-1", "open, worker-2", "open, worker-3"
TWO_UNKNOWN, THREE_UNKNOWN = "open, worker-2, unknown", "open, worker-3, unknown"
IN_PAUSE = "open, paused by person"

# fmt: off
CASES = {
    # Two claims
    "claim, claim": Case(due, claims(2), claims(3), WAITS, ("nothing", TWO), ("reverse", THREE)),
    "take-over, claim": Case(lapsed, claims(2), claims(3), WAITS, ("nothing", TWO_UNKNOWN), ("look", THREE_UNKNOWN)),
    # A report and a claim
    "success, claim": Case(lapsed, says(success), claims(2), PASSES, ("nothing", "reversed"), ("nothing", ONE)),
    "silence, claim": Case(lapsed, says(timeout), claims(2), PASSES, ("nothing", "open, unknown"), ("nothing", ONE)),
    "not sent, claim": Case(called, says(not_sent), claims(2), PASSES, ("nothing", "open"), ("nothing", ONE)),
    "nothing found, claim": Case(
        looked, says(nothing_found), claims(2), PASSES, ("nothing", "open, unknown"), ("nothing", f"{ONE}, unknown")),
    "take-over, success": Case(
        lapsed, claims(2), says(success), WAITS, ("stale", TWO_UNKNOWN), ("applied", "reversed")),
    "take-over, refusal": Case(lapsed, claims(2), says(refusal), WAITS, ("stale", TWO_UNKNOWN), ("applied", "open")),
    # Two reports under one lease
    "success twice": Case(
        called, says(success), says(success), WAITS, ("already_recorded", "reversed"), ("applied", "reversed")),
    "silence twice": Case(
        called, says(timeout), says(timeout), WAITS,
        ("already_recorded", "open, unknown"), ("applied", "open, unknown")),
    "silence, success": Case(
        called, says(timeout), says(success), WAITS, ("stale", "open, unknown"), ("applied", "reversed")),
    "success, silence": Case(
        called, says(success), says(timeout), WAITS, ("stale", "reversed"), ("applied", "open, unknown")),
    "not sent, success": Case(
        called, says(not_sent), says(success), WAITS, ("stale", "open, unknown"), ("applied", "reversed")),
    # A DBA and a claim
    "postpone, claim": Case(due, postpones, claims(2), PASSES, ("nothing", "open"), ("nothing", "open")),
    "park, claim": Case(due, parks, claims(2), PASSES, ("nothing", "open, parked"), ("nothing", "open")),
    "end, claim": Case(due, ends, claims(2), PASSES, ("nothing", "given up"), ("nothing", "open")),
    "claim, postpone": Case(due, claims(2), postpones, WAITS, ("done", TWO), ("done", "open")),
    "claim, park": Case(due, claims(2), parks, WAITS, ("done", f"{TWO}, parked"), ("done", "open, parked")),
    "claim, end": Case(due, claims(2), ends, WAITS, ("23514", TWO), ("done", "given up")),
    # A DBA and a report
    "postpone, success": Case(
        called, postpones, says(success), WAITS, ("applied", "reversed"), ("applied", "reversed")),
    "park, success": Case(called, parks, says(success), WAITS, ("applied", "reversed"), ("applied", "reversed")),
    "park, silence": Case(
        called, parks, says(timeout), WAITS, ("applied", "open, unknown, parked"), ("applied", "open, unknown")),
    "take it away, success": Case(
        called, takes_it_away, says(success), WAITS, ("stale", "open, unknown"), ("applied", "reversed")),
    "take it away and end, success": Case(
        called, takes_it_away_and_ends, says(success), WAITS, ("stale", "given up"), ("applied", "reversed")),
    "success, park": Case(called, says(success), parks, WAITS, ("ST002", "reversed"), ("done", f"{ONE}, parked")),
    "success, end": Case(
        called, says(success), takes_it_away_and_ends, WAITS, ("ST001", "reversed"), ("done", "given up")),
    # A pause
    "pause, claim": Case(due, pauses, claims(2), WAITS, ("nothing", IN_PAUSE), ("reverse", TWO)),
    "claim, pause": Case(due, claims(2), pauses, WAITS, ("done", f"{TWO}, paused by person"), ("done", IN_PAUSE)),
    "resume, claim": Case(paused, resumes, claims(2), WAITS, ("reverse", TWO), ("nothing", IN_PAUSE)),
    "claim, resume": Case(paused, claims(2), resumes, WAITS, ("done", "open"), ("done", "open")),
    "pause, success": Case(
        called, pauses, says(success), PASSES, ("applied", "reversed, paused by person"), ("applied", "reversed")),
    "pause, refused key": Case(
        called, pauses, says(key_refused), WAITS, ("applied", IN_PAUSE), ("applied", "open, paused by verdict")),
    "refused key, pause": Case(
        called, says(key_refused), pauses, WAITS, ("done", IN_PAUSE), ("done", f"{ONE}, paused by person")),
    "refused key, claim": Case(
        called_beside_a_due_one, says(key_refused), claims(2), WAITS,
        ("nothing", "open, paused by verdict"), ("reverse", ONE)),
    # Another refund of the order
    "refund, claim": Case(due, refunds, claims(2), PASSES, ("nothing", "open"), ("nothing", "open")),
    "claim, refund": Case(due, claims(2), refunds, WAITS, ("0", TWO), ("0", "open")),
}
# fmt: on


@pytest.mark.parametrize("name", CASES)
def test_who_waits_for_whom_and_what_comes_of_it(stage: Stage, name: str) -> None:
    case = CASES[name]
    leased = case.before(stage.first, 1 + list(CASES).index(name))

    # What the second session does after an undone first is itself undone: the row is as it was.
    with stage.second.transaction(force_rollback=True):
        found = stage.play(case.first, case.second, leased, waits=case.waits, commits=False)
        assert (found, standing(stage.second, leased["id"])) == case.undone
    found = stage.play(case.first, case.second, leased, waits=case.waits, commits=True)
    assert (found, standing(stage.first, leased["id"])) == case.committed


# What happens while a claim that has begun waits for its turn: it goes by what is committed when that comes.
MEANWHILE = {
    "nothing": (due, does_nothing, "reverse"),
    "success": (lapsed, says(success), "nothing"),
    "silence": (lapsed, says(timeout), "nothing"),
    "not sent": (called, says(not_sent), "reverse"),
    "nothing found": (looked, says(nothing_found), "reverse"),
    "postpone": (due, postpones, "nothing"),
    "park": (due, parks, "nothing"),
    "end": (due, ends, "nothing"),
    "take it away": (called, takes_it_away, "reverse"),
    "refund": (due, refunds, "reverse"),
}


@pytest.mark.parametrize("name", MEANWHILE)
def test_a_claim_goes_by_what_is_committed_when_its_turn_comes(stage: Stage, name: str) -> None:
    before, act, found = MEANWHILE[name]
    leased = before(stage.first, 100 + list(MEANWHILE).index(name))
    with ThreadPoolExecutor(max_workers=1) as pool:
        with stage.gate.transaction():
            lock_control(stage.gate)
            claiming = pool.submit(claims(2), stage.second, leased)
            stage.wait_for(stage.second)
            act(stage.first, leased)
        assert claiming.result(SECONDS) == found


def lock_control(db: Database) -> None:
    db.execute("select from marketplace.stripe_control for update")


@pytest.mark.parametrize("claim_is_first", [True, False])
def test_of_a_claim_and_a_pause_that_wait_the_first_to_come_is_the_first_served(
    stage: Stage, claim_is_first: bool
) -> None:
    leased = due(stage.first, 201 + claim_is_first)
    turns: list[tuple[Act, Database]] = [(claims(2), stage.second), (pauses, stage.first)]
    doing: dict[Act, Future[str]] = {}
    with ThreadPoolExecutor(max_workers=2) as pool:
        with stage.gate.transaction():
            lock_control(stage.gate)
            waiting = []
            for act, session in turns if claim_is_first else turns[::-1]:
                doing[act] = pool.submit(act, session, leased)
                waiting.append(session)
                stage.wait_for(*waiting)
        found = {act: future.result(SECONDS) for act, future in doing.items()}

    assert found == {turns[0][0]: "reverse" if claim_is_first else "nothing", pauses: "done"}
    assert claims(3)(stage.first, leased) == "nothing"


@pytest.mark.parametrize("claim_is_first", [True, False])
def test_a_report_that_pauses_and_a_claim_that_wants_its_row_do_not_deadlock(
    stage: Stage, claim_is_first: bool
) -> None:
    """The report has the row and waits for the control row; the claim gets that, and passes the row by."""
    n = 301 + 10 * claim_is_first
    lost, other = lapsed(stage.first, n), refunded_transfer(stage.first, n + 1)
    reporting: Future[Any]
    claiming: Future[Any]
    with ThreadPoolExecutor(max_workers=2) as pool:
        with stage.gate.transaction():
            lock_control(stage.gate)
            if claim_is_first:
                claiming = pool.submit(claim, stage.second, worker="worker-2")
                stage.wait_for(stage.second)
            reporting = pool.submit(record_one, stage.first, key_refused(lost))
            stage.wait_for(stage.first)
            if not claim_is_first:
                claiming = pool.submit(claim, stage.second, worker="worker-2")
            stage.wait_for(stage.first, stage.second)
        assert reporting.result(SECONDS)["result"] == "applied"
        assert [each["id"] for each in claiming.result(SECONDS)] == ([other["id"]] if claim_is_first else [])

    assert standing(stage.first, lost["id"]) == "open, paused by verdict"


def test_an_outcome_is_scheduled_by_the_policy_that_is_committed(db: Database, connect: Connect) -> None:
    dba = connect()
    leased = claimed_call(db)
    with dba.transaction():
        dba.execute(
            "update marketplace.retry_policy set base_delay = '7 min', jitter = 0, max_retries = 1"
            " where verdict = 'transient'"
        )
        record_one(db, refusal(leased))
    held = transfer(db, leased["id"])
    # By the old one: a minute, and up to a tenth more.
    assert 60 <= (held["next_retry_at"] - held["streak_since"]).total_seconds() <= 66

    assert record_one(db, refusal(claim_post(db, leased["id"])))["status"] == "permanently_failed"
