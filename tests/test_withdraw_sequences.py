"""Refunds, withdrawals and calls that go wrong, in any order: in the end each seller has what was not asked back.

Stripe is a few lines here: it makes each key once, refuses more than is left, and lists all there is. What is not done
yet is then done without faults, and the books are compared with what stands, put together by hand.
"""

import random
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from psycopg.rows import DictRow

from tests.support.databases import Database, rows, value
from tests.support.transfers import (
    Facts,
    at_commit,
    call,
    claim,
    claim_sends,
    create_transfer,
    lapse_lease,
    look_up_report,
    record_one,
    record_transfer,
    refusal,
    report,
    request_parts,
    request_reversal,
    reversal_object,
    sent,
    timeout,
    transfers_found,
)
from tests.support.withdrawals import story, withdraw

pytest_plugins = ("tests.support.rolled_back",)

OPEN = "status in ('pending', 'failed', 'reversal_pending')"
KEYS = ("key-1", "key-2")


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    """One session is enough here."""
    return rolled_back_db


@dataclass
class Stripe:
    """Transfers and their reversals, by Stripe's ids; what each key has made."""

    transfers: dict[str, Facts] = field(default_factory=dict)
    reversals: dict[str, list[Facts]] = field(default_factory=dict)
    made: dict[str, Facts] = field(default_factory=dict)

    def has(self, made: Facts) -> None:
        self.transfers[made["id"]], self.reversals[made["id"]] = made, []

    def does(self, leased: DictRow) -> Facts:
        """Carry the call out, and say what it came to."""
        key, of = leased["idempotency_key"], leased["stripe_transfer_id"]
        if leased["action"] == "look_up_transfer":
            theirs = [each for each in self.transfers.values() if each["destination"] == leased["destination_account"]]
            return transfers_found(leased, *theirs)
        if leased["action"] == "look_up_reversals":
            return look_up_report(leased, *self.reversals[of], amount=self.transfers[of]["amount"])
        if key not in self.made and leased["action"] == "send":
            self.made[key] = sent(leased, f"tr_s{len(self.made)}")["object"]
            self.has(self.made[key])
        elif key not in self.made:
            if leased["amount"] > self.left(of):
                return refusal(leased, message="Amount is greater than what is left.")
            self.made[key] = reversal_object(leased, f"trr_s{len(self.made)}")
            self.reversals[of].append(self.made[key])
        return report(leased, http_status=200, object=self.made[key])

    def left(self, stripe_id: str) -> int:
        return int(self.transfers[stripe_id]["amount"] - sum(each["amount"] for each in self.reversals[stripe_id]))

    def at(self, account: str) -> int:
        """What the account has in the end."""
        return sum(self.left(each["id"]) for each in self.transfers.values() if each["destination"] == account)


def age(db: Database, hours: int) -> None:
    """As if all that happened had happened this much earlier."""
    columns = (
        "next_retry_at call_minted_at call_last_sent_at call_absent_at streak_since waiting_since leased_at"
        " lease_expires_at"
    )
    earlier = ", ".join(f"{each} = {each} - interval '{hours} h'" for each in columns.split())
    db.execute(f"update marketplace.seller_transfers set {earlier} where {OPEN}".encode())


