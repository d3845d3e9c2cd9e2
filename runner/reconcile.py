"""Compares Stripe with the database: pages through Stripe's transfers and reversals and hands them over.

What differs, and what it means, the database says; it may also say that something is to be read a second time. One
request at a time, each paid for from the rate budget of all runners, so that those beside it go on. What is not read to
its end is not compared.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Protocol, TypeVar

import psycopg

from runner.account import Account, KeyRefused, StripeUnreachable
from runner.clean import safe_text
from runner.connection import DatabaseUnavailable, NotResumed, SchemaUnusable
from runner.database import Database
from runner.outcome import UnreadableObject, read_page, read_reversal, read_transfer
from runner.records import Difference, LookedUp, ReconcileRun
from runner.waiting import until_answered
from runner.wording import counted

_BATCH_LIMIT = 1000
_REREAD_LIMIT = 1000
_REVERSALS_LIMIT = 10_000  # of one transfer
_LATEST = 10**11  # so many seconds as the database takes
_TOLD_EVERY = 10  # pages
_LONGEST_NAP = 1.0

Page = tuple[list[Mapping[str, object]], bool]
Result = TypeVar("Result")


class TransferSource(Protocol):
    """Who asks Stripe: runner.gateway.Gateway. Each may raise KeyRefused or StripeUnreachable."""

    async def list_transfers(self, created_since: int | None, after: str | None) -> Page:
        """A page, newest first, and whether there are more."""

    async def list_reversals(self, transfer_id: str, after: str | None) -> Page:
        """A page of a transfer's, newest first, and whether there are more."""

    async def get_transfer(self, transfer_id: str) -> Mapping[str, object] | None:
        """The transfer; None if Stripe has none of this id."""


@dataclass(slots=True)
class Compared:
    """What came of it: the run, what it found, and if it ended early, why; what was done about it, if it was asked."""

    run: ReconcileRun
    differences: list[Difference] = field(default_factory=list)
    trouble: str | None = None
    looked_up: list[LookedUp] = field(default_factory=list)
    resumed: bool = False
    not_resumed: str | None = None


async def reconcile(
    stripe: TransferSource,
    database: Database,
    account: Account,
    since: datetime | None,
    tell: Callable[[str], None],
) -> Compared:
    """Compare what was made since then, or everything. What goes wrong on the way is in the result.

    `tell` is told how far it has come. Raises WrongAccount.
    """
    compared = Compared(await database.start_reconcile(account.id, account.livemode, since))
    run_id = compared.run.id
    reader = _Reader(stripe, database, run_id, tell)
    try:
        await reader.read_all(None if since is None else int(since.timestamp()))
        await reader.read_again(await database.transfers_to_reread(run_id, _REREAD_LIMIT))
        compared.run = await database.finish_reconcile(run_id)
        compared.differences = await database.reconcile_differences(run_id)
    except (KeyRefused, StripeUnreachable, UnreadableObject) as error:
        compared.trouble = safe_text(str(error), 500)
        compared.run = await database.finish_reconcile(run_id, compared.trouble)
    except (DatabaseUnavailable, NotResumed, SchemaUnusable, psycopg.Error) as error:
        # The run stays open until the next one is begun.
        compared.trouble = safe_text(str(error), 500)
    return compared


