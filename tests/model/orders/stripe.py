"""Stripe as far as orders go: it makes transfers, takes them back, lists both, and tells of it in events.

It answers the same again under the same key for a day. What goes wrong on the way there and back is a fate that the
test draws: anything the assumptions of section 7 allow, so a request acts up to `QUIET` after it was sent.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from psycopg.rows import DictRow

from tests.support.events import Event, event

KEYS_LAST = timedelta(hours=24)
QUIET = timedelta(hours=1)

Facts = dict[str, Any]
PostFate = Literal[
    "done",
    "held",
    "made and failed",
    "refused",
    "short of balance",
    "500",
    "500, yet done",
    "500, done later",
    "429",
    "401",
    "answer lost",
    "request late",
    "request lost",
    "sent twice, 409",
    "proxy says 200",
    "not sent",
]
LookFate = Literal["listed", "500", "429", "no answer", "some pages only", "not sent"]

NO_ANSWER: Facts = {"error_message": "no answer within 20 s"}
IN_USE = (409, "idempotency_error", "idempotency_key_in_use", "Another request with this key is in progress.")
SORRY = (500, "api_error", None, "Sorry.")
LOCKED = (429, "invalid_request_error", "lock_timeout", "Locked.")
BAD_KEY = (401, "invalid_request_error", None, "Invalid API Key provided.")


def error(status: int, error_type: str, code: str | None, message: str) -> Facts:
    """Stripe refuses, in an error body of its own."""
    return {"http_status": status, "error_type": error_type, "error_code": code, "error_message": message}


@dataclass(slots=True)
class Reversal:
    """Money taken back of a transfer."""

    id: str
    transfer: str
    amount: int
    currency: str
    status: str
    metadata: dict[str, str]

    @property
    def is_live(self) -> bool:
        return self.status in ("pending", "succeeded")

    @property
    def identity(self) -> str | None:
        return self.metadata.get("seller_transfers_identity")

    def facts(self) -> Facts:
        return {"object": "transfer_reversal", **{name: getattr(self, name) for name in self.__slots__}}


@dataclass(slots=True)
class Transfer:
    """Money for a seller. One that is `strange` was made by nobody we know."""

    id: str
    amount: int
    currency: str
    destination: str
    source_transaction: str | None
    transfer_group: str | None
    metadata: dict[str, str]
    is_strange: bool = False
    reversals: list[Reversal] = field(default_factory=list)

    @property
    def identity(self) -> str | None:
        return self.metadata.get("seller_transfers_identity")

    @property
    def live(self) -> list[Reversal]:
        return [each for each in self.reversals if each.is_live]

    @property
    def left(self) -> int:
        return self.amount - sum(each.amount for each in self.live)

    def facts(self) -> Facts:
        names = ("id", "amount", "currency", "destination", "source_transaction", "transfer_group", "metadata")
        shown = {name: getattr(self, name) for name in names}
        return {**shown, "object": "transfer", "created": 1234567890, "amount_reversed": self.amount - self.left}


class Request(NamedTuple):
    """A POST under its key; of no transfer, it asks for one."""

    key: str
    transfer: str | None
    amount: int
    currency: str
    destination: str
    charge: str | None
    group: str | None
    metadata: dict[str, str]
    dies_at: datetime

    @property
    def params(self) -> tuple[object, ...]:
        return self._replace(dies_at=datetime.min)


class Stored(NamedTuple):
    """The answer that Stripe keeps for a key."""

    params: tuple[object, ...]
    facts: Facts
    at: datetime


@dataclass(slots=True)
class Stripe:
    """Everything there is at Stripe, and what it has to tell of it."""

    transfers: dict[str, Transfer] = field(default_factory=dict)
    keys: dict[str, Stored] = field(default_factory=dict)
    under_way: list[tuple[Request, bool]] = field(default_factory=list)  # True: its 500 is stored, and it acts yet
    events: list[Event] = field(default_factory=list)
    made: int = 0

    # What workers ask

    def ask(self, leased: DictRow, post: PostFate, look: LookFate, now: datetime) -> Facts:
        """A worker makes the call it was given; what it is told."""
        if leased["action"] == "look_up_transfer":
            theirs = [each.facts() for each in self.of(leased["destination_account"])]
            return _looked(look, {"found": theirs})
        if leased["action"] == "look_up_reversals":
            transfer = self.transfers[leased["stripe_transfer_id"]]
            listed = [each.facts() for each in transfer.reversals]
            return _looked(look, {"object": transfer.facts(), "found": listed})
        request = Request(
            leased["idempotency_key"],
            leased["stripe_transfer_id"],
            leased["amount"],
            leased["currency"],
            leased["destination_account"],
            leased["source_charge"],
            leased["transfer_group"],
            leased["metadata"],
            dies_at=now + QUIET,
        )
        return self._post(request, post, now)

    def _post(self, request: Request, fate: PostFate, now: datetime) -> Facts:
        self.forget(now)
        match fate:
            case "not sent":
                return {"sent": False}
            case "request lost":
                return NO_ANSWER
            case "request late" | "sent twice, 409" | "proxy says 200":
                self.under_way.append((request, False))
            case "answer lost":
                self._execute(request, "done", now)
            case _:
                return self._execute(request, fate, now)
        if fate == "sent twice, 409":
            return error(*IN_USE)
        return {"http_status": 200, "object": {"object": "page"}} if fate == "proxy says 200" else NO_ANSWER

    # What happens by itself, or by others

    def arrive(self, which: int, now: datetime) -> None:
        """A request that nobody waits for any more does what it can."""
        self.forget(now)
        if self.under_way:
            request, is_answered = self.under_way.pop(which % len(self.under_way))
            if is_answered:
                self._make(request, "succeeded")
            else:
                self._execute(request, "done", now)

    def settle(self, which: int, status: str) -> None:
        """A reversal that Stripe holds is made, or dropped."""
        if self.pending:
            self.pending[which % len(self.pending)].status = status

    def pay(self, amount: int, currency: str, account: str, group: str | None, charge: str | None) -> Transfer:
        """Somebody pays a seller by hand."""
        self.made += 1
        paid = Transfer(f"tr_{self.made}", amount, currency, account, charge, group, {})
        self._tell("transfer.created", self._keep(paid))
        return paid

    def take(self, transfer: Transfer, amount: int) -> None:
        """Somebody takes money back by hand."""
        if 0 < amount <= transfer.left:
            self._take(transfer, amount, {}, "succeeded")

    def forget(self, now: datetime) -> None:
        self.keys = {key: stored for key, stored in self.keys.items() if now - stored.at < KEYS_LAST}
        self.under_way = [(request, answered) for request, answered in self.under_way if now < request.dies_at]

    @property
    def pending(self) -> list[Reversal]:
        return [each for transfer in self.transfers.values() for each in transfer.reversals if each.status == "pending"]

    def of(self, account: str) -> list[Transfer]:
        return [each for each in self.transfers.values() if each.destination == account]

    # How it does it

    def _execute(self, request: Request, fate: PostFate, now: datetime) -> Facts:
        if fate in ("429", "401"):
            return error(*(LOCKED if fate == "429" else BAD_KEY))
        stored = self.keys.get(request.key)
        if stored is None:
            self.keys[request.key] = stored = Stored(request.params, self._first(request, fate), now)
            return stored.facts
        if stored.params != request.params:
            return error(400, "idempotency_error", None, "Keys can only be used with the same parameters.")
        return {**stored.facts, "replayed": True}

    def _first(self, request: Request, fate: PostFate) -> Facts:
        if fate.startswith("500"):
            if fate == "500, yet done":
                self._make(request, "succeeded")
            elif fate == "500, done later":
                self.under_way.append((request, True))
            return error(*SORRY)
        if fate == "short of balance":
            return error(400, "invalid_request_error", "balance_insufficient", "Too little.")
        if fate == "refused":
            return error(400, "invalid_request_error", None, "No.")
        if request.transfer is not None and not self.transfers[request.transfer].left:
            return error(
                400, "invalid_request_error", None, f"The transfer {request.transfer} is already fully reversed."
            )
        made = self._make(request, {"held": "pending", "made and failed": "failed"}.get(fate, "succeeded"))
        if made is None:
            return error(400, "invalid_request_error", None, "More than is left.")
        return {"http_status": 200, "object": made.facts(), "stripe_request_id": "req_1"}

    def _make(self, request: Request, status: str) -> Transfer | Reversal | None:
        if request.transfer is not None:
            transfer = self.transfers[request.transfer]
            return (
                self._take(transfer, request.amount, request.metadata, status)
                if request.amount <= transfer.left
                else None
            )
        self.made += 1
        made = Transfer(
            f"tr_{self.made}",
            request.amount,
            request.currency,
            request.destination,
            request.charge,
            request.group,
            request.metadata,
        )
        self._tell("transfer.created", self._keep(made))
        return made

    def _keep(self, made: Transfer) -> Transfer:
        self.transfers[made.id] = made
        return made

    def _take(self, transfer: Transfer, amount: int, metadata: dict[str, str], status: str) -> Reversal:
        self.made += 1
        made = Reversal(f"trr_{self.made}", transfer.id, amount, transfer.currency, status, metadata)
        transfer.reversals.append(made)
        self._tell("transfer.reversed", transfer)
        return made

    def _tell(self, kind: str, transfer: Transfer) -> None:
        # As it is now: an event says what was so when it was made, and comes when it comes.
        newest = [each.facts() for each in reversed(transfer.reversals)][:10]
        self.events.append(event(kind, {**transfer.facts(), "reversals": {"object": "list", "data": newest}}))


def _looked(fate: LookFate, facts: Facts) -> Facts:
    match fate:
        case "500":
            return error(*SORRY)
        case "429":
            return error(*LOCKED)
        case "no answer":
            return NO_ANSWER
        case "some pages only":
            return {"http_status": 200, **facts, "found": None}
        case "not sent":
            return {"sent": False}
    return {"http_status": 200, **facts}
