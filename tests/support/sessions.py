"""Two sessions at once, without sleeping: one is seen to wait before the other goes on."""

import time

from tests.support.databases import Connect, Database, value

_SECONDS = 10


def impatient(connect: Connect, **settings: str) -> Database:
    """A session that does not wait for ever: a test that goes wrong ends in an error, not in a hang."""
    return connect(
        options=" ".join(f"-c {name}={text}" for name, text in {"statement_timeout": "20s", **settings}.items())
    )


def wait_until_blocked(observer: Database, *sessions: Database) -> None:
    """Return once the server shows every one of `sessions` waiting for a lock."""
    pids = [session.info.backend_pid for session in sessions]
    waiting = 0
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        waiting = value(
            observer,
            "select count(*) from pg_stat_activity where pid = any(%(pids)s) and wait_event_type = 'Lock'",
            pids=pids,
        )
        if waiting == len(pids):
            return
    raise AssertionError(f"{waiting} of {len(pids)} sessions wait for a lock after {_SECONDS} s")
