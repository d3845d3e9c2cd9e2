"""Reads at Stripe the events that the webhook may have missed, oldest first, into the same inbox.

Stripe lists from new to old. So time is cut into spans, short enough for memory, and each is read to its end before
anything of it is stored; what stops half way says from when to go on.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol

import click
import psycopg

from runner.account import KeyRefused, StripeUnreachable
from runner.clean import safe_text
from runner.connection import DatabaseUnavailable, SchemaUnusable
from runner.database import Database
from runner.event import NotAnEvent, read_event
from runner.inbox import ingest
from runner.records import IngestedEvent
from runner.waiting import until_answered

KEPT_BY_STRIPE = timedelta(days=30)
# Somebody who asks for thirty days has thought for a moment.
_SLACK = timedelta(minutes=5)
_TYPES_LIMIT = 20  # as many as Stripe takes in one request
_SPAN_PAGES = 20
_LAST_SPAN_PAGES = 1000  # of a single second
_FEW_EVENTS = 250
_FIRST_SPAN_SECONDS = 3600
# The SQLSTATEs of data that cannot be meant: the event's fault, and no other's.
_BAD_DATA = "22"
_SHOWN = 20
_RETRY_LIMIT = 100
_RETRIES = 50  # what is left is tried first the next time

_AGO = re.compile(r"([0-9]{1,5})\s*([smhdw])")
_EPOCH = datetime(1970, 1, 2, tzinfo=UTC)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class BadSince(Exception):
    """It is no time from which Stripe's events can be read; the text says what to give instead."""


class EventSource(Protocol):
    """Who asks Stripe: runner.gateway.Gateway."""

    async def list_events(
        self, types: Sequence[str], created_from: int, created_before: int, after: str | None
    ) -> tuple[list[Mapping[str, object]], bool]:
        """A page, newest first, and whether there are more. Raises KeyRefused or StripeUnreachable."""


@dataclass(slots=True)
class CaughtUp:
    """What came of it: what became of the events read, and if it ended early, why, and from when to go on."""

    since: datetime
    read: int = 0
    results: Counter[str] = field(default_factory=Counter)
    kept: list[IngestedEvent] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    trouble: str | None = None
    goes_on_from: datetime | None = None


def read_since(text: str, now: datetime, kept_for: timedelta | None = KEPT_BY_STRIPE) -> datetime:
    """Read `3d`, `12h`, or an ISO time with an offset; in whole seconds. Raises BadSince.

    What is older than `kept_for` (None: any age) is refused.
    """
    if ago := _AGO.fullmatch(text.strip().lower()):
        since = now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    else:
        try:
            since = datetime.fromisoformat(text.strip())
        except ValueError:
            raise BadSince("it is neither a time ago, such as 3d or 12h, nor an ISO time") from None
        if since.tzinfo is None:
            raise BadSince(f"in which time zone? Say {since.isoformat()}Z for UTC, or +02:00, or as it is")
    if since > now:
        raise BadSince("it has not come yet")
    if kept_for is not None and since < now - kept_for - _SLACK:
        raise BadSince(
            f"Stripe keeps events for {kept_for.days} days: give {kept_for.days}d. What older ones told of transfers"
            " and reversals, seller-transfers reconcile finds"
        )
    if since < _EPOCH:
        raise BadSince("there was no Stripe then")
    return since.astimezone(UTC).replace(microsecond=0)


