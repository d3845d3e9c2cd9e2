"""Starts a PostgreSQL program as the right user, as a child that ends with us; and ends it."""

import os
import pwd
import signal
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from runner.sandbox.owned_process import owned_command
from runner.sandbox.postgres_binaries import EmbeddedPostgresError

_END_SECONDS = 30.0  # per signal


def server_user() -> pwd.struct_passwd:
    """Who runs the server: we, or nobody if we are root, whom PostgreSQL refuses."""
    try:
        return pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    except KeyError as error:
        raise EmbeddedPostgresError(f"PostgreSQL runs only as a user with an account: {error}") from None


def make_server_folder(folder: Path) -> None:
    """Make a folder that the server may write to, and others may not enter."""
    folder.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(folder, server_user().pw_uid, server_user().pw_gid)


def spawn(
    program: Path, arguments: Sequence[str], *, death_signal: signal.Signals, cwd: Path, log: Path
) -> subprocess.Popen[bytes]:
    """Start `program` with its output appended to `log`; if we die, it gets `death_signal`."""
    user = server_user()
    command = owned_command([str(program), *arguments], death_signal=death_signal, uid=user.pw_uid, gid=user.pw_gid)
    # Not our environment: its PG* variables would interfere, and its secrets are none of a server's business.
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return subprocess.Popen(  # noqa: S603 - PostgreSQL's own programs, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=cwd,
            env={**kept, "LC_ALL": "C"},
            start_new_session=True,  # Ctrl-C is for us: the server must be there until our own orderly end
        )
    finally:
        os.close(output)


def end(process: subprocess.Popen[bytes], signals: Iterable[signal.Signals]) -> None:
    """Send one signal after the other until the process is gone."""
    for number in signals:
        process.send_signal(number)
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        return
