"""Where the SQL files are, and which release of the schema they make."""

import hashlib
import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SchemaRelease:
    """What is, or should be, installed: the newest migration's id and the SHA-256 over db/functions in name order."""

    migration_head: str
    functions_sha256: str


def db_folder() -> Path:
    """The folder with migrations/ and functions/: the one in the package if it was installed, else the checkout's."""
    here = Path(__file__).resolve().parent
    for folder in (here / "db", here.parent / "db"):
        if (folder / "migrations").is_dir():
            return folder
    raise FileNotFoundError("db/migrations is missing: the program was installed without its SQL files")


def migration_ids(folder: Path) -> list[str]:
    """Ids of the migrations in `folder`/migrations, oldest first."""
    names = (path.name for path in (folder / "migrations").glob("[0-9]*.sql"))
    return sorted(name.removesuffix(".sql") for name in names if not name.endswith(".rollback.sql"))


def own_version() -> str:
    """The release of this program. db/functions/release.sql says the same of the functions."""
    return version("seller-transfers")


def version_number(release: str) -> tuple[int, ...]:
    """A release to be compared: 1.2.0rc1 is (1, 2, 0); what is none is older than all."""
    found = re.match(r"\d{1,6}(?:\.\d{1,6}){1,2}", release)
    return tuple(map(int, found[0].split("."))) if found else ()


def own_release() -> SchemaRelease:
    """The release this program was built with. db/migrations/post-apply.py notes the same two values when it loads."""
    folder = db_folder()
    files = sorted((folder / "functions").glob("*.sql"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
    return SchemaRelease(migration_ids(folder)[-1], digest)


_FUNCTION = re.compile(
    r"^create or replace function marketplace\.(\w+)\(.*?\bas \$\$(.*?)\$\$;", re.MULTILINE | re.DOTALL
)


def own_functions() -> set[tuple[str, str]]:
    """Name and SHA-256 of the body of every function in db/functions."""
    texts = (path.read_text(encoding="utf-8") for path in sorted((db_folder() / "functions").glob("*.sql")))
    return {
        (name, hashlib.sha256(body.encode()).hexdigest()) for text in texts for name, body in _FUNCTION.findall(text)
    }
