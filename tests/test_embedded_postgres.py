"""The embedded PostgreSQL: what it promises about processes, files and access."""

import os
import pwd
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from runner.sandbox.embedded_postgres import (
    EmbeddedPostgres,
    EmbeddedPostgresError,
    remove_data_folder,
    running_dsn,
)
from runner.sandbox.psql import psql_on_data
from tests.support.processes import process_ended

REPOSITORY = Path(__file__).resolve().parent.parent
FAST = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "16MB"}
SERVER_UID = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid()
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")

OWNER = """
import sys
from pathlib import Path
from runner.sandbox.embedded_postgres import EmbeddedPostgres
data_dir = Path(sys.argv[1]) if len(sys.argv) > 1 else None
with EmbeddedPostgres(data_dir, settings={"fsync": "off"}) as server:
    print(server.pid, server.data_dir, server.dsn(), flush=True)
    sys.stdin.read()
"""


class Owner:
    """Another process with a server of its own, until its standard input ends."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )
        assert self.process.stdout is not None
        pid, data_dir, self.dsn = self.process.stdout.readline().split()
        self.server_pid = int(pid)
        self.run_dir = Path(str(conninfo_to_dict(self.dsn)["host"])).parent
        self.data_dir = Path(data_dir)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)

    def leave(self) -> None:
        self.process.communicate("", timeout=30)


@pytest.fixture
def start_owner() -> Iterator[Callable[..., Owner]]:
    owners: list[Owner] = []

    def start(*arguments: str) -> Owner:
        owners.append(Owner(*arguments))
        return owners[-1]

    yield start
    for owner in owners:
        if owner.process.poll() is None:
            owner.kill()


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(settings={**FAST, "work_mem": "3MB"}) as running:
        yield running


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A place for lasting data; started by root, the server's user cannot reach it."""
    path = tmp_path / "kept" / "demo"
    yield path
    remove_data_folder(path)


def execute(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statement.encode())


def scalar(dsn: str, query: str) -> object:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def test_version_18_is_up_and_leaves_nothing_behind() -> None:
    with EmbeddedPostgres(version=18, settings=FAST) as server:
        assert str(scalar(server.dsn(), "show server_version")).startswith("18.")
        pid, run_dir = server.pid, Path(server.host).parent
        assert run_dir.is_dir()
    assert process_ended(pid, within_seconds=0)
    assert not run_dir.exists()


def test_version_16_is_the_default(server: EmbeddedPostgres) -> None:
    assert str(scalar(server.dsn(), "show server_version")).startswith("16.")
    assert scalar(server.dsn(), "select current_user") == "postgres"


def test_databases_are_utf8_and_sort_by_bytes(server: EmbeddedPostgres) -> None:
    assert scalar(server.dsn(), "show server_encoding") == "UTF8"
    assert scalar(server.dsn(), "select string_agg(c, '' order by c) from unnest('{a,B}'::text[]) c") == "Ba"


def test_settings_reach_the_server(server: EmbeddedPostgres) -> None:
    assert scalar(server.dsn(), "show work_mem") == "3MB"


def test_the_server_listens_only_where_its_owner_can_go(server: EmbeddedPostgres) -> None:
    assert scalar(server.dsn(), "show listen_addresses") == ""
    socket_dir = Path(server.host).stat()
    assert socket_dir.st_mode & 0o777 == 0o700
    assert socket_dir.st_uid == SERVER_UID


def test_ctrl_c_in_our_terminal_does_not_reach_the_server(server: EmbeddedPostgres) -> None:
    assert os.getsid(server.pid) != os.getsid(0)


def test_the_server_does_not_get_our_environment(server: EmbeddedPostgres) -> None:
    environment = Path(f"/proc/{server.pid}/environ").read_bytes().split(b"\0")
    names = {item.partition(b"=")[0] for item in environment}
    assert b"LC_ALL" in names
    assert names <= {b"", b"LC_ALL", b"PATH", b"LD_LIBRARY_PATH"}


def test_a_database_name_is_quoted_in_the_dsn(server: EmbeddedPostgres) -> None:
    execute(server.dsn(), 'create database "a/b?c=d e"')
    assert scalar(server.dsn("a/b?c=d e"), "select current_database()") == "a/b?c=d e"


def test_tcp_is_for_this_machine_and_asks_for_the_password() -> None:
    with EmbeddedPostgres(settings=FAST, tcp=True) as server:
        dsn = server.dsn()
        assert server.host == "127.0.0.1"
        assert server.port > 1024
        assert scalar(dsn, "show listen_addresses") == "127.0.0.1"
        assert scalar(dsn, "select host(inet_server_addr())") == "127.0.0.1"
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(dsn.replace(str(server.password), "guess"))
        server.restart()
        assert server.dsn() == dsn
        assert scalar(dsn, "select 1") == 1


def test_an_immediate_restart_cuts_sessions_and_keeps_the_address_and_what_was_committed() -> None:
    with EmbeddedPostgres(settings=FAST) as server:
        dsn, pid = server.dsn(), server.pid
        with closing(psycopg.connect(dsn, autocommit=True)) as connection:
            connection.execute("create table kept as select 7 as number")
            server.restart(immediate=True)
            with pytest.raises(psycopg.OperationalError):
                connection.execute("select 1")
        assert server.pid != pid
        assert server.dsn() == dsn
        assert scalar(dsn, "select number from kept") == 7
        assert "was not properly shut down" in server.log.read_text()


