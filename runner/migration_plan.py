"""What a migration would do to a database, read without changing anything in it."""

from dataclasses import dataclass

import psycopg

from runner.installed import applied_ids, loaded_functions, refuse_what_cannot_work
from runner.invalid_indexes import invalid_indexes, missing_indexes
from runner.migration_files import forward_file, index_builders, stops
from runner.schema import db_folder, migration_ids, own_release


@dataclass(frozen=True, slots=True)
class MigrationPlan:
    """Ids of what would be applied, in order; indexes that would be built anew; whether the functions are others."""

    pending: list[str]
    invalid: list[str]
    functions_differ: bool

    @property
    def is_something(self) -> bool:
        """Whether there is anything to do. Functions are loaded at every migrate, also if they are the same."""
        return bool(self.pending or self.invalid or self.functions_differ)

    def in_words(self) -> list[str]:
        """A line for each thing that would be done, and for what waits meanwhile."""
        lines = [f"would drop {name}, which is not valid, and build it anew" for name in self.invalid]
        lines += [f"would apply {migration_id}{_stopped(migration_id)}" for migration_id in self.pending]
        lines.append(f"would load functions: {'other ones than' if self.functions_differ else 'the same as'} the last")
        return [*lines, f"would leave the database at {own_release().migration_head}; nothing was changed"]


def plan_migration(conninfo: str) -> MigrationPlan:
    """What `migrate` would do now. Raises what that would raise before it begins."""
    with psycopg.connect(
        conninfo, autocommit=True, application_name="seller-transfers migrate --dry-run"
    ) as connection:
        connection.execute("SET default_transaction_read_only = on")
        refuse_what_cannot_work(connection)
        builders = index_builders(db_folder())
        invalid = [each.name for each in invalid_indexes(connection) if each.name in builders]
        missing = missing_indexes(connection, builders)
        applied = applied_ids(connection) - {builders[name] for name in [*invalid, *missing]}
        return MigrationPlan(
            pending=[each for each in migration_ids(db_folder()) if each not in applied],
            invalid=invalid,
            functions_differ=loaded_functions(connection) != own_release().functions_sha256,
        )


def _stopped(migration_id: str) -> str:
    who = stops(forward_file(db_folder(), migration_id))
    said = [f"{stopped} of {', '.join(t for t in who if who[t] == stopped)}" for stopped in sorted(set(who.values()))]
    return f": stops {' and '.join(said)}" if said else ": stops nobody"
