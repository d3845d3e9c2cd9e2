"""The schema explains itself: everything in it has a COMMENT, and a name that says what kind of thing it is."""

import re

import pytest

from tests.support.databases import Database, rows

pytest_plugins = ("tests.support.rolled_back",)

# What programs outside may call; everything else is a helper (leading underscore) or a trigger function (tg_).
PUBLIC_FUNCTIONS = {
    "add_note",
    "dismiss",
    "format_amount",
    "give_up",
    "mark_paid",
    "mark_reversed",
    "acted_event_types",
    "can_transition_transfer_status",
    "claim_due_reversals",
    "claim_due_transfers",
    "classify_stripe_outcome",
    "create_transfer",
    "forget_runners",
    "function_sources",
    "ingest_stripe_event",
    "finish_reconcile",
    "keep_listed_objects",
    "look_up_differences",
    "look_up_first",
    "next_due_in",
    "note_charge",
    "note_reinstated",
    "read_clock",
    "read_open_reversals",
    "read_open_transfers",
    "read_needs_attention",
    "retry_now",
    "pause_stripe_calls",
    "pay_for_read",
    "prunable_history",
    "prune_history",
    "read_kept_events",
    "read_queue_health",
    "read_rate_budget",
    "read_reconcile_run",
    "reconcile_differences",
    "read_runner_health",
    "read_transfer_totals",
    "record_completed_transfer",
    "record_reversal_outcomes",
    "record_transfer_outcomes",
    "register_runner",
    "reopen",
    "remove_error_rule",
    "request_reversal",
    "require_reconcile",
    "resume_after_reconcile",
    "resume_stripe_calls",
    "retry_events",
    "schema_state",
    "self_check",
    "server_check",
    "set_error_rule",
    "set_refunds_by",
    "set_retry_policy",
    "set_stripe_rate",
    "start_reconcile",
    "transfers_to_reread",
    "validate_constraints",
    "trust_database_identity",
    "verify_log",
    "withdraw_reversal_request",
}

# Each query gives name and comment of every thing of one kind in the schema.
THINGS = {
    "schema": """
        select nspname as name, obj_description(oid, 'pg_namespace') as comment
        from pg_namespace where nspname = 'marketplace'""",
    "table": """
        select relname as name, obj_description(oid, 'pg_class') as comment
        from pg_class where relnamespace = 'marketplace'::regnamespace and relkind in ('r', 'p')""",
    "view": """
        select relname as name, obj_description(oid, 'pg_class') as comment
        from pg_class where relnamespace = 'marketplace'::regnamespace and relkind in ('v', 'm')""",
    "column": """
        select format('%s.%s', c.relname, a.attname) as name, col_description(c.oid, a.attnum) as comment
        from pg_attribute as a inner join pg_class as c on c.oid = a.attrelid
        where c.relnamespace = 'marketplace'::regnamespace and c.relkind in ('r', 'p', 'v', 'm')
          and a.attnum > 0 and not a.attisdropped""",
    "function": """
        select p.oid::regprocedure::text as name, obj_description(p.oid, 'pg_proc') as comment
        from pg_proc as p where p.pronamespace = 'marketplace'::regnamespace""",
    "type": """
        select t.typname as name, obj_description(t.oid, 'pg_type') as comment
        from pg_type as t left join pg_class as c on c.oid = t.typrelid
        where t.typnamespace = 'marketplace'::regnamespace and t.typcategory <> 'A'
          and (t.typtype <> 'c' or c.relkind = 'c')""",
    "constraint": """
        select k.conname as name, obj_description(k.oid, 'pg_constraint') as comment
        from pg_constraint as k
        where k.connamespace = 'marketplace'::regnamespace and k.contype <> 'n' and k.conparentid = 0""",
    "trigger": """
        select format('%s on %s', g.tgname, c.relname) as name, obj_description(g.oid, 'pg_trigger') as comment
        from pg_trigger as g inner join pg_class as c on c.oid = g.tgrelid
        where c.relnamespace = 'marketplace'::regnamespace and not g.tgisinternal""",
    "index": """
        select c.relname as name, obj_description(c.oid, 'pg_class') as comment
        from pg_class as c
        where c.relnamespace = 'marketplace'::regnamespace and c.relkind in ('i', 'I')
          and not exists (select from pg_constraint as k where k.conindid = c.oid)""",
}


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    return rolled_back_db


def names(db: Database, kind: str) -> list[str]:
    return [thing["name"] for thing in rows(db, THINGS[kind])]


def test_everything_in_the_schema_has_a_comment(db: Database) -> None:
    found = {kind: rows(db, query) for kind, query in THINGS.items()}
    assert all(found.values()), "one of the queries finds nothing"
    silent = {kind: [t["name"] for t in things if not (t["comment"] or "").strip()] for kind, things in found.items()}
    assert silent == {kind: [] for kind in THINGS}


