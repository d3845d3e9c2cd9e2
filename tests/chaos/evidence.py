"""Everything that is known of a transfer, for whoever has to find out what went wrong with it."""

from datetime import datetime
from typing import Any

from runner.sandbox.simulator import SimulatorClient
from tests.support.databases import Database, rows, value

_FIRST, _LAST = 12, 6  # of a long list, so many are shown


def all_about(db: Database, simulator: SimulatorClient, actions: dict[int, str], family: int) -> list[str]:
    """Give each row of a family, its log and what was tried, and what Stripe was asked and did, line by line.

    `actions`: what each rule of the simulator's fault script did.
    """
    members = rows(db, "select * from chaos.rows where family = %(family)s order by id", family=family)
    lines = [line for member in members for line in _all_about_row(db, member)]
    return [*lines, *_at_stripe(simulator, actions, members[0]["stripe_transfer_id"]), ""]


def family_of(db: Database, transfer_id: int) -> int:
    """Give the row's family: that of the transfer it is, or is a part of."""
    return int(value(db, "select family from chaos.rows where id = %(id)s", id=transfer_id))


def _all_about_row(db: Database, transfer: dict[str, Any]) -> list[str]:
    of_row = "where transfer_id = %(id)s order by id"
    log = rows(db, f"select * from marketplace.transfer_status_log {of_row}", id=transfer["id"])
    attempts = rows(db, f"select * from marketplace.transfer_attempts {of_row}", id=transfer["id"])
    asked = rows(db, "select * from marketplace.reversal_request_lines where transfer_id = %(id)s", id=transfer["id"])
    tried = [
        f"  tried {_time(each.pop('started_at'))} to {_time(each.pop('finished_at'))} {_told(each)}"
        for each in attempts
    ]
    return [
        f"row {_told(transfer)}",
        *(f"  asked {_told(each)}" for each in asked),
        *(f"  log {_time(each.pop('logged_at'))} {_told(each)}" for each in log),
        *_shortened(tried),
    ]


def _at_stripe(simulator: SimulatorClient, actions: dict[int, str], stripe_id: str | None) -> list[str]:
    if stripe_id is None:
        return []
    requests = [
        f"  Stripe {_time(datetime.fromtimestamp(each.arrived_at))} {each.method}"
        f" key {each.idempotency_key} answered {each.status}, executed {each.executed}, replayed {each.replayed},"
        f" delivered {each.delivered}, fault {actions.get(each.fault or 0)}, late of {each.late_of},"
        f" number {each.seq}"
        for each in simulator.requests()
        if f"/{stripe_id}/" in f"{each.path}/"
    ]
    ledger = [
        f"  ledger {_time(datetime.fromtimestamp(each.at))} {each.kind} {each.reversal or ''} of {each.amount}"
        f" {each.currency}, status {each.status}, by request {each.request}, {each.metadata}"
        for each in simulator.ledger()
        if each.transfer == stripe_id
    ]
    return [*_shortened(requests), *ledger]


def _shortened(lines: list[str]) -> list[str]:
    left_out = len(lines) - _FIRST - _LAST
    if left_out <= 1:
        return lines
    return [*lines[:_FIRST], f"  … {left_out} more …", *lines[-_LAST:]]


def _told(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {_time(what) if isinstance(what, datetime) else what}"
        for name, what in values.items()
        if what not in (None, "", False) and name not in ("transfer_id", "facts_sha256")
    )


def _time(when: datetime | None) -> str:
    return "?" if when is None else f"{when:%H:%M:%S.%f}"[:-3]
