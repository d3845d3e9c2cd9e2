"""Whole orders: the real functions, a Stripe beside them, and what the app and its buyers want.

Time can be made to pass: the rows' past is moved.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from tests.model.orders.stripe import Facts, LookFate, PostFate, Stripe
from tests.model.orders.wanted import QUANTA, Cause, Key, Order, Request, Wanted
from tests.support.databases import Database, rows
from tests.support.events import by_events, dispute, event, ingest, moved, refund
from tests.support.moved_clock import let_pass
from tests.support.order_books import OPEN, Books
from tests.support.transfers import at_commit, call, record, register, report

WORKER = "worker-1"
KINDS = {"reversals": "claim_due_reversals", "transfers": "claim_due_transfers"}


@dataclass(slots=True)
class Held:
    """A call in a worker's hands, and what the worker was told."""

    leased: DictRow
    ends_at: datetime
    facts: Facts | None = None
    times_told: int = 0


@dataclass
class World:
    """One database and all that happens around it. `moved`: how much time was made to pass."""

    db: Database
    stripe: Stripe = field(default_factory=Stripe)
    wanted: Wanted = field(default_factory=Wanted)
    moved: timedelta = timedelta()
    held: list[Held] = field(default_factory=list)
    told: set[str] = field(default_factory=set)
    legacy: dict[str, str] = field(default_factory=dict)  # Stripe's id by transfer_key, where the row has none
    died_at: dict[int, timedelta] = field(default_factory=dict)
    dated: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        register(self.db, WORKER)
        by_events(self.db)
        self.db.execute("select setseed(0)")  # the chance in the delays, the same each time
        call(self.db, "set_stripe_rate", p_per_second=None, p_reason="no limit")
        self.books = Books.read(self.db, self.stripe)

    def now(self) -> datetime:
        """By the database's clock, which is this machine's."""
        return datetime.now(UTC) + self.moved

    def wait(self, by: timedelta) -> None:
        let_pass(self.db, by)
        self.moved += by

    # The app

    def order(self, currency: str, charge_amount: int | None) -> Order:
        """A new order, without sellers yet."""
        n = len(self.wanted.orders) + 1
        made = Order(f"order-{n}", currency, f"ch_{n}" if charge_amount else None, charge_amount)
        self.wanted.orders[made.id] = made
        return made

    def sell(self, order: Order, amount: int, how: str) -> None:
        """One more seller of the order: to be paid, or paid by the app, which may have lost Stripe's id."""
        name = f"{len(self.wanted.keys) + 1}"
        key = Key(f"key-{name}", order.id, amount * QUANTA[order.currency], order.currency)
        self.wanted.keys[key.name] = key
        values: dict[str, Any] = {
            "p_transfer_key": key.name,
            "p_order_id": order.id,
            "p_seller_id": f"seller-{name}",
            "p_destination_account": key.account,
            "p_amount": key.amount,
            "p_currency": key.currency,
            "p_source_charge": order.charge,
            "p_charge_amount": order.charge_amount,
        }
        if how == "create":
            call(self.db, "create_transfer", **values)
            return
        paid = self.stripe.pay(key.amount, key.currency, key.account, order.charge and order.id, order.charge)
        if how == "record":
            values["p_stripe_transfer_id"] = paid.id
        else:
            self.legacy[key.name] = paid.id
        call(self.db, "record_completed_transfer", **values)

    def ask(self, order: str, request: str, *, amount: int | None = None, parts: dict[str, int] | None = None) -> None:
        """The app asks for all, an amount, or parts; refused only where that is not there."""
        said: dict[str, Any] = {"p_order_id": order, "p_reversal_request_id": request}
        if amount is not None:
            said["p_amount"] = amount
        if parts is not None:
            said["p_allocation"] = Jsonb([{"transfer_key": key, "amount": share} for key, share in parts.items()])
        refused = self._try("request_reversal", **said)
        if refused:
            is_partial = amount is not None or parts is not None
            assert refused == ("ST005" if is_partial and self.wanted.keys_of(order) else "ST004")
            return
        call(self.db, "request_reversal", **said)
        if request not in self.wanted.withdrawn:
            asked = self._asked(request)
            assert amount in (None, sum(asked.values())), (amount, asked)
            assert parts in (None, asked), (parts, asked)
            parts = asked if amount is not None else parts
        self.wanted.requests[request] = Request(order, parts if amount is None else parts or {})
        assert all(self.wanted.left(key).start >= 0 for key in self.wanted.keys_of(order)), "more asked than there is"

    def _asked(self, request: str) -> dict[str, int]:
        lines = """
            select l.transfer_key, sum(l.asked)::bigint as asked from marketplace.reversal_request_lines as l
            where l.reversal_request_id = %(request)s group by l.transfer_key
        """
        return {line["transfer_key"]: line["asked"] for line in rows(self.db, lines, request=request)}

    def withdraw(self, request: str) -> None:
        """The refund failed; perhaps before it was asked for."""
        call(self.db, "withdraw_reversal_request", p_reversal_request_id=request, p_reason="the refund failed")
        self.wanted.withdrawn.add(request)

    # Buyers and banks: refunds and disputes of an order's charge, which come to us as events

    def refund(self, order: Order, amount: int, *, fails: bool) -> None:
        name = f"re_{len(self.wanted.causes) + 1}"
        self.wanted.causes[name] = Cause(order.id, amount, not fails)
        for status in ["pending", "succeeded", *["failed"] * fails]:
            kind = {"pending": "refund.created", "failed": "refund.failed"}.get(status, "refund.updated")
            told = refund(name, amount, status, charge=order.charge, currency=order.currency)
            self.stripe.events.append(event(kind, told))

    def dispute(self, order: Order, amount: int, *, comes_back: int) -> None:
        """The bank takes it, and gives some back, or (a dispute that is won) all."""
        name = f"dp_{len(self.wanted.causes) + 1}"
        self.wanted.causes[name] = Cause(order.id, amount - comes_back, comes_back < amount)
        end = "won" if comes_back == amount else "lost"
        stages = [("funds_withdrawn", "needs_response", [-amount]), ("closed", end, [-amount])]
        if comes_back:
            stages.append(("funds_reinstated", end, [-amount, comes_back]))
        for what, status, amounts in stages:
            names = {"charge": order.charge, "currency": order.currency}
            told = dispute(name, amount, status, balance_transactions=moved(*amounts, currency=order.currency), **names)
            self.stripe.events.append(event(f"charge.dispute.{what}", told))

    def tell(self, which: int) -> None:
        """Stripe delivers an event; any, again or not."""
        given = self.stripe.events[which % len(self.stripe.events)]
        ingest(self.db, given)
        self.told.add(given["id"])

    # Workers

    def claim(self, kind: str, limit: int, lease: timedelta) -> list[Held]:
        ends_at = self.now() + lease
        register(self.db, WORKER)
        found = call(self.db, KINDS[kind], p_worker=WORKER, p_limit=limit, p_lease=lease)
        assert len(found) <= limit
        taken = [each["stripe_transfer_id"] for each in found if each["stripe_transfer_id"]]
        taken += [
            held.leased["stripe_transfer_id"]
            for held in self.held
            if not held.times_told and held.ends_at > self.now() and held.leased["stripe_transfer_id"]
        ]
        assert len(taken) == len(set(taken)), "two live leases on one transfer"
        claimed = [Held(each, ends_at) for each in found]
        self.held += claimed
        return claimed

    def ask_stripe(self, held: Held, post: PostFate, look: LookFate) -> None:
        """The worker makes its call, unless its lease has run out."""
        now = self.now()
        held.facts = {"sent": False} if now >= held.ends_at else self.stripe.ask(held.leased, post, look, now)

    def report(self, told: list[Held], *, token: str | None = None, **otherwise: Any) -> list[str]:
        """Workers report, all in one call; perhaps under another token, perhaps other facts than before."""
        outcomes = [
            {**report(each.leased, **(each.facts or {})), **otherwise, **({"lease_token": token} if token else {})}
            for each in told
        ]
        for each in told:
            each.times_told += token is None
        return [each["result"] for each in record(self.db, *outcomes)] if outcomes else []

    def report_under_another_token(self, held: Held) -> None:
        assert self.report([held], token=str(uuid4())) == ["stale"]

    # Operators

    def reopen(self, row: DictRow) -> bool:
        """A person lets a row go on that was given up; whether that may be."""
        lacks_id = row["completed_at"] and not row["stripe_transfer_id"]
        stripe_id = self.legacy.get(self.books.key_of(row)) if lacks_id else None
        said = {"p_id": row["id"], "p_reason": "a person says so", "p_stripe_transfer_id": stripe_id}
        refused = self._try("reopen", **said)
        assert refused in (None, "ST002", "ST003"), refused
        return refused is None

    def give_up(self, row: DictRow) -> None:
        """A person has nothing more tried for a row, where that may be said: nothing was made, nor can be any more."""
        refused = self._try("give_up", p_id=row["id"], p_reason="a person says so")
        assert refused in (None, "ST002"), refused
        if refused is None:
            self._check_not_made(row)

    def mark_reversed(self, row: DictRow) -> None:
        """A person takes a row's money back by hand, and says so."""
        transfer = self.stripe.transfers[row["stripe_transfer_id"]]
        if row["amount"] <= transfer.left:
            self.stripe.take(transfer, row["amount"])
            said = {"p_id": row["id"], "p_stripe_reversal_id": transfer.reversals[-1].id, "p_reason": "by hand"}
            refused = self._try("mark_reversed", **said)
            assert refused in (None, "ST002"), refused
            if refused is None:
                self._check_not_made(row)

    def _check_not_made(self, row: DictRow) -> None:
        self.stripe.forget(self.now())
        made = {each.identity for each in self.books.live()}
        # A request whose key has its answer changes nothing any more, unless that was an error before it acted.
        coming = {
            request.metadata["seller_transfers_identity"]
            for request, is_answered in self.stripe.under_way
            if is_answered or request.key not in self.stripe.keys
        }
        assert self.books.identity_of(row) not in made | coming, f"made, or on its way there: {row}"

    def open(self) -> list[DictRow]:
        """What something is tried for, or waits for a person."""
        return [row for row in self.books.rows.values() if row["status"] in OPEN]

    def _try(self, function: str, **said: Any) -> str | None:
        """The SQLSTATE, if the function refuses."""
        try:
            with self.db.transaction():
                call(self.db, function, **said)
        except psycopg.Error as error:
            return error.sqlstate
        return None

    def ended(self) -> list[DictRow]:
        """What only a person can let go on."""
        return [
            row
            for row in self.books.rows.values()
            if row["id"] not in self.books.followed
            and (
                (row["status"] == "permanently_failed" and row["failure_code"] != "refunded_before_transfer")
                or (row["status"] == "completed" and row["stripe_transfer_id"] is None)
            )
        ]

    # What must be so

    def check(self) -> None:
        """The rows are what Stripe has, and what was asked."""
        at_commit(self.db)
        self.books = Books.read(self.db, self.stripe)
        self._date_successors()
        without_id = {
            self.books.key_of(row)
            for row in self.books.rows.values()
            if row["id"] not in self.books.followed and row["completed_at"] and row["stripe_transfer_id"] is None
        }
        self.books.check({self.legacy[key] for key in without_id})
        orders = {order.id for order in self.wanted.orders.values() if order.charge is None}
        self.books.check_nobody_keeps_money_in_silence({each for each in orders if self.wanted.is_whole(each)})
        self.books.check_records(self.db)

    def _date_successors(self) -> None:
        """What a successor took over is as old as when its row ended, and was not moved while that was at its end."""
        for row in self.books.rows.values():
            before = self.books.rows.get(row["successor_of"])
            if row["status"] == "permanently_failed":
                self.died_at.setdefault(row["id"], self.moved)
            elif before and row["status"] in OPEN and row["id"] not in self.dated:
                self.dated.add(row["id"])
                by = self.moved - self.died_at[before["id"]]
                names = [each for each in ("call_minted_at", "call_last_sent_at") if row[each] == before[each]]
                for name in names if by else []:
                    earlier = f"update marketplace.seller_transfers set {name} = {name} - %s where id = %s"
                    self.db.execute(earlier.encode(), [by, row["id"]])