class _Reader:
    """Reads Stripe's lists to their ends, one request after the other."""

    def __init__(self, stripe: TransferSource, database: Database, run_id: int, tell: Callable[[str], None]) -> None:
        self._stripe = stripe
        self._database = database
        self._run_id = run_id
        self._tell = tell
        self._waiting: list[dict[str, Any]] = []

    async def read_all(self, created_since: int | None) -> None:
        """Hand over all transfers, and all reversals of them."""
        after, pages, has_more = None, 0, True
        order = _NewestFirst()
        while has_more:
            page, has_more = await self._ask(partial(self._stripe.list_transfers, created_since, after))
            for answer in page:
                order.add(answer)
                await self._hand_over(await self._with_reversals(answer))
            after = _last_id(page, has_more)
            pages += 1
            if pages % _TOLD_EVERY == 0:
                await self._flush(tell=True)
        await self._flush(tell=True)

    async def read_again(self, transfer_ids: Sequence[str]) -> None:
        """Read these transfers by themselves; one that is not there is left as it is."""
        if transfer_ids:
            self._tell(f"reading {counted(len(transfer_ids), 'transfer')} again, for something differs")
        for transfer_id in transfer_ids:
            answer = await self._ask(partial(self._stripe.get_transfer, transfer_id))
            if answer is not None:
                await self._hand_over(await self._with_reversals(answer))
        await self._flush()

    async def _with_reversals(self, answer: Mapping[str, object]) -> list[dict[str, Any]]:
        """Give a transfer as the database takes it, and all of its reversals after it."""
        transfer = {**asdict(read_transfer(answer)), "created": _created(answer)}
        reversals = _embedded(answer)
        if reversals is None:
            reversals = await self._all_reversals(transfer["id"])
        of_others = [each["id"] for each in reversals if each["transfer"] != transfer["id"]]
        if of_others:
            raise UnreadableObject(f"the list of reversals of {transfer['id']} holds {of_others[0]} of another one")
        return [transfer, *reversals]

    async def _all_reversals(self, transfer_id: str) -> list[dict[str, Any]]:
        after, found, has_more = None, dict[str, dict[str, Any]](), True
        while has_more:
            if len(found) > _REVERSALS_LIMIT:
                raise UnreadableObject(f"the list of reversals of {transfer_id} does not end")
            page, has_more = await self._ask(partial(self._stripe.list_reversals, transfer_id, after))
            for answer in page:
                reversal = _read_reversal(answer)
                if reversal["id"] in found:
                    raise UnreadableObject(f"the list holds {reversal['id']} twice")
                found[reversal["id"]] = reversal
            after = _last_id(page, has_more)
        return list(found.values())

    async def _hand_over(self, objects: Sequence[dict[str, Any]]) -> None:
        if len(self._waiting) + len(objects) > _BATCH_LIMIT:
            await self._flush()
        # One with very many reversals goes in pieces, the transfer before each: it says whose they are.
        transfer, reversals = objects[0], objects[1:]
        while len(reversals) >= _BATCH_LIMIT:
            await self._database.keep_listed_objects(self._run_id, [transfer, *reversals[: _BATCH_LIMIT - 1]])
            reversals = reversals[_BATCH_LIMIT - 1 :]
        self._waiting += [transfer, *reversals]

    async def _flush(self, *, tell: bool = False) -> None:
        waiting, self._waiting = self._waiting, []
        run = await self._database.keep_listed_objects(self._run_id, waiting)
        if tell:
            self._tell(f"{counted(run.transfers, 'transfer')} and {counted(run.reversals, 'reversal')} read")

    async def _ask(self, request: Callable[[], Awaitable[Result]]) -> Result:
        """Make a request when it may be made; again, if Stripe does not answer it."""

        async def paid_for() -> Result:
            await self._pay()
            return await request()

        return await until_answered(paid_for, self._tell)

    async def _pay(self) -> None:
        wait = await self._database.pay_for_read(self._run_id)
        while wait:
            await asyncio.sleep(min(wait.total_seconds(), _LONGEST_NAP))
            wait = await self._database.pay_for_read(self._run_id)


class _NewestFirst:
    """Sees to it that a list goes on from new to old, and so comes to its end. Raises UnreadableObject."""

    def __init__(self) -> None:
        self._second: int | None = None
        self._ids: set[object] = set()

    def add(self, answer: Mapping[str, object]) -> None:
        """The next one."""
        created = _created(answer)
        if self._second is None or created < self._second:
            self._second, self._ids = created, set()
        elif created > self._second:
            raise UnreadableObject(f"the list of transfers does not go from new to old at {answer.get('id')!r:.60}")
        if answer.get("id") in self._ids:
            raise UnreadableObject(f"the list holds {answer.get('id')!r:.60} twice")
        self._ids.add(answer.get("id"))


def _embedded(answer: Mapping[str, object]) -> list[dict[str, Any]] | None:
    """Give the reversals that came with a transfer if they are all that there are: it holds the ten newest."""
    embedded = answer.get("reversals")
    if not isinstance(embedded, dict):
        return None
    reversals, has_more = read_page(embedded, _read_reversal)
    return None if has_more else reversals


def _read_reversal(answer: Mapping[str, object]) -> dict[str, Any]:
    return {**asdict(read_reversal(answer)), "created": _created(answer)}


def _created(answer: Mapping[str, object]) -> int:
    created = answer.get("created")
    if type(created) is not int or not 0 <= created < _LATEST:
        raise UnreadableObject(f"created is {created!r:.60}")
    return created


def _last_id(page: Sequence[Mapping[str, object]], has_more: bool) -> str | None:
    last = page[-1].get("id") if page else None
    if has_more and not isinstance(last, str):
        raise UnreadableObject("the list is said to go on, and does not")
    return last if isinstance(last, str) else None


async def act(database: Database, compared: Compared, look_up: str | None, resume: str | None) -> None:
    """Do what was asked for besides comparing, with the reasons given; what came of it is noted in the result."""
    run = compared.run
    if compared.trouble is not None:
        return
    if look_up is not None:
        compared.looked_up = await database.look_up_differences(run.id, look_up)
    if resume is not None:
        try:
            await database.resume_after_reconcile(run.id, resume)
        except NotResumed as error:
            compared.not_resumed = str(error)
        else:
            compared.resumed = True
