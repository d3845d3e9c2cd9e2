"""Runs the tests on every major version of PostgreSQL that can be had here, one after the other.

Exit status 1 means that a test failed, that a package was not the one pinned, or that there was nothing to run on.
What cannot be had is left out, and said.
"""

import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from tests.matrix.npm_packages import NotToBeHad, WrongHash
from tests.matrix.servers import MAJORS, find_server
from tests.matrix.suite import Result, run_suite, table


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--majors", default="", metavar="'14 18'", help="Which. Default: all that the SQL is written for.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(majors: str, arguments: tuple[str, ...]) -> None:
    """Run pytest with ARGUMENTS on each major; end with a table."""
    # As Ctrl-C does: what was unpacked is removed, and pytest ends what it started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results = [_result(major, arguments) for major in _chosen(majors)]
    click.echo(f"\n{table(results)}")
    was_run = any(result.problem is None for result in results)
    sys.exit(1 if not was_run or any(result.is_red for result in results) else 0)


def _chosen(majors: str) -> list[int]:
    words = majors.replace(",", " ").split()
    strange = [word for word in words if word not in map(str, MAJORS)]
    if strange:
        raise click.UsageError(f"{' '.join(strange)}: give some of {' '.join(map(str, MAJORS))}")
    return list(dict.fromkeys(int(word) for word in words)) or list(MAJORS)


def _result(major: int, arguments: Sequence[str]) -> Result:
    # Of each server in turn, for each takes memory where temporary files do.
    with tempfile.TemporaryDirectory(prefix="seller-transfers-matrix-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        try:
            server = find_server(major, folder / "install")
        except NotToBeHad as error:
            click.echo(f"PostgreSQL {major}: left out, {error}", err=True)
            return Result(major, problem=str(error))
        except WrongHash as error:
            click.echo(f"PostgreSQL {major}: {error}", err=True)
            return Result(major, problem=str(error), is_red=True)
        click.echo(f"\n== PostgreSQL {server.version}, from {server.origin}", err=True)
        return run_suite(server, arguments, folder / "report.xml")


if __name__ == "__main__":
    main()
