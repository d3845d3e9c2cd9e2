"""runner/clock.py: the clock that leases are counted on."""

import time

import pytest

from runner.clock import boottime_seconds


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="only Linux has it")
def test_a_lease_runs_out_while_the_machine_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    # An hour asleep: every other clock of the machine has stood still.
    monkeypatch.setattr(time, "clock_gettime", lambda clock: 3700.0 if clock == time.CLOCK_BOOTTIME else 100.0)

    assert boottime_seconds() == 3700.0
