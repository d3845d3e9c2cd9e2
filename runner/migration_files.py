"""What the files of db/migrations tell: whether they are those released, which index each builds, whom it stops.

A released migration is never edited: databases exist that were made by it. Its SHA-256 is in released.sha256, and a
database keeps that of each file it was migrated by (db/migrations/post-apply.py notes them).
"""

import hashlib
import re
from pathlib import Path

from runner.schema import migration_ids

_BUILT = re.compile(r"create (?:unique )?index concurrently if not exists (\w+)")
# What stops others from writing, as PostgreSQL's manual has it ("Explicit Locking"), the strongest of a table first.
# Locks that stop neither readers nor writers, and those on tables that the same file makes, are left out.
READERS_TOO, WRITERS = "readers and writers", "writers"
_LOCKS = (
    (r"alter table(?: if exists)?(?: only)? marketplace\.(\w+)\s([^;]*)", READERS_TOO),
    (r"drop (?:table|view)(?: if exists)? marketplace\.(\w+)()", READERS_TOO),
    (r"drop trigger(?: if exists)? \w+ on marketplace\.(\w+)()", READERS_TOO),
    (r"create(?: or replace)?(?: constraint)? trigger \w+\s[^;]*?\son marketplace\.(\w+)()", WRITERS),
    (r"create (?:unique )?index(?! concurrently)[^;]*? on marketplace\.(\w+)()", WRITERS),
    (r"references marketplace\.(\w+)()", WRITERS),
)
# Of ALTER TABLE the forms that stop writers only, or nobody.
_ONLY_WRITERS = re.compile(
    r"(?:(?:enable|disable)(?: always| replica)? trigger \w+[,\s]*)+"
    r"|add constraint \w+\s+foreign key\s*\([^)]*\)\s*references marketplace\.\w+\s*\([^)]*\)\s*(?:not valid\s*)?"
)
_NOBODY = re.compile(r"(?:validate constraint (?:\w+|%I'.*)[,\s]*)+")


def forward_file(folder: Path, migration_id: str) -> Path:
    """The file of a migration in `folder`, a db/."""
    return folder / "migrations" / f"{migration_id}.sql"


def file_sha256(folder: Path, migration_id: str) -> str:
    """Of the file of a migration."""
    return hashlib.sha256(forward_file(folder, migration_id).read_bytes()).hexdigest()


def released_file(folder: Path) -> Path:
    """The list of what was released, as sha256sum writes and checks it."""
    return folder / "migrations" / "released.sha256"


def released_sha256(folder: Path) -> dict[str, str]:
    """The SHA-256 of every migration that was released, by its id."""
    lines = (line.split() for line in released_file(folder).read_text(encoding="utf-8").splitlines())
    return {name.removesuffix(".sql"): sha256 for sha256, name in lines}


def changed_since_release(folder: Path) -> list[str]:
    """Released migrations whose file is another one now, or gone."""
    there = set(migration_ids(folder))
    released = released_sha256(folder)
    return [each for each in released if each not in there or file_sha256(folder, each) != released[each]]


def index_builders(folder: Path) -> dict[str, str]:
    """For each index that is built concurrently the id of the migration that does it, the last one if there are two."""
    found = {}
    for migration_id in migration_ids(folder):
        for name in _BUILT.findall(_statements(forward_file(folder, migration_id))):
            found[name] = migration_id
    return found


def stops(path: Path) -> dict[str, str]:
    """Who has to wait while it is applied: `readers and writers` or `writers` of each table that was there before."""
    text = _statements(path)
    found: dict[str, str] = {}
    for pattern, who in _LOCKS:
        for match in re.finditer(pattern, text):
            table, form = match[1], match[2]
            if not _NOBODY.fullmatch(form):
                stopped = WRITERS if _ONLY_WRITERS.fullmatch(form) else who
                found[table] = found[table] if found.get(table) == READERS_TOO else stopped
    made = re.findall(r"create table(?: if not exists)? marketplace\.(\w+)", text)
    return {table: found[table] for table in sorted(found) if table not in made}


def _statements(path: Path) -> str:
    """Without comments."""
    return re.sub(r"--[^\n]*", "", path.read_text(encoding="utf-8"))
