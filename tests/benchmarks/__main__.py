"""Runs every benchmark: `python -m tests.benchmarks`."""

from tests.benchmarks import bench_budget, bench_claim, bench_drain, bench_record, bench_wake_up, bench_webhook
from tests.benchmarks.setting import run_benchmarks

if __name__ == "__main__":
    run_benchmarks(
        bench_wake_up.measure,
        bench_drain.measure,
        bench_record.measure,
        bench_claim.measure,
        bench_budget.measure,
        bench_webhook.measure,
    )
