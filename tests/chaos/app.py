"""The marketplace's app: records transfers and asks for money back while everything around it breaks.

It does what its makers are told to do: the same call again until there is an answer. The book is what it was told,
and nothing of it may be untrue in the end.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import psycopg
from psycopg.types.json import Jsonb

from tests.chaos.calls import LANES, Ask, Bill, Call, Cause, Explain, Payout, Record, Withdraw
from tests.chaos.plan import Plan
from tests.support.databases import Database, open_session

_RETRY_SECONDS = 0.05
# Beside a lost connection.
_PASSING = ("08", "40", "53", "55", "57", "58")
_MORE_THAN_IS_LEFT = "ST005"


@dataclass(slots=True)
class Book:
    """What the database has said to the app: recorded, asked for, refused; `trouble` is what it must never say.

    Beside it what buyers have paid, by order, and what they got back, by Stripe's id.
    """

    recorded: dict[str, Payout] = field(default_factory=dict)
    asked: dict[str, Ask] = field(default_factory=dict)
    refused: dict[str, Ask] = field(default_factory=dict)
    withdrawn: set[str] = field(default_factory=set)
    bills: dict[str, Bill] = field(default_factory=dict)
    causes: dict[str, Cause] = field(default_factory=dict)
    trouble: list[str] = field(default_factory=list)


class App:
    """Makes the calls of a plan, each lane in a thread of its own, over a line that breaks.

    `stripe_ids`: Stripe's transfer by the payout's key, for those that have been made; `charges`: the charge by the key
    of the payout that names it, or by the order; `causes`: refunds and disputes by their names, once there are any.
    """

    def __init__(
        self, dsn: str, plan: Plan, stripe_ids: dict[str, str], charges: dict[str, str], causes: Mapping[str, str]
    ) -> None:
        self._dsn = dsn
        self._plan = plan
        self._stripe_ids = stripe_ids
        self._charges = charges
        self._causes = causes
        self._begun = time.monotonic()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(lane,), daemon=True) for lane in range(LANES)]
        self.book = Book(bills={bill.order: bill for bill in plan.bills})

    def start(self) -> None:
        """Begin; the times of the plan count from here."""
        self._begun = time.monotonic()
        for thread in self._threads:
            thread.start()

    def finish(self, within_seconds: float) -> None:
        """Wait until all calls are made and answered."""
        until = time.monotonic() + within_seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                self.book.trouble.append(f"the app got no answers within {within_seconds:g} s")
                break

    def stop(self) -> None:
        """Make no more calls."""
        self._stopping.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(5)

    def _run(self, lane: int) -> None:
        line = _Line(self._dsn, lane)
        try:
            for call in self._plan.calls:
                if call.lane != lane:
                    continue
                if self._stopping.wait(max(0.0, self._begun + call.at - time.monotonic())):
                    return
                if isinstance(call, Ask):
                    self._await_records(call)
                if isinstance(call, Withdraw) and self._plan.refunds_by == "events":
                    if call.request not in self._causes:
                        continue  # Stripe refused it
                    self._insist(line, replace(call, request=self._causes[call.request]))
                else:
                    self._insist(line, call)
        except Exception as error:  # a thread that ends in silence would look like calls that were not planned
            self.book.trouble.append(f"the app's lane {lane} ended: {error!r}")
        finally:
            line.close()

    def _await_records(self, ask: Ask) -> None:
        """An app asks for what it has recorded; the other lane may be behind with that."""
        keys = {payout.key for payout in self._plan.payouts if payout.order == ask.order and not payout.is_late}
        while not keys <= self.book.recorded.keys() and not self._stopping.is_set():
            self._stopping.wait(_RETRY_SECONDS)

    def _insist(self, line: "_Line", call: Call) -> None:
        while not self._stopping.is_set():
            was_accepted = isinstance(call, Ask) and call.request in self.book.asked
            try:
                line.do(lambda db: self._make(db, call))
            except psycopg.Error as error:
                if isinstance(call, Ask) and error.sqlstate == _MORE_THAN_IS_LEFT:
                    self.book.refused[call.request] = call
                    if was_accepted:
                        self.book.trouble.append(f"{call.request} was accepted once and refused later")
                    return
                if not _may_pass(error):
                    self.book.trouble.append(f"{call}: {error.sqlstate} {error}")
                    return
                self._stopping.wait(_RETRY_SECONDS)
            else:
                self._note(call)
                return

    def _make(self, db: Database, call: Call) -> None:
        match call:
            case Ask():
                _ask(db, call)
            case Record():
                _record(db, call.payout, self._stripe_ids.get(call.payout.key), self._charge_of(call.payout))
            case Withdraw():
                query = (
                    "select id from marketplace.withdraw_reversal_request(p_reversal_request_id => %s, p_reason => %s)"
                )
                db.execute(query, [call.request, "the refund failed"])
            case Explain():
                query = "select charge_id from marketplace.note_charge(p_charge_id => %s, p_order_id => %s)"
                db.execute(query, [self._charges[call.order], call.order])

    def _charge_of(self, payout: Payout) -> tuple[str | None, int | None]:
        """The charge, if the payout names it, and its amount, if the app says that: else Stripe's events do."""
        charge = self._charges.get(payout.key)
        bill = self.book.bills.get(payout.order)
        return charge, bill.amount if charge and bill and payout.charge == "with group" else None

    def _note(self, call: Call) -> None:
        match call:
            case Record():
                self.book.recorded[call.payout.key] = call.payout
            case Ask():
                # What was refused before may be there since another request was withdrawn.
                self.book.asked[call.request] = call
            case Withdraw():
                self.book.withdrawn.add(call.request)