@dataclass
class Play:
    """One order of two sellers, and what has been asked of it."""

    db: Database
    chance: random.Random
    stripe: Stripe = field(default_factory=Stripe)
    asked: dict[str, dict[str, int] | None] = field(default_factory=dict)
    withdrawn: set[str] = field(default_factory=set)
    overdue: list[Facts] = field(default_factory=list)
    told: list[Any] = field(default_factory=list)

    def begins(self) -> None:
        for n in (1, 2):
            if self.chance.random() < 0.5:
                create_transfer(self.db, n, p_order_id="order-1")
                continue
            record_transfer(self.db, n, p_order_id="order-1")
            paid = {"id": f"tr_{n}", "object": "transfer", "amount": 1000, "currency": "usd", "metadata": {}}
            self.stripe.has({**paid, "destination": f"acct_{n}", "amount_reversed": 0})

    def works(self, *, faults: bool) -> None:
        for leased in claim(self.db) + claim_sends(self.db):
            fate = self.chance.random() if faults else 1
            if fate < 0.15:
                outcome = timeout(leased)  # and nothing was done
            elif fate < 0.3:
                self.stripe.does(leased)
                outcome = timeout(leased)
            elif fate < 0.5:
                self.overdue.append(self.stripe.does(leased))
                lapse_lease(self.db, leased["id"])
                continue
            elif fate < 0.55:
                lapse_lease(self.db, leased["id"])
                continue
            elif fate < 0.62 and leased["action"] in ("send", "reverse"):
                outcome = refusal(leased, code="balance_insufficient")
            else:
                outcome = self.stripe.does(leased)
            self.told.append((leased["action"], leased["id"], record_one(self.db, outcome)["status"]))

    def refunds(self, request: str) -> None:
        some = self.chance.sample(KEYS, self.chance.randint(1, 2))
        parts = {key: self.chance.randint(1, 600) for key in some} if self.chance.random() < 0.5 else None
        try:
            with self.db.transaction():
                if parts is None:
                    request_reversal(self.db, p_reversal_request_id=request)
                else:
                    request_parts(self.db, parts, request)
        except psycopg.Error as error:
            if error.sqlstate != "ST005":
                raise
            return
        self.asked[request] = parts
        self.told.append((request, parts))

    def withdraws(self, request: str) -> None:
        withdraw(self.db, request=request)
        self.withdrawn.add(request)
        self.told.append(("withdrawn", request))

    def goes_on(self, step: int) -> None:
        what = self.chance.choice(["works"] * 4 + ["refund"] * 2 + ["withdrawal"] * 3 + ["time", "late"])
        if what == "works":
            self.works(faults=True)
        elif what == "refund":
            ahead = sorted(self.withdrawn - self.asked.keys())
            self.refunds(ahead[0] if ahead and self.chance.random() < 0.5 else f"re_{step}")
        elif what == "withdrawal":
            self.withdraws(self.chance.choice([*sorted(self.asked), f"re_ahead_{step}"]))
        elif what == "time":
            age(self.db, self.chance.choice([1, 2, 21]))
        elif self.overdue:
            late = self.overdue.pop(self.chance.randrange(len(self.overdue)))
            self.told.append(("late", late["id"], record_one(self.db, late)["status"]))
        at_commit(self.db)

    def ends(self) -> None:
        for late in self.overdue:
            record_one(self.db, late)
        for _ in range(40):
            age(self.db, 2)
            self.db.execute(f"update marketplace.seller_transfers set next_retry_at = now() where {OPEN}".encode())
            self.works(faults=False)
            call(self.db, "resume_stripe_calls", p_reason="the faults are over")
        at_commit(self.db)

    def wanted(self, key: str) -> int:
        stands = [parts for request, parts in self.asked.items() if request not in self.withdrawn]
        return 0 if None in stands else 1000 - sum(parts.get(key, 0) for parts in stands if parts)


PAID = """
select coalesce(sum(t.amount), 0)::bigint from marketplace.seller_transfers as t
where t.status = 'completed' and t.destination_account = %(account)s
"""


@pytest.mark.parametrize("seed", range(40))
def test_in_the_end_every_seller_has_what_was_not_asked_back(db: Database, seed: int) -> None:
    play = Play(db, random.Random(seed))
    play.begins()
    for step in range(play.chance.randint(6, 25)):
        play.goes_on(step)
    play.ends()

    assert rows(db, f"select id, parked_reason from marketplace.seller_transfers where {OPEN}") == [], play.told
    for n, key in enumerate(KEYS, start=1):
        books = play.stripe.at(f"acct_{n}"), value(db, PAID, account=f"acct_{n}")
        assert (key, *books) == (key, play.wanted(key), play.wanted(key)), (play.told, story(db))
