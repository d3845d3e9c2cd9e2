"""`python -m runner.sandbox.simulator`: the simulator as a process of its own."""

import asyncio
import ctypes
import json
import os
import signal
import sys
from pathlib import Path

import click
from pydantic import ValidationError

from .app import Server, serving
from .faults import Fault, read_rules

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def _die_with_parent() -> None:
    """Have the kernel kill us when whoever started us is gone (Linux; elsewhere nothing)."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # it went just before we asked
        sys.exit(1)


def _read_script(path: Path) -> list[Fault]:
    try:
        raw = json.loads(path.read_text("utf-8"))
        return read_rules(raw)
    except (ValueError, ValidationError) as error:
        raise click.BadParameter(f"{path}: {error}", param_hint="--faults") from None


async def _serve(port: int, port_file: Path | None, rules: list[Fault]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serving(Server(rules), port) as base_url:
        if port_file is not None:
            _write_whole(port_file, base_url.rpartition(":")[2] + "\n")
        click.echo(f"listening on {base_url}")
        await stop.wait()


def _write_whole(path: Path, text: str) -> None:
    """Write a file that nobody ever sees half-written."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    unfinished.write_text(text, "utf-8")
    unfinished.replace(path)


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1; 0 takes a free one.")
@click.option("--port-file", type=click.Path(path_type=Path), help="Write the port there once it listens.")
@click.option(
    "--faults",
    "script",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A JSON file: the list of rules to begin with.",
)
def main(port: int, port_file: Path | None, script: Path | None) -> None:
    """Serve a stateful stand-in for Stripe on 127.0.0.1 until SIGTERM, or until the parent process ends."""
    _die_with_parent()
    rules = _read_script(script) if script is not None else []
    asyncio.run(_serve(port, port_file, rules))


if __name__ == "__main__":
    main()
