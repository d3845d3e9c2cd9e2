"""Makes the Stripe calls that the database hands out, through Stripe's SDK, and reports what came of them.

The only module that knows the SDK. It decides nothing: an outcome holds facts, and whatever goes wrong, in
whichever way, is an outcome too.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self

import stripe
import structlog
from stripe import AIOHTTPClient, StripeClient
from stripe.params import TransferReversalListParams

from runner.account import Account, KeyRefused, StripeUnreachable
from runner.clean import safe_text
from runner.clock import boottime_seconds
from runner.look_up import PAGE_SIZE, LookUp
from runner.outcome import (
    MESSAGE_LIMIT,
    Outcome,
    StripeCall,
    StripeObject,
    UnreadableObject,
    message,
    not_sent,
    read_reversal,
)
from runner.stripe_http import Exchange, NoAnswer, NothingSent, StripeHttp, proxy_of_the_environment

# Otherwise the SDK tells Stripe how long requests take, and keeps a file in the home folder.
stripe.enable_telemetry = False

_log = structlog.get_logger()

_TRANSFER_ID = re.compile(r"tr_[A-Za-z0-9]{1,250}")
_ACCOUNT_ID = re.compile(r"acct_[A-Za-z0-9]{1,250}")
_IDEMPOTENCY_KEY_LIMIT = 255
_CODE_LIMIT = 100
_STOPPED = "the runner was stopped before Stripe answered"


class _LeasedClient(AIOHTTPClient):
    """The SDK's aiohttp client with a request of our own: its own loses connections and follows redirects."""

    def __init__(self, http: StripeHttp) -> None:
        super().__init__(session=http.session)
        self._http = http

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: str | None = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        _, status, kept = await self._http.request(method, url, headers, post_data)
        # The exchange has what came. Of a page of a hundred the SDK would make objects for 50 ms, while nothing else
        # runs, and nobody would look at them.
        return b"{}", status, kept


