"""yoyo as a DBA uses it, and the schema it leaves behind, for tests of the migrations."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yoyo

from runner.sandbox.postgres_binaries import find_binaries
from runner.schema import db_folder


@dataclass(frozen=True, slots=True)
class Yoyo:
    """yoyo's view of one database and one folder of migrations, without anything of runner.migrate."""

    backend: Any
    migrations: Any

    def apply(self, *, functions: bool = True) -> None:
        """Apply what is pending; then load the functions, or leave the database half-installed."""
        self.backend.apply_migrations_only(self.backend.to_apply(self.migrations))
        if functions:
            self.load_functions()

    def load_functions(self) -> None:
        """Run post-apply.py."""
        self.backend.run_post_apply(self.migrations)

    def roll_back_all(self) -> None:
        """Roll everything back, newest first."""
        self.backend.rollback_migrations(self.backend.to_rollback(self.migrations))

    def roll_back(self, *numbers: str) -> None:
        """Roll back the migrations of these numbers, in this order."""
        for number in numbers:
            self.backend.rollback_one(self[number])

    def apply_again(self, migration: Any) -> None:
        """Apply a migration whose mark was lost, as when yoyo was killed before it wrote it."""
        self.backend.unmark_one(migration)
        self.backend.apply_one(migration)

    def applied(self) -> list[str]:
        """Numbers of the migrations that are marked as applied, oldest first."""
        return sorted(migration.id[:4] for migration in self.backend.to_rollback(self.migrations))

    def __getitem__(self, number: str) -> Any:
        (found,) = [migration for migration in self.migrations if migration.id.startswith(number)]
        return found


def yoyo_uri(dsn: str) -> str:
    """The connection URI as yoyo wants it."""
    return dsn.replace("postgresql://", "postgresql+psycopg://", 1)


@contextmanager
def open_yoyo(dsn: str, folder: Path | None = None) -> Iterator[Yoyo]:
    """yoyo on the database and the migrations of `folder`, a db/; this checkout's unless named. Guards may change."""
    uri = yoyo_uri(dsn)
    allowing = quote("-c marketplace.guards_may_change=on")
    with yoyo.get_backend(f"{uri}{'&' if '?' in uri else '?'}options={allowing}") as backend:
        yield Yoyo(backend, yoyo.read_migrations(str((folder or db_folder()) / "migrations")))


def copy_db_folder(target: Path) -> Path:
    """A copy of db/ that a test may spoil."""
    return Path(shutil.copytree(db_folder(), target / "db", ignore=shutil.ignore_patterns("__pycache__")))


def schema_of(dsn: str) -> list[str]:
    """All that was migrated but the rows, as pg_dump writes it: equal if and only if the schemas are."""
    return _dump(dsn, "--schema-only")


def schema_and_rows_of(dsn: str) -> list[str]:
    """All that was migrated."""
    return _dump(dsn)


def _dump(dsn: str, *options: str) -> list[str]:
    # The newest pg_dump: it reads servers older than itself too, not newer ones.
    command = [str(find_binaries(18) / "pg_dump"), "--exclude-schema=public", *options, dsn]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    # \restrict carries a word that pg_dump makes up anew each time.
    return [line for line in done.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]