async def catch_up(
    stripe: EventSource, database: Database, since: datetime, until: datetime, tell: Callable[[str], None]
) -> CaughtUp:
    """Read all events from `since` until before `until`, and have them stored. What goes wrong is in the result.

    `tell` is told of what is tried again.
    """
    done = CaughtUp(since)
    begins, ends = int(since.timestamp()), int(until.timestamp())
    seconds = _FIRST_SPAN_SECONDS
    try:
        types = await database.acted_event_types()
        while begins < ends:
            before = min(begins + seconds, ends)
            events = await _span(stripe, types, begins, before, tell)
            if events is None:
                seconds = max(1, seconds // 4)
                continue
            for event in events:
                await _ingest(database, event, done)
            begins = before
            if len(events) <= _FEW_EVENTS:
                seconds *= 4
        await _try_again(database, done)
    except (KeyRefused, StripeUnreachable, DatabaseUnavailable, SchemaUnusable, psycopg.Error) as error:
        done.trouble = safe_text(str(error), 500)
        done.goes_on_from = datetime.fromtimestamp(begins, UTC)
    return done


async def _span(
    stripe: EventSource, types: Sequence[str], begins: int, before: int, tell: Callable[[str], None]
) -> list[Mapping[str, object]] | None:
    """Give all events of that time, oldest first; or None if they are too many and the time can be cut."""
    is_last = before - begins == 1
    found: list[Mapping[str, object]] = []
    for start in range(0, len(types), _TYPES_LIMIT):
        after, number = None, 0
        while True:
            request = partial(stripe.list_events, types[start : start + _TYPES_LIMIT], begins, before, after)
            page, has_more = await until_answered(request, tell)
            found += page
            number += 1
            if not has_more:
                break
            if number == (_LAST_SPAN_PAGES if is_last else _SPAN_PAGES):
                if is_last:
                    raise StripeUnreachable("the list of the events of one second does not end")
                return None
            last = page[-1].get("id") if page else None
            if not isinstance(last, str) or last == after:
                raise StripeUnreachable("the list of events is said to go on, and does not")
            after = last
    found.reverse()
    return sorted(found, key=_created)


def _created(event: Mapping[str, object]) -> int:
    created = event.get("created")
    return created if isinstance(created, int) else 0


async def _ingest(database: Database, answer: Mapping[str, object], done: CaughtUp) -> None:
    """Store one event; one that cannot be taken holds up no other."""
    done.read += 1
    try:
        ingested = await ingest(database, read_event(dict(answer)), None)
    except NotAnEvent as flaw:
        done.refused.append(safe_text(f"{answer.get('id')}: {flaw}", 300))
    except psycopg.Error as error:
        if not (error.sqlstate or "").startswith(_BAD_DATA):
            raise
        done.refused.append(
            safe_text(f"{answer.get('id')}: the database cannot read it (SQLSTATE {error.sqlstate})", 300)
        )
    else:
        done.results[ingested.result] += 1
        if ingested.result == "kept":
            done.kept.append(ingested)


async def _try_again(database: Database, done: CaughtUp) -> None:
    """Have all that is kept tried again: what it waited for may be there now, and not everybody runs the webhook."""
    became: dict[str, str] = {}
    for _ in range(_RETRIES):
        tried = {event.event_id: event.result for event in await database.retry_events(_RETRY_LIMIT)}
        if tried.keys() <= became.keys():
            break
        became |= tried
    if not done.kept:
        return
    still = {event.event_id for event in await database.read_kept_events()}
    done.results["kept"] = 0
    # Those that another event had tried again are not among those tried here.
    done.results.update(
        "kept" if event.event_id in still else became.get(event.event_id, "acted") for event in done.kept
    )
    done.kept = [event for event in done.kept if event.event_id in still]


def show(done: CaughtUp) -> bool:
    """Print what came of it; True if nothing is left to do."""
    # One that was there and kept is tried again when it comes again, and is told as a new one is.
    known = done.results["already_known"]
    new = done.results.total() - known
    words = ", ".join(f"{done.results[result]} {result}" for result in ("acted", "ignored", "kept"))
    totals = f"{done.read} read, {new} new or tried again ({words}), {known} already known"
    click.echo(f"events since {_iso(done.since)}: {totals}")
    for event in done.kept[:_SHOWN]:
        click.echo(f"kept {event.event_id} ({event.type}): {safe_text(event.detail or 'no reason given', 300)}")
    for words in done.refused[:_SHOWN]:
        click.echo(f"not taken {words}")
    more = max(0, len(done.kept) - _SHOWN) + max(0, len(done.refused) - _SHOWN)
    if more:
        click.echo(f"and {more} more of these")
    if done.trouble is not None and done.goes_on_from is not None:
        click.echo(f"ended early: {done.trouble}")
        click.echo(f"to go on: seller-transfers catch-up --since {_iso(done.goes_on_from)}")
    return not done.kept and not done.refused and done.trouble is None


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
