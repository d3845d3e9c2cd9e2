"""One seed, from an empty database to the comparison of the books."""

import time
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from runner.sandbox.embedded_postgres import EmbeddedPostgres
from runner.sandbox.simulator import SimulatorClient, simulator_process
from tests.chaos.app import App
from tests.chaos.buyers import Buyers
from tests.chaos.comparison import compare
from tests.chaos.crew import Crew
from tests.chaos.driver import Driver
from tests.chaos.evidence import all_about, origin_of
from tests.chaos.inbox import Inbox
from tests.chaos.oracle import Finding, judge
from tests.chaos.plan import Plan, make_plan
from tests.support.cutting_proxy import cutting_proxy
from tests.support.databases import Database, ServerAddress, open_database, rows, value
from tests.support.migrations import migrate_database

# SIGQUIT ends processes, not the machine: what was written is in the kernel's cache and still there after the restart,
# flushed or not. But a commit has to be written before it is answered, and with synchronous_commit off it is not: a row
# that the app was told of could be gone.
_SETTINGS = {"fsync": "off", "synchronous_commit": "on", "shared_buffers": "64MB"}
_DATABASE = "postgres"
_APP_SECONDS = 60.0
_EXPLAINED = 5  # transfers, in full
_ROUNDS = 4  # of catching up, and doing what follows; money that moves is told of by events again


@dataclass(slots=True)
class Report:
    """What a seed gave. `findings` is empty if all went as promised; `text` has everything about what did not."""

    plan: Plan
    line: str
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    text: str = ""


# Who runs has the rights of those who run, and no more.
_LOGINS = """
create role chaos_app login in role marketplace_app;
create role chaos_runner login in role marketplace_runner;
"""


def run_seed(seed: int, rows: int, folder: Path) -> Report:
    """Run a seed with about so many rows; logs go to `folder`. To be called in the main thread."""
    plan = make_plan(seed, rows)
    begun = time.monotonic()
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedPostgres(settings=_SETTINGS))
        simulator = stack.enter_context(simulator_process())
        migrate_database(server.dsn(_DATABASE))
        with closing(open_database(server.dsn(_DATABASE))) as db:
            _set_policy(db, plan)
            db.execute(_LOGINS)
        address = ServerAddress(server.host, server.port, "chaos_runner")
        line = stack.enter_context(cutting_proxy(address))
        dsn = line.dsn(address, _DATABASE)
        app_dsn = line.dsn(replace(address, user="chaos_app"), _DATABASE)
        charges = _charge(simulator, plan)
        stripe_ids = _pay(simulator, plan)
        crew = Crew(plan, dsn, simulator.base_url, folder)
        stack.callback(crew.close)
        buyers = Buyers(simulator, charges)
        inbox = Inbox(dsn, simulator, folder, seed) if plan.refunds_by == "events" else None
        driver = Driver(plan, server, simulator, line, crew, buyers, inbox)
        driver.prepare()
        app = App(app_dsn, plan, stripe_ids, charges, buyers.ids)
        stack.callback(app.stop)
        crew.start()
        crew.wait_until_at_work(server.dsn(_DATABASE))
        if inbox is not None:
            stack.callback(inbox.close)
            inbox.start()

        app.start()
        driver.play()
        driver.calm()
        app.finish(_APP_SECONDS)
        with closing(open_database(server.dsn(_DATABASE))) as db:
            calm_seconds = _finish(db, driver)
            app.book.causes = buyers.causes
            findings = judge(db, simulator.ledger(), app.book)
            findings += [Finding("the app", None, trouble) for trouble in app.book.trouble]
            findings += [Finding("a runner", None, trouble) for trouble in (*crew.trouble, *crew.complaints())]
            if inbox is not None:
                findings += [Finding("the inbox", None, trouble) for trouble in inbox.trouble]
                findings += [
                    Finding("an event that is not in the inbox", None, event) for event in _missed(db, simulator)
                ]
            findings += compare(server.dsn(_DATABASE), db, simulator, plan)
            totals = _totals(db)
            totals += f", {driver.restarts} restarts, {crew.kills} kills, {line.cuts} cuts"
            if inbox is not None:
                totals += f", {inbox.kills} kills of the webhook"
            seconds = f"{time.monotonic() - begun:.0f} s, done {calm_seconds:.1f} s after the last fault"
            notes = _notes(db)
            if calm_seconds > plan.times.goal:
                notes.append(f"that is later than the goal, {plan.times.goal:.1f} s")
            report = Report(plan, f"seed {seed}: {totals}; {seconds}", findings, notes)
            if findings:
                report.text = _explain(db, simulator, driver, report)
                (folder / "report.txt").write_text(report.text)
                (folder / "postgres.log").write_bytes(server.log.read_bytes())
        return report


def _set_policy(db: Database, plan: Plan) -> None:
    plan.times.apply(db)
    if value(db, "select count(*) > 0 as there from pg_proc where proname = 'set_stripe_rate'"):
        rows(db, "select from marketplace.set_stripe_rate(p_per_second => null, p_reason => 'chaos')")
    rows(db, "select from marketplace.set_refunds_by(p_who => %(who)s, p_reason => 'chaos')", who=plan.refunds_by)


