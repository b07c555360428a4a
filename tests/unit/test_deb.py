"""Debian's packages: read as files, ordered by version, chosen for a guest."""

import subprocess
from pathlib import Path

import pytest

from hyperctl.activities.convert.linux.deb import (
    Package,
    PackageError,
    Relation,
    compare,
    installed_packages,
    needed_packages,
    read_package,
    read_relations,
)
from hyperctl.activities.convert.linux.packages import choose
from hyperctl.activities.convert.refusal import StepFailed

FOLDER = Path("/packages")
STATUS = """\
Package: dpkg
Status: install ok installed
Architecture: amd64
Version: 1.21.22

Package: libc6
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Version: 2.36-9+deb12u10
Description: GNU C Library
 Contains the standard libraries.

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0

Package: mawk
Status: install ok installed
Architecture: amd64
Version: 1.3
Provides: awk, editor (= 2.0)
"""


def package(name: str, version: str = "1.0", depends: str = "", architecture: str = "amd64") -> Package:
    path = FOLDER / f"{name}_{version}_{architecture}.deb"
    return Package(name, version, architecture, tuple(read_relations(depends)), path=path)


def chosen(*offered: Package) -> list[str]:
    found = choose("Debian 12", installed_packages(STATUS), offered, FOLDER)
    return [f"{one.name} {one.version}" for one in found]


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.0~rc1", "1.0"),
        ("1.0", "1.0+dfsg"),
        ("1.0a", "1.0+"),
        ("9.9", "1:0.1"),
        ("1.9-1", "1.10-1"),
        ("7.2+dfsg-7+deb12u18", "7.2+dfsg-7+deb12u18+b3"),
        ("1.0-1~bpo12+1", "1.0-1"),
    ],
)
def test_versions_are_ordered_as_dpkg_orders_them(older: str, newer: str) -> None:
    assert compare(older, newer) < 0 < compare(newer, older)
    assert compare("1.0", "1.00-0") == 0


def test_relations() -> None:
    (first, second) = read_relations("libc6 (>= 2.34), awk:any | gawk [amd64], ")
    assert first == (Relation("libc6", ">=", "2.34"),)
    assert [one.name for one in second] == ["awk", "gawk"]
    assert Relation("x", ">>", "1.0").holds("1.1")
    assert not Relation("x", "<<", "1.0").holds("1.0")


def test_what_is_installed() -> None:
    found = installed_packages(STATUS)
    assert [one.name for one in found] == ["dpkg", "libc6", "mawk"]
    assert found[2].meets(Relation("awk"))
    assert not found[2].meets(Relation("awk", ">=", "1")), "a version of what it provides is not told"
    assert found[2].meets(Relation("editor", ">=", "1.5"))


def test_the_agent_comes_with_what_it_lacks_and_no_more() -> None:
    agent = package("qemu-guest-agent", "7.2", "libc6 (>= 2.34), libglib (>= 2.6), awk | gawk")
    libraries = package("libglib", "2.74", "libpcre"), package("libglib", "2.5"), package("libpcre")
    assert chosen(agent, *libraries, package("gawk")) == [
        "qemu-guest-agent 7.2",
        "libglib 2.74",
        "libpcre 1.0",
    ]


def test_of_several_releases_the_one_for_the_guest_is_taken() -> None:
    ours, newer = (
        package("qemu-guest-agent", v, f"libc6 (>= {c})") for v, c in (("7", "2.36"), ("10", "2.41"))
    )
    assert chosen(newer, ours) == ["qemu-guest-agent 7"]


def test_all_that_is_missing_is_named() -> None:
    agent = package("qemu-guest-agent", "10", "libc6 (>= 2.41), liburing2 (>= 2.3) | liburing3, libglib")
    with pytest.raises(StepFailed) as raised:
        chosen(agent, package("libglib", "1", "libpcre"), package("libc6", "2.41"))
    text = str(raised.value)
    assert "libc6 (>= 2.41), of which the guest has 2.36-9+deb12u10" in text, "what is there is not replaced"
    assert "liburing2 (>= 2.3) or liburing3" in text
    assert "libpcre" in text


@pytest.mark.parametrize(
    ("offered", "words"),
    [
        ([], "/packages holds no package qemu-guest-agent"),
        (
            [package("qemu-guest-agent", architecture="arm64")],
            "for another architecture than Debian 12's amd64",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(offered: list[Package], words: str) -> None:
    with pytest.raises(StepFailed, match=words):
        chosen(*offered)


@pytest.mark.parametrize("packing", ["gzip", "xz", "zstd", "none"])
def test_a_package_that_dpkg_has_built(tmp_path: Path, packing: str) -> None:
    control = tmp_path / "tree" / "DEBIAN" / "control"
    control.parent.mkdir(parents=True)
    control.write_text(
        "Package: qemu-guest-agent\nVersion: 1:7.2-1\nArchitecture: amd64\nMaintainer: A <a@example.com>\n"
        "Depends: libc6 (>= 2.34),\n libglib2.0-0\nDescription: an agent\n of a hypervisor\n"
    )
    path = tmp_path / "agent.deb"
    build = ["dpkg-deb", f"-Z{packing}", "--root-owner-group", "--build", str(tmp_path / "tree"), str(path)]
    subprocess.run(build, check=True, capture_output=True)
    found = read_package(path)
    assert (found.name, found.version, found.architecture) == ("qemu-guest-agent", "1:7.2-1", "amd64")
    assert [one.name for choice in found.depends for one in choice] == ["libc6", "libglib2.0-0"]
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(PackageError):
        read_package(path)


def test_a_missing_dependency_of_nothing_is_no_dependency() -> None:
    assert needed_packages(package("qemu-guest-agent"), (), ())[1] == []
