"""What `seller-transfers reconcile` says when all is over: it reads Stripe's lists, and the oracle the ledger.

Both look at the same books by other ways, so neither may find what the other does not.
"""

from click.testing import CliRunner

from runner.cli import main
from runner.sandbox.simulator import TEST_KEY, SimulatorClient
from tests.chaos.oracle import Finding
from tests.chaos.plan import Plan
from tests.support.databases import Database, rows


def compare(dsn: str, db: Database, simulator: SimulatorClient, plan: Plan) -> list[Finding]:
    """The differences that nobody planned; a row whose id at Stripe was made up is not there."""
    environment = {
        "DATABASE_URL": dsn,
        "STRIPE_API_KEY": TEST_KEY,
        "SELLER_TRANSFERS_STRIPE_API_BASE": simulator.base_url,
    }
    done = CliRunner().invoke(main, ["reconcile"], env=environment)
    made_up = {payout.key for payout in plan.payouts if payout.kind == "unknown id"}
    found = rows(
        db,
        "select d.*, t.transfer_key from marketplace.reconcile_differences() as d"
        " left join marketplace.seller_transfers as t on t.id = d.transfer_id",
    )
    findings = [
        Finding(f"a difference: {each['kind']}", each["transfer_id"], f"{each['stripe_transfer_id']} {each['why']}")
        for each in found
        if (each["kind"], each["transfer_key"] in made_up) != ("not at Stripe", True)
    ]
    if done.exit_code not in (0, 1) or "ended early" in done.output:
        findings.append(Finding("reconcile", None, done.output[-500:]))
    return findings
