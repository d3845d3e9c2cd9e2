"""The chaos run: two short seeds of it, the plan it draws, and an oracle that sees what is wrong.

`make chaos` runs long ones.
"""

import signal
import subprocess
import sys
from typing import Any

import pytest

from runner.sandbox.owned_process import owned_command
from runner.sandbox.simulator import LedgerEntry
from tests.chaos.app import Book
from tests.chaos.oracle import judge
from tests.chaos.plan import Ask, Payout, make_plan
from tests.support.databases import Database, row
from tests.support.look_ups import foreign, seen
from tests.support.runners import REPOSITORY
from tests.support.transfers import claim, record, record_transfer, refusal, request_reversal, success

SECONDS = 100
PAYOUT = Payout("key-1", "order-1", "seller-1", "acct_1", 1000, "usd")
ASK = Ask(0, 0, "order-1", "re_1", "refund")


def test_short_seeds_end_with_the_books_in_order() -> None:
    command = [sys.executable, "-m", "tests.chaos", "--seeds", "2..3", "--rows", "8", "--jobs", "2"]
    done = subprocess.run(
        owned_command(command, death_signal=signal.SIGTERM),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        cwd=REPOSITORY,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "2 seeds, none failed"


@pytest.mark.parametrize("rows", [8, 60])
def test_the_same_seed_is_the_same_plan(rows: int) -> None:
    once, again, another = (list(make_plan(seed, rows).lines()) for seed in (7, 7, 8))
    assert once == again
    assert once != another


@pytest.mark.parametrize("lines", [make_plan(seed, 60).times for seed in range(1, 6)])
def test_what_is_assumed_of_stripe_holds_in_a_plan(lines: Any) -> None:
    assert lines.call_deadline <= 0.75 * lines.lease
    assert lines.call_deadline < lines.late
    assert lines.lease < lines.pause
    assert lines.pause + lines.late < lines.quiet
    assert lines.key_max_age + lines.lease + lines.pause + lines.late < lines.keys_kept


def entry(kind: Any, amount: int = 1000, **facts: Any) -> LedgerEntry:
    """Something that happened to the money of tr_1."""
    return LedgerEntry(
        seq=1,
        kind=kind,
        at=0.0,
        monotonic=0.0,
        livemode=False,
        debit="acct_1",
        credit="acct_platform",
        amount=amount,
        moved=amount,
        currency="usd",
        **{"transfer": "tr_1", **facts},
    )


def ours(db: Database, **facts: Any) -> LedgerEntry:
    """The reversal the row asks for, as Stripe would have it."""
    database_id = row(db, "select database_id from marketplace.stripe_control")["database_id"]
    identity = f"reversal:{database_id}:tr_1:re_1:1"
    metadata = {"seller_transfers_identity": identity, "reversal_request_id": "re_1"}
    return entry("reversal", **{"reversal": "trr_1", "metadata": metadata, **facts})


def reversed_transfer(db: Database) -> None:
    """Transfer 1, taken back by trr_1."""
    record_transfer(db)
    request_reversal(db)
    (leased,) = claim(db)
    record(db, success(leased, "trr_1"))


def broken(db: Database, *happened: LedgerEntry, asked: Ask | None = ASK, payout: Payout = PAYOUT) -> set[str]:
    """The rules that the oracle finds broken, after this happened at Stripe to the transfer that the row is about."""
    book = Book(recorded={payout.key: payout}, asked={} if asked is None else {asked.request: asked})
    return {found.rule for found in judge(db, [entry("transfer"), *happened], book, {payout.key: "tr_1"})}


def test_the_oracle_finds_nothing_where_all_is_well(db: Database) -> None:
    reversed_transfer(db)
    assert broken(db, ours(db)) == set()


def test_the_oracle_sees_a_second_reversal(db: Database) -> None:
    reversed_transfer(db)
    assert broken(db, ours(db), ours(db, reversal="trr_2")) == {
        "more taken back than the app asked for",
        "more taken back than the requests' lines met",
        "more taken back than was paid",
        "one obligation, two live reversals",
        "a reversal of ours that no row has",
    }


def test_the_oracle_sees_that_evidence_is_not_in_the_ledger(db: Database) -> None:
    reversed_transfer(db)
    rule = "reversed by a reversal that the ledger does not have so"
    assert broken(db) == {rule}
    assert broken(db, ours(db, amount=999)) == {rule}
    assert broken(db, ours(db, status="pending")) == {rule}
    assert broken(db, ours(db), ours(db, status="failed")) == {rule}
    assert rule in broken(db, ours(db, metadata={}))


def test_the_oracle_sees_money_that_moved_without_being_asked_for(db: Database) -> None:
    reversed_transfer(db)
    assert broken(db, ours(db), asked=None) == {
        "more taken back than the app asked for",
        "touched without being asked for",
    }


def test_the_oracle_sees_a_row_that_is_not_done_though_its_money_moved(db: Database) -> None:
    record_transfer(db)
    request_reversal(db)
    assert broken(db) == {"not done"}
    assert broken(db, ours(db)) == {"not done", "a reversal of ours that no row has"}


def test_the_oracle_sees_a_row_that_says_elsewhere_of_a_reversal_of_ours(db: Database) -> None:
    record_transfer(db)
    request_reversal(db)
    (leased,) = claim(db)
    record(db, refusal(leased, message="The transfer tr_1 is already fully reversed."))
    (looked,) = claim(db)
    record(db, seen(looked, foreign(looked, "trr_3", 1000)))
    assert broken(db, entry("reversal", reversal="trr_3")) == set()
    assert broken(db, ours(db)) == {
        "a reversal of ours that no row has",
        "reversed elsewhere, where nobody else reversed so much",
    }


def test_the_oracle_sees_a_row_given_up_for_nothing(db: Database) -> None:
    record_transfer(db)
    request_reversal(db)
    (leased,) = claim(db)
    record(db, refusal(leased, 404, "resource_missing", "No such transfer: 'tr_1'"))
    rule = "given up without a definitive refusal"
    assert broken(db) == {rule}
    assert broken(db, ours(db)) == {rule, "given up while its reversal is live", "a reversal of ours that no row has"}


def test_the_oracle_misses_what_the_app_was_told(db: Database) -> None:
    reversed_transfer(db)
    other = Payout("key-2", "order-1", "seller-1", "acct_1", 1000, "usd")
    assert broken(db, ours(db), asked=Ask(0, 0, "order-1", "re_2", "refund")) == {"a request that is not there"}
    assert "a recorded transfer that is not there" in broken(db, ours(db), payout=other)
    part = Ask(0, 0, "order-1", "re_1", "refund", (("key-1", 400),))
    assert broken(db, ours(db), asked=part) == {
        "more taken back than the app asked for",
        "a part asked for that is not in the request's lines",
    }
