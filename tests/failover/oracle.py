"""What must be true in the end: each seller has what is his, nothing moved twice, and the rows say what Stripe has."""

from collections import Counter

from runner.sandbox.simulator import LedgerEntry, SimulatorClient
from tests.failover.plan import Plan
from tests.support.databases import Database, rows

_IDENTITY = "seller_transfers_identity"


def judge(db: Database, ledger: list[LedgerEntry], plan: Plan) -> list[str]:
    """Everything that is wrong, a line each. What waits for a person, and says why, is not judged."""
    waiting = parked(db)
    moved = [entry for entry in ledger if entry.kind in ("transfer", "reversal") and _seller(entry) not in waiting]
    held: Counter[str] = Counter(dict.fromkeys(plan.wanted, 0))
    for entry in moved:
        held[_seller(entry)] += entry.amount if entry.kind == "transfer" else -entry.amount
    found = [
        f"the seller of {name} has {held[name]}, not {wanted}"
        for name, wanted in plan.wanted.items()
        if held[name] != wanted and name not in waiting
    ]
    identities = Counter(entry.metadata[_IDENTITY] for entry in moved if _IDENTITY in entry.metadata)
    found += [f"{identity} was done {times} times" for identity, times in identities.items() if times > 1]
    kept = rows(db, "select stripe_transfer_id, stripe_reversal_id from marketplace.seller_transfers")
    evidence = {row["stripe_reversal_id"] for row in kept} - {None}
    taken = {entry.reversal for entry in ledger if entry.kind == "reversal"}
    found += [f"reversal {entry.reversal} is in no row" for entry in moved if entry.reversal not in {None, *evidence}]
    found += [f"reversal {each} is not Stripe's" for each in evidence - taken]
    known = {row["stripe_transfer_id"] for row in kept}
    found += [f"transfer {entry.transfer} is in no row" for entry in moved if entry.transfer not in known]
    return found


def parked(db: Database) -> dict[str, str]:
    """Why, by order, somebody has to look."""
    query = "select order_id, parked_reason from marketplace.seller_transfers where parked_reason is not null"
    return {row["order_id"].removeprefix("order-"): row["parked_reason"] for row in rows(db, query)}


def _seller(entry: LedgerEntry) -> str:
    return (entry.credit if entry.kind == "transfer" else entry.debit).removeprefix("acct_")


def explain(db: Database, stripe: SimulatorClient, plan: Plan) -> list[str]:
    """All there is to know about the orders whose seller has not what is his."""
    ledger = stripe.ledger()
    wrong = [name for name in plan.wanted if any(f" {name} " in line for line in judge(db, ledger, plan))]
    lines = []
    for name in wrong:
        order = f"order-{name}"
        for when, calls in (("heard", plan.heard), ("lost", plan.lost), ("after", plan.after)):
            lines += [f"{when}: {each.function} {each.arguments}" for each in calls if each.order == name]
        lines += [f"ledger: {entry}" for entry in ledger if f"acct_{name}" in (entry.debit, entry.credit)]
        for query in (_ROWS, _REQUESTS, _ATTEMPTS):
            lines += [str(found) for found in rows(db, query, order=order)]
    return lines


_ROWS = """
    select id, root_id, split_from, successor_of, compensates, status, amount, reversal_request_id, call_part,
      call_generation, failure_code, failure_message, parked_reason, stripe_transfer_id, stripe_reversal_id
    from marketplace.seller_transfers where order_id = %(order)s order by id
"""
_REQUESTS = """
    select r.reversal_request_id, r.requested_at, r.withdrawn_at, r.is_whole, r.is_evidence, l.asked, l.met, l.unmet
    from marketplace.reversal_requests as r
    left join marketplace.reversal_request_lines as l on l.reversal_request_id = r.reversal_request_id
    where r.order_id = %(order)s order by r.requested_at
"""
_ATTEMPTS = """
    select a.id, a.transfer_id, a.kind, a.action, a.started_at, a.verdict, a.disposition, a.http_status,
      a.error_message, a.stripe_object_id, a.found_count
    from marketplace.transfer_attempts as a
    inner join marketplace.seller_transfers as t on t.id = a.transfer_id
    where t.order_id = %(order)s order by a.id
"""
