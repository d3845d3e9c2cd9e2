"""Everything that is known of a transfer, for whoever has to find out what went wrong with it."""

from datetime import datetime
from typing import Any

from runner.sandbox.simulator import LoggedRequest, SimulatorClient
from tests.support.databases import Database, rows, value

_FIRST, _LAST = 12, 6  # of a long list, so many are shown


def all_about(db: Database, simulator: SimulatorClient, actions: dict[int, str], origin: int) -> list[str]:
    """Give each row of a transfer that the app named, its log and what was tried, and what Stripe was asked and did.

    `actions`: what each rule of the simulator's fault script did.
    """
    members = rows(db, "select * from chaos.rows where origin = %(origin)s order by id", origin=origin)
    lines = [line for member in members for line in _all_about_row(db, member)]
    root = next(member for member in members if member["id"] == origin)
    return [*lines, *_told_of(db, root), *_at_stripe(simulator, actions, root), ""]


def origin_of(db: Database, transfer_id: int) -> int:
    """Give the transfer that the app named and this row is, is a part of or gives back."""
    return int(value(db, "select origin from chaos.rows where id = %(id)s", id=transfer_id))


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


def _told_of(db: Database, root: dict[str, Any]) -> list[str]:
    of_order = "where order_id = %(order)s"
    asked = rows(
        db, f"select * from marketplace.reversal_requests {of_order} order by requested_at", order=root["order_id"]
    )
    causes = rows(db, f"select * from chaos.causes {of_order}", order=root["order_id"])
    events = rows(
        db,
        """
        select e.event_id, e.type, e.received_at, e.state, e.detail, e.attempts,
          e.payload #>> '{data,object,status}' as status
        from marketplace.stripe_events as e
        where e.object_id = any (array(
          select c.cause from chaos.causes as c where c.order_id = %(order)s
          union select t.stripe_transfer_id from chaos.rows as t where t.origin = %(origin)s
          union select t.source_charge from chaos.rows as t where t.origin = %(origin)s))
        order by e.received_at
        """,
        order=root["order_id"],
        origin=root["id"],
    )
    return [
        *(f"  request {_told(each)}" for each in asked),
        *(f"  cause {_told(each)}" for each in causes),
        *(f"  event {_told(each)}" for each in events),
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
