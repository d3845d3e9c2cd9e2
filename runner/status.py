"""`seller-transfers status`: where the money and the work stand, for a person."""

from decimal import Decimal

from rich.console import Console
from rich.table import Table

from runner.database import Database, Problem, QueueHealth, TransferTotal


def money(amount: int, exponent: int) -> str:
    """An amount in minor units as people write it: 1050 with exponent 2 is 10.50."""
    return f"{Decimal(amount).scaleb(-exponent):,.{exponent}f}"


async def show_status(database: Database) -> bool:
    """Print all there is to say; true if nothing needs a person's attention. Raises DatabaseUnavailable."""
    # Lines are not folded, so that what is meant to be copied or searched stays whole.
    console = Console(highlight=False, soft_wrap=True)
    totals = await database.transfer_totals()
    health = await database.queue_health()
    problems = await database.self_check()
    console.print(totals_table(totals) if totals else "No transfers yet.")
    for kind in health:
        print_health(console, kind)
    print_problems(console, problems)
    return not problems and all(kind.parked == 0 and kind.paused_by in (None, "person") for kind in health)


def totals_table(totals: list[TransferTotal]) -> Table:
    """The money by currency and status."""
    table = Table(title="Transfers", title_justify="left")
    table.add_column("currency")
    table.add_column("status")
    table.add_column("transfers", justify="right")
    table.add_column("amount", justify="right")
    table.add_column("minor units", justify="right")
    before = None
    for total in totals:
        if before not in (None, total.currency):
            table.add_section()
        before = total.currency
        table.add_row(
            total.currency,
            total.status,
            f"{total.transfers:,}",
            money(total.amount, total.exponent),
            str(total.amount),
        )
    return table


def print_health(console: Console, health: QueueHealth) -> None:
    """One kind of work in a few lines."""
    since = f" (the oldest for {str(health.oldest_due_for).split('.')[0]})" if health.oldest_due_for else ""
    console.print(
        f"{health.kind}: {health.due} due{since}, {health.leased} under way, {health.waiting} waiting,"
        f" {health.parked} parked; {health.lapsed} lost by their worker, {health.unknown_outcome} of unknown outcome"
    )
    if health.parked:
        console.print(
            "Parked rows wait for a person: select id, parked_reason from marketplace.seller_transfers"
            " where parked_reason is not null;"
        )
    if health.paused_at is not None:
        console.print(
            f"Stripe calls are paused since {health.paused_at:%Y-%m-%d %H:%M:%S %Z} by {health.paused_by}:"
            f" {health.pause_reason}",
            markup=False,
        )
        if health.probe_at is not None:
            console.print(f"The next trial call may be made at {health.probe_at:%H:%M:%S %Z}.")
        console.print("To end the pause: select * from marketplace.resume_stripe_calls(p_reason => '…');")


def print_problems(console: Console, problems: list[Problem]) -> None:
    """What self_check() found."""
    for found in problems:
        detail = f" ({found.detail})" if found.detail else ""
        console.print(f"PROBLEM: {found.problem}: {found.object}{detail}. {found.hint}", markup=False)
