"""The chaos run: a short seed of it, the plan it draws, and an oracle that sees what is wrong.

`make chaos` runs long ones.
"""

import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from runner.sandbox.owned_process import owned_command
from runner.sandbox.simulator import LedgerEntry
from tests.chaos.app import Book
from tests.chaos.calls import Ask, Bill, Cause, Payout
from tests.chaos.oracle import judge
from tests.chaos.plan import make_plan
from tests.support.databases import Database, row
from tests.support.events import by_events, charge, event, ingest, refund
from tests.support.look_ups import foreign, seen
from tests.support.runners import REPOSITORY
from tests.support.transfers import (
    claim,
    claim_sends,
    claimed_send,
    create_transfer,
    record,
    record_transfer,
    refusal,
    request_reversal,
    sent,
    success,
)
from tests.support.withdrawals import withdraw

pytest_plugins = ("tests.support.rolled_back",)

SECONDS = 100
PAYOUT = Payout("key-1", "order-1", "seller-1", "acct_1", 1000, "usd")
SENT = replace(PAYOUT, kind="sent")
# What follows from most of what can be wrong.
BOOKS = "an account whose books differ"
MORE = "more with a seller than is his"
LESS = "less with a seller than is his"
ASK = Ask(0, 0, "order-1", "re_1", "refund")


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    return rolled_back_db


def test_a_short_seed_ends_with_the_books_in_order() -> None:
    command = [sys.executable, "-m", "tests.chaos", "--seeds", "5", "--rows", "8"]
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
    assert done.stdout.splitlines()[-1].endswith(": ok")


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


def payment(**facts: Any) -> LedgerEntry:
    """The transfer tr_1, as the app made it."""
    return entry("transfer", **{"destination": "acct_1", "metadata": {"transfer_key": "key-1"}, **facts})


def sent_by_us(db: Database, **facts: Any) -> LedgerEntry:
    """The transfer tr_1, as a runner made it."""
    identity = f"transfer:{row(db, 'select database_id from marketplace.stripe_control')['database_id']}:key-1"
    return payment(**{"metadata": {"transfer_key": "key-1", "seller_transfers_identity": identity}, **facts})


def rules_broken(db: Database, happened: Sequence[LedgerEntry], asked: Ask | None, payout: Payout) -> set[str]:
    """The rules that the oracle finds broken, after this happened at Stripe."""
    book = Book(recorded={payout.key: payout}, asked={} if asked is None else {asked.request: asked})
    return found(db, happened, book)


def found(db: Database, happened: Sequence[LedgerEntry], book: Book) -> set[str]:
    """Those broken by what the app was told."""
    return {finding.rule for finding in judge(db, happened, book)}


def broken(db: Database, *happened: LedgerEntry, asked: Ask | None = ASK, payout: Payout = PAYOUT) -> set[str]:
    """Those broken if it happened to the transfer that the row is about, which the app made."""
    return rules_broken(db, [payment(), *happened], asked, payout)


def broken_sends(db: Database, *happened: LedgerEntry, asked: Ask | None = None) -> set[str]:
    """Those broken if this is all that happened, and the runners were to send the transfer."""
    return rules_broken(db, happened, asked, SENT)


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
        BOOKS,
        LESS,
    }


def test_the_oracle_sees_that_evidence_is_not_in_the_ledger(db: Database) -> None:
    reversed_transfer(db)
    rule = "reversed by a reversal that the ledger does not have so"
    assert broken(db) == {rule, BOOKS, MORE}
    assert broken(db, ours(db, amount=999)) == {rule, BOOKS, MORE}
    assert broken(db, ours(db, status="pending")) == {rule}
    assert broken(db, ours(db), ours(db, status="failed")) == {rule, BOOKS, MORE}
    assert rule in broken(db, ours(db, metadata={}))


def test_the_oracle_sees_money_that_moved_without_being_asked_for(db: Database) -> None:
    reversed_transfer(db)
    assert broken(db, ours(db), asked=None) == {
        "more taken back than the app asked for",
        "touched without being asked for",
        LESS,
    }


def test_the_oracle_sees_a_row_that_is_not_done_though_its_money_moved(db: Database) -> None:
    record_transfer(db)
    request_reversal(db)
    assert broken(db) == {"not done", MORE}
    assert broken(db, ours(db)) == {"not done", "a reversal of ours that no row has", BOOKS}


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
        BOOKS,
    }


def test_the_oracle_sees_a_row_given_up_for_nothing(db: Database) -> None:
    record_transfer(db)
    request_reversal(db)
    (leased,) = claim(db)
    record(db, refusal(leased, 404, "resource_missing", "No such transfer: 'tr_1'"))
    rule = "given up without a definitive refusal"
    assert broken(db) == {rule}
    assert broken(db, ours(db)) == {
        rule,
        "given up while its reversal is live",
        "a reversal of ours that no row has",
        BOOKS,
    }


def test_the_oracle_misses_what_the_app_was_told(db: Database) -> None:
    reversed_transfer(db)
    other = Payout("key-2", "order-1", "seller-1", "acct_1", 1000, "usd")
    assert broken(db, ours(db), asked=Ask(0, 0, "order-1", "re_2", "refund")) == {"a request that is not there"}
    assert "a recorded transfer that is not there" in broken(db, ours(db), payout=other)
    part = Ask(0, 0, "order-1", "re_1", "refund", (("key-1", 400),))
    assert broken(db, ours(db), asked=part) == {
        "more taken back than the app asked for",
        "more taken back of an order than the app asked for",
        "a part asked for that is not in the request's lines",
        LESS,
    }


