"""`seller-transfers status`: where the money and the work stand, for a person."""

from decimal import Decimal

from rich.console import Console
from rich.table import Table

from runner.database import Database
from runner.records import (
    Attention,
    OpenReason,
    Problem,
    QueueHealth,
    RateBudget,
    ReconcileRun,
    RegisteredRunner,
    TransferTotal,
)
from runner.wording import counted

_ATTENTION_LIMIT = 10


def money(amount: int, exponent: int) -> str:
    """An amount in minor units as people write it: 1050 with exponent 2 is 10.50."""
    return f"{Decimal(amount).scaleb(-exponent):,.{exponent}f}"


def _plain(number: Decimal) -> str:
    """A number without zeros at its end."""
    return f"{number.normalize():f}"


async def show_status(database: Database) -> bool:
    """Print all there is to say; true if nothing needs a person's attention. Raises DatabaseUnavailable."""
    # Lines are not folded, so that what is meant to be copied or searched stays whole.
    console = Console(highlight=False, soft_wrap=True)
    totals = await database.transfer_totals()
    health = await database.queue_health()
    reasons = {"reversals": await database.open_reversals(), "transfers": await database.open_transfers()}
    budget = await database.rate_budget()
    runners = await database.runner_health()
    problems = await database.self_check(with_log=False)
    console.print(totals_table(totals) if totals else "No transfers yet.")
    for kind in health:
        print_health(console, kind)
        print_reasons(console, reasons[kind.kind])
    if health:
        print_pause(console, health[0])  # all kinds pause together
    attention = [found for found in await database.needs_attention() if found.problem != "paused"]
    print_attention(console, attention)
    print_budget(console, budget)
    print_runners(console, runners)
    print_reconcile(console, await database.read_reconcile_run())
    print_problems(console, problems)
    return (
        not any(found.is_urgent for found in problems)
        and not any(found.is_urgent for found in attention)
        and all(kind.paused_by in (None, "person") for kind in health)
    )


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


def print_pause(console: Console, health: QueueHealth) -> None:
    """That no calls are made, of whichever kind, and how that ends."""
    if health.paused_at is None:
        return
    console.print(
        f"Stripe calls are paused since {health.paused_at:%Y-%m-%d %H:%M:%S %Z} by {health.paused_by}:"
        f" {health.pause_reason}",
        markup=False,
    )
    if health.probe_at is not None:
        console.print(
            f"The next trial call may be made at {health.probe_at:%H:%M:%S %Z}; the pause ends by itself with the"
            " first one that Stripe does not refuse so."
        )
    console.print("To end the pause now: select * from marketplace.resume_stripe_calls(p_reason => '…');")


def print_reasons(console: Console, reasons: list[OpenReason]) -> None:
    """Why rows of one kind are open, a line per reason."""
    for found in reasons:
        since = f" (since {found.oldest_since:%Y-%m-%d %H:%M %Z})" if found.oldest_since else ""
        person = "NEEDS A PERSON: " if found.needs_a_person else ""
        console.print(f"  {person}{found.transfers} {found.reason}{since}: {found.meaning}", markup=False)


def print_attention(console: Console, problems: list[Attention]) -> None:
    """What waits for a person, with what to type next."""
    for found in problems[:_ATTENTION_LIMIT]:
        of = f" transfer {found.transfer_id}" if found.transfer_id is not None else ""
        of += f" order {found.order_id}" if found.order_id is not None else ""
        console.print(
            f"{found.problem.upper()} since {found.needed_since:%Y-%m-%d %H:%M %Z}{of}: {found.why}", markup=False
        )
        console.print(f"  {found.next_step}", markup=False)
    if problems:
        if len(problems) > _ATTENTION_LIMIT:
            console.print(f"{len(problems) - _ATTENTION_LIMIT} more.")
        console.print("All of them: select * from marketplace.needs_attention;")
        console.print("What to do about them: docs/triage.md.")


def print_budget(console: Console, budget: RateBudget) -> None:
    """How many calls may be made, in a line; in another one, why they are fewer than was set."""
    if budget.rate is None:
        console.print("Stripe calls: as many as the runners can make; no rate is set.")
        return
    console.print(
        f"Stripe calls: at most {_plain(budget.rate)} a second by all runners together, {budget.burst} at once;"
        f" now {_plain(round(budget.rate_now or budget.rate, 2))} a second"
    )
    if budget.turned_down_at is not None:
        is_back = budget.rate_now is not None and budget.rate_now >= budget.rate
        console.print(
            f"The rate was {'last ' if is_back else ''}turned down at {budget.turned_down_at:%Y-%m-%d %H:%M:%S %Z},"
            f" {budget.turned_down_reason}; it {'has grown back since' if is_back else 'grows back within a minute'}.",
            markup=False,
        )


def print_runners(console: Console, runners: list[RegisteredRunner]) -> None:
    """Which runners there are, a line each."""
    if not runners:
        console.print("No runner has been seen in the last ten minutes.")
    for runner in runners:
        mode = "live mode" if runner.livemode else "test mode"
        console.print(
            f"runner {runner.worker} ({runner.version}, {runner.stripe_account or 'account not known'}, {mode}):"
            f" last seen {runner.last_seen_at:%Y-%m-%d %H:%M:%S %Z}",
            markup=False,
        )
        if runner.ended_at is not None:
            console.print(
                f"  may not claim since {runner.ended_at:%Y-%m-%d %H:%M:%S %Z}: {runner.ended_reason}", markup=False
            )


def print_reconcile(console: Console, run: ReconcileRun | None) -> None:
    """When the database was last compared with Stripe, and what came of it."""
    if run is None:
        console.print("Never compared with Stripe: seller-transfers reconcile")
        return
    of = "" if run.created_since is None else f", of transfers made since {run.created_since:%Y-%m-%d %H:%M %Z}"
    came_to = (
        f"{counted(run.differences or 0, 'difference')}, {run.urgent} of them urgent"
        if run.is_complete
        else f"ended early: {run.trouble}"
        if run.finished_at
        else "under way"
    )
    console.print(f"Compared with Stripe at {run.started_at:%Y-%m-%d %H:%M:%S %Z}{of}: {came_to}", markup=False)


def print_problems(console: Console, problems: list[Problem]) -> None:
    """What checks found, what is urgent first."""
    for found in sorted(problems, key=lambda problem: not problem.is_urgent):
        detail = f" ({found.detail})" if found.detail else ""
        kind = "PROBLEM" if found.is_urgent else "NOTE"
        console.print(f"{kind}: {found.problem}: {found.object}{detail}. {found.hint}", markup=False)
