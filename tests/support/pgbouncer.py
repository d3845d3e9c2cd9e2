"""A PgBouncer in front of a server, as Debian packages it: up in a moment, gone with us."""

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import psycopg

from runner.sandbox.server_process import end, make_server_folder, server_user, spawn
from tests.support.databases import Database, ServerAddress, open_session
from tests.support.runners import wait_until

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")

_PORT = 6432  # part of a socket's name, in a folder of its own: no clash
_CONFIGURATION = """
[databases]
* = host={server_host} port={server_port}

[pgbouncer]
pool_mode = {pool_mode}
default_pool_size = {pool_size}
auth_type = trust
auth_file = {folder}/users
listen_addr =
listen_port = {port}
unix_socket_dir = {folder}
admin_users = {user}
log_connections = 0
log_disconnections = 0
"""


@dataclass(slots=True)
class PgBouncer:
    """A PgBouncer under way; `pgbouncer` makes them."""

    folder: Path
    user: str
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> str:
        """All that it has said."""
        return (self.folder / "log").read_text(errors="replace")

    def dsn(self, dbname: str) -> str:
        """Connection URI of that database, through the pool."""
        where = urlencode({"host": str(self.folder), "port": _PORT})
        return f"postgresql://{self.user}@/{quote(dbname, safe='')}?{where}"

    def admin(self) -> Database:
        """A connection to PgBouncer itself, for its SHOW commands; it understands simple statements only."""
        return open_session(self.dsn("pgbouncer"), cursor_factory=psycopg.ClientCursor)

    def start(self) -> None:
        """Start, and wait until it answers."""
        self.process = _spawn(self.folder)
        self._await_ready()

    def stop(self) -> None:
        """Cut off every client and every server at once, as on a restart of its machine."""
        end(self.process, (signal.SIGTERM, signal.SIGKILL))

    def _await_ready(self) -> None:
        def answers() -> bool:
            assert self.process.poll() is None, f"pgbouncer ended: {self.log}"
            try:
                self.admin().close()
            except psycopg.OperationalError:
                return False
            return True

        wait_until(answers, "pgbouncer answers")


@contextmanager
def pgbouncer(
    server: ServerAddress, *, pool_mode: str = "transaction", pool_size: int = 3, options: Sequence[str] = ()
) -> Iterator[PgBouncer]:
    """Run a PgBouncer in front of a server until the end of the block; `options`: more lines for its configuration."""
    with tempfile.TemporaryDirectory(prefix="seller-transfers-pooler-") as name:
        outer = Path(name)
        outer.chmod(0o711)
        folder = outer / "run"
        # It refuses root, as PostgreSQL does, and runs as the same user.
        make_server_folder(folder)
        (folder / "users").write_text(f'"{server.user}" ""\n')
        configuration = _CONFIGURATION.format(
            server_host=server.host,
            server_port=server.port,
            pool_mode=pool_mode,
            pool_size=pool_size,
            folder=folder,
            port=_PORT,
            user=server.user,
        )
        (folder / "pgbouncer.ini").write_text("\n".join([configuration, *options, ""]))
        for file in folder.iterdir():
            shutil.chown(file, server_user().pw_uid, server_user().pw_gid)
        bouncer = PgBouncer(folder, server.user, _spawn(folder))
        try:
            bouncer._await_ready()
            yield bouncer
        finally:
            bouncer.stop()


def _spawn(folder: Path) -> subprocess.Popen[bytes]:
    assert PROGRAM is not None, "pgbouncer is not installed"
    return spawn(
        Path(PROGRAM),
        ["--quiet", str(folder / "pgbouncer.ini")],
        death_signal=signal.SIGQUIT,
        cwd=folder,
        log=folder / "log",
    )
