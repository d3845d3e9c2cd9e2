"""Makes the Stripe calls that the database hands out, through Stripe's SDK, and reports what came of them.

The only module that knows the SDK. Which calls there are, and what they must bring, is known to runner.calls.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import stripe
import structlog
from stripe import AIOHTTPClient, StripeClient
from stripe.params import EventListParams, TransferCreateParams, TransferListParams, TransferReversalListParams

from runner.account import Account, KeyRefused, StripeUnreachable
from runner.calls import ACCOUNT_ID, Calls
from runner.clock import boottime_seconds
from runner.look_up import BYTE_LIMIT, PAGE_SIZE
from runner.outcome import Outcome, StripeCall, UnreadableObject, message, read_page
from runner.stripe_http import MAX_BODY_BYTES, Exchange, NoAnswer, NothingSent, StripeHttp, proxy_of_the_environment

# Otherwise the SDK tells Stripe how long requests take, and keeps a file in the home folder.
stripe.enable_telemetry = False

_log = structlog.get_logger()


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


class _Requests:
    """The requests that calls are made of, through the SDK.

    Not in the SDK's own way through pages: it takes an empty one for the last, whatever `has_more` says.
    """

    def __init__(self, client: StripeClient) -> None:
        self._transfers = client.v1.transfers

    def create_reversal(
        self, transfer_id: str, *, amount: int, metadata: Mapping[str, str], idempotency_key: str
    ) -> Awaitable[object]:
        return self._transfers.reversals.create_async(
            transfer_id, {"amount": amount, "metadata": dict(metadata)}, {"idempotency_key": idempotency_key}
        )

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
        params: TransferCreateParams = {
            "amount": amount,
            "currency": currency,
            "destination": destination,
            "metadata": dict(metadata),
        }
        if source_charge is not None:
            params["source_transaction"] = source_charge
        if transfer_group is not None:
            params["transfer_group"] = transfer_group
        return self._transfers.create_async(params, {"idempotency_key": idempotency_key})

    def get_transfer(self, transfer_id: str) -> Awaitable[object]:
        return self._transfers.retrieve_async(transfer_id)

    def list_reversals(self, transfer_id: str, after: str | None) -> Awaitable[object]:
        params: TransferReversalListParams = {"limit": PAGE_SIZE}
        if after is not None:
            params["starting_after"] = after
        return self._transfers.reversals.list_async(transfer_id, params)

    def list_transfers(self, destination: str, created_from: int, after: str | None) -> Awaitable[object]:
        params: TransferListParams = {
            "limit": PAGE_SIZE,
            "destination": destination,
            "created": {"gte": created_from},
        }
        if after is not None:
            params["starting_after"] = after
        return self._transfers.list_async(params)


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
        self._calls: Calls

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        self._client = StripeClient(
            self._api_key,
            base_addresses={"api": self._api_base},
            max_network_retries=0,
            http_client=_LeasedClient(self._http),
        )
        self._calls = Calls(
            _Requests(self._client), self._ask, deadline_seconds=self._call_deadline_seconds, clock=self._clock
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
        account_id = None if account is None else account.get("id")
        livemode = "k_live_" in self._api_key if balance is None else balance.get("livemode")
        if not isinstance(livemode, bool) or (account is not None and not _is_account(account_id)):
            raise StripeUnreachable("what answers in Stripe's place does not say whose key this is")
        return Account(account_id, livemode)

    async def perform(self, call: StripeCall) -> Outcome:
        """Make one leased call and report it. Raises nothing.

        Cancelling the task stops the call, and the task then *returns* the outcome: sent if the request may
        have left, not sent if it cannot have. So this wants a task of its own. (A task cancelled before its
        first step does not get here: `not_sent` is what to report then.)
        """
        return await self._calls.perform(call)

    async def list_events(
        self, types: Sequence[str], created_from: int, created_before: int, after: str | None
    ) -> tuple[list[Mapping[str, object]], bool]:
        """Give a page of events of these types (20 at most), newest first, and whether there are more.

        Created from one second on and before the other, since 1970; the page after that event. Raises KeyRefused or
        StripeUnreachable.
        """
        params: EventListParams = {
            "limit": PAGE_SIZE,
            "types": list(types),
            "created": {"gte": created_from, "lt": created_before},
        }
        if after is not None:
            params["starting_after"] = after
        # An event has a whole object in it, and what changed.
        return await self._page(lambda: self._client.v1.events.list_async(params), "events")

    async def list_transfers(
        self, created_from: int | None, after: str | None
    ) -> tuple[list[Mapping[str, object]], bool]:
        """Give a page of the platform's transfers, whoever made them, newest first, and whether there are more.

        Created from that second on, since 1970, or all; the page after that transfer. Raises KeyRefused or
        StripeUnreachable.
        """
        params: TransferListParams = {"limit": PAGE_SIZE}
        if created_from is not None:
            params["created"] = {"gte": created_from}
        if after is not None:
            params["starting_after"] = after
        return await self._page(lambda: self._client.v1.transfers.list_async(params), "transfers")

    async def list_reversals(self, transfer_id: str, after: str | None) -> tuple[list[Mapping[str, object]], bool]:
        """Give a page of a transfer's reversals, newest first, as `list_transfers` does transfers."""
        params: TransferReversalListParams = {"limit": PAGE_SIZE}
        if after is not None:
            params["starting_after"] = after
        return await self._page(
            lambda: self._client.v1.transfers.reversals.list_async(transfer_id, params), "reversals"
        )

    async def get_transfer(self, transfer_id: str) -> Mapping[str, object] | None:
        """Give a transfer; None if Stripe has none of this id. Raises KeyRefused or StripeUnreachable."""
        found, _ = await self._look(lambda: self._client.v1.transfers.retrieve_async(transfer_id), nothing=404)
        return found

    async def _page(
        self, request: Callable[[], Awaitable[object]], what: str
    ) -> tuple[list[Mapping[str, object]], bool]:
        page, refusal = await self._look(request, body_limit=BYTE_LIMIT)
        if page is None:
            raise KeyRefused(f"Stripe does not let the key read {what}: {refusal}")
        try:
            return read_page(page, lambda element: element)
        except UnreadableObject as flaw:
            raise StripeUnreachable(f"what answers in Stripe's place has no list of {what}: {flaw}") from flaw

    async def _look(
        self, request: Callable[[], Awaitable[object]], *, body_limit: int = MAX_BODY_BYTES, nothing: int = 403
    ) -> tuple[dict[str, Any] | None, str]:
        """Give the object asked for; or None, and Stripe's words, if it answers `nothing`: the key may not see it."""
        exchange = Exchange(body_limit=body_limit)
        trouble = await self._ask(exchange, request)
        if exchange.object is not None:
            return exchange.object, ""
        if exchange.error is None:
            raise StripeUnreachable(f"Stripe gives no answer: {message((trouble or '').removeprefix('no answer: '))}")
        words = f"HTTP {exchange.http_status}: {message(str(exchange.error.get('message')))}"
        if exchange.http_status == nothing:
            return None, words
        if exchange.http_status == 401:
            raise KeyRefused(f"Stripe refuses the key: {words}")
        raise StripeUnreachable(f"Stripe does not give what was asked for: {words}")

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


def _is_account(value: object) -> bool:
    return isinstance(value, str) and ACCOUNT_ID.fullmatch(value) is not None
