"""A built wheel is all that is needed: it carries its SQL with it."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.databases import open_database, value
from tests.support.runners import REPOSITORY


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of what a checkout has, so that the build leaves nothing in this one."""
    source = tmp_path_factory.mktemp("source")
    caches = shutil.ignore_patterns("__pycache__")
    for folder in ("runner", "db"):
        shutil.copytree(REPOSITORY / folder, source / folder, ignore=caches)
    for file in ("pyproject.toml", "README.md"):
        shutil.copy(REPOSITORY / file, source)
    built = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(built)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=60)
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder it is installed in; a wheel of plain files is installed by unpacking it."""
    target = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def python(installed: Path, *arguments: str, **environment: str) -> str:
    """Run Python where only the installed program is to be found; gives what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=installed.parent,
        env={**os.environ, "PYTHONPATH": str(installed), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def names_below(folder: Path, pattern: str) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob(pattern)}


def test_a_wheel_has_every_sql_file_and_nothing_of_the_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()

    carried = {name.removeprefix("runner/db/") for name in names if name.startswith("runner/db/")}
    assert names_below(REPOSITORY / "db", "*.sql") | {"migrations/post-apply.py"} <= carried
    assert {name.split("/")[0].split("-")[0] for name in names} == {"runner", "seller_transfers"}


def test_an_installed_program_takes_its_own_sql(installed: Path) -> None:
    found = python(installed, "-c", "from runner.schema import db_folder; print(db_folder())")

    assert found == f"{installed}/runner/db\n"


def test_migrate_works_without_a_clone(installed: Path, empty_dsn: str) -> None:
    said = python(installed, "-m", "runner", "migrate", DATABASE_URL=empty_dsn)

    assert "applying 0001.create-schema" in said
    with open_database(empty_dsn) as db:
        assert value(db, "select count(*) from marketplace.self_check()") == 0
    assert "No transfers yet." in python(installed, "-m", "runner", "status", DATABASE_URL=empty_dsn)


def test_a_checkout_takes_its_own_sql() -> None:
    code = "from runner.schema import db_folder; print(db_folder())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout == f"{REPOSITORY / 'db'}\n"
