"""Waiting for processes that are not our children."""

import os
import select


def process_ended(pid: int, *, within_seconds: float = 15.0) -> bool:
    """Wait until that process has ended; False if it still runs after `within_seconds`."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        readable, _, _ = select.select([descriptor], [], [], within_seconds)
        return bool(readable)
    finally:
        os.close(descriptor)