def test_lasting_data_are_found_again_and_never_shared(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir, settings=FAST) as server:
        execute(server.dsn(), "create table kept as select 7 as number")
        assert running_dsn(data_dir) == server.dsn()
        with pytest.raises(EmbeddedPostgresError, match="in use"):
            EmbeddedPostgres(data_dir).start()
        assert scalar(server.dsn(), "select number from kept") == 7
    assert running_dsn(data_dir) is None
    # As after a crash long ago: the number in the file now belongs to a live process, this one.
    (data_dir / "cluster" / "postmaster.pid").write_text(f"{os.getpid()}\n")
    with EmbeddedPostgres(data_dir, settings=FAST) as server:
        assert scalar(server.dsn(), "select number from kept") == 7
        assert "was not properly shut down" not in server.log.read_text()


def test_psql_opens_lasting_data_whether_or_not_a_server_runs_on_them(
    data_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    query = ("-AtXc", "select 'number ' || number from kept")
    with pytest.raises(EmbeddedPostgresError, match="no database"):
        psql_on_data(data_dir, "postgres")
    with EmbeddedPostgres(data_dir, settings=FAST) as server:
        execute(server.dsn(), "create table kept as select 7 as number")
        assert psql_on_data(data_dir, "postgres", query) == 0
        assert scalar(server.dsn(), "select 1") == 1
    assert psql_on_data(data_dir, "postgres", query) == 0
    assert capfd.readouterr().out == "number 7\n" * 2
    assert running_dsn(data_dir) is None


def test_killing_the_owner_ends_the_server_and_lasting_data_survive(
    data_dir: Path, start_owner: Callable[..., Owner]
) -> None:
    owner = start_owner(str(data_dir))
    execute(owner.dsn, "create table kept as select 7 as number")
    owner.kill()
    # At once, while the orphan may still be ending: the next owner waits for it.
    with EmbeddedPostgres(data_dir, settings=FAST) as server:
        assert process_ended(owner.server_pid, within_seconds=0)
        assert scalar(server.dsn(), "select number from kept") == 7


def test_the_next_start_removes_the_folder_of_a_killed_owner_and_no_other(
    start_owner: Callable[..., Owner],
) -> None:
    owner, neighbour = start_owner(), start_owner()
    owner.kill()
    assert process_ended(owner.server_pid)
    assert owner.data_dir.is_dir()
    with EmbeddedPostgres(settings=FAST):
        assert not owner.run_dir.exists()
        assert neighbour.data_dir.is_dir()
    assert not process_ended(neighbour.server_pid, within_seconds=0)
    neighbour.leave()
    assert process_ended(neighbour.server_pid, within_seconds=0)
    assert not neighbour.run_dir.exists()


@needs_root
def test_an_ordinary_user_can_run_one_too() -> None:
    pythons = (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}")
    usable = [python for python in pythons if run_as_nobody(python, "import psycopg, runner").returncode == 0]
    if not usable:
        pytest.skip("no Python here that the user nobody can run, with this checkout and its packages")
    done = run_as_nobody(usable[0], OWNER + "    print(Path(server.host).stat().st_uid)")
    assert done.stderr == ""
    first_line, uid = done.stdout.splitlines()
    assert int(uid) == pwd.getpwnam("nobody").pw_uid
    assert process_ended(int(first_line.split()[0]), within_seconds=0)


@needs_root
def test_data_of_another_user_are_refused(tmp_path: Path) -> None:
    data_dir = tmp_path / "theirs"
    data_dir.mkdir()
    os.chown(data_dir, 12345, 12345)
    with pytest.raises(EmbeddedPostgresError, match="belongs to user 12345"):
        EmbeddedPostgres(data_dir).start()


def test_a_server_that_does_not_start_says_why_and_is_as_if_never_started(tmp_path: Path) -> None:
    server = EmbeddedPostgres(settings={"work_mem": "a lot"})
    with pytest.raises(EmbeddedPostgresError, match='invalid value for parameter "work_mem": "a lot"'):
        server.start()
    with pytest.raises(EmbeddedPostgresError, match="not running"):
        _ = server.pid
    with pytest.raises(EmbeddedPostgresError, match="not running"):
        _ = server.data_dir
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedPostgresError, match="cannot set up"):
        EmbeddedPostgres(tmp_path / "file" / "below").start()


def test_only_the_main_thread_may_start_a_server() -> None:
    errors: list[RuntimeError] = []

    def start() -> None:
        try:
            EmbeddedPostgres().start()
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join(30)
    assert ["main thread" in str(error) for error in errors] == [True]


def test_an_unknown_version_is_refused_with_those_there_are() -> None:
    with pytest.raises(EmbeddedPostgresError, match="16 and 18"):
        EmbeddedPostgres(version=17)


def test_without_the_wheel_the_message_says_what_to_install() -> None:
    code = (
        f"import sys; sys.path.append({str(REPOSITORY)!r});"
        "from runner.sandbox.postgres_binaries import find_binaries; find_binaries(16)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],  # -S: no site-packages, hence no wheel
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert "seller-transfers[sandbox]" in done.stderr.splitlines()[-1]


def run_as_nobody(python: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run `code` as the user nobody, with our packages; 126 if `python` is out of reach."""
    nobody = pwd.getpwnam("nobody")
    packages = Path(psycopg.__file__).parent.parent
    try:
        return subprocess.run(
            [python, "-c", code],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd="/",
            env={"PYTHONPATH": f"{REPOSITORY}:{packages}", "PYTHONDONTWRITEBYTECODE": "1"},
            user=nobody.pw_uid,
            group=nobody.pw_gid,
            extra_groups=[],
        )
    except (PermissionError, FileNotFoundError):
        return subprocess.CompletedProcess([python], 126, "", "")