def test_the_oracle_sees_a_second_transfer_for_one(db: Database) -> None:
    record(db, sent(claimed_send(db), "tr_1"))
    assert broken_sends(db, sent_by_us(db)) == set()
    assert broken_sends(db, sent_by_us(db), sent_by_us(db, transfer="tr_2")) == {
        "one obligation, two transfers",
        "a transfer of ours that no row has",
        BOOKS,
        MORE,
    }


def test_the_oracle_sees_that_a_row_is_not_paid_as_it_says(db: Database) -> None:
    record(db, sent(claimed_send(db), "tr_1"))
    rule = "sent as the ledger does not have it"
    assert broken_sends(db) == {rule, "a recorded transfer that is not there", BOOKS, LESS}
    assert broken_sends(db, sent_by_us(db, amount=999)) == {rule, BOOKS, LESS}
    assert broken_sends(db, sent_by_us(db, charge="ch_1")) == {rule}
    assert broken_sends(db, payment()) == {rule}
    assert broken_sends(db, sent_by_us(db, destination="acct_2")) == {rule, BOOKS}


def test_the_oracle_sees_money_that_was_sent_for_a_row_that_says_it_was_not(db: Database) -> None:
    create_transfer(db)
    request_reversal(db)
    assert broken_sends(db, asked=ASK) == set()
    assert broken_sends(db) == {"unpaid for a refund that nobody asked for", LESS}
    assert broken_sends(db, sent_by_us(db), asked=ASK) == {
        "a transfer of ours that no row has",
        BOOKS,
        MORE,
    }


def test_the_oracle_sees_a_seller_paid_for_a_refunded_order(db: Database) -> None:
    record(db, sent(claimed_send(db), "tr_1"))
    assert broken_sends(db, sent_by_us(db), asked=ASK) == {
        "a request that is not there",
        "asked for as a whole and left where it is",
        MORE,
    }


def test_the_oracle_sees_a_send_given_up_for_nothing_and_a_request_that_waits_for_it(db: Database) -> None:
    leased = claimed_send(db)
    request_reversal(db)
    assert "a line with something of it neither met nor said why" in broken_sends(db, asked=ASK)
    db.execute("update marketplace.retry_policy set max_retries = 0 where verdict = 'transient'")
    record(db, refusal(leased))
    assert claim_sends(db) == []
    assert broken_sends(db, asked=ASK) == {"given up without a definitive refusal"}


def test_the_oracle_sees_more_taken_than_an_amount_of_the_whole_order(db: Database) -> None:
    reversed_transfer(db)
    amount = replace(ASK, amount=400)
    assert broken(db, ours(db), asked=amount) == {
        "more taken back than the app asked for",
        "more taken back of an order than the app asked for",
        "an amount asked for that is not in the request's lines",
    }


def test_the_oracle_sees_a_withdrawn_request_that_still_stands(db: Database) -> None:
    reversed_transfer(db)
    book = Book(recorded={"key-1": PAYOUT}, asked={"re_1": ASK}, withdrawn={"re_1"})
    assert found(db, [payment(), ours(db)], book) == {"withdrawn, and the request does not say so", LESS}
    withdraw(db)
    assert found(db, [payment(), ours(db)], book) == {"not done", LESS}


def test_the_oracle_sees_a_seller_who_is_paid_again_twice(db: Database) -> None:
    reversed_transfer(db)
    withdraw(db)
    (leased,) = claim_sends(db)
    record(db, sent(leased, "tr_2"))
    book = Book(recorded={"key-1": PAYOUT}, asked={"re_1": ASK}, withdrawn={"re_1"})
    once, again = (payment(transfer=each, metadata=leased["metadata"]) for each in ("tr_2", "tr_3"))
    assert found(db, [payment(), ours(db), once], book) == set()
    assert found(db, [payment(), ours(db), once, again], book) == {
        "one obligation, two transfers",
        "a transfer of ours that no row has",
        BOOKS,
        MORE,
    }
    assert found(db, [payment(), ours(db), once], replace(book, withdrawn=set())) == {
        "withdrawn, and the request does not say so",
        "asked for as a whole and left where it is",
        MORE,
    }


def test_the_oracle_sees_a_share_that_was_not_taken(db: Database) -> None:
    by_events(db)
    record_transfer(db, p_source_charge="ch_1")
    book = Book(recorded={"key-1": PAYOUT}, bills={"order-1": Bill("order-1", 2000, "usd", None)})
    assert found(db, [payment()], book) == set()
    book.causes["re_1"] = Cause("order-1", 1000, stands=True)
    knows_otherwise = "a refund or dispute that the database knows otherwise"
    assert found(db, [payment()], book) == {knows_otherwise, MORE}
    ingest(db, event("refund.created", refund("re_1", 1000)))
    assert found(db, [payment()], book) == {"an event that is kept", MORE}
    ingest(db, event("charge.succeeded", charge("ch_1", 2000)))
    assert found(db, [payment()], book) == {"not done", MORE}
    (looked,) = claim(db)
    record(db, seen(looked))
    (leased,) = claim(db)
    record(db, success(leased, "trr_1"))
    assert found(db, [payment(), ours(db, amount=500)], book) == set()
    book.causes["re_1"].stands = False
    assert found(db, [payment(), ours(db, amount=500)], book) == {
        knows_otherwise,
        "withdrawn, and the request does not say so",
        LESS,
    }
