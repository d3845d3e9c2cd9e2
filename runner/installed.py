"""What there is in a database before it is migrated, and whether this program may go on from there."""

from typing import Any

import psycopg

from runner.migration_files import changed_since_release, file_sha256
from runner.schema import db_folder, migration_ids, own_version, version_number

_OLDEST_SERVER = 140000
_OWNER = "marketplace_owner"
_ROLES = (_OWNER, "marketplace_app", "marketplace_runner", "marketplace_triage", "marketplace_readonly")

# Whose they may be: of who migrates, a superuser, the database's owner, a member of marketplace_owner. Asked before the
# search_path is safe: every operator fits exactly.
_FOREIGN_TABLES = """
SELECT c.relname::text, o.rolname::text
FROM pg_catalog.pg_class AS c
INNER JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
INNER JOIN pg_catalog.pg_roles AS o ON o.oid = c.relowner
INNER JOIN pg_catalog.pg_database AS d ON d.datname = pg_catalog.current_database()
INNER JOIN pg_catalog.pg_roles AS me ON me.rolname = current_user
LEFT JOIN pg_catalog.pg_roles AS g ON g.rolname = 'marketplace_owner'::name
WHERE n.nspname = pg_catalog.current_schema()
  AND c.relname IN ('_yoyo_migration'::name, '_yoyo_log'::name, '_yoyo_version'::name, 'yoyo_lock'::name)
  AND NOT (o.rolsuper OR o.oid = me.oid OR o.oid = d.datdba
    OR NOT me.rolsuper AND pg_catalog.pg_has_role(o.oid, 'USAGE')
    OR coalesce(pg_catalog.pg_has_role(o.oid, g.oid, 'MEMBER'), false))
ORDER BY c.oid
"""


class MigrationRefused(Exception):
    """The database cannot be brought to this release; the message is for a person."""


def refuse_what_cannot_work(connection: psycopg.Connection[Any]) -> None:
    """Say now what yoyo would say in riddles, half-way, or not at all."""
    if connection.info.server_version < _OLDEST_SERVER:
        raise MigrationRefused("the server is older than PostgreSQL 14")
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise MigrationRefused(
            f"the database's encoding is {encoding} and must be UTF8:"
            " create database … encoding 'UTF8' template template0"
        )
    may = connection.execute(
        "SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'),"
        " pg_catalog.has_schema_privilege('public', 'CREATE')"
    ).fetchone()
    if may != (True, True):
        raise MigrationRefused(
            f"role {connection.info.user} may not create in the database and in its schema public; migrate as its owner"
        )
    _refuse_foreign_tables(connection)
    _refuse_without_roles(connection)
    try:
        _refuse_newer(connection)
        _refuse_edited_files(connection)
    except psycopg.errors.InsufficientPrivilege as error:
        raise MigrationRefused(f"reading the installed release failed: {str(error).splitlines()[0]}") from error


def applied_ids(connection: psycopg.Connection[Any]) -> set[str]:
    """Ids of the migrations that yoyo has marked; none where yoyo never was."""
    if not _is_there(connection, "_yoyo_migration"):
        return set()
    return {migration_id for (migration_id,) in connection.execute("SELECT migration_id FROM _yoyo_migration")}


def loaded_functions(connection: psycopg.Connection[Any]) -> str | None:
    """The SHA-256 of the functions that were loaded last."""
    if not _is_there(connection, "marketplace.schema_release"):
        return None
    row = connection.execute("SELECT functions_sha256 FROM marketplace.schema_release").fetchone()
    return None if row is None else row[0]


def _refuse_without_roles(connection: psycopg.Connection[Any]) -> None:
    """Before the first migration, and not at the one that makes the roles."""
    asked = connection.execute(
        "SELECT name FROM unnest(%s::text[]) AS name WHERE to_regrole(name) IS NULL"
        " AND NOT EXISTS (SELECT FROM pg_roles WHERE rolname = current_user AND (rolsuper OR rolcreaterole))",
        (list(_ROLES),),
    )
    me = connection.info.user
    if missing := [name for (name,) in asked]:
        raise MigrationRefused(
            f"role {me} may not create roles, and there is no {', '.join(missing)}; as an administrator:"
            f' alter role "{me}" createrole'
        )
    is_left_out = connection.execute(
        "SELECT NOT pg_has_role(n.nspowner, 'usage') FROM pg_namespace AS n"
        " WHERE n.nspname = 'marketplace' AND n.nspowner = to_regrole(%s)",
        (_OWNER,),
    ).fetchone()
    if is_left_out == (True,):
        raise MigrationRefused(f'role {me} is not a member of {_OWNER}; as an administrator: grant {_OWNER} to "{me}"')


def _refuse_foreign_tables(connection: psycopg.Connection[Any]) -> None:
    """What stands where yoyo has its tables may bring triggers along: they would run with our rights."""
    for name, owner in connection.execute(_FOREIGN_TABLES).fetchall():
        raise MigrationRefused(
            f"table {name}, where yoyo notes what is applied, belongs to {owner}, who may not migrate: drop it, or"
            " alter table … owner to whoever migrates"
        )


def _refuse_newer(connection: psycopg.Connection[Any]) -> None:
    """An older program must not load its functions over newer ones."""
    if not _is_there(connection, "marketplace.schema_release"):
        return
    head = connection.execute("SELECT migration_head FROM marketplace.schema_release").fetchone()
    if head is not None and head[0] > migration_ids(db_folder())[-1]:
        raise MigrationRefused(
            f"the database is at {head[0]}, newer than this program; install that release to migrate"
        )
    known = connection.execute("SELECT pg_catalog.to_regprocedure('marketplace._release()') IS NOT NULL").fetchone()
    if known != (True,):
        return
    loaded = connection.execute("SELECT marketplace._release()").fetchone()
    if loaded is not None and version_number(loaded[0]) > version_number(own_version()):
        raise MigrationRefused(
            f"the functions in the database are of release {loaded[0]}, newer than this program ({own_version()});"
            " install that release to migrate"
        )


def _refuse_edited_files(connection: psycopg.Connection[Any]) -> None:
    """A released migration is what it was; what a database was made by is what it will be read as."""
    folder = db_folder()
    if changed := changed_since_release(folder):
        raise MigrationRefused(f"{changed[0]}.sql is not the file that was released: install this program anew")
    if not _is_there(connection, "marketplace.migration_files"):
        return
    ours = {migration_id: file_sha256(folder, migration_id) for migration_id in migration_ids(folder)}
    for migration_id, sha256 in connection.execute(
        "SELECT f.migration_id, f.sha256 FROM marketplace.migration_files AS f"
        " INNER JOIN _yoyo_migration AS m"
        " ON m.migration_id::text = f.migration_id AND m.applied_at_utc AT TIME ZONE 'UTC' = f.applied_at ORDER BY 1"
    ):
        if ours.get(migration_id, sha256) != sha256:
            raise MigrationRefused(
                f"{migration_id} was applied from another file (SHA-256 {sha256[:12]}…) than this program's"
                f" ({ours[migration_id][:12]}…): compare the two. If the database is as this program's file makes it,"
                f" delete the row of {migration_id} from marketplace.migration_files and migrate again"
            )


def _is_there(connection: psycopg.Connection[Any], table: str) -> bool:
    return connection.execute("SELECT pg_catalog.to_regclass(%s) IS NOT NULL", (table,)).fetchone() == (True,)
