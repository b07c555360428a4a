"""RPM packages: read as files, ordered as rpm orders them, chosen by what a guest's rpm says."""

import struct
from collections.abc import Sequence
from pathlib import Path

import pytest

from hyperctl.activities.convert.linux.deb import PackageError
from hyperctl.activities.convert.linux.rpm import RpmPackage, needed_rpms, read_rpm


def package(
    name: str, version: str = "1.0", release: str = "1", *provides: str, epoch: int = 0
) -> RpmPackage:
    path = Path(f"/packages/{name}-{version}-{release}.rpm")
    return RpmPackage(name, epoch, version, release, "x86_64", frozenset((name, *provides)), (), 0, path)


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        (package("a", "1.9"), package("a", "1.10")),
        (package("a", "1.0~rc1"), package("a", "1.0")),
        (package("a", "1.0"), package("a", "1.0^git1")),
        (package("a", "1.0", "1.el8_8"), package("a", "1.0", "1.el8_10")),
        (package("a", "1.0a"), package("a", "1.0.1")),
        (package("a", "9"), package("a", "1", epoch=1)),
    ],
)
def test_versions_are_ordered_as_rpm_orders_them(older: RpmPackage, newer: RpmPackage) -> None:
    assert max(older, newer, key=lambda one: one.order) is newer
    assert max(newer, older, key=lambda one: one.order) is newer


def test_what_rpm_misses_is_looked_for_in_the_folder_until_it_misses_nothing() -> None:
    agent, old, new = (
        package("agent"),
        package("lib", "1", "1", "lib.so.2()"),
        package("lib2", "2", "1", "lib.so.2()"),
    )
    shell = package("shell", "1", "1", "/usr/bin/sh")

    def complaints(chosen: Sequence[RpmPackage]) -> str:
        names = {one.name for one in chosen}
        if not names & {"lib", "lib2"}:
            return "error: Failed dependencies:\n\tlib.so.2() is needed by agent-1.0-1\n"
        return "" if "shell" in names else "error:\n\t/usr/bin/sh >= 3 is needed by lib2-2-1\n"

    chosen, missing = needed_rpms(agent, [agent, old, new, shell], complaints)
    assert ([one.name for one in chosen], missing) == (["agent", "lib2", "shell"], [])
    assert needed_rpms(agent, [agent, new], complaints)[1] == ["/usr/bin/sh >= 3"]
    assert needed_rpms(agent, [], lambda _: "error: a conflict\n")[1] == ["error: a conflict"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\3\4" + bytes(200),
        b"\xed\xab\xee\xdb" + bytes(92) + b"\x8e\xad\xe8\x01" + bytes(4) + struct.pack(">II", 1 << 30, 0),
        b"\xed\xab\xee\xdb"
        + bytes(92)
        + b"\x8e\xad\xe8\x01"
        + bytes(4)
        + struct.pack(">II", 2, 8)
        + bytes(9),
    ],
)
def test_what_is_no_package_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.rpm"
    path.write_bytes(content)
    with pytest.raises(PackageError, match=r"odd\.rpm"):
        read_rpm(path)
