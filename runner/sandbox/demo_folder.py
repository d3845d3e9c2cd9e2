"""Where the demo keeps its database and logs, and what of a person's environment is not for it."""

import os
from collections.abc import MutableMapping
from pathlib import Path

DEMO_DATABASE = "postgres"

_OTHERS = ("DATABASE_URL", "STRIPE_", "SELLER_TRANSFERS_", "PG")


def checkout() -> Path | None:
    """The checkout this program runs from, if the current folder is in it."""
    root = Path(__file__).resolve().parents[2]
    here = Path.cwd()
    return root if (root / "Makefile").is_file() and root in (here, *here.parents) else None


def sandbox_folder() -> Path:
    """`.sandbox` of the checkout; anywhere else a folder in the user's cache. It may not be there yet."""
    root = checkout()
    if root is not None:
        return root / ".sandbox"
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return Path(cache or Path("~/.cache").expanduser(), "seller-transfers")


def demo_data_folder() -> Path:
    """The data folder of the demo's PostgreSQL. It may not be there yet."""
    return sandbox_folder() / "demo"


def psql_command() -> str:
    """What to type to look at the demo's database."""
    return "make psql" if checkout() is not None else "python -m runner.sandbox.psql"


def shown(path: Path) -> str:
    """`path` for a person: relative to the current folder if it is below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def leave_out_settings(environ: MutableMapping[str, str]) -> None:
    """Take out of `environ` what is meant for real work: where databases and Stripe are, and libpq's defaults."""
    for name in [name for name in environ if name.startswith(_OTHERS)]:
        del environ[name]
