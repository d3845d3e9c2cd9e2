"""What the demo says at its end: where every row stands, what befell it, whether the money adds up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import class_row
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from runner.sandbox.demo_ledger import Row, count_balances, keep_books
from runner.sandbox.demo_lives import Life
from runner.sandbox.demo_lives_report import Kept, Moved, lives_table, sellers_table
from runner.sandbox.demo_orders import Story
from runner.sandbox.demo_stripe import calls_per_transfer
from runner.sandbox.simulator import LedgerEntry, SimulatorClient
from runner.status import money

_INDENT = 2
_LINES_SHOWN = 20  # of differences, of rows that are open

_ROWS = """
select
  t.id, t.order_id, t.amount, t.currency, t.destination_account,
  t.completed_at is not null
  and not exists (select from marketplace.seller_transfers as s where s.successor_of = t.id) as is_paid,
  t.status = 'reversed' as is_reversed, t.stripe_transfer_id, t.stripe_reversal_id
from marketplace.seller_transfers as t
order by t.id
"""

_STANDINGS = r"""
select
  t.status,
  case
    when t.status = 'completed' and t.compensates is not null then 'Paid again: a refund failed, a dispute was won.'
    when t.status = 'completed' then 'The seller keeps the money.'
    when t.status = 'reversed' and t.failure_code is null then 'By a reversal of ours, its id stored.'
    else regexp_replace(coalesce(t.failure_message, 'No call yet.'), '\m(trr?|re|dp)_\w+( \(\d+\))?', '\1_…', 'g')
  end as why,
  t.failure_code as code,
  count(*) as transfers
from marketplace.seller_transfers as t
group by t.status, why, code
order by
  -- as a transfer lives: what is open, what is settled, what was given up
  array_position(
    array['pending', 'failed', 'completed', 'reversal_pending', 'reversed', 'permanently_failed'], t.status),
  transfers desc, why
