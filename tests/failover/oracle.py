"""What must be true in the end: each seller has what is his, nothing moved twice, and the rows say what Stripe has."""

from collections import Counter

from runner.sandbox.simulator import LedgerEntry
from tests.failover.plan import Plan
from tests.support.databases import Database, rows

_IDENTITY = "seller_transfers_identity"


def judge(db: Database, ledger: list[LedgerEntry], plan: Plan) -> list[str]:
    """Everything that is wrong, a line each."""
    moved = [entry for entry in ledger if entry.kind in ("transfer", "reversal")]
    held: Counter[str] = Counter(dict.fromkeys(plan.wanted, 0))
    for entry in moved:
        if entry.kind == "transfer":
            held[entry.credit.removeprefix("acct_")] += entry.amount
        else:
            held[entry.debit.removeprefix("acct_")] -= entry.amount
    found = [
        f"the seller of {name} has {held[name]}, not {wanted}"
        for name, wanted in plan.wanted.items()
        if held[name] != wanted
    ]
    identities = Counter(entry.metadata[_IDENTITY] for entry in moved if _IDENTITY in entry.metadata)
    found += [f"{identity} was done {times} times" for identity, times in identities.items() if times > 1]
    kept = rows(
        db, "select stripe_transfer_id, stripe_reversal_id, status, parked_reason from marketplace.seller_transfers"
    )
    found += [f"parked: {row['parked_reason']}" for row in kept if row["parked_reason"]]
    evidence = {row["stripe_reversal_id"] for row in kept} - {None}
    taken = {entry.reversal for entry in moved if entry.kind == "reversal"}
    found += [f"reversal {each} is in no row" for each in taken - evidence]
    found += [f"reversal {each} is not Stripe's" for each in evidence - taken]
    known = {row["stripe_transfer_id"] for row in kept} - {None}
    sent = {entry.transfer for entry in moved if entry.kind == "transfer"}
    found += [f"transfer {each} is in no row" for each in sent - known]
    return found
