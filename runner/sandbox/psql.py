"""An interactive psql on an embedded server: the program that came with it in the wheel.

python -m runner.sandbox.psql [arguments of psql]        on the database that the demo left
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from runner.sandbox.demo_folder import DEMO_DATABASE, demo_data_folder, leave_out_settings
from runner.sandbox.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError, running_dsn
from runner.sandbox.postgres_binaries import find_binaries

# The wheel's terminal library looks in the first and the last of these only; Debian has terminals in /lib.
_TERMINALS = "/etc/terminfo:/lib/terminfo:/usr/share/terminfo"


def run_psql(dsn: str, arguments: Sequence[str] = ()) -> int:
    """Run psql on our terminal until the person leaves; return its exit status.

    `dsn` must not contain a password: the process list shows it. Raises EmbeddedPostgresError if the wheel is
    not installed.
    """
    program = str(find_binaries(16) / "psql")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    environment.setdefault("TERMINFO_DIRS", _TERMINALS)
    # Ctrl-C cancels a query in psql and must not end us, who may own the server. A handler and not SIG_IGN,
    # which psql's own children would inherit.
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return subprocess.call([program, *arguments, dsn], env=environment)  # noqa: S603 - our psql, no shell
    finally:
        signal.signal(signal.SIGINT, before)


def psql_on_data(data_dir: Path, dbname: str, arguments: Sequence[str] = ()) -> int:
    """Run psql on lasting data, on the server that runs there or one of our own; return its exit status.

    Raises EmbeddedPostgresError if there are no such data, or no server can be started on them.
    """
    if not data_dir.exists():
        raise EmbeddedPostgresError(f"there is no database in {data_dir}")
    dsn = running_dsn(data_dir, dbname)
    if dsn is not None:
        return run_psql(dsn, arguments)
    with EmbeddedPostgres(data_dir) as server:
        return run_psql(server.dsn(dbname), arguments)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(arguments: tuple[str, ...]) -> None:
    """Open the database that the demo left, in psql; ARGUMENTS are psql's own."""
    leave_out_settings(os.environ)
    data = demo_data_folder()
    if not data.exists():
        sys.exit("There is no database of a demo yet: make demo (or: seller-transfers demo) makes one.")
    if sys.stdin.isatty():
        click.echo("This is the demo's database. \\dt marketplace.* lists its tables, \\q leaves.")
    try:
        sys.exit(psql_on_data(data, DEMO_DATABASE, arguments))
    except EmbeddedPostgresError as error:
        sys.exit(f"psql: {error}")


if __name__ == "__main__":
    main()