def test_no_comment_still_says_that_a_guard_is_a_stub(db: Database) -> None:
    assert [thing["name"] for thing in rows(db, THINGS["function"]) if "Stub" in thing["comment"]] == []


def test_functions_are_the_public_ones_their_helpers_and_trigger_functions(db: Database) -> None:
    found = rows(
        db,
        "select proname, prorettype = 'trigger'::regtype as is_trigger from pg_proc"
        " where pronamespace = 'marketplace'::regnamespace",
    )
    trigger_functions = {function["proname"] for function in found if function["is_trigger"]}
    others = {function["proname"] for function in found} - trigger_functions
    assert {name for name in others if not name.startswith("_")} == PUBLIC_FUNCTIONS
    tables = [*names(db, "table"), "records"]  # tg_records__… is bound to every table that keeps records
    expected = re.compile(rf"tg_({'|'.join(tables)})__[a-z_]+")
    assert [name for name in trigger_functions if not expected.fullmatch(name)] == []


def test_no_function_is_overloaded(db: Database) -> None:
    overloaded = rows(
        db,
        "select proname from pg_proc where pronamespace = 'marketplace'::regnamespace"
        " group by proname having count(*) > 1",
    )
    assert overloaded == []


def test_every_argument_has_a_name_that_begins_with_p(db: Database) -> None:
    unnamed = rows(
        db,
        r"""
        select p.oid::regprocedure::text as function, n.position, p.proargnames[n.position] as name
        from pg_proc as p
        cross join lateral generate_series(1, cardinality(p.proargtypes::oid[])) as n (position)
        where p.pronamespace = 'marketplace'::regnamespace
          and coalesce(p.proargnames[n.position], '') !~ '^p_[a-z]'
        """,
    )
    assert unnamed == []


def test_every_function_pins_its_search_path(db: Database) -> None:
    unpinned = rows(
        db,
        "select oid::regprocedure::text as name, proconfig from pg_proc"
        " where pronamespace = 'marketplace'::regnamespace"
        " and not coalesce('search_path=pg_catalog, pg_temp' = any (proconfig), false)",
    )
    assert unpinned == []


def test_constraints_are_named_for_their_kind(db: Database) -> None:
    found = rows(
        db,
        "select conname, contype, conrelid::regclass::text as relation from pg_constraint"
        " where connamespace = 'marketplace'::regnamespace and contype <> 'n'",
    )
    prefixes = {"c": "chk_", "p": "pk_", "u": "uq_", "f": "fk_", "t": "_"}
    for constraint in found:
        prefix = prefixes[constraint["contype"]]
        if prefix not in ("chk_", "_"):  # a CHECK's name says its rule, a trigger's when it fires; others say whose
            prefix += constraint["relation"].removeprefix("marketplace.")
        assert constraint["conname"].startswith(prefix), constraint


def test_indexes_are_named_for_their_table(db: Database) -> None:
    indexes = rows(
        db,
        "select i.indexrelid::regclass::text as index, i.indrelid::regclass::text as relation from pg_index as i"
        " inner join pg_class as c on c.oid = i.indexrelid"
        " where c.relnamespace = 'marketplace'::regnamespace"
        " and not exists (select from pg_constraint as k where k.conindid = i.indexrelid)",
    )
    for index in indexes:
        table = index["relation"].removeprefix("marketplace.")
        assert re.fullmatch(rf"marketplace\.idx_{table}_[a-z_]+", index["index"]), index


def test_triggers_are_named_by_when_they_fire_and_what_they_do(db: Database) -> None:
    triggers = rows(
        db,
        "select tgname from pg_trigger inner join pg_class on pg_class.oid = tgrelid"
        " where relnamespace = 'marketplace'::regnamespace and not tgisinternal",
    )
    assert triggers
    assert [t["tgname"] for t in triggers if not re.fullmatch(r"_[0-9]{3}_[a-z]+(_[a-z]+)*", t["tgname"])] == []


def test_points_in_time_end_in_at_and_know_their_time_zone(db: Database) -> None:
    columns = rows(
        db,
        "select format('%%s.%%s', table_name, column_name) as name, data_type, column_name"
        " from information_schema.columns where table_schema = %(schema)s"
        " and (data_type like 'timestamp%%' or column_name like '%%\\_at')",
        schema="marketplace",
    )
    odd = [
        column["name"]
        for column in columns
        if column["data_type"] != "timestamp with time zone" or not re.search(r"_(at|since)$", column["column_name"])
    ]
    assert odd == []