def _pay(simulator: SimulatorClient, plan: Plan) -> dict[str, str]:
    """Make transfers; gives Stripe's ids by the app's keys, and some that Stripe does not know."""
    paid = [payout for payout in plan.payouts if payout.kind == "paid"]
    made = simulator.create_transfers(
        [
            {
                "destination": each.account,
                "amount": each.amount,
                "currency": each.currency,
                "metadata": {"transfer_key": each.key},
            }
            for each in paid
        ]
    )
    ids = {payout.key: stripe_id for payout, stripe_id in zip(paid, made, strict=True)}
    unknown = [payout for payout in plan.payouts if payout.kind == "unknown id"]
    return ids | {payout.key: f"tr_1nowhere{number}" for number, payout in enumerate(unknown)}


def _charge(simulator: SimulatorClient, plan: Plan) -> dict[str, str]:
    """Charge the buyers; gives the charges by the keys of the payouts that name them, and by their orders."""
    charges = {
        bill.order: simulator.create_charge(bill.amount, bill.currency, transfer_group=bill.group)
        for bill in plan.bills
    }
    for payout in plan.payouts:
        if payout.charge is not None and payout.order in charges:
            charges[payout.key] = charges[payout.order]
        elif payout.charge is not None:
            group = f"basket {payout.order}" if payout.charge == "with group" else None
            # Not so little that Stripe would refuse a second transfer for it.
            charges[payout.key] = simulator.create_charge(3 * payout.amount, payout.currency, transfer_group=group)
    return charges


def _finish(db: Database, driver: Driver) -> float:
    """Wait until all is done, beginning with what the webhook missed. Gives how long it took."""
    if driver.inbox is None:
        return driver.watch(lambda: _is_done(db), driver.plan.times.patience)
    seconds = 0.0
    for _ in range(_ROUNDS):
        moved = len(driver.simulator.ledger())
        driver.inbox.catch_up()
        seconds += driver.watch(lambda: _is_done(db), driver.plan.times.patience)
        if len(driver.simulator.ledger()) == moved:
            break
    return seconds


def _missed(db: Database, simulator: SimulatorClient) -> list[str]:
    """The events that Stripe has and the inbox has not, of those that are acted on."""
    types = {each["type"] for each in rows(db, "select t.type from marketplace.acted_event_types() as t (type)")}
    stored = {each["event_id"] for each in rows(db, "select event_id from marketplace.stripe_events")}
    missed: list[str] = []
    after: dict[str, object] = {}
    while True:
        page = simulator.stripe("GET", "/v1/events", {"limit": 100, **after}).json()
        missed += [
            f"{each['id']} {each['type']}"
            for each in page["data"]
            if each["type"] in types and each["id"] not in stored
        ]
        if not page["has_more"]:
            return missed
        after = {"starting_after": page["data"][-1]["id"]}


def _is_done(db: Database) -> bool:
    return bool(
        value(
            db,
            """
            select count(*) = 0 as done from marketplace.seller_transfers
            where status in ('reversal_pending', 'pending', 'failed') and parked_reason is null
            """,
        )
    )


def _totals(db: Database) -> str:
    counts = Counter[str]()
    failed = Counter[str]()
    parked = Counter[str]()
    for each in rows(db, "select * from marketplace.seller_transfers"):
        counts["rows"] += 1
        counts["given back"] += each["compensates"] is not None
        if each["status"] == "reversed":
            counts["reversed" if each["stripe_reversal_id"] else "elsewhere"] += 1
        elif each["status"] == "permanently_failed":
            failed[each["failure_code"]] += 1
        elif each["parked_reason"]:
            parked[each["parked_reason"].partition(":")[0]] += 1
        else:
            counts[each["status"]] += 1
    calls = Counter(
        _attempt(each["kind"], each["action"])
        for each in rows(db, "select kind, action from marketplace.transfer_attempts")
    )
    shown = [f"{counts[name]} {name}" for name in ("rows", "completed", "reversed", "elsewhere", "given back")]
    shown += [f"{counts[name]} {name}" for name in ("reversal_pending", "pending", "failed") if counts[name]]
    shown += [f"failed {_listed(failed)}", f"parked {_listed(parked)}"]
    return ", ".join([*shown, *(f"{calls[name]} {name}" for name in ("sends", "reversals", "look-ups", "lost leases"))])


def _attempt(kind: str, action: str) -> str:
    if kind == "call":
        return "look-ups" if action.startswith("look_up") else "sends" if action == "send" else "reversals"
    return "lost leases" if kind == "lost_lease" else kind


def _listed(counter: Counter[str]) -> str:
    return " ".join(f"{name} {count}" for name, count in sorted(counter.items())) or "none"


def _notes(db: Database) -> list[str]:
    """What is no failure, but a person should see: rows that wait for one."""
    parked = rows(db, "select id, parked_reason from marketplace.seller_transfers where parked_reason is not null")
    notes = [f"row {each['id']} is parked: {each['parked_reason']}" for each in parked]
    paused = rows(db, "select pause_reason from marketplace.stripe_control where paused_at is not null")
    return notes + [f"calls are paused: {each['pause_reason']}" for each in paused]


def _explain(db: Database, simulator: SimulatorClient, driver: Driver, report: Report) -> str:
    lines = [report.line, "", *map(str, report.findings), "", *report.plan.lines(), ""]
    concerned = [origin_of(db, each.transfer_id) for each in report.findings if each.transfer_id is not None]
    origins = list(dict.fromkeys(concerned))
    for origin in origins[:_EXPLAINED]:
        lines += all_about(db, simulator, driver.actions, origin)
    if len(origins) > _EXPLAINED:
        lines.append(f"and {len(origins) - _EXPLAINED} other transfers")
    return "\n".join(lines) + "\n"
