"""Reads at Stripe a transfer and all of its reversals, or all transfers to an account: everything, or nothing.

Knows neither the SDK nor HTTP: the gateway says how a request is made.
"""

import math
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from runner.clock import boottime_seconds
from runner.outcome import StripeObject, UnreadableObject, read_page, read_reversal, read_transfer
from runner.stripe_http import Exchange, NoAnswer

PAGE_SIZE = 100  # the most that Stripe gives
PAGE_LIMIT = 100
# All answers of one look-up together: ten thousand plain objects, or six hundred with as much metadata as Stripe takes.
# So much may become one outcome. A seller with more transfers in the time asked about is beyond looking up, and the
# outcome of a send to them stays unknown: Stripe's lists know no filter by metadata, and one by transfer_group proves
# nothing, for not every transfer has a group, and one with a source has its charge's, whatever that is by now.
BYTE_LIMIT = 1 << 24

Request = Callable[[], Awaitable[object]]
Ask = Callable[[Exchange, Request], Awaitable[str | None]]
Page = Callable[[str | None], Awaitable[object]]


class LookUp:
    """The requests of one look-up, one after the other, under one lease and within one deadline.

    `sent` says whether any of them may have left; `exchange` is the last one made.
    """

    def __init__(
        self,
        ask: Ask,
        *,
        deadline_seconds: float,
        lease_ends: float = math.inf,
        clock: Callable[[], float] = boottime_seconds,
    ) -> None:
        self._ask = ask
        self._gives_up_at = time.monotonic() + deadline_seconds
        self._lease_ends = lease_ends
        self._clock = clock
        self._bytes_left = BYTE_LIMIT
        self._asked = False
        self.exchange = Exchange()

    @property
    def sent(self) -> bool:
        """Whether a byte of any request may have left."""
        return self._asked or self.exchange.sent

    async def reversals(
        self, transfer_id: str, page: Page, transfer: Request
    ) -> tuple[StripeObject, tuple[StripeObject, ...]]:
        """Give the transfer and all its reversals, newest first. Raises NoAnswer if anything at all is missing.

        The list first and the transfer last, so that `amount_reversed` vouches for the list up to the end of the
        look-up: pages go from new to old, and a reversal made after the first page was read is on none of them. With
        the transfer read first, neither would show it, and the two would agree. (Read apart, they can disagree without
        anything being wrong; then the next look-up tells.)
        """
        with self._all_or_nothing():
            found = await self._all_pages(page, partial(_read_reversal_of, transfer_id))
            return _read_this_transfer(transfer_id, await self._get(transfer)), found

    async def transfers(self, destination: str, page: Page) -> tuple[StripeObject, ...]:
        """Give all transfers to this account that are on the pages, newest first. Raises NoAnswer, too.

        Nothing vouches for this list. What was there when the look-up began is on it all the same: pages go from new to
        old, each from where the one before ended, whatever comes in front meanwhile. And what came meanwhile is not
        missed: that there is nothing, the database takes for true only of the time before it asked.
        """
        with self._all_or_nothing():
            return await self._all_pages(page, partial(_read_transfer_to, destination))

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        try:
            yield
        except UnreadableObject as flaw:
            raise NoAnswer(f"HTTP {self.exchange.http_status}, but the answer cannot be used: {flaw}") from flaw

    async def _all_pages(
        self, page: Page, read: Callable[[Mapping[str, object]], StripeObject]
    ) -> tuple[StripeObject, ...]:
        found: dict[str, StripeObject] = {}
        last: str | None = None
        for _ in range(PAGE_LIMIT):
            elements, has_more = read_page(await self._get(partial(page, last)), read)
            for element in elements:
                # A page that comes again is caught here too: the walk would never end.
                if element.id in found:
                    raise UnreadableObject(f"the list holds {element.id} twice")
                found[element.id] = element
                last = element.id
            if not has_more:
                return tuple(found.values())
            if not elements:
                raise UnreadableObject("the list is said to go on, and does not")
        raise UnreadableObject(f"the list is longer than {PAGE_LIMIT} pages")

    async def _get(self, request: Request) -> Mapping[str, object]:
        """Make the next request and give the object that came."""
        self._asked = self.sent
        self.exchange = Exchange(
            lease_ends=self._lease_ends,
            clock=self._clock,
            gives_up_at=self._gives_up_at,
            body_limit=self._bytes_left,
        )
        trouble = await self._ask(self.exchange, request)
        self._bytes_left -= self.exchange.body_bytes
        if self.exchange.object is None:
            raise NoAnswer(trouble or "Stripe refuses")
        return self.exchange.object


def _read_reversal_of(transfer_id: str, answer: Mapping[str, object]) -> StripeObject:
    reversal = read_reversal(answer)
    if reversal.transfer != transfer_id:
        raise UnreadableObject(f"the list holds a reversal of {reversal.transfer}")
    return reversal


def _read_transfer_to(destination: str, answer: Mapping[str, object]) -> StripeObject:
    transfer = read_transfer(answer)
    if transfer.destination != destination:
        raise UnreadableObject(f"the list holds a transfer to {transfer.destination}")
    return transfer


def _read_this_transfer(transfer_id: str, answer: Mapping[str, object]) -> StripeObject:
    transfer = read_transfer(answer)
    if transfer.id != transfer_id:
        raise UnreadableObject(f"it is the transfer {transfer.id}")
    return transfer
