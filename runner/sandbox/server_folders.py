"""Where an embedded PostgreSQL lives: its temporary folder, its data folder, and who holds them.

A folder is held by an flock: the kernel lets go of it with the holder's last breath, so a folder that can be
locked belongs to nobody alive. That holds across containers that share a /tmp too, where a pid means nothing.
"""

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from runner.sandbox.postgres_binaries import EmbeddedPostgresError

_RUN_PREFIX = "seller-transfers-pg-"
_DATA_PREFIX = "seller-transfers-data-"
_MAX_BASE_LENGTH = 50  # a socket's whole path must stay below 108 bytes
_NAME_TRIES = 100
_SHUTDOWN_SECONDS = 15.0  # 5 s after SIGQUIT PostgreSQL itself kills what has not ended


@dataclass(frozen=True, slots=True)
class HeldFolder:
    """A folder that only this process uses, until `release`."""

    path: Path
    lock: int  # file descriptor

    def release(self) -> None:
        """Let others have it."""
        os.close(self.lock)


def new_run_folder() -> HeldFolder:
    """Make a temporary folder with a name short enough for sockets, after removing those of dead owners."""
    base = _temporary_base()
    _sweep(base)
    for _ in range(_NAME_TRIES):
        path = Path(tempfile.mkdtemp(prefix=_RUN_PREFIX, dir=base))
        # Until it is locked, somebody's sweep may take it for abandoned: then the next name.
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        if _try_lock(lock) and path.exists():
            if os.geteuid() == 0:
                path.chmod(0o755)
            return HeldFolder(path, lock)
        os.close(lock)
    raise EmbeddedPostgresError(f"cannot hold a temporary folder in {base}")


def open_data_folder(data_dir: Path) -> HeldFolder:
    """Open or make a lasting data folder, and hold it.

    If we are root and the server's user cannot get there (a checkout in a closed home), the folder is made in
    /var/tmp and `data_dir` becomes a link to it. Raises EmbeddedPostgresError if it is in use or another's.
    """
    if not data_dir.exists():
        _make_data_folder(data_dir)
    path = data_dir.resolve()
    owner = path.stat().st_uid
    if owner != os.geteuid():
        raise EmbeddedPostgresError(f"{path} belongs to user {owner}: remove it, or go on as that user")
    lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    if not _try_lock(lock):
        os.close(lock)
        raise EmbeddedPostgresError(f"{path} is in use by another process")
    try:
        _forget_dead_server(path / "cluster")
    except BaseException:
        os.close(lock)
        raise
    return HeldFolder(path, lock)


def remove_data_folder(data_dir: Path) -> None:
    """Remove a lasting data folder with all its data; nothing happens if there is none.

    Raises EmbeddedPostgresError when it is in use or somebody else's.
    """
    if data_dir.exists():
        folder = open_data_folder(data_dir)
        shutil.rmtree(folder.path)
        folder.release()
    if data_dir.is_symlink():
        data_dir.unlink()


def running_postmaster(cluster: Path) -> int | None:
    """Pid of the live server on that cluster; None if there is none, whatever a stale postmaster.pid says."""
    try:
        pid = int((cluster / "postmaster.pid").read_text().partition("\n")[0])
        alive = Path(f"/proc/{pid}/cwd").samefile(cluster)
    except (OSError, ValueError):
        return None
    return pid if alive else None


def _temporary_base() -> Path:
    base = Path(tempfile.gettempdir()).resolve()
    if len(str(base)) <= _MAX_BASE_LENGTH and _server_user_passes(base):
        return base
    return Path("/tmp")  # noqa: S108 - what is made in it has a random name and is ours alone


def _make_data_folder(data_dir: Path) -> None:
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    data_dir.unlink(missing_ok=True)  # a link whose target was cleaned away
    if _server_user_passes(data_dir.parent.resolve()):
        data_dir.mkdir()
        return
    target = Path(tempfile.mkdtemp(prefix=_DATA_PREFIX, dir="/var/tmp"))
    target.chmod(0o755)
    data_dir.symlink_to(target)


def _server_user_passes(folder: Path) -> bool:
    if os.geteuid() != 0:
        return True
    return all(step.stat().st_mode & stat.S_IXOTH for step in (folder, *folder.parents))


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _forget_dead_server(cluster: Path) -> None:
    """Wait until the server of an owner just killed has ended too; then remove its pid file, if left."""
    deadline = time.monotonic() + _SHUTDOWN_SECONDS
    while (pid := running_postmaster(cluster)) is not None:
        if time.monotonic() > deadline:
            raise EmbeddedPostgresError(f"a server that nobody owns, pid {pid}, runs on {cluster}: end it")
        time.sleep(0.02)
    # Its number may be another process's by now, which PostgreSQL would take for a live server.
    (cluster / "postmaster.pid").unlink(missing_ok=True)


def _sweep(base: Path) -> None:
    for path in base.glob(f"{_RUN_PREFIX}*"):
        with contextlib.suppress(OSError):  # another sweep was faster, or it is not ours
            _remove_if_abandoned(path)


def _remove_if_abandoned(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        ours = os.fstat(descriptor).st_uid == os.geteuid()
        if ours and _try_lock(descriptor) and running_postmaster(path / "data" / "cluster") is None:
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(descriptor)
