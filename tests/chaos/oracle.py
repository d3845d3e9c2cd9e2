"""What must be true at the end, asked in SQL of the database, the simulator's ledger and the app's book.

The ledger is what happened to the money. Nothing of the product's own logic is used here but its rows: each rule is a
query for what breaks it, written by hand, and finds nothing when all is well.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from runner.sandbox.simulator import LedgerEntry
from tests.chaos.app import Book
from tests.chaos.rules import RULES as RULES_OF_REVERSALS
from tests.chaos.send_rules import RULES as RULES_OF_SENDS
from tests.chaos.wanted import what_is_wanted
from tests.chaos.withdraw_rules import RULES as RULES_OF_WITHDRAWALS
from tests.support.databases import Database, rows


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that is broken, and by which row (null: by none)."""

    rule: str
    transfer_id: int | None
    detail: str

    def __str__(self) -> str:
        where = "" if self.transfer_id is None else f"row {self.transfer_id}: "
        return f"{self.rule}: {where}{self.detail}"


_TABLES = """
create schema chaos;

-- identity: of those that the runners made.
create table chaos.payments (
  stripe_id text primary key,
  amount bigint not null,
  currency text not null,
  destination text not null,
  charge text,
  transfer_key text,
  identity text
);

create table chaos.reversals (
  id text primary key,
  transfer text not null,
  amount bigint not null,
  currency text not null,
  status text,
  is_live boolean not null,
  identity text,
  request text,
  part integer
);

create table chaos.recorded (
  transfer_key text primary key, order_id text not null, kind text not null, amount bigint not null,
  currency text not null
);

-- Without a key, of all of the order's transfers together; without an amount, all that they have.
create table chaos.asked (
  request text not null, order_id text not null, transfer_key text, amount bigint, stands boolean not null
);

-- A refund or dispute at Stripe, and what was charged; stands: the platform is without the money, but for what came
-- back; spared: a person said that the sellers are not to pay for it.
create table chaos.causes (
  cause text primary key, order_id text not null, amount bigint not null, charged bigint not null,
  stands boolean not null, is_spared boolean not null, came_back bigint not null
);

-- What a seller is to have in the end.
create table chaos.wanted (transfer_key text primary key, least bigint not null, most bigint not null);

-- A row is of a family: that of the transfer's own row, or of the one that gives something of it back. The origin is
-- the transfer that the app named by the key. A row that another took over from counts in no sum.
create table chaos.rows as
with recursive roots as (
  select t.id as family, t.id as origin, t.transfer_key as key from marketplace.seller_transfers as t
  where t.root_id is null and t.compensates is null
  union all
  select t.id, r.origin, r.key from marketplace.seller_transfers as t
  inner join marketplace.seller_transfers as b on b.id = t.compensates
  inner join roots as r on r.family = coalesce(b.root_id, b.id)
)
select t.*, r.family, r.origin, r.key,
  exists (select from marketplace.seller_transfers as s where s.successor_of = t.id) as is_followed
from marketplace.seller_transfers as t inner join roots as r on r.family = coalesce(t.root_id, t.id);

-- What the rows say of what was and is to be asked; each is of the app, or of a refund or dispute.
create view chaos.requests as
select r.reversal_request_id as request, r.order_id, r.is_evidence, r.is_whole,
  r.withdrawn_at is not null as is_withdrawn, coalesce(r.asked_for, r.reversal_request_id) as cause
from marketplace.reversal_requests as r;

create view chaos.ours as select * from chaos.reversals where is_live and identity is not null;
"""


def judge(db: Database, entries: Sequence[LedgerEntry], book: Book) -> list[Finding]:
    """Write ledger and book beside the rows, and give every rule that is broken."""
    db.execute("drop schema if exists chaos cascade")
    db.execute(_TABLES.encode())
    _write_ledger(db, entries)
    _write_book(db, book)
    return [
        Finding(rule, found["transfer_id"], found["detail"])
        for rule, query in (RULES_OF_REVERSALS | RULES_OF_SENDS | RULES_OF_WITHDRAWALS).items()
        for found in rows(db, query)
    ]


def _write_ledger(db: Database, entries: Sequence[LedgerEntry]) -> None:
    latest: dict[str, LedgerEntry] = {}
    for entry in entries:
        if entry.kind == "transfer":
            payment = [entry.transfer, entry.amount, entry.currency, entry.destination, entry.charge]
            payment += [entry.metadata.get(name) for name in ("transfer_key", "seller_transfers_identity")]
            db.execute("insert into chaos.payments values (%s, %s, %s, %s, %s, %s, %s)", payment)
        elif entry.kind in ("reversal", "reversal_status") and entry.reversal is not None:
            latest[entry.reversal] = entry
    for reversal, entry in latest.items():
        identity = entry.metadata.get("seller_transfers_identity")
        db.execute(
            """
            insert into chaos.reversals values (
              %s, %s, %s, %s, %s, %s, %s, %s, substring(%s from ':([0-9]+)$')::integer)
            """,
            [
                reversal,
                entry.transfer,
                entry.amount,
                entry.currency,
                entry.status,
                entry.status in (None, "pending", "succeeded"),
                identity,
                entry.metadata.get("reversal_request_id"),
                identity,
            ],
        )


def _write_book(db: Database, book: Book) -> None:
    for key, payout in book.recorded.items():
        db.execute(
            "insert into chaos.recorded values (%s, %s, %s, %s, %s)",
            [key, payout.order, payout.kind, payout.amount, payout.currency],
        )
    for request, ask in book.asked.items():
        parts: tuple[tuple[str | None, int | None], ...] = ask.allocation or ((None, ask.amount),)
        for part, amount in parts:
            db.execute(
                "insert into chaos.asked values (%s, %s, %s, %s, %s)",
                [request, ask.order, part, amount, request not in book.withdrawn],
            )
    for its_id, cause in book.causes.items():
        db.execute(
            "insert into chaos.causes values (%s, %s, %s, %s, %s, %s, %s)",
            [
                its_id,
                cause.order,
                cause.amount,
                book.bills[cause.order].amount,
                cause.stands,
                its_id in book.withdrawn,
                cause.came_back,
            ],
        )
    for wanted in what_is_wanted(db, book):
        db.execute("insert into chaos.wanted values (%s, %s, %s)", wanted)
