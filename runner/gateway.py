"""Makes the Stripe calls that the database hands out, through Stripe's SDK, and reports what came of them.

The only module that knows the SDK. It decides nothing: an outcome holds facts, and whatever goes wrong, in
whichever way, is an outcome too.
"""

import asyncio
import re
import time
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import stripe
import structlog
from stripe import AIOHTTPClient, StripeClient

from runner.clean import safe_text
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
from runner.stripe_http import Exchange, NoAnswer, NothingSent, StripeHttp

# Otherwise the SDK tells Stripe how long requests take, and keeps a file in the home folder.
stripe.enable_telemetry = False

_log = structlog.get_logger()

_TRANSFER_ID = re.compile(r"tr_[A-Za-z0-9]{1,250}")
_ACCOUNT_ID = re.compile(r"acct_[A-Za-z0-9]{1,250}")
_IDEMPOTENCY_KEY_LIMIT = 255
_CODE_LIMIT = 100


class KeyRefused(Exception):
    """Stripe does not accept the API key; the text is one line and does not hold it."""


class StripeUnreachable(Exception):
    """Stripe did not answer, or not in a way that can be used; the text is one line."""


@dataclass(frozen=True, slots=True)
class Account:
    """Whose key it is: the account's id, None if the key may not read it, and whether its money is real."""

    id: str | None
    livemode: bool


class _LeasedClient(AIOHTTPClient):
    """The SDK's aiohttp client with a request of our own: its own loses connections and follows redirects."""

    def __init__(self, http: StripeHttp) -> None:
        super().__init__(session=http.session)
        self._http = http

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: str | None = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        return await self._http.request(method, url, headers, post_data)


class Gateway:
    """Stripe, for one API key. An async context manager; no request takes longer than the deadline.

    `api_base` is scheme, host and port, or None for Stripe's own; the settings have checked it.
    """

    def __init__(self, api_key: str, api_base: str | None, slots: int, call_deadline_seconds: float) -> None:
        self._api_key = api_key
        self._api_base = api_base or stripe.DEFAULT_API_BASE
        self._http = StripeHttp(
            slots=slots,
            deadline_seconds=call_deadline_seconds,
            ca_file=stripe.ca_bundle_path,
            # Only the way to Stripe itself leads through a proxy, never that to a base of one's own.
            proxy=None if api_base else _proxy_of_the_environment(),
        )
        self._client: StripeClient
        self._actions: dict[str, Callable[[StripeCall], Awaitable[Outcome]]] = {"reverse": self._reverse}

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
        exchange = Exchange(lease_ends=call.lease_ends)
        started = time.monotonic()
        try:
            trouble = await self._ask(
                exchange,
                lambda: self._client.v1.transfers.reversals.create_async(
                    transfer_id,
                    {"amount": call.amount, "metadata": dict(call.metadata)},
                    {"idempotency_key": call.idempotency_key},
                ),
            )
        except asyncio.CancelledError:
            trouble = "the runner was stopped before Stripe answered"
        duration_ms = round((time.monotonic() - started) * 1000)
        return _outcome(call, exchange, trouble, duration_ms, read_reversal)

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
    trouble: str | None,
    duration_ms: int,
    read: Callable[[Mapping[str, object]], StripeObject],
) -> Outcome:
    """Put together what is known of one exchange."""
    found: StripeObject | None = None
    error = exchange.error or {}
    if exchange.error is not None:
        trouble = error.get("message")
    if exchange.object is not None:
        try:
            found = read(exchange.object)
        except UnreadableObject as flaw:
            trouble = f"HTTP {exchange.http_status}, but the object cannot be used: {flaw}"
    return Outcome(
        id=call.id,
        action=call.action,
        lease_token=call.lease_token,
        sent=exchange.sent,
        http_status=exchange.http_status,
        error_type=_text(error.get("type"), _CODE_LIMIT),
        error_code=_text(error.get("code"), _CODE_LIMIT),
        error_message=_text(trouble, MESSAGE_LIMIT),
        stripe_request_id=exchange.request_id,
        replayed=exchange.replayed,
        duration_ms=duration_ms,
        object=found,
    )


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


def _proxy_of_the_environment() -> str | None:
    """Give the proxy that HTTPS_PROXY and NO_PROXY ask for on the way to Stripe; aiohttp alone takes none."""
    if urllib.request.proxy_bypass(urlsplit(stripe.DEFAULT_API_BASE).netloc):
        return None
    return urllib.request.getproxies().get("https")
