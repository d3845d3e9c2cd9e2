"""A PostgreSQL server of our own, for the demo and the tests: up in about a second, gone when we are.

`postgres` runs as our foreground child and gets SIGQUIT when we die, however we die. It listens on a socket
in a folder that other users cannot enter, and on 127.0.0.1 only if asked to. Started by root it runs as
nobody, from a copy of the programs: PostgreSQL refuses root, and nobody may not get to where ours are.
"""

import os
import secrets
import shutil
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from subprocess import Popen
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql

from runner.sandbox.postgres_binaries import EmbeddedPostgresError, copy_binaries, find_binaries
from runner.sandbox.server_folders import (
    HeldFolder,
    new_run_folder,
    open_data_folder,
    remove_data_folder,
    running_postmaster,
)
from runner.sandbox.server_process import end, make_server_folder, server_user, spawn

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "StopMode", "remove_data_folder", "running_dsn"]

StopMode = Literal["fast", "immediate"]

_SUPERUSER = "postgres"
_READY_SECONDS = 30.0
_INITDB_SECONDS = 120.0
_LOG_LINES = 15  # of the server's log, in an error
_PORT_TRIES = 3  # a free port may be taken between our look and the server's
_STOP_SIGNALS = {
    "fast": (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL),
    "immediate": (signal.SIGQUIT, signal.SIGKILL),
}


