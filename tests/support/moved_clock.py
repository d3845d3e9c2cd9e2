"""Time that passes for the rows and for nobody else: the SQL reads the real clock, so the past is moved instead."""

from datetime import datetime, timedelta

from psycopg.rows import DictRow

from tests.support.databases import Database, rows

_ROW_TIMES = (
    "next_retry_at",
    "leased_at",
    "lease_expires_at",
    "call_minted_at",
    "call_last_sent_at",
    "call_absent_at",
    "streak_since",
    "waiting_since",
)
# proven_at is compared with attempts, and they are as they were written.
_CONTROL_TIMES = ("paused_at", "probe_at", "look_up_first_since")


def _earlier(names: tuple[str, ...]) -> str:
    return ", ".join(f"{name} = {name} - %(by)s" for name in names)


_LET_PASS = f"""
    with control as (update marketplace.stripe_control set {_earlier(_CONTROL_TIMES)})
    update marketplace.seller_transfers set {_earlier(_ROW_TIMES)}
    where status in ('pending', 'failed', 'reversal_pending')
""".encode()

# Not all there is: this is read after every step.
_REVERSALS = f"""
    select
      t.id, t.root_id, t.status, t.amount, t.original_amount, t.parked_reason, t.stripe_reversal_id, t.retry_count,
      t.streak, t.streak_verdict, t.lease_token, t.lease_action, t.call_generation, t.call_params, t.call_replayed,
      t.call_unknown, {", ".join(_ROW_TIMES)}, c.paused_by, c.proven_by, {", ".join(_CONTROL_TIMES)},
      (select a.finished_at from marketplace.transfer_attempts as a order by a.id desc limit 1) as said_at
    from marketplace.seller_transfers as t cross join marketplace.stripe_control as c
    where t.reversal_request_id is not null
"""


def let_pass(db: Database, by: timedelta) -> None:
    """As if everything about open rows and pauses had happened that much earlier."""
    db.execute(_LET_PASS, {"by": by})


def reversals_at(db: Database, moved: timedelta) -> dict[int, DictRow]:
    """Every row that was asked back, by id; open ones are dated as if the clock had been moved and not the past.

    With each row: `said_at`, when the last report or lost lease was noted, and the columns of stripe_control.
    """
    found = rows(db, _REVERSALS)
    for each in found:
        dates = _ROW_TIMES if each["status"] == "reversal_pending" else ()
        for name in (*dates, *_CONTROL_TIMES, "said_at"):
            each[name] = _later(each[name], moved)
    return {each["id"]: each for each in found}


def _later(moment: datetime | None, moved: timedelta) -> datetime | None:
    return None if moment is None else moment + moved
