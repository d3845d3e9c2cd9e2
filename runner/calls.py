"""The calls that the database hands out: what each must bring, how it is made, and what is reported of it.

Knows neither the SDK nor HTTP: the gateway makes the requests. It decides nothing: an outcome holds facts, and whatever
goes wrong, in whichever way, is an outcome too.
"""

import asyncio
import math
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import structlog

from runner.clean import safe_text
from runner.look_up import Ask, LookUp, Request
from runner.outcome import (
    MESSAGE_LIMIT,
    Outcome,
    StripeCall,
    StripeObject,
    UnreadableObject,
    not_sent,
    read_reversal,
    read_transfer,
)
from runner.stripe_http import Exchange, NoAnswer

_log = structlog.get_logger()

ACCOUNT_ID = re.compile(r"acct_[A-Za-z0-9]{1,250}")
_TRANSFER_ID = re.compile(r"tr_[A-Za-z0-9]{1,250}")
_CHARGE_ID = re.compile(r"(ch|py)_[A-Za-z0-9]{1,250}")
_CURRENCY = re.compile(r"[a-z]{3}")
_IDEMPOTENCY_KEY_LIMIT = 255
_CODE_LIMIT = 100
_STOPPED = "the runner was stopped before Stripe answered"

Found = tuple[StripeObject | None, tuple[StripeObject, ...]]


class Requests(Protocol):
    """One request to Stripe each: what comes of it is noted in the current exchange."""

    def create_reversal(
        self, transfer_id: str, *, amount: int, metadata: Mapping[str, str], idempotency_key: str
    ) -> Awaitable[object]:
        """POST /v1/transfers/{id}/reversals."""

    def create_transfer(
        self,
        *,
        amount: int,
        currency: str,
        destination: str,
        source_charge: str | None,
        transfer_group: str | None,
        metadata: Mapping[str, str],
        idempotency_key: str,
    ) -> Awaitable[object]:
        """POST /v1/transfers."""

    def get_transfer(self, transfer_id: str) -> Awaitable[object]:
        """GET /v1/transfers/{id}."""

    def list_reversals(self, transfer_id: str, after: str | None) -> Awaitable[object]:
        """GET /v1/transfers/{id}/reversals, the page after that reversal."""

    def list_transfers(self, destination: str, created_from: int, after: str | None) -> Awaitable[object]:
        """GET /v1/transfers, to an account and from a second on, the page after that transfer."""


class _Unfit(Exception):
    """The database should not have handed out this call, and it cannot be made safely; the text names the field."""


