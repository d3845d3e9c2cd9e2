"""Dump and restore, on whatever server the tests run: by the programs of the newest one, for not all come with any."""

import subprocess

from runner.sandbox.postgres_binaries import find_binaries

_SECONDS = 60


def dumped(dsn: str, *options: str) -> bytes:
    """What pg_dump makes of a database, in SQL for psql."""
    command = [str(find_binaries(18) / "pg_dump"), *options, dsn]
    dump = subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS).stdout
    # The program's word for a setting that older servers do not know.
    return dump.replace(b"SET transaction_timeout = 0;\n", b"")


def restored(dsn: str, dump: bytes) -> str:
    """Have psql run a dump until something goes wrong; gives what it says then, or nothing."""
    command = [str(find_binaries(18) / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", dsn]
    done = subprocess.run(command, input=dump, check=False, capture_output=True, timeout=_SECONDS)
    assert (done.returncode == 0) == (not done.stderr), done
    return done.stderr.decode()