class EmbeddedPostgres:
    """One server; a context manager, or `start` and `stop`. To be started from the main thread.

    - `data_dir`: folder where the data stay after `stop` and are found again, made if need be; without it
      they are temporary.
    - `version`: 16 or 18. `bindir`: the programs of another installation instead, which everyone can run.
    - `settings`: PostgreSQL parameters.
    - `tcp`: listen on a free port of 127.0.0.1 too; with a random password there, for every user of the
      machine can reach it.

    Several may run at once, in one process or many; two never share a `data_dir`. A failure to start raises
    EmbeddedPostgresError, with the end of the server's log where there is one, and leaves nothing running.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        version: int = 16,
        settings: Mapping[str, str] | None = None,
        tcp: bool = False,
        bindir: Path | None = None,
    ) -> None:
        self.bindir = bindir or find_binaries(version)
        self.superuser = _SUPERUSER
        self.password: str | None = None
        self._server_bindir = self.bindir
        self._needs_copy = bindir is None and os.geteuid() == 0
        self._kept_data_dir = data_dir
        self._settings = dict(settings or {})
        self._tcp = tcp
        self._port = 5432  # without TCP part of the socket's name only, in a folder of its own: no clash
        self._run: HeldFolder | None = None
        self._data: HeldFolder | None = None
        self._process: Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def host(self) -> str:
        """The socket's folder; 127.0.0.1 with `tcp`."""
        return "127.0.0.1" if self._tcp else str(self._socket_dir)

    @property
    def port(self) -> int:
        """The port; without `tcp` part of the socket's name."""
        return self._port

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        if self._process is None:
            raise EmbeddedPostgresError("the server is not running")
        return self._process.pid

    @property
    def data_dir(self) -> Path:
        """Where the data really are, links resolved: `cluster` and `server.log` in there."""
        return self._data.path if self._data is not None else self._run_dir / "data"

    @property
    def log(self) -> Path:
        """The server's log since `start`."""
        return self.data_dir / "server.log"

    def dsn(self, dbname: str = "postgres", user: str | None = None) -> str:
        """Give the connection URI of that database, as superuser; with `tcp` it has the password in it.

        As another `user` over the socket only, where nobody is asked for a password.
        """
        if user is not None:
            return _socket_dsn(str(self._socket_dir), self._port, dbname, user)
        if self._tcp:
            name = quote(dbname, safe="")
            return f"postgresql://{self.superuser}:{self.password}@{self.host}:{self.port}/{name}"
        return self._socket_dsn(dbname)

    def start(self) -> Self:
        """Start the server, on new data or those found, and wait until it answers."""
        if self._run is not None:
            raise EmbeddedPostgresError("the server is started already")
        try:
            self._run = new_run_folder()
            self._prepare(self._run.path)
            self._launch()
        except OSError as error:
            self.stop("immediate")
            raise EmbeddedPostgresError(f"cannot set up the embedded PostgreSQL: {error}") from error
        except BaseException:
            self.stop("immediate")
            raise
        return self

    def stop(self, mode: StopMode | None = None) -> None:
        """End the server and remove what is temporary; harmless when it is not running.

        `fast` ends sessions and writes a checkpoint, the default for data that stay; `immediate` is a crash.
        """
        self._end_server(mode or ("immediate" if self._kept_data_dir is None else "fast"))
        if self._data is not None:
            self._data.release()
            self._data = None
        if self._run is not None:
            shutil.rmtree(self._run.path, ignore_errors=True)
            self._run.release()
            self._run = None

    def restart(self, *, immediate: bool = False) -> None:
        """Stop (`immediate`: by a crash) and start again: same data, same address."""
        self._end_server("immediate" if immediate else "fast")
        try:
            self._launch()
        except BaseException:
            self.stop("immediate")
            raise

    @property
    def _run_dir(self) -> Path:
        if self._run is None:
            raise EmbeddedPostgresError("the server is not running")
        return self._run.path

    @property
    def _socket_dir(self) -> Path:
        return self._run_dir / "socket"

    @property
    def _cluster(self) -> Path:
        return self.data_dir / "cluster"

    def _socket_dsn(self, dbname: str) -> str:
        return _socket_dsn(str(self._socket_dir), self._port, dbname)

    def _prepare(self, run_dir: Path) -> None:
        make_server_folder(self._socket_dir)
        if self._kept_data_dir is None:
            self.data_dir.mkdir()
        else:
            self._data = open_data_folder(self._kept_data_dir)
        self.log.unlink(missing_ok=True)
        if self._needs_copy:
            self._server_bindir = copy_binaries(self.bindir, run_dir / "install")
        if not self._cluster.exists():
            self._init_cluster()
        if self._cluster.stat().st_uid != server_user().pw_uid:
            raise EmbeddedPostgresError(f"{self._cluster} belongs to another user: remove {self.data_dir}")

    def _init_cluster(self) -> None:
        """Run initdb beside the final place, so that there is never half a cluster in it."""
        unfinished = self.data_dir / "cluster.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        make_server_folder(unfinished)
        arguments = [f"--pgdata={unfinished}", f"--username={self.superuser}", "--no-instructions"]
        arguments += ["--encoding=UTF8", "--locale=C", "--auth-local=trust", "--auth-host=scram-sha-256"]
        if self._kept_data_dir is None:
            arguments.append("--no-sync")
        initdb = self._spawn("initdb", arguments, signal.SIGTERM)
        try:
            status = initdb.wait(_INITDB_SECONDS)
        except BaseException:
            end(initdb, (signal.SIGTERM, signal.SIGKILL))
            raise
        if status != 0:
            raise self._failure("initdb failed")
        unfinished.rename(self._cluster)

    def _launch(self) -> None:
        for tries_left in reversed(range(_PORT_TRIES)):
            if self._tcp and self.password is None:
                self._port = _free_port()
            self._process = self._spawn("postgres", self._arguments(), signal.SIGQUIT)
            try:
                self._await_ready()
            except EmbeddedPostgresError as error:
                if tries_left and self._tcp and "Address already in use" in str(error):
                    continue
                raise
            break
        if self._tcp and self.password is None:
            self._set_password(secrets.token_urlsafe())

    def _arguments(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1" if self._tcp else "",
            "port": str(self._port),
            "unix_socket_directories": str(self._socket_dir),
            "unix_socket_permissions": "0700",
            # Among the data and not in /dev/shm, where it would stay if the server itself were killed.
            "dynamic_shared_memory_type": "mmap",
            "timezone": "UTC",
            "log_timezone": "UTC",
            **self._settings,
        }
        return ["-D", str(self._cluster), *(f"--{name}={value}" for name, value in settings.items())]

    def _spawn(self, program: str, arguments: list[str], death_signal: signal.Signals) -> Popen[bytes]:
        executable = self._server_bindir / program
        return spawn(executable, arguments, death_signal=death_signal, cwd=self._run_dir, log=self.log)

    def _await_ready(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while True:
            try:
                psycopg.connect(self._socket_dsn("postgres"), connect_timeout=2).close()
            except psycopg.OperationalError as error:
                if self._process is None or self._process.poll() is not None:
                    raise self._failure("the server ended while starting") from error
                if time.monotonic() > deadline:
                    raise self._failure(f"the server did not answer within {_READY_SECONDS:.0f} s") from error
                time.sleep(0.02)
            else:
                return

    def _set_password(self, password: str) -> None:
        with psycopg.connect(self._socket_dsn("postgres"), autocommit=True) as connection:
            name = self.superuser.encode()
            verifier = connection.pgconn.encrypt_password(password.encode(), name, b"scram-sha-256").decode()
            statement = sql.SQL("alter role {} password {}")
            connection.execute(statement.format(sql.Identifier(self.superuser), sql.Literal(verifier)))
        self.password = password

    def _end_server(self, mode: StopMode) -> None:
        if self._process is not None:
            end(self._process, _STOP_SIGNALS[mode])
            self._process = None

    def _failure(self, what: str) -> EmbeddedPostgresError:
        lines = self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        return EmbeddedPostgresError("\n  ".join([f"{what}; the end of its log:", *lines]))


def running_dsn(data_dir: Path, dbname: str = "postgres") -> str | None:
    """Give the connection URI of the server that runs on `data_dir` now, of any owner; None without one."""
    cluster = data_dir / "cluster"
    if running_postmaster(cluster) is None:
        return None
    lines = (cluster / "postmaster.pid").read_text().splitlines()
    return _socket_dsn(lines[4], int(lines[3]), dbname)


def _socket_dsn(socket_dir: str, port: int, dbname: str, user: str = _SUPERUSER) -> str:
    where = urlencode({"host": socket_dir, "port": port})
    return f"postgresql://{quote(user, safe='')}@/{quote(dbname, safe='')}?{where}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
