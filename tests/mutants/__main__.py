"""Puts bugs into copies of the checkout, one at a time, and runs the tests: `python -m tests.mutants`.

Exit status 1 means that a bug was put in and no test failed, or that a mutant is none any more.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click

from tests.mutants.catalogue import ALL
from tests.mutants.harness import Harness, SuiteIsRed, Verdict
from tests.mutants.mutant import Mutant


@click.command()
@click.option("--only", multiple=True, metavar="NAME", help="One mutant; may be given several times. Default: all.")
@click.option("--jobs", type=click.IntRange(min=1), help="How many at a time. Default: half of the processors.")
@click.option("--quick", "is_quick", is_flag=True, help="Only the tests named with a mutant, not then the whole suite.")
@click.option("--list", "is_list", is_flag=True, help="Say which there are, and what each does to the money.")
def main(only: tuple[str, ...], jobs: int | None, *, is_quick: bool, is_list: bool) -> None:
    """Put each bug into the code, one at a time; some test has to fail."""
    mutants = _chosen(set(only))
    if is_list:
        for mutant in mutants:
            click.echo(f"{mutant.name}: {mutant.harm}")
        return
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="seller-transfers-mutants-") as folder:
        harness = Harness(Path(folder), jobs or max(1, (os.cpu_count() or 2) // 2), is_quick=is_quick)
        click.echo(f"{len(mutants)} mutants; first the tests that should kill them, without any", err=True)
        try:
            verdicts = asyncio.run(harness.judge(mutants, lambda verdict: click.echo(_fate(verdict), err=True)))
        except SuiteIsRed as red:
            click.echo(f"{red}\nthe tests are red without any mutant", err=True)
            sys.exit(1)
    alive = [verdict for verdict in verdicts if verdict.killed_by is None]
    click.echo(_table(verdicts))
    click.echo(f"\n{len(verdicts) - len(alive)} of {len(verdicts)} killed in {time.monotonic() - begun:.0f} s")
    for verdict in alive:
        click.echo(_fate(verdict))
    sys.exit(1 if alive else 0)


def _chosen(names: set[str]) -> list[Mutant]:
    strange = names - {mutant.name for mutant in ALL}
    if strange:
        raise click.UsageError(f"no such mutant: {', '.join(sorted(strange))} (--list says which there are)")
    return [mutant for mutant in ALL if not names or mutant.name in names]


def _fate(verdict: Verdict) -> str:
    if verdict.problem is not None:
        return f"NO MUTANT {verdict.mutant.name}: {verdict.problem}"
    if verdict.killed_by is None:
        return f"SURVIVED {verdict.mutant.name}: {verdict.mutant.harm}"
    return f"killed {verdict.mutant.name} in {verdict.seconds:.0f} s: {verdict.reason}"


def _table(verdicts: Sequence[Verdict]) -> str:
    head = ("mutant", "what goes wrong", "killed by", "seconds")
    lines = [
        (
            verdict.mutant.name,
            verdict.mutant.harm,
            (verdict.killed_by or ("NO MUTANT" if verdict.problem else "NOTHING")).removeprefix("tests/"),
            f"{verdict.seconds:.1f}",
        )
        for verdict in verdicts
    ]
    widths = [max(len(line[column]) for line in (head, *lines)) for column in range(3)]
    return "\n".join(
        " | ".join((*(text.ljust(width) for text, width in zip(line, widths, strict=False)), line[3]))
        for line in (head, *lines)
    )


if __name__ == "__main__":
    main()
