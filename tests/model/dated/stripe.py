"""Stripe as far as reversals go: it does what it is asked, answers, and answers the same again under the same key.

What goes wrong on the way there and back is a fate that the test draws. Anything that the assumptions of section 7
allow may happen: keys are forgotten the moment they are a day old, and a request acts up to `QUIET` after it was sent.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from tests.model.dated.answers import Answer, LookFate, PostFate, Seen, error, no_such

KEYS_LAST = timedelta(hours=24)


@dataclass(slots=True)
class Reversal:
    """Money taken back of a transfer."""

    id: str
    transfer: str
    amount: int
    status: str
    metadata: dict[str, str]

    @property
    def is_live(self) -> bool:
        return self.status in ("pending", "succeeded")

    @property
    def identity(self) -> str | None:
        return self.metadata.get("seller_transfers_identity")

    @property
    def generation(self) -> int:
        return int(self.metadata.get("seller_transfers_generation", 1))

    def facts(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "transfer_reversal",
            "amount": self.amount,
            "currency": "usd",
            "transfer": self.transfer,
            "status": self.status,
            "metadata": dict(self.metadata),
        }


@dataclass(frozen=True, slots=True)
class Request:
    """A POST under its key."""

    transfer: str
    key: str
    amount: int
    metadata: dict[str, str]
    dies_at: datetime

    @property
    def params(self) -> tuple[str, int, tuple[tuple[str, str], ...]]:
        return self.transfer, self.amount, tuple(sorted(self.metadata.items()))


class Stored(NamedTuple):
    """The answer Stripe keeps for a key."""

    params: tuple[str, int, tuple[tuple[str, str], ...]]
    answer: Answer
    at: datetime


@dataclass(slots=True)
class Stripe:
    """Everything there is at Stripe. A transfer that is not in `transfers` is unknown to it."""

    transfers: dict[str, int] = field(default_factory=dict)
    reversals: list[Reversal] = field(default_factory=list)
    keys: dict[str, Stored] = field(default_factory=dict)
    under_way: list[tuple[Request, bool]] = field(default_factory=list)  # True: its 500 is stored, and it acts yet

    # What workers ask

    def post(self, request: Request, fate: PostFate, now: datetime) -> Answer:
        """A worker sends a POST; what it is told."""
        self.forget(now)
        match fate:
            case "answer lost":
                self._execute(request, "done", now)
            case "request late" | "sent twice, 409" | "proxy says 200" | "proxy says 400" | "another reversal":
                self.under_way.append((request, False))
            case "request lost" | "not sent" | "other action":
                pass
            case _:
                return self._execute(request, fate, now)
        match fate:
            case "sent twice, 409":
                return error("key in use", 409, "idempotency_error", "idempotency_key_in_use", "Another in progress.")
            case "proxy says 200":
                return Answer("garbled", {"http_status": 200, "object": {"object": "list", "data": []}})
            case "proxy says 400":
                return Answer("garbled", {"http_status": 400, "error_message": "Bad Request"})
            case "another reversal":
                wrong = Reversal("trr_wrong", request.transfer, request.amount + 1, "succeeded", {})
                return Answer("another reversal", {"http_status": 200, "object": wrong.facts()})
            case "not sent":
                return Answer("not sent", {"sent": False})
            case "other action":
                return Answer("no answer", {"action": "look_up_reversals", "http_status": 200})
            case _:
                return Answer("no answer", {"error_message": "no answer within 20 s"})

    def look(self, transfer: str, fate: LookFate, now: datetime) -> Answer:
        """A worker reads the transfer and the list of its reversals."""
        match fate:
            case "500":
                return error("unclear", 500, "api_error", None, "Sorry.")
            case "400":
                return error("unclear", 400, "invalid_request_error", None, "No.")
            case "429":
                return error("throttled", 429, "invalid_request_error", "rate_limit", "Too many requests.")
            case "401":
                return error("bad key", 401, "invalid_request_error", None, "Invalid API Key provided.")
            case "no answer":
                return Answer("unclear", {"error_message": "no answer within 20 s"})
            case "proxy says 200":
                return Answer("unclear", {"http_status": 200, "object": {"object": "page"}, "found": []})
            case "not sent":
                return Answer("not sent", {"sent": False})
            case "other action":
                return Answer("unclear", {"action": "reverse", "http_status": 404, "error_type": "api_error"})
        total = self.transfers.get(transfer)
        if total is None:
            return no_such(transfer)
        listed = [reversal for reversal in self.reversals if reversal.transfer == transfer]
        shown = {
            "id": transfer,
            "object": "transfer",
            "amount": total,
            "currency": "usd",
            "amount_reversed": sum(reversal.amount for reversal in listed if reversal.is_live),
        }
        facts = {"http_status": 200, "object": shown, "found": [reversal.facts() for reversal in listed]}
        if fate == "some pages only":
            return Answer("unclear", {**facts, "found": None})
        if fate == "changed between pages":
            return Answer("unclear", {**facts, "object": {**shown, "amount_reversed": total + 1}})
        seen = (Seen(one.id, one.amount, one.status, one.identity, one.generation) for one in listed)
        return Answer("listed", facts, tuple(seen), total)

    # What happens by itself, or by others

    def arrive(self, which: int, now: datetime) -> None:
        """A request that nobody waits for any more does what it can."""
        self.forget(now)
        if self.under_way:
            request, is_answered = self.under_way.pop(which % len(self.under_way))
            if is_answered:
                self._reverse(request, "succeeded")
            else:
                self._execute(request, "done", now)

    def settle(self, which: int, status: str) -> None:
        """A reversal that Stripe holds is made, or dropped."""
        held = [reversal for reversal in self.reversals if reversal.status == "pending"]
        if held:
            held[which % len(held)].status = status

    def take_elsewhere(self, transfer: str, amount: int, status: str) -> None:
        """Somebody takes money back by hand."""
        if 0 < amount <= self.left(transfer):
            self.reversals.append(Reversal(self._next_id(), transfer, amount, status, {}))

    def forget(self, now: datetime) -> None:
        self.keys = {key: stored for key, stored in self.keys.items() if now - stored.at < KEYS_LAST}
        self.under_way = [(request, answered) for request, answered in self.under_way if now < request.dies_at]

    def left(self, transfer: str) -> int:
        taken = sum(one.amount for one in self.reversals if one.transfer == transfer and one.is_live)
        return self.transfers.get(transfer, 0) - taken

    def live(self, identity: str) -> list[Reversal]:
        return [one for one in self.reversals if one.is_live and one.identity == identity]

    # How it does it

    def _execute(self, request: Request, fate: PostFate, now: datetime) -> Answer:
        match fate:
            case "429":
                return error("throttled", 429, "invalid_request_error", "lock_timeout", "Locked.")
            case "401":
                return error("bad key", 401, "invalid_request_error", None, "Invalid API Key provided.")
            case "403":
                return error("bad account", 403, "invalid_request_error", "account_invalid", "No access.")
        stored = self.keys.get(request.key)
        if stored is not None:
            if stored.params != request.params:
                return error("other parameters", 400, "idempotency_error", None, "Keys can only be used with the same.")
            kind = "replayed server error" if stored.answer.kind == "server error" else stored.answer.kind
            return Answer(kind, {**stored.answer.facts, "replayed": True})
        if request.transfer not in self.transfers:
            return no_such(request.transfer)
        answer = self._first(request, fate)
        self.keys[request.key] = Stored(request.params, answer, now)
        return answer

    def _first(self, request: Request, fate: PostFate) -> Answer:
        if fate.startswith("500"):
            if fate == "500, yet done":
                self._reverse(request, "succeeded")
            elif fate == "500, done later":
                self.under_way.append((request, True))
            return error("server error", 500, "api_error", None, "Sorry.")
        left = self.left(request.transfer)
        if left == 0:
            said = f"The transfer {request.transfer} is already fully reversed."
            return error("already reversed", 400, "invalid_request_error", None, said)
        if fate == "short of balance":
            return error("short of balance", 400, "invalid_request_error", "balance_insufficient", "Too little.")
        if fate == "refused" or left < request.amount:
            return error("refused", 400, "invalid_request_error", None, "No.")
        kind, status = {
            "held": ("accepted", "pending"),
            "made and failed": ("made and failed", "failed"),
        }.get(fate, ("succeeded", "succeeded"))
        made = self._reverse(request, status)
        return Answer(kind, {"http_status": 200, "object": made.facts(), "stripe_request_id": "req_1"})

    def _reverse(self, request: Request, status: str) -> Reversal:
        made = Reversal(self._next_id(), request.transfer, request.amount, status, request.metadata)
        if made.amount <= self.left(made.transfer):
            self.reversals.append(made)
        return made

    def _next_id(self) -> str:
        return f"trr_{len(self.reversals) + 1}"
