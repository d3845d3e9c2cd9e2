"""`seller-transfers doctor`: looks for everything that should not be, in the schema, the log, the server and here."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.table import Table

from runner.account import Account, StripeUnreachable
from runner.database import Database
from runner.records import Problem
from runner.schema import own_functions
from runner.status import print_problems

# Reading the whole log of a million transfers takes ten seconds and more.
STATEMENT_SECONDS = 1800.0
# More than that is no jitter of the network. Beyond an hour, what the README assumes of clocks does not hold.
_CLOCK_DIFFERENCE = timedelta(seconds=10)
_CLOCK_LIMIT = timedelta(hours=1)

Check = Callable[[], Awaitable[list[Problem]]]
AskStripe = Callable[[], Awaitable[Account]]


async def show_examination(database: Database, ask_stripe: AskStripe | None) -> bool:
    """Print what every check found; true if nothing is urgent. Raises DatabaseUnavailable, and what `ask_stripe` does.

    `ask_stripe` gives the account of the key, or raises StripeUnreachable or KeyRefused; None: it is not asked.
    """
    console = Console(highlight=False, soft_wrap=True)
    checks: dict[str, Check] = {
        "schema, roles, sessions, log": lambda: database.self_check(with_log=True),
        "functions, against this program": lambda: _compare_functions(database),
        "server": database.server_check,
        "clock, against this machine's": lambda: _compare_clocks(database),
    }
    if ask_stripe is not None:
        checks["Stripe"] = lambda: _reach_stripe(ask_stripe)
    found = {name: await check() for name, check in checks.items()}
    console.print(_table(found))
    problems = [problem for several in found.values() for problem in several]
    print_problems(console, problems)
    return not any(problem.is_urgent for problem in problems)


def _table(found: dict[str, list[Problem]]) -> Table:
    table = Table(title="Checks", title_justify="left")
    table.add_column("check")
    table.add_column("problems", justify="right")
    table.add_column("notes", justify="right")
    for name, problems in found.items():
        urgent = sum(problem.is_urgent for problem in problems)
        table.add_row(name, str(urgent or "none"), str(len(problems) - urgent or "none"))
    return table


async def _compare_functions(database: Database) -> list[Problem]:
    """What the database itself noted when it loaded them could have been changed along with them."""
    ours = own_functions()
    theirs = {(function.name, function.source_sha256) for function in await database.function_sources()}
    known = {name for name, _ in ours}
    # In words and hint: one of ours, and one that somebody brought in, which migrating leaves there.
    replaced = (
        "its body is not that of this program's files",
        "Find out who replaced it, and run: seller-transfers migrate",
    )
    foreign = "it is in none of this program's files", "Find out who made it, and drop it."
    return [
        Problem("function differs", f"marketplace.{name}", *(replaced if name in known else foreign), True)
        for name in sorted({name for name, _ in ours ^ theirs})
    ]


async def _compare_clocks(database: Database) -> list[Problem]:
    before = datetime.now(UTC)
    theirs = await database.clock()
    after = datetime.now(UTC)
    if before - _CLOCK_DIFFERENCE < theirs < after + _CLOCK_DIFFERENCE:
        return []
    ahead = theirs - after
    return [
        Problem(
            "clock differs",
            "database",
            f"the database's clock is {abs(ahead)} {'ahead of' if ahead > timedelta() else 'behind'} this machine's",
            "See to the time service of both.",
            abs(ahead) > _CLOCK_LIMIT,
        )
    ]


async def _reach_stripe(ask_stripe: AskStripe) -> list[Problem]:
    try:
        await ask_stripe()
    except StripeUnreachable as error:
        hint = "Look at the network, and at Stripe's status."
        return [Problem("Stripe not reachable", "Stripe", str(error), hint, True)]
    return []
