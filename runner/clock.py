"""The clock that leases are counted on."""

import time

# Linux has a clock that runs on while the machine sleeps; elsewhere the monotonic clock comes nearest.
_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boottime_seconds() -> float:
    """Seconds since boot, suspended time included: a lease runs out while its holder is asleep."""
    return time.clock_gettime(_BOOT_CLOCK)
