"""Who may do what: every role, every object, every privilege, against a matrix written by hand."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from click.testing import CliRunner

from runner.cli import main
from runner.migrate import MigrationRefused, migrate
from runner.migration_plan import plan_migration
from runner.sandbox.embedded_postgres import EmbeddedPostgres
from runner.schema import db_folder
from tests.support.databases import SETTINGS, Database, open_database, row, rows, value
from tests.support.transfers import create_transfer, record_transfer, request_reversal

pytest_plugins = ("tests.support.rolled_back",)

OWNER = "marketplace_owner"
GROUPS = ("app", "runner", "triage", "readonly")
STRANGER = "somebody"  # no member of anything: has what PUBLIC has

EVENTS = {"acted_event_types", "ingest_stripe_event", "retry_events"}
COMPARING = {"finish_reconcile", "keep_listed_objects", "pay_for_read", "start_reconcile", "transfers_to_reread"}
LOOKING = {
    "can_transition_transfer_status",
    "classify_stripe_outcome",
    "format_amount",
    "function_sources",
    "next_due_in",
    "read_clock",
    "read_kept_events",
    "read_needs_attention",
    "read_open_reversals",
    "read_open_transfers",
    "read_queue_health",
    "read_rate_budget",
    "read_reconcile_run",
    "read_runner_health",
    "read_transfer_totals",
    "reconcile_differences",
    "schema_state",
    "self_check",
    "server_check",
    "verify_log",
    # Called by views, with the rights of who reads them.
    "_call_in_words",
    "_change_hint",
    "_change_in_words",
    "_coming_action",
    "_is_in_flight",
    "_is_seen",
    "_is_seen_paid",
    "_kept_since",
    "_may_come_free",
    "_rate_at",
    "_reason_open",
    "_tokens_now",
    "_waits_for",
    "_wrapped",
}
MAY_CALL: dict[str, set[str]] = {
    STRANGER: set(),
    "marketplace_app": EVENTS
    | {
        "can_transition_transfer_status",
        "create_transfer",
        "note_charge",
        "note_reinstated",
        "record_completed_transfer",
        "request_reversal",
        "schema_state",
        "set_refunds_by",
        "withdraw_reversal_request",
    },
    "marketplace_runner": EVENTS
    | COMPARING
    | {
        "can_transition_transfer_status",
        "read_kept_events",
        "claim_due_reversals",
        "claim_due_transfers",
        "next_due_in",
        "read_queue_health",
        "read_reconcile_run",
        "reconcile_differences",
        "record_reversal_outcomes",
        "record_transfer_outcomes",
        "register_runner",
        "schema_state",
    },
    "marketplace_triage": LOOKING
    | COMPARING
    | {
        "add_note",
        "dismiss",
        "forget_runners",
        "give_up",
        "look_up_differences",
        "look_up_first",
        "mark_paid",
        "mark_reversed",
        "note_charge",
        "note_reinstated",
        "pause_stripe_calls",
        "record_completed_transfer",
        "remove_error_rule",
        "reopen",
        "request_reversal",
        "require_reconcile",
        "resume_after_reconcile",
        "resume_stripe_calls",
        "retry_events",
        "retry_now",
        "set_error_rule",
        "set_refunds_by",
        "set_retry_policy",
        "set_stripe_rate",
        "trust_database_identity",
        "withdraw_reversal_request",
    },
    "marketplace_readonly": LOOKING,
}
# Not given to any group: what a migration calls.
FOR_THE_OWNER = {"validate_constraints"}
# Whose rights they have makes no difference: they look at nothing but their arguments.
HARMLESS = {"_call_in_words", "_wrapped"}
READERS = {"marketplace_triage", "marketplace_readonly"}
# Of these not everything may be read: what Stripe told word for word has buyers in it.
PARTLY_READ = {"stripe_events": {"payload"}}

RELATION_PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")
COLUMN_PRIVILEGES = ("SELECT", "INSERT", "UPDATE", "REFERENCES")


@pytest.fixture
def db(rolled_back_db: Database) -> Database:
    rolled_back_db.execute(f"create role {STRANGER}")
    return rolled_back_db


def relations(db: Database, *kinds: str) -> list[str]:
    query = (
        "select relname from pg_class"
        " where relnamespace = 'marketplace'::regnamespace and relkind::text = any (%(kinds)s)"
    )
    found = [each["relname"] for each in rows(db, query, kinds=list(kinds))]
    assert found, kinds
    return found


def privileges(db: Database) -> list[str]:
    newer = ("MAINTAIN",) if db.info.server_version >= 170000 else ()
    return [*RELATION_PRIVILEGES, *newer]


def test_no_role_has_a_privilege_on_a_relation_that_the_matrix_does_not_give(db: Database) -> None:
    held = {
        (each["role"], each["relation"], each["privilege"])
        for each in rows(
            db,
            "select r.role, c.relname as relation, p.privilege from pg_class as c"
            " cross join unnest(%(roles)s::text[]) as r (role)"
            " cross join unnest(%(privileges)s::text[]) as p (privilege)"
            " where c.relnamespace = 'marketplace'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')"
            " and has_table_privilege(r.role, c.oid, p.privilege)",
            roles=[*MAY_CALL, OWNER],
            privileges=privileges(db),
        )
    }
    tables, views = relations(db, "r"), relations(db, "v")
    expected = {(role, each, "SELECT") for role in READERS for each in (*tables, *views) if each not in PARTLY_READ}
    expected |= {(OWNER, each, privilege) for each in (*tables, *views) for privilege in privileges(db)}
    assert held == expected


def test_no_role_has_a_privilege_on_a_column_that_the_matrix_does_not_give(db: Database) -> None:
    held = {
        (each["role"], each["relation"], each["attname"], each["privilege"])
        for each in rows(
            db,
            "select r.role, c.relname as relation, a.attname, p.privilege from pg_class as c"
            " inner join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped"
            " cross join unnest(%(roles)s::text[]) as r (role)"
            " cross join unnest(%(privileges)s::text[]) as p (privilege)"
            " where c.relnamespace = 'marketplace'::regnamespace and c.relkind in ('r', 'v')"
            " and has_column_privilege(r.role, c.oid, a.attnum, p.privilege)",
            roles=list(MAY_CALL),
            privileges=list(COLUMN_PRIVILEGES),
        )
    }
    columns = rows(
        db,
        "select c.relname as relation, a.attname from pg_class as c"
        " inner join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped"
        " where c.relnamespace = 'marketplace'::regnamespace and c.relkind in ('r', 'v')",
    )
    assert held == {
        (role, each["relation"], each["attname"], "SELECT")
        for role in READERS
        for each in columns
        if each["attname"] not in PARTLY_READ.get(each["relation"], ())
    }


def test_no_role_may_call_what_the_matrix_does_not_give(db: Database) -> None:
    may = rows(
        db,
        "select r.role, p.proname from pg_proc as p cross join unnest(%(roles)s::text[]) as r (role)"
        " where p.pronamespace = 'marketplace'::regnamespace and has_function_privilege(r.role, p.oid, 'EXECUTE')",
        roles=list(MAY_CALL),
    )
    assert {role: {each["proname"] for each in may if each["role"] == role} for role in MAY_CALL} == MAY_CALL


def test_no_role_but_the_owner_has_more_of_the_rest_than_the_use_of_the_schema(db: Database) -> None:
    held = rows(
        db,
        """
        select r.role, 'schema' as kind, 'marketplace' as name, p.privilege
        from unnest(%(roles)s::text[]) as r (role) cross join unnest(array['USAGE', 'CREATE']) as p (privilege)
        where has_schema_privilege(r.role, 'marketplace', p.privilege)
        union all
        select r.role, 'sequence', c.relname, p.privilege
        from pg_class as c cross join unnest(%(roles)s::text[]) as r (role)
        cross join unnest(array['USAGE', 'SELECT', 'UPDATE']) as p (privilege)
        where c.relnamespace = 'marketplace'::regnamespace and c.relkind = 'S'
          and has_sequence_privilege(r.role, c.oid, p.privilege)
        union all
        select r.role, 'type', t.typname, 'USAGE'
        from pg_type as t inner join pg_class as c on c.oid = t.typrelid and c.relkind = 'c'
        cross join unnest(%(roles)s::text[]) as r (role)
        where t.typnamespace = 'marketplace'::regnamespace and has_type_privilege(r.role, t.oid, 'USAGE')
        """,
        roles=list(MAY_CALL),
    )
    assert {(each["role"], each["kind"], each["name"], each["privilege"]) for each in held} == {
        (f"marketplace_{group}", "schema", "marketplace", "USAGE") for group in GROUPS
    }


def test_everything_is_the_owners_and_nobody_logs_in_as_a_group(db: Database) -> None:
    owners = rows(
        db,
        """
        select distinct owner::regrole::text as owner from (
          select relowner as owner from pg_class where relnamespace = 'marketplace'::regnamespace
          union all select proowner from pg_proc where pronamespace = 'marketplace'::regnamespace
          union all select typowner from pg_type where typnamespace = 'marketplace'::regnamespace
          union all select nspowner from pg_namespace where nspname = 'marketplace') as o""",
    )
    assert owners == [{"owner": OWNER}]
    groups = rows(
        db,
        "select rolname, rolcanlogin, rolsuper, rolcreaterole, rolbypassrls from pg_roles"
        " where rolname like 'marketplace\\_%%'",
    )
    assert {each["rolname"] for each in groups} == {OWNER, *(f"marketplace_{group}" for group in GROUPS)}
    assert not any(each[key] for each in groups for key in each if key != "rolname")


def test_what_roles_call_runs_as_the_owner_with_a_path_of_its_own_and_helpers_do_not(db: Database) -> None:
    called = (set().union(*MAY_CALL.values()) | FOR_THE_OWNER) - HARMLESS
    definers = rows(
        db,
        "select proname, proconfig from pg_proc where pronamespace = 'marketplace'::regnamespace and prosecdef",
    )
    # Fired at commit, when who called the function is himself again, or by everybody's DDL.
    fired = {"tg_seller_transfers__conserve_family", "_remember_guards", "_keep_guards"}
    assert {each["proname"] for each in definers} == called | fired
    assert all("search_path=pg_catalog, pg_temp" in each["proconfig"] for each in definers)


def test_what_a_literal_says_is_not_up_to_a_setting_of_the_callers(db: Database) -> None:
    """With standard_conforming_strings off a backslash is gone from it: a pattern would match something else."""
    bodies = rows(
        db,
        "select p.proname, p.prosrc from pg_proc as p inner join pg_language as l on l.oid = p.prolang"
        " where p.pronamespace = 'marketplace'::regnamespace and p.prosrc like '%%\\\\%%'",
    )
    assert bodies
    # Comments aside, which may have apostrophes.
    plain = {
        each["proname"]: found
        for each in bodies
        if (found := re.findall(r"(?<![\w'])'[^'\n]*\\[^'\n]*'", re.sub(r"--.*", "", each["prosrc"])))
    }
    assert plain == {}


@contextmanager
def acting_as(db: Database, role: str) -> Iterator[None]:
    """As if a member of the role had connected."""
    with db.transaction():
        db.execute(f"set local session authorization {role}".encode())
        yield
        db.execute("reset session authorization")


def test_each_view_can_be_read_by_whom_it_is_for(db: Database) -> None:
    record_transfer(db)
    request_reversal(db)
    create_transfer(db, 2)
    for role in sorted(READERS):
        with acting_as(db, role):
            for view in relations(db, "v"):
                rows(db, f"select * from marketplace.{view}")
    for role in sorted(MAY_CALL.keys() - READERS):
        for view in relations(db, "v"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), acting_as(db, role):
                rows(db, f"select * from marketplace.{view}")


def test_who_did_it_is_who_connected_not_the_owner(db: Database) -> None:
    with acting_as(db, "marketplace_app"):
        transfer = create_transfer(db)
    assert (
        value(
            db,
            "select logged_by from marketplace.transfer_status_log where transfer_id = %(id)s",
            id=transfer["id"],
        )
        == "marketplace_app"
    )


def test_what_is_asked_at_commit_is_asked_of_an_app_as_well(dsn: str) -> None:
    with open_database(dsn) as db:
        db.execute("set session authorization marketplace_app")
        create_transfer(db)  # commits
        assert value(db, "select current_user::text") == "marketplace_app"
        db.execute("reset session authorization")
        with pytest.raises(psycopg.Error) as refused:
            db.execute("update marketplace.seller_transfers set original_amount = original_amount + 1")
        assert refused.value.sqlstate in ("ST002", "ST009")


def test_logins_without_timeouts_are_found_and_the_hint_mends_them(db: Database) -> None:
    db.execute("create role visitor login in role marketplace_readonly")
    db.execute("alter role visitor set lock_timeout = '5s'")
    db.execute("create role stranger_with_login login")
    for missing in (2, 1):
        found = row(db, "select * from marketplace.self_check()")
        assert (found["problem"], found["object"]) == ("login without timeouts", "visitor")
        assert len(found["detail"].split(", ")) == missing
        db.execute(found["hint"].encode())
    assert rows(db, "select * from marketplace.self_check()") == []
    db.execute("alter role visitor set statement_timeout = 0")
    assert len(rows(db, "select * from marketplace.self_check()")) == 1


def test_what_somebody_else_was_given_is_found_and_the_hint_takes_it_back(db: Database) -> None:
    for opened in (
        f"grant select on marketplace.seller_transfers to {STRANGER}",
        f"grant update (status) on marketplace.seller_transfers to {STRANGER}",
        "grant execute on function marketplace.create_transfer to public",
        f"grant usage on schema marketplace to {STRANGER}",
        f"grant usage on sequence marketplace.seller_transfers_id_seq to {STRANGER}",
    ):
        db.execute(opened.encode())
        found = row(db, "select * from marketplace.self_check()")
        assert found["problem"] == "open grant"
        db.execute(found["hint"].encode())
        assert rows(db, "select * from marketplace.self_check()") == [], opened


def test_what_a_group_has_beyond_the_matrix_is_found_and_the_next_migration_takes_it_back(db: Database) -> None:
    for opened in (
        "grant update on marketplace.seller_transfers to marketplace_app",
        "grant select on marketplace.stripe_events to marketplace_readonly",
        "grant select (payload) on marketplace.stripe_events to marketplace_readonly",
        "grant update (status) on marketplace.seller_transfers to marketplace_triage",
        "grant select on marketplace.charges to marketplace_readonly with grant option",
        "grant create on schema marketplace to marketplace_app",
        "grant usage on sequence marketplace.seller_transfers_id_seq to marketplace_runner",
        "grant execute on function marketplace.reopen to marketplace_app",
        "grant execute on function marketplace.prune_history to marketplace_triage",
        "grant execute on function marketplace.reopen to marketplace_triage with grant option",
    ):
        with db.transaction(force_rollback=True):
            db.execute(opened.encode())
            (found,) = rows(db, "select * from marketplace.self_check(false)")
            assert (found["problem"], found["is_urgent"]) == ("open grant", True), opened
            assert "seller-transfers migrate" in found["hint"]
            db.execute((db_folder() / "functions/zz_access.sql").read_bytes())
            assert rows(db, "select * from marketplace.self_check(false)") == [], opened


def test_what_groups_and_their_members_may_besides_is_found_and_the_hint_takes_it_back(db: Database) -> None:
    for opened, problem, of in (
        ("alter role marketplace_triage superuser", "group may more", "marketplace_triage"),
        ("alter role marketplace_owner createrole", "group may more", "marketplace_owner"),
        ("alter role marketplace_app bypassrls", "group may more", "marketplace_app"),
        ("grant marketplace_triage to marketplace_app", "group in a group", "marketplace_app"),
        ("grant marketplace_owner to marketplace_runner", "group in a group", "marketplace_runner"),
        (f"grant marketplace_owner to {STRANGER}", "member of the owner", STRANGER),
        (f"grant pg_write_all_data to {STRANGER}", "open grant", "every table"),
    ):
        db.execute(opened.encode())
        (found,) = rows(db, "select * from marketplace.self_check(false)")
        assert (found["problem"], found["object"]) == (problem, of), opened
        assert found["is_urgent"] == (problem != "member of the owner")
        db.execute(found["hint"].removeprefix("Unless it is to migrate: ").encode())
        assert rows(db, "select * from marketplace.self_check(false)") == [], opened
    db.execute(f"alter default privileges in schema marketplace grant select on tables to {STRANGER}".encode())
    (found,) = rows(db, "select * from marketplace.self_check(false)")
    assert (found["problem"], found["object"]) == ("open grant", "what comes into schema marketplace")


def test_what_is_not_the_owners_and_a_group_that_logs_in_are_found(db: Database) -> None:
    db.execute("alter table marketplace.charges owner to current_user")
    db.execute("alter role marketplace_runner login")
    found = rows(db, "select problem, object from marketplace.self_check() order by problem")
    assert {(each["problem"], each["object"]) for each in found} >= {
        ("not the owner's", "table marketplace.charges"),
        ("group logs in", "marketplace_runner"),
    }


@pytest.fixture(scope="module")
def own_server() -> Iterator[EmbeddedPostgres]:
    """Roles belong to a server: one that nobody has migrated on yet."""
    with EmbeddedPostgres(settings=SETTINGS) as server:
        yield server


def test_a_role_that_may_create_roles_migrates_without_being_superuser(own_server: EmbeddedPostgres) -> None:
    with open_database(own_server.dsn()) as admin:
        admin.execute("create role deployer login createrole")
        admin.execute("create role shy login")
        admin.execute("create database shop owner deployer")
        admin.execute("create database shy_shop owner shy")
    shop = own_server.dsn("shop", "deployer")

    for refused in (migrate, plan_migration):
        with pytest.raises(MigrationRefused, match='alter role "shy" createrole'):
            refused(own_server.dsn("shy_shop", "shy"))
    with open_database(own_server.dsn("shy_shop")) as untouched:
        assert rows(untouched, "select from pg_namespace where nspname = 'marketplace'") == []
    assert migrate(shop).applied
    assert migrate(shop).applied == []

    with open_database(shop) as db:
        assert {each["problem"] for each in rows(db, "select * from marketplace.self_check()")} == {
            "event trigger missing",
            "sessions not visible",
        }
        db.execute("create role shop_app login in role marketplace_app")
    with open_database(own_server.dsn("shop", "shop_app")) as app:
        create_transfer(app)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            rows(app, "select * from marketplace.seller_transfers")
    with open_database(shop) as db:
        db.execute("grant create on database shop to shy; grant create on schema public to shy")
    for refused in (migrate, plan_migration):
        with pytest.raises(MigrationRefused, match='grant marketplace_owner to "shy"'):
            refused(own_server.dsn("shop", "shy"))
    with open_database(own_server.dsn("shop")) as admin:
        admin.execute("create function marketplace.of_a_dba() returns integer language sql as 'select 1'")
        with pytest.raises(MigrationRefused, match=r"of_a_dba\. Migrate as a role that may, or as a superuser\.$"):
            migrate(shop)
        admin.execute("drop function marketplace.of_a_dba()")
    with open_database(shop) as db:
        db.execute("drop role shop_app")


def test_a_login_without_a_group_is_told_which_one_it_needs(own_server: EmbeddedPostgres) -> None:
    with open_database(own_server.dsn()) as admin:
        admin.execute("create role newcomer login; create role looker login")
        admin.execute("create database told")
    migrate(own_server.dsn("told"))
    with open_database(own_server.dsn()) as admin:
        admin.execute("grant marketplace_readonly to looker; alter role looker set statement_timeout = '30s'")
        admin.execute("alter role looker set lock_timeout = '5s'")
        admin.execute("alter role looker set idle_in_transaction_session_timeout = '30s'")
    for name, code in (("newcomer", 4), ("looker", 0)):
        shown = CliRunner().invoke(main, ["status"], env={"DATABASE_URL": own_server.dsn("told", name)})
        assert shown.exit_code == code, shown.output
        assert ("marketplace_readonly" in shown.output) == (name == "newcomer")
    for command, group in (("doctor", "marketplace_readonly"), ("webhook", "marketplace_app")):
        environment = {"DATABASE_URL": own_server.dsn("told", "newcomer"), "STRIPE_WEBHOOK_SECRET": f"whsec_{'a' * 32}"}
        shown = CliRunner().invoke(main, [command], env=environment)
        assert (shown.exit_code, group in shown.output) == (4, True), shown.output
