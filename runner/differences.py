"""What a comparison with Stripe came to, for a person."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.table import Table

from runner.clean import safe_text
from runner.reconcile import Compared
from runner.records import Difference
from runner.wording import counted

_SHOWN = 20


def show(compared: Compared) -> bool:
    """Print what differs; True if nothing does."""
    console = Console(highlight=False, soft_wrap=True)
    run = compared.run
    of = "" if run.created_since is None else f" of transfers made since {_iso(run.created_since)}"
    read = f"{counted(run.transfers, 'transfer')} and {counted(run.reversals, 'reversal')}"
    click.echo(f"run {run.id}: {read}{of} read at Stripe")
    if compared.trouble is not None:
        click.echo(f"ended early, and nothing was compared: {compared.trouble}")
        return False
    if compared.differences:
        console.print(_counts(compared.differences))
        for found in compared.differences[:_SHOWN]:
            _print_difference(console, found)
        if len(compared.differences) > _SHOWN:
            click.echo(f"{len(compared.differences) - _SHOWN} more.")
        click.echo("All of them: select * from marketplace.reconcile_differences();")
    else:
        click.echo("Stripe and the database agree.")
    return not compared.differences


def show_actions(compared: Compared) -> bool:
    """Print what was done about it; True if all that was asked for is."""
    for looked in compared.looked_up:
        click.echo(safe_text(f"{looked.stripe_transfer_id}: {looked.result}", 500))
    if compared.resumed:
        click.echo("Resumed: calls go on, each after a look as long as something that was lost may be asked for again.")
    if compared.not_resumed is not None:
        click.echo(f"Not resumed: {safe_text(compared.not_resumed, 500)}")
    return compared.not_resumed is None


def _counts(differences: Sequence[Difference]) -> Table:
    table = Table(title="Differences between Stripe and the database", title_justify="left")
    table.add_column("difference")
    table.add_column("urgent")
    table.add_column("how many", justify="right")
    kinds = Counter((not found.forbids_calls, not found.is_urgent, found.kind) for found in differences)
    for (may_call, is_calm, kind), count in sorted(kinds.items()):
        table.add_row(kind, "" if is_calm else "urgent" if may_call else "urgent, forbids calls", f"{count:,}")
    return table


def _print_difference(console: Console, found: Difference) -> None:
    names = [
        None if found.transfer_id is None else f"transfer {found.transfer_id}",
        None if found.order_id is None else f"order {found.order_id}",
        found.stripe_transfer_id,
        found.stripe_reversal_id,
        None if found.money is None else f"({found.money})",
    ]
    of = "".join(f" {name}" for name in names if name is not None)
    console.print(safe_text(f"{found.kind.upper()}{of}: {found.why}", 1500), markup=False)
    console.print(f"  {safe_text(found.next_step, 2000)}", markup=False)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