"""

# Of each transfer, with the rows of its parts.
_ENDS = """
select r.transfer_key, r.stripe_transfer_id, array_agg(distinct t.status order by t.status) as statuses
from marketplace.seller_transfers as t
inner join marketplace.seller_transfers as r on r.id = coalesce(t.root_id, t.id)
where r.transfer_key = any (%s)
group by r.transfer_key, r.stripe_transfer_id
"""

_OPEN = """
select t.id, t.order_id, coalesce(t.parked_reason, t.failure_message, 'no answer yet') as why
from marketplace.seller_transfers as t
where t.status in ('pending', 'failed', 'reversal_pending')
order by t.id
"""

_EXPONENTS = "select c.currency, c.exponent from marketplace.currencies as c"

# A row that was lost with a runner if there is one; the longest history otherwise.
_INTERESTING = """
select a.transfer_id, bool_or(a.kind = 'lost_lease') as was_lost
from marketplace.transfer_attempts as a
group by a.transfer_id
order by was_lost desc, count(*) desc, a.transfer_id
limit 1
"""

_PAID_AGAIN = """
select t.order_id from marketplace.seller_transfers as t where t.compensates is not null order by t.id limit 1
"""


@dataclass(frozen=True, slots=True)
class _Standing:
    status: str
    why: str
    code: str | None
    transfers: int


@dataclass(frozen=True, slots=True)
class _End:
    transfer_key: str
    stripe_transfer_id: str | None
    statuses: list[str]


class Report:
    """Reads a demo's database, on a connection in autocommit, and shows it to a person."""

    def __init__(self, console: Console, connection: psycopg.Connection[Any]) -> None:
        self._console = console
        self._connection = connection

    def read_rows(self) -> list[Row]:
        """Give every transfer, as far as money is concerned."""
        with self._connection.cursor(row_factory=class_row(Row)) as cursor:
            return cursor.execute(_ROWS).fetchall()

    def show_standings(self) -> None:
        """Where every transfer stands, and why."""
        table = _table("Where every transfer stands")
        table.add_column("status", no_wrap=True)
        table.add_column("transfers", justify="right")
        table.add_column("code", no_wrap=True)
        table.add_column("why")
        with self._connection.cursor(row_factory=class_row(_Standing)) as cursor:
            for each in cursor.execute(_STANDINGS):
                table.add_row(each.status, f"{each.transfers:,}", each.code or "", Text(each.why))
        self._print(table)

    def show_stories(self, stories: Mapping[str, Story], simulator: SimulatorClient) -> None:
        """What befell the refunded transfers, and how that ended; `stories` by transfer key."""
        calls = calls_per_transfer(simulator)
        table = _table("What befell the ones refunded on a bad day")
        table.add_column("story")
        table.add_column("transfers", justify="right", min_width=9)
        table.add_column("calls each", justify="right")
        table.add_column("ended as", no_wrap=True, min_width=18)
        with self._connection.cursor(row_factory=class_row(_End)) as cursor:
            ends = [(stories[end.transfer_key], end) for end in cursor.execute(_ENDS, [list(stories)])]
        for story in Story:
            mine = [end for its_story, end in ends if its_story is story]
            if story is Story.KEPT or not mine:
                continue
            counts = sorted({calls[end.stripe_transfer_id or ""] for end in mine})
            spread = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
            statuses = sorted({status for end in mine for status in end.statuses})
            table.add_row(story, f"{len(mine):,}", spread, ", ".join(statuses))
        table.caption = (
            "Requests to reverse, as the simulator counts them; look-ups are not among them."
            " What became of those in flight with a killed runner was looked up before anything was sent again."
        )
        self._print(table)

    def show_books(self, rows: Sequence[Row], entries: Sequence[LedgerEntry]) -> None:
        """The money per currency: in the database beside the simulator's ledger."""
        exponents = self._exponents()
        table = _table("The money, in the database and in Stripe's ledger")
        table.add_column("currency")
        for heading in ("paid, database", "paid, ledger", "taken back, database", "taken back, ledger"):
            table.add_column(heading, justify="right")
        table.add_column("agree")
        for books in keep_books(rows, entries):
            amounts = (books.paid_database, books.paid_ledger, books.back_database, books.back_ledger)
            shown = [money(amount, exponents[books.currency]) for amount in amounts]
            table.add_row(books.currency, *shown, "yes" if books.agree else "NO")
        self._print(table)

    def show_lives(self, lives: Sequence[Life], moved: Mapping[str, Moved], kept: Kept) -> None:
        """What became of the orders shown from start to end, and what their sellers have."""
        exponents = self._exponents()
        self._print(lives_table(lives, moved, kept, exponents))
        self._print(sellers_table(lives, moved, kept, exponents))

    def show_open(self) -> None:
        """The rows that did not come to their end while the demo waited."""
        found = self._connection.execute(_OPEN).fetchall()
        lines = [f"row {row_id} ({order_id}): {why}" for row_id, order_id, why in found]
        self._list(f"{len(lines)} transfers did not come to their end while the demo waited:", lines)

    def show_kept_events(self, kept: Sequence[str]) -> None:
        """The events that nothing could be done about."""
        if kept:
            self._list(f"Nothing could be done about {len(kept)} events:", kept)

    def show_differences(self, differences: Sequence[str], rows: Sequence[Row]) -> None:
        """Where database and ledger disagree, or that they do not."""
        if differences:
            self._list(f"It does NOT ADD UP, in {len(differences)} points (amounts in minor units):", differences)
            return
        back = sum(row.is_reversed for row in rows)
        self._say(
            f"Database and ledger agree to the minor unit: on each of the {len(rows)} rows, of which {back} came back,"
            f" each once, and on what each seller got and gave back in each currency ({count_balances(rows)} of these)."
        )

    def show_way_on(self, psql: str) -> None:
        """How to look around, with the ids of this run."""
        found = self._connection.execute(_INTERESTING).fetchone()
        row_id, was_lost = found if found is not None else (1, False)
        why = ", in flight when a runner was killed" if was_lost else ""
        order = self._connection.execute(_PAID_AGAIN).fetchone()
        self._say(f"The database stays until the next demo. Open it with `{psql}`, and type:")
        for statement in (
            "-- how the work stands\nselect * from marketplace.queue_health \\gx",
            "-- where the money stands\nselect * from marketplace.transfer_totals order by currency, status;",
            "-- which refunds were not taken back, of whom, and why\n"
            "select request, seller_id, currency, asked, not_taken_back, why\n"
            "from marketplace.request_shares where not_taken_back > 0;",
            f"-- what Stripe was asked about row {row_id}{why}, and what it said\n"
            "select kind, action, worker, http_status, verdict, error_message\n"
            f"from marketplace.transfer_attempts where transfer_id = {row_id} order by id;",
            "-- how that row got where it is\n"
            "select logged_at, from_status, to_status, reason\n"
            f"from marketplace.transfer_status_log where transfer_id = {row_id} order by id;",
            *(_ways_into(order[0]) if order is not None else ()),
        ):
            self._console.print()
            self._say(statement, indent=2 * _INDENT)

    def _exponents(self) -> dict[str, int]:
        return dict(self._connection.execute(_EXPONENTS).fetchall())

    def _list(self, heading: str, lines: Sequence[str]) -> None:
        self._say(heading, style="bold red")
        for line in lines[:_LINES_SHOWN]:
            self._say(line, indent=2 * _INDENT)
        if len(lines) > _LINES_SHOWN:
            self._say(f"and {len(lines) - _LINES_SHOWN} more", indent=2 * _INDENT)

    def _say(self, text: str, *, indent: int = _INDENT, style: str = "") -> None:
        self._console.print(Padding(Text(text, style=style), (0, 0, 0, indent), expand=False))

    def _print(self, table: Table) -> None:
        self._console.print(Padding(table, (0, 0, 0, _INDENT), expand=False))
        self._console.print()


def _ways_into(order_id: str) -> tuple[str, str]:
    return (
        "-- an order whose seller was paid, had to give it back, and was paid again\n"
        "select id, compensates, amount, currency, status, reversal_request_id\n"
        f"from marketplace.seller_transfers where order_id = '{order_id}' order by id;",
        "-- what Stripe told about it, and what that came to\n"
        "select type, state, detail\n"
        f"from marketplace.stripe_events where order_id = '{order_id}' order by received_at;",
    )


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="italic", caption_justify="left")
