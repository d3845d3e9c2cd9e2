"""Everything that is known of a transfer, for whoever has to find out what went wrong with it."""

from datetime import datetime
from typing import Any

from runner.sandbox.simulator import LoggedRequest, SimulatorClient
from tests.support.databases import Database, rows, value

_FIRST, _LAST = 12, 6  # of a long list, so many are shown


def all_about(db: Database, simulator: SimulatorClient, actions: dict[int, str], family: int) -> list[str]:
    """Give each row of a family, its log and what was tried, and what Stripe was asked and did, line by line.

    `actions`: what each rule of the simulator's fault script did.
    """
    members = rows(db, "select * from chaos.rows where family = %(family)s order by id", family=family)
    lines = [line for member in members for line in _all_about_row(db, member)]
    root = next(member for member in members if member["id"] == family)
    return [*lines, *_at_stripe(simulator, actions, root), ""]


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


def _at_stripe(simulator: SimulatorClient, actions: dict[int, str], root: dict[str, Any]) -> list[str]:
    ledger = simulator.ledger()
    made = {
        each.transfer
        for each in ledger
        if each.kind == "transfer" and each.metadata["transfer_key"] == root["transfer_key"]
    }

    def is_about_it(each: LoggedRequest) -> bool:
        if any(f"/{transfer}/" in f"{each.path}/" for transfer in made):
            return True
        if each.method == "POST":
            return bool(each.params.get("metadata", {}).get("transfer_key") == root["transfer_key"])
        return bool(each.params.get("destination") == root["destination_account"])

    requests = [
        f"  Stripe {_time(datetime.fromtimestamp(each.arrived_at))} {each.method} {each.path}"
        f" key {each.idempotency_key} answered {each.status}, executed {each.executed}, replayed {each.replayed},"
        f" delivered {each.delivered}, fault {actions.get(each.fault or 0)}, late of {each.late_of},"
        f" number {each.seq}"
        for each in simulator.requests()
        if is_about_it(each)
    ]
    happened = [
        f"  ledger {_time(datetime.fromtimestamp(each.at))} {each.kind} {each.reversal or each.transfer}"
        f" of {each.amount} {each.currency}, status {each.status}, by request {each.request}, {each.metadata}"
        for each in ledger
        if each.transfer in made
    ]
    return [*_shortened(requests), *happened]


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
