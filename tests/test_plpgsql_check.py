"""The checker of `make check` finds what it is there to find."""

from collections.abc import Iterator

import psycopg
import pytest

from runner.sandbox.embedded_postgres import EmbeddedPostgres
from tests.support.databases import SETTINGS
from tests.support.debian_postgres import check_functions, installations

CHECKERS = [each for each in installations() if each.has_plpgsql_check]
pytestmark = pytest.mark.skipif(not CHECKERS, reason="no PostgreSQL with plpgsql_check is installed")

SCHEMA = """
create schema shop;
create table shop.orders (id bigint, total bigint);
"""

SOUND = """
create function shop.total(p_id bigint) returns bigint language plpgsql as $$
begin
  return (select o.total from shop.orders as o where o.id = p_id);
end $$;
create function shop.tg_keep() returns trigger language plpgsql as $$
begin
  new.total := coalesce(new.total, old.total);
  return new;
end $$;
create trigger keep before update on shop.orders for each row execute function shop.tg_keep();
create function shop.tg_count() returns trigger language plpgsql as $$
begin
  perform count(*) from gone;
  return null;
end $$;
create trigger count after delete on shop.orders referencing old table as gone
for each statement execute function shop.tg_count();
"""


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(bindir=CHECKERS[0].bindir, settings=SETTINGS) as running:
        yield running


@pytest.fixture
def connection(server: EmbeddedPostgres) -> Iterator[psycopg.Connection]:
    with psycopg.connect(server.dsn()) as opened:
        opened.execute(SCHEMA)
        yield opened
        opened.rollback()


def test_a_schema_without_functions_has_no_findings(connection: psycopg.Connection) -> None:
    assert check_functions(connection, "shop") == []


def test_sound_functions_and_triggers_have_no_findings(connection: psycopg.Connection) -> None:
    connection.execute(SOUND)
    assert check_functions(connection, "shop") == []


def test_an_error_in_a_branch_nobody_took_is_found_with_its_line(connection: psycopg.Connection) -> None:
    connection.execute(
        """
        create function shop.broken(p_id bigint) returns bigint language plpgsql as $$
        begin
          if p_id < 0 then
            return (select o.totl from shop.orders as o);
          end if;
          return p_id;
        end $$
        """
    )
    found = check_functions(connection, "shop")
    assert [(each.function, each.line, each.level, each.sqlstate) for each in found] == [
        ("shop.broken(bigint)", 4, "error", "42703")
    ]


def test_a_trigger_function_is_read_with_the_table_it_is_bound_to(connection: psycopg.Connection) -> None:
    connection.execute(
        """
        create function shop.tg_misspelt() returns trigger language plpgsql as $$
        begin
          new.totl := 0;
          return new;
        end $$;
        create trigger misspelt before insert on shop.orders for each row execute function shop.tg_misspelt()
        """
    )
    found = check_functions(connection, "shop")
    assert [(each.function, each.relation, each.level) for each in found] == [
        ("shop.tg_misspelt()", " on shop.orders", "error")
    ]


def test_a_warning_is_a_finding(connection: psycopg.Connection) -> None:
    connection.execute(
        """
        create function shop.wasteful() returns integer language plpgsql as $$
        declare
          v_unused integer;
        begin
          return 1;
        end $$
        """
    )
    (found,) = check_functions(connection, "shop")
    assert (found.function, found.level) == ("shop.wasteful()", "warning")
    assert "v_unused" in found.message


def test_a_trigger_function_without_a_trigger_is_a_finding(connection: psycopg.Connection) -> None:
    connection.execute("create function shop.tg_lost() returns trigger language plpgsql as $$ begin return new; end $$")
    assert [str(each) for each in check_functions(connection, "shop")] == [
        "shop.tg_lost(), line ?: error: is bound to no trigger"
    ]