class Gateway:
    """Stripe, for one API key. An async context manager; no call takes longer than the deadline.

    `api_base` is scheme, host and port, or None for Stripe's own; the settings have checked it. `clock` is what leases
    are counted on.
    """

    def __init__(
        self,
        api_key: str,
        api_base: str | None,
        slots: int,
        call_deadline_seconds: float,
        *,
        clock: Callable[[], float] = boottime_seconds,
    ) -> None:
        self._api_key = api_key
        self._call_deadline_seconds = call_deadline_seconds
        self._clock = clock
        self._api_base = api_base or stripe.DEFAULT_API_BASE
        self._http = StripeHttp(
            slots=slots,
            deadline_seconds=call_deadline_seconds,
            ca_file=stripe.ca_bundle_path,
            # Only the way to Stripe itself leads through a proxy, never that to a base of one's own.
            proxy=None if api_base else proxy_of_the_environment(stripe.DEFAULT_API_BASE),
        )
        self._client: StripeClient
        self._actions: dict[str, Callable[[StripeCall], Awaitable[Outcome]]] = {
            "reverse": self._reverse,
            "look_up_reversals": self._look_up_reversals,
        }

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        self._client = StripeClient(
            self._api_key,
            base_addresses={"api": self._api_base},
            max_network_retries=0,
            http_client=_LeasedClient(self._http),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._http.__aexit__(kind, error, traceback)

    async def check_account(self) -> Account:
        """Ask Stripe whose key this is. Raises KeyRefused or StripeUnreachable.

        A restricted key may be kept from one of the two answers needed; if from both, it is refused.
        """
        account, no_account = await self._look(lambda: self._client.v1.accounts.retrieve_current_async())
        balance, no_balance = await self._look(lambda: self._client.v1.balance.retrieve_async())
        if account is None and balance is None:
            raise KeyRefused(f"Stripe refuses the key: {no_account} {no_balance}")
        account_id = None if account is None else _matching(account.get("id"), _ACCOUNT_ID)
        livemode = "k_live_" in self._api_key if balance is None else balance.get("livemode")
        if not isinstance(livemode, bool) or (account is not None and account_id is None):
            raise StripeUnreachable("what answers in Stripe's place does not say whose key this is")
        return Account(account_id, livemode)

    async def perform(self, call: StripeCall) -> Outcome:
        """Make one leased call and report it. Raises nothing.

        Cancelling the task stops the call, and the task then *returns* the outcome: sent if the request may
        have left, not sent if it cannot have. So this wants a task of its own. (A task cancelled before its
        first step does not get here: `not_sent` is what to report then.)
        """
        action = self._actions.get(call.action)
        if action is None:
            _log.error("action unknown", row=call.id, action=call.action)
            return not_sent(call, f"this version of the runner does not know the action {call.action!r}")
        return await action(call)

    async def _reverse(self, call: StripeCall) -> Outcome:
        # The SDK would make a URL of any id, and a key of its own where it is given an empty one.
        transfer_id = _matching(call.stripe_transfer_id, _TRANSFER_ID)
        if transfer_id is None:
            return _unfit(call, "stripe_transfer_id")
        if call.amount <= 0:
            return _unfit(call, "amount")
        if not _is_header_text(call.idempotency_key):
            return _unfit(call, "idempotency_key")
        metadata = call.metadata
        if not metadata:  # nothing could find that reversal again
            return _unfit(call, "metadata")
        exchange = Exchange(lease_ends=call.lease_ends, clock=self._clock)
        started = time.monotonic()
        try:
            trouble = await self._ask(
                exchange,
                lambda: self._client.v1.transfers.reversals.create_async(
                    transfer_id,
                    {"amount": call.amount, "metadata": dict(metadata)},
                    {"idempotency_key": call.idempotency_key},
                ),
            )
        except asyncio.CancelledError:
            trouble = _STOPPED
        reversal: StripeObject | None = None
        if exchange.object is not None:
            try:
                reversal = read_reversal(exchange.object)
            except UnreadableObject as flaw:
                trouble = f"HTTP {exchange.http_status}, but the object cannot be used: {flaw}"
        return _outcome(call, exchange, started, trouble, exchange.sent, reversal)

    async def _look_up_reversals(self, call: StripeCall) -> Outcome:
        transfer_id = _matching(call.stripe_transfer_id, _TRANSFER_ID)
        if transfer_id is None:
            return _unfit(call, "stripe_transfer_id")
        transfers = self._client.v1.transfers
        look_up = LookUp(
            self._ask, deadline_seconds=self._call_deadline_seconds, lease_ends=call.lease_ends, clock=self._clock
        )
        transfer, reversals, trouble = None, None, None
        started = time.monotonic()
        try:
            # Not the SDK's own way through pages: it takes an empty one for the last, whatever `has_more` says.
            transfer, reversals = await look_up.reversals(
                transfer_id,
                page=lambda after: transfers.reversals.list_async(transfer_id, _page_after(after)),
                transfer=lambda: transfers.retrieve_async(transfer_id),
            )
        except NoAnswer as reason:
            trouble = str(reason)
        except asyncio.CancelledError:
            trouble = _STOPPED
        return _outcome(call, look_up.exchange, started, trouble, look_up.sent, transfer, reversals)

    async def _look(self, request: Callable[[], Awaitable[object]]) -> tuple[dict[str, Any] | None, str]:
        """Give the object asked for; or None, and Stripe's words, if the key may not see it."""
        exchange = Exchange()
        trouble = await self._ask(exchange, request)
        if exchange.object is not None:
            return exchange.object, ""
        if exchange.error is None:
            raise StripeUnreachable(f"Stripe gives no answer: {message(trouble or '')}")
        words = f"HTTP {exchange.http_status}: {message(str(exchange.error.get('message')))}"
        if exchange.http_status == 403:
            return None, words
        if exchange.http_status == 401:
            raise KeyRefused(f"Stripe refuses the key: {words}")
        raise StripeUnreachable(f"Stripe does not say whose key this is: {words}")

    async def _ask(self, exchange: Exchange, request: Callable[[], Awaitable[object]]) -> str | None:
        """Make one request through the SDK. What came is in the exchange; if nothing did, say why."""
        try:
            with exchange.current():
                await request()
        except (NothingSent, NoAnswer) as reason:
            return str(reason)
        except Exception as error:
            # If Stripe answered, it does not matter what the SDK makes of it (an exception, of an error body).
            if not exchange.answered:
                _log.exception("Stripe's SDK failed")
                return f"{type(error).__name__}: {error}"
        return None


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


def _page_after(last_id: str | None) -> TransferReversalListParams:
    params: TransferReversalListParams = {"limit": PAGE_SIZE}
    if last_id is not None:
        params["starting_after"] = last_id
    return params


def _unfit(call: StripeCall, field: str) -> Outcome:
    """Report a call that the database should not have handed out and that cannot be made safely."""
    value = getattr(call, field)
    _log.error("call unfit", row=call.id, field=field, value=value)
    return not_sent(call, f"no call can be made with the {field} {value!r:.60}")


def _text(value: object, limit: int) -> str | None:
    return safe_text(value, limit) if isinstance(value, str) else None


def _matching(value: object, pattern: re.Pattern[str]) -> str | None:
    return value if isinstance(value, str) and pattern.fullmatch(value) else None


def _is_header_text(key: str) -> bool:
    return key.isprintable() and key == key.strip() and 0 < len(key) <= _IDEMPOTENCY_KEY_LIMIT
