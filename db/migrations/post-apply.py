"""Loads db/functions, whole and in one transaction.

yoyo runs this after it applied a migration; `seller-transfers migrate` runs it every time, so that a release which
changes only a function is installed like any other. It stands alone: `yoyo apply` needs nothing but yoyo and psycopg.
"""

import hashlib
import re
from pathlib import Path
from typing import Any

from yoyo import step

MIGRATIONS = Path(__file__).resolve().parent
FUNCTIONS = MIGRATIONS.parent / "functions"


def load_functions(connection: Any) -> None:
    """Run every file of db/functions, then note what was loaded, and from which files the database was migrated.

    Two passes: the first defines everything without looking into bodies, so that files may refer to each other in any
    order; the second has PostgreSQL check each body against what is now there. yoyo has opened the transaction.
    """
    files = sorted(FUNCTIONS.glob("*.sql"))
    if not files:
        raise RuntimeError(f"no SQL files in {FUNCTIONS}")
    head = max(p.name for p in MIGRATIONS.glob("[0-9]*.sql") if not p.name.endswith(".rollback.sql"))
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in files)).hexdigest()
    with connection.cursor() as cursor:
        # What is in schema public must not get between a superuser and what he means.
        cursor.execute("set local search_path = pg_catalog, pg_temp")
        for check_bodies in ("off", "on"):
            cursor.execute(f"set local check_function_bodies = {check_bodies}")
            for path in files:
                cursor.execute(path.read_text(encoding="utf-8"))
        texts = [path.read_text(encoding="utf-8") for path in files]
        _drop_old_helpers(cursor, texts)
        cursor.execute(
            "insert into marketplace.schema_release (migration_head, functions_sha256) values (%s, %s) "
            "on conflict on constraint pk_schema_release do update set migration_head = excluded.migration_head, "
            "functions_sha256 = excluded.functions_sha256, loaded_at = clock_timestamp(), loaded_by = session_user",
            (head.removesuffix(".sql"), digest),
        )
        note_functions(cursor, texts)
        # yoyo made its tables where the path begins. Nothing is compared there: the operator might be anybody's.
        cursor.execute("set local search_path to default")
        cursor.execute("select migration_id, applied_at_utc from _yoyo_migration")
        marked = cursor.fetchall()
        cursor.execute("set local search_path = pg_catalog, pg_temp")
        note_migration_files(cursor, dict(marked))
        cursor.execute("set local search_path to default")


def _drop_old_helpers(cursor: Any, texts: list[str]) -> None:
    """Drop what an earlier release had for itself, under another name or with other arguments.

    What others may call is dropped by a migration, or stays.
    """
    defined = _defined(texts)
    cursor.execute(
        "select p.oid::regprocedure, p.proname, p.prosrc from pg_proc as p"
        " where p.pronamespace = 'marketplace'::regnamespace and p.proname like '\\_%'"
    )
    found = cursor.fetchall()
    named = set(re.findall(r"^create or replace function marketplace\.(\w+)", "".join(texts), re.MULTILINE))
    loaded = {name for _, name, body in found if (name, body) in defined}
    for helper, name, body in found:
        if name not in named or (name in loaded and (name, body) not in defined):
            cursor.execute(f"drop routine {helper}")


def _defined(texts: list[str]) -> set[tuple[str, str]]:
    """Each function that is made in these files: its name and its body."""
    return {
        (name, body)
        for text in texts
        for name, body in re.findall(
            r"^create or replace function marketplace\.(\w+)\(.*?\bas \$\$(.*?)\$\$;", text, re.MULTILINE | re.DOTALL
        )
    }


def note_functions(cursor: Any, texts: list[str]) -> None:
    """Note each function that came from these files as it is now; what else is in the schema came from elsewhere."""
    cursor.execute(
        "select oid, proname, prosrc from pg_catalog.pg_proc where pronamespace = 'marketplace'::regnamespace"
    )
    defined = _defined(texts)
    ours = [oid for oid, name, body in cursor.fetchall() if (name, body) in defined]
    cursor.execute("delete from marketplace.schema_functions")
    cursor.execute(
        "insert into marketplace.schema_functions (signature, sha256, callers) "
        "select o.oid::regprocedure::text, marketplace._function_sha256(o.oid), array("
        "  select r.rolname::text from pg_catalog.pg_proc as p cross join lateral aclexplode(p.proacl) as a"
        "  inner join pg_catalog.pg_roles as r on r.oid = a.grantee"
        "  where p.oid = o.oid and a.grantee <> p.proowner and r.rolname = any (marketplace._groups()) order by 1)"
        " from unnest(%s::oid[]) as o (oid)",
        (ours,),
    )


def note_migration_files(cursor: Any, marked: dict[str, Any]) -> None:
    """Note the SHA-256 of the file of every migration that yoyo has marked, at that time, since it was noted."""
    files = {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in MIGRATIONS.glob("[0-9]*.sql")}
    cursor.execute(
        "delete from marketplace.migration_files as f where f.migration_id <> all (%s::text[])", (list(marked),)
    )
    noted = [(each, files[each], at) for each, at in marked.items() if each in files]
    cursor.executemany(
        "insert into marketplace.migration_files as f (migration_id, sha256, applied_at) "
        "values (%s, %s, %s::timestamp at time zone 'UTC') "
        "on conflict on constraint pk_migration_files do update set sha256 = excluded.sha256, "
        "applied_at = excluded.applied_at, noted_at = clock_timestamp() "
        "where f.applied_at <> excluded.applied_at",
        noted,
    )


steps = [step(load_functions)]
