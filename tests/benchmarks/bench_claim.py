"""What a claim costs in a table with years of history in it."""

import statistics
from dataclasses import dataclass

from runner.sandbox.embedded_postgres import EmbeddedPostgres
from tests.benchmarks.setting import fresh_database, run_benchmarks, say
from tests.support.databases import Database, value
from tests.support.transfers import refunded_transfers, register

TERMINAL = 1_000_000
NOT_YET_DUE = 500_000
DUE = 100
REPEATS = 7

_BALLAST = """
insert into marketplace.seller_transfers (
  transfer_key, order_id, seller_id, destination_account, original_amount, amount, currency, status, completed_at,
  stripe_transfer_id, stripe_reversal_id, reversal_request_id, next_retry_at,
  call_part, call_generation, call_minted_at)
select
  %(status)s || n, 'old-' || n, 'seller-' || n %% 1000, 'acct_' || n %% 1000, 1000, 1000, 'usd', %(status)s, now(),
  'tr_' || left(%(status)s, 8) || n, case %(status)s when 'reversed' then 'trr_old' || n end, 're_old' || n,
  case %(status)s when 'reversal_pending' then now() + interval '1 day' + n * interval '1 s' end, 1, 1, now()
from generate_series(1, %(rows)s) as n
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one claim, by EXPLAIN (ANALYZE, BUFFERS): milliseconds and 8 kB pages looked at."""

    milliseconds: float
    buffers: float


def measure(server: EmbeddedPostgres) -> None:
    """Claim: 100 due rows, alone and beside a million terminal and 500,000 not yet due ones."""
    with fresh_database(server, "claim") as (_, db):
        empty_alone = _cost(db, rows_expected=0)
        refunded_transfers(db, DUE)
        alone = _cost(db, rows_expected=DUE)
    with fresh_database(server, "claim") as (_, db):
        _load_ballast(db)
        empty_beside = _cost(db, rows_expected=0)
        refunded_transfers(db, DUE)
        beside = _cost(db, rows_expected=DUE)
    _compare(f"claim of {DUE}", alone, beside)
    _compare("empty claim", empty_alone, empty_beside)


def _compare(what: str, alone: Cost, beside: Cost) -> None:
    say(f"{what}, alone", alone.milliseconds, "ms", f"{alone.buffers:.0f} buffers")
    ratio = beside.milliseconds / alone.milliseconds
    say(f"{what}, beside all that", beside.milliseconds, "ms", f"{beside.buffers:.0f} buffers; {ratio:.1f} times")


def _cost(db: Database, rows_expected: int) -> Cost:
    """The medians of several claims, each undone."""
    register(db, "bench")
    db.execute("vacuum analyze marketplace.seller_transfers")
    costs = [_cost_once(db, rows_expected) for _ in range(REPEATS)]
    return Cost(
        statistics.median(cost.milliseconds for cost in costs), statistics.median(cost.buffers for cost in costs)
    )


def _cost_once(db: Database, rows_expected: int) -> Cost:
    with db.transaction(force_rollback=True):
        (explained,) = value(
            db,
            "explain (analyze, buffers, format json)"
            f" select * from marketplace.claim_due_reversals('bench', {max(rows_expected, DUE)})",
        )
    plan = explained["Plan"]
    assert plan["Actual Rows"] == rows_expected
    return Cost(explained["Execution Time"], plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def _load_ballast(db: Database) -> None:
    """Write the rows that no claim wants, past the guards: they would take minutes."""
    db.execute("alter table marketplace.seller_transfers disable trigger all")
    for status, count in (("reversed", TERMINAL), ("reversal_pending", NOT_YET_DUE)):
        db.execute(_BALLAST.encode(), {"status": status, "rows": count})
    db.execute("alter table marketplace.seller_transfers enable trigger all")


if __name__ == "__main__":
    run_benchmarks(measure)