class _Line:
    """A connection that is made anew when it broke."""

    def __init__(self, dsn: str, lane: int) -> None:
        self._dsn = dsn
        self._name = f"chaos app {lane}"
        self._db: Database | None = None

    def do(self, work: Callable[[Database], None]) -> None:
        if self._db is None:
            # Whatever hangs ends in an error.
            self._db = open_session(
                self._dsn, application_name=self._name, connect_timeout=5, options="-c statement_timeout=20s"
            )
        try:
            work(self._db)
        except psycopg.Error:
            self.close()
            raise

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None


def _may_pass(error: psycopg.Error) -> bool:
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return error.sqlstate[:2] in _PASSING


def _record(db: Database, payout: Payout, stripe_id: str | None, charge: tuple[str | None, int | None]) -> None:
    who = {
        "key": payout.key,
        "order": payout.order,
        "seller": payout.seller,
        "account": payout.account,
        "amount": payout.amount,
        "currency": payout.currency,
        "stripe": stripe_id,
        "charge": charge[0],
        "charge_amount": charge[1],
    }
    arguments = """
      p_transfer_key => %(key)s, p_order_id => %(order)s, p_seller_id => %(seller)s,
      p_destination_account => %(account)s, p_amount => %(amount)s, p_currency => %(currency)s,
      p_source_charge => %(charge)s, p_charge_amount => %(charge_amount)s"""
    if payout.kind == "sent":
        db.execute(f"select id from marketplace.create_transfer({arguments})".encode(), who)
    else:
        query = f"select id from marketplace.record_completed_transfer({arguments}, p_stripe_transfer_id => %(stripe)s)"
        db.execute(query.encode(), who)


def _ask(db: Database, ask: Ask) -> None:
    arguments = "p_order_id => %(order)s, p_reversal_request_id => %(request)s, p_reason => %(reason)s"
    what = {"order": ask.order, "request": ask.request, "reason": ask.reason}
    if ask.amount is not None:
        query = f"select id from marketplace.request_reversal({arguments}, p_amount => %(amount)s)"
        db.execute(query.encode(), {**what, "amount": ask.amount})
    elif ask.allocation is None:
        db.execute(f"select id from marketplace.request_reversal({arguments})".encode(), what)
    else:
        parts = [{"transfer_key": key, "amount": amount} for key, amount in ask.allocation]
        query = f"select id from marketplace.request_reversal({arguments}, p_allocation => %(parts)s)"
        db.execute(query.encode(), {**what, "parts": Jsonb(parts)})
