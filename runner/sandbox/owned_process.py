"""Child processes that do not outlive their owner, not even when it is killed with SIGKILL.

`owned_command(…)` wraps a command so that this file, run as a script, asks the kernel for a signal on the
owner's death (Linux, PR_SET_PDEATHSIG) and then becomes the command. A script and not a `preexec_fn`, because
that one may deadlock in a process that has threads. Standard library only: it is run with `python -I -S`.
"""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def owned_command(
    command: Sequence[str], *, death_signal: signal.Signals, uid: int | None = None, gid: int | None = None
) -> list[str]:
    """Give the argv that runs `command` as our child until we die, then sends it `death_signal`.

    The child's pid is that of the command itself: the wrapper replaces itself by it. `uid` and `gid`
    (default: ours) are for an owner that is root. Raises RuntimeError anywhere but in the main thread: it is
    the thread that forks whose death counts.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("an owned process must be started from the main thread: it ends with its thread")
    identity = f"{os.geteuid() if uid is None else uid}:{os.getegid() if gid is None else gid}"
    wrapper = [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(death_signal)), identity]
    return [*wrapper, *command]


def end_with_parent(parent: int, death_signal: int) -> None:
    """Have the kernel send us `death_signal` when the process `parent`, who started us, dies; exit if it has."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        sys.exit("the owner of this process died before it started")


def _become(owner: int, death_signal: int, uid: int, gid: int, command: list[str]) -> None:
    if uid != os.geteuid():
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    end_with_parent(owner, death_signal)  # not before: a change of user undoes it
    os.execv(command[0], command)  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    _uid, _gid = sys.argv[3].split(":")
    try:
        _become(int(sys.argv[1]), int(sys.argv[2]), int(_uid), int(_gid), sys.argv[4:])
    except OSError as error:
        sys.exit(f"cannot run {sys.argv[4]}: {error}")
