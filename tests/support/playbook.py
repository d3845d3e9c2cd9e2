"""docs/triage.md, read: its sections, what is typed in each, and what that prints."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from runner.sandbox.postgres_binaries import find_binaries

PLAYBOOK = Path(__file__).resolve().parents[2] / "docs" / "triage.md"

_PARTS = re.compile(r"```sql\n(?P<sql>.*?)```\n(?:```text\n(?P<text>.*?)```\n)?|<!-- (?P<event>.*?) -->", re.DOTALL)
_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?\+\d\d")
_INTERVAL = re.compile(r"-?\d\d:\d\d:\d\d")


@dataclass(frozen=True, slots=True)
class Step:
    """A block of SQL and what is shown below it; or, of neither, what happens meanwhile."""

    sql: str | None
    shown: str | None
    event: str | None


def sections() -> dict[str, list[Step]]:
    """What is done in each section, by its title."""
    found = {}
    for section in re.split(r"^#+ ", PLAYBOOK.read_text("utf-8"), flags=re.MULTILINE)[1:]:
        title = section.split("\n", 1)[0]
        found[title] = [Step(part["sql"], part["text"], part["event"]) for part in _PARTS.finditer(section)]
    return found


def psql(dsn: str, sql: str, *options: str) -> str:
    """What psql prints, errors and their HINTs among it as in a terminal."""
    command = [str(find_binaries(16) / "psql"), "-X", "-q", "-P", "pager=off", "-f", "-", *options, dsn]
    done = subprocess.run(
        command, input=sql, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30, check=True
    )
    # Where in a script, and in which function, it was refused is said to nobody who types it.
    lines = [re.sub(r"^psql:<stdin>:\d+: ", "", line) for line in done.stdout.splitlines()]
    return "\n".join(line for line in lines if not line.startswith(("CONTEXT: ", "SQL statement", "PL/pgSQL function")))


def timeless(shown: str) -> str:
    """Without what depends on when it was printed, and without the room that left for it."""
    for pattern, instead in ((_TIME, "2026-03-01 03:14:15+00"), (_INTERVAL, "00:00:00"), (re.compile("--+"), "--")):
        shown = pattern.sub(instead, shown)
    return "\n".join(re.sub(" +", " ", line).rstrip(" +") for line in shown.strip().splitlines())
