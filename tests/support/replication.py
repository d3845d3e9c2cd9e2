"""A primary and a standby that streams from it, asynchronously: the standby can be kept behind, and take over."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from runner.sandbox.embedded_postgres import EmbeddedPostgres
from runner.sandbox.postgres_binaries import copy_binaries, find_binaries
from runner.sandbox.server_process import server_user
from tests.support.databases import Database, open_database, value
from tests.support.processes import process_ended
from tests.support.runners import wait_until

DATABASE = "postgres"
_SETTINGS = {
    "fsync": "off",
    # On: what is told to somebody is in the WAL. Nobody waits for the standby.
    "synchronous_commit": "on",
    "shared_buffers": "32MB",
    "max_wal_senders": "4",
    "wal_level": "replica",
}


@dataclass(slots=True)
class Pair:
    """Two servers of one cluster; `dsn` names both, and finds the one that writes."""

    primary: EmbeddedPostgres
    standby: EmbeddedPostgres

    @property
    def dsn(self) -> str:
        """The URL of both."""
        servers = (self.primary, self.standby)
        where = urlencode(
            {"host": ",".join(each.host for each in servers), "port": ",".join(str(each.port) for each in servers)}
        )
        return f"postgresql://{self.primary.superuser}@/{DATABASE}?{where}&target_session_attrs=read-write"

    def catch_up(self) -> None:
        """Wait until the standby has replayed what the primary has written by now."""
        with closing(open_database(self.primary.dsn(DATABASE))) as db:
            written = value(db, "select pg_current_wal_insert_lsn()::text")
        with closing(open_database(self.standby.dsn(DATABASE))) as db:
            wait_until(
                lambda: value(db, "select coalesce(pg_last_wal_replay_lsn() >= %(lsn)s::pg_lsn, false)", lsn=written),
                "the standby has replayed everything",
            )

    def sever(self) -> None:
        """Let the standby hear nothing from now on: what is committed at the primary, the standby will not have."""
        with closing(open_database(self.standby.dsn(DATABASE))) as db:
            db.execute("alter system set primary_conninfo = ''")
            value(db, "select pg_reload_conf()")
        with closing(open_database(self.primary.dsn(DATABASE))) as db:
            wait_until(
                lambda: value(db, "select count(*) from pg_stat_replication") == 0, "nobody streams from the primary"
            )

    def kill_primary(self) -> None:
        """Let it die as a machine does: kill -9."""
        pid = self.primary.pid
        os.kill(pid, signal.SIGKILL)
        assert process_ended(pid)

    def promote(self) -> Database:
        """Let the standby take over; gives a connection to it."""
        db = open_database(self.standby.dsn(DATABASE))
        assert value(db, "select pg_promote(wait => true)")
        return db


@contextmanager
def primary_with_standby() -> Iterator[Pair]:
    """Start both. To be called in the main thread."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="seller-transfers-pair-"))
        folder.chmod(0o755)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        binaries = find_binaries(16)
        bindir = copy_binaries(binaries, folder / "install") if os.geteuid() == 0 else binaries
        primary = stack.enter_context(EmbeddedPostgres(bindir=bindir, settings=_SETTINGS))
        data = folder / "standby"
        data.mkdir(mode=0o755)
        take_backup(binaries, primary, data / "cluster")
        standby = stack.enter_context(EmbeddedPostgres(data, bindir=bindir, settings=_SETTINGS))
        stack.callback(standby.stop, "immediate")
        yield Pair(primary, standby)


def take_backup(binaries: Path, server: EmbeddedPostgres, target: Path) -> None:
    """Copy the running server's cluster to `target`, where it becomes a standby of that server when it is started."""
    source = f"host={server.host} port={server.port} user={server.superuser}"
    command = [binaries / "pg_basebackup", "-d", source, "-D", target, "-R", "-X", "stream", "-c", "fast"]
    subprocess.run([*map(str, command)], check=True, capture_output=True, timeout=60)
    if os.geteuid() == 0:
        user = server_user()
        for path in (target, *target.rglob("*")):
            os.lchown(path, user.pw_uid, user.pw_gid)
