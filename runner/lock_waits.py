"""Waiting for locks with patience: little at a time, so that nobody queues up behind us for long, and often.

While a statement waits for a lock that stops others, all of them wait behind it. So each wait is short; when it was in
vain everything is given back, others get through, and it is tried again. Who was in the way is told each time.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import psycopg
from psycopg.rows import class_row

Result = TypeVar("Result")
Notify = Callable[[str], None]

# Nothing that others may have made.
SAFE_PATH = "pg_catalog, pg_temp"
_NO_LOCK = "55P03"
_DEADLOCK = "40P01"
_LOOK_SECONDS = 0.1
# A wait without end, as of an index that is built concurrently, is told of as soon as it lasts this long.
_LONG_SECONDS = 5.0
_LAST_PAUSE_SECONDS = 10.0

_WAITS = """
SELECT
    b.pid, a.application_name, a.state, clock_timestamp() - a.xact_start AS age,
    (
        SELECT concat_ws(' on ', l.mode, l.relation::regclass::text)
        FROM pg_catalog.pg_locks AS l WHERE l.pid = w.pid AND NOT l.granted LIMIT 1
    ) AS wanted
FROM unnest(%(ours)s::integer[]) AS w (pid)
CROSS JOIN LATERAL unnest(pg_catalog.pg_blocking_pids(w.pid)) AS b (pid)
LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = b.pid
WHERE b.pid <> ALL (%(ours)s::integer[])
ORDER BY a.xact_start, b.pid
"""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a statement waits for a lock, how often its work is tried, how long the first pause is; each doubles."""

    lock_timeout_seconds: float = 2.0
    tries: int = 10
    pause_seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class Blocker:
    """A session in our way; what another role's session does may be hidden from us. pid 0: a prepared transaction."""

    pid: int
    application_name: str | None
    state: str | None
    age: timedelta | None
    wanted: str | None

    def __str__(self) -> str:
        if self.pid == 0:
            return "a prepared transaction (select * from pg_prepared_xacts)"
        age = None if self.age is None else f"in a transaction for {timedelta(seconds=int(self.age.total_seconds()))}"
        said = ", ".join(filter(None, (self.application_name, self.state, age)))
        return f"pid {self.pid} ({said})" if said else f"pid {self.pid}"


def in_words(blockers: list[Blocker]) -> str:
    """Who is in the way of what."""
    if not blockers:
        return "blocked by a session that is gone"
    wanted = f"waits for {blockers[0].wanted}, " if blockers[0].wanted else ""
    return f"{wanted}blocked by {' and '.join(dict.fromkeys(map(str, blockers)))}"


class LockWatch:
    """Sees from a session of its own who is in the way of ours; a context manager."""

    def __init__(self, conninfo: str, warn: Notify, look_seconds: float = _LOOK_SECONDS) -> None:
        self._conninfo = conninfo
        self._warn = warn
        self._look_seconds = look_seconds
        self._ours: list[int] = []
        self._last: list[Blocker] = []
        self._since: float | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)

    def __enter__(self) -> "LockWatch":
        self._connection = psycopg.connect(
            self._conninfo, autocommit=True, application_name="seller-transfers migrate watches locks"
        )
        self._connection.execute(f"SET search_path = {SAFE_PATH}")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._connection.close()

    def add(self, pid: int) -> None:
        """Watch over this session of ours, too."""
        self._ours = [*self._ours[-9:], pid]

    def blockers(self) -> list[Blocker]:
        """Who was in the way last, since this was asked before."""
        last, self._last = self._last, []
        return last

    def _look_on(self) -> None:
        # It is for information: without it, as when the server is gone, the work says what there is to say.
        with suppress(psycopg.Error):
            while not self._ended.wait(self._look_seconds):
                self._look()

    def _look(self) -> None:
        with self._connection.cursor(row_factory=class_row(Blocker)) as cursor:
            found = cursor.execute(_WAITS, {"ours": self._ours}).fetchall()
        if not found:
            self._since = None
            return
        self._last = found
        if self._since is None:
            self._since = time.monotonic()
        elif time.monotonic() - self._since > _LONG_SECONDS:
            self._warn(f"still waiting: {in_words(found)}")
            self._since = float("inf")


def patiently(what: str, work: Callable[[], Result], watch: LockWatch, patience: Patience, warn: Notify) -> Result:
    """Do the work, again after a pause when another session was in the way. Raises what the last try raised."""
    pause = patience.pause_seconds
    for number in range(2, patience.tries + 1):
        watch.blockers()
        try:
            return work()
        except psycopg.Error as error:
            if not in_the_way(error):
                raise
            warn(f"{what}: {why(error, watch)}; trying again in {pause:g} s ({number} of {patience.tries})")
        time.sleep(pause)
        pause = min(pause * 2, max(_LAST_PAUSE_SECONDS, patience.pause_seconds))
    watch.blockers()
    return work()


def in_the_way(error: psycopg.Error) -> bool:
    """Whether it was another session's lock, and the same may do later."""
    return error.sqlstate in (_NO_LOCK, _DEADLOCK)


def why(error: psycopg.Error, watch: LockWatch) -> str:
    """What stood in the way, in words; of a deadlock the server itself tells."""
    if error.sqlstate == _DEADLOCK:
        return f"deadlock: {' '.join((error.diag.message_detail or '').split())}"
    return in_words(watch.blockers())