class Calls:
    """Makes leased calls through `requests`, each within the deadline; `ask` makes a request in an exchange."""

    def __init__(self, requests: Requests, ask: Ask, *, deadline_seconds: float, clock: Callable[[], float]) -> None:
        self._requests = requests
        self._ask = ask
        self._deadline_seconds = deadline_seconds
        self._clock = clock
        self._actions: dict[str, Callable[[StripeCall], Awaitable[Outcome]]] = {
            "reverse": self._reverse,
            "look_up_reversals": self._look_up_reversals,
            "send": self._send,
            "look_up_transfer": self._look_up_transfer,
        }

    async def perform(self, call: StripeCall) -> Outcome:
        """Make one call and report it. Raises nothing; a cancellation ends the call and is reported, too."""
        action = self._actions.get(call.action)
        if action is None:
            _log.error("action unknown", row=call.id, action=call.action)
            return not_sent(call, f"this version of the runner does not know the action {call.action!r}")
        try:
            return await action(call)
        except _Unfit as unfit:
            field = str(unfit)
            value = getattr(call, field)
            _log.error("call unfit", row=call.id, field=field, value=value)
            return not_sent(call, f"no call can be made with the {field} {value!r:.60}")

    async def _reverse(self, call: StripeCall) -> Outcome:
        transfer_id = _matching(call, "stripe_transfer_id", _TRANSFER_ID)
        metadata = _metadata_of_a_post(call)
        return await self._post(
            call,
            lambda: self._requests.create_reversal(
                transfer_id, amount=call.amount, metadata=metadata, idempotency_key=call.idempotency_key
            ),
            read_reversal,
        )

    async def _send(self, call: StripeCall) -> Outcome:
        destination = _matching(call, "destination_account", ACCOUNT_ID)
        currency = _matching(call, "currency", _CURRENCY)
        source = None if call.source_charge is None else _matching(call, "source_charge", _CHARGE_ID)
        # Stripe refuses a group beside a charge that has one, and the transfer gets the charge's anyway.
        group = call.transfer_group if source is None else None
        if group == "":
            raise _Unfit("transfer_group")
        metadata = _metadata_of_a_post(call)
        return await self._post(
            call,
            lambda: self._requests.create_transfer(
                amount=call.amount,
                currency=currency,
                destination=destination,
                source_charge=source,
                transfer_group=group,
                metadata=metadata,
                idempotency_key=call.idempotency_key,
            ),
            read_transfer,
        )

    async def _look_up_reversals(self, call: StripeCall) -> Outcome:
        transfer_id = _matching(call, "stripe_transfer_id", _TRANSFER_ID)

        async def find(look_up: LookUp) -> Found:
            return await look_up.reversals(
                transfer_id,
                page=lambda after: self._requests.list_reversals(transfer_id, after),
                transfer=lambda: self._requests.get_transfer(transfer_id),
            )

        return await self._look_up(call, find)

    async def _look_up_transfer(self, call: StripeCall) -> Outcome:
        destination = _matching(call, "destination_account", ACCOUNT_ID)
        created_after = call.created_after
        # Without an offset it would be read as this machine's time.
        if created_after is None or created_after.tzinfo is None:
            raise _Unfit("created_after")
        created_from = math.floor(created_after.timestamp())  # Stripe's times are whole seconds

        async def find(look_up: LookUp) -> Found:
            return None, await look_up.transfers(
                destination, page=lambda after: self._requests.list_transfers(destination, created_from, after)
            )

        return await self._look_up(call, find)

    async def _post(
        self, call: StripeCall, request: Request, read: Callable[[Mapping[str, object]], StripeObject]
    ) -> Outcome:
        """Make the one request of a call that moves money; `read` reads what it is to give."""
        exchange = Exchange(lease_ends=call.lease_ends, clock=self._clock)
        started = time.monotonic()
        try:
            trouble = await self._ask(exchange, request)
        except asyncio.CancelledError:
            trouble = _STOPPED
        made: StripeObject | None = None
        if exchange.object is not None:
            try:
                made = read(exchange.object)
            except UnreadableObject as flaw:
                trouble = f"HTTP {exchange.http_status}, but the object cannot be used: {flaw}"
        return _outcome(call, exchange, started, trouble, exchange.sent, made)

    async def _look_up(self, call: StripeCall, find: Callable[[LookUp], Awaitable[Found]]) -> Outcome:
        """Make the requests of a call that only looks."""
        look_up = LookUp(
            self._ask, deadline_seconds=self._deadline_seconds, lease_ends=call.lease_ends, clock=self._clock
        )
        object_, found, trouble = None, None, None
        started = time.monotonic()
        try:
            object_, found = await find(look_up)
        except NoAnswer as reason:
            trouble = str(reason)
        except asyncio.CancelledError:
            trouble = _STOPPED
        return _outcome(call, look_up.exchange, started, trouble, look_up.sent, object_, found)


def _outcome(
    call: StripeCall,
    exchange: Exchange,
    started: float,
    trouble: str | None,
    sent: bool,
    object_: StripeObject | None,
    found: tuple[StripeObject, ...] | None = None,
) -> Outcome:
    """Put together what is known, with the words of Stripe's if it refused, or else the trouble there was."""
    error = exchange.error or {}
    if exchange.error is not None:
        trouble = error.get("message")
    return Outcome(
        id=call.id,
        action=call.action,
        lease_token=call.lease_token,
        sent=sent,
        http_status=exchange.http_status,
        error_type=_text(error.get("type"), _CODE_LIMIT),
        error_code=_text(error.get("code"), _CODE_LIMIT),
        error_message=_text(trouble, MESSAGE_LIMIT),
        stripe_request_id=exchange.request_id,
        replayed=exchange.replayed,
        duration_ms=round((time.monotonic() - started) * 1000),
        object=object_,
        found=found,
    )


def _text(value: object, limit: int) -> str | None:
    return safe_text(value, limit) if isinstance(value, str) else None


def _matching(call: StripeCall, field: str, pattern: re.Pattern[str]) -> str:
    """Give an id of the call's: the SDK would make a URL of any text."""
    value = getattr(call, field)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise _Unfit(field)
    return value


def _metadata_of_a_post(call: StripeCall) -> Mapping[str, str]:
    """Give the metadata, having made sure of amount and key, too."""
    if call.amount <= 0:
        raise _Unfit("amount")
    # The SDK makes a key of its own where it is given an empty one.
    key = call.idempotency_key
    if not (key.isprintable() and key == key.strip() and 0 < len(key) <= _IDEMPOTENCY_KEY_LIMIT):
        raise _Unfit("idempotency_key")
    if not call.metadata:  # nothing could find what is made again
        raise _Unfit("metadata")
    return call.metadata
