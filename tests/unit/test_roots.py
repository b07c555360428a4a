"""What a Linux system's files say of it."""

import pytest

from hyperctl.activities.convert.roots import UNKNOWN, Root, described


def root(distribution: str, product: str, major: int = 0, minor: int = 0, host_name: str = UNKNOWN) -> Root:
    return Root("/dev/sda1", "linux", product, distribution, major, minor, host_name)


@pytest.mark.parametrize(
    ("release", "more", "expected"),
    [
        (
            'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nID=debian\n',
            {"/etc/debian_version": "12.15\n", "/etc/hostname": "\nweb-01\n"},
            root("debian", "Debian GNU/Linux 12 (bookworm)", 12, 15, host_name="web-01"),
        ),
        (
            'PRETTY_NAME="Debian GNU/Linux forky/sid"\nID=debian\n',
            {"/etc/debian_version": "forky/sid\n"},
            root("debian", "Debian GNU/Linux forky/sid"),
        ),
        (
            "ID='sles'\r\nPRETTY_NAME='SUSE Linux Enterprise Server 15 SP5'\r\nVERSION_ID='15.5'\r\n",
            {"/etc/HOSTNAME": "db.example.com\n"},
            root("sles", "SUSE Linux Enterprise Server 15 SP5", 15, 5, host_name="db.example.com"),
        ),
        (
            'NAME="Oracle Linux Server"\nID="ol"\nVERSION_ID="7.9"\n',
            {"/etc/sysconfig/network": "NETWORKING=yes\nHOSTNAME=old.example.com\n"},
            root("oraclelinux", "Oracle Linux Server", 7, 9, host_name="old.example.com"),
        ),
        (
            'NAME="CentOS Linux"\nVERSION_ID="7"\nID="centos"\n',
            {"/etc/redhat-release": "CentOS Linux release 7.9.2009 (Core)\n"},
            root("centos", "CentOS Linux", 7, 9),
        ),
        ('NAME="Arch Linux"\nID=arch\n', {}, root("archlinux", "Arch Linux")),
        (
            "NAME=Debi\udcffan\nID=debian\nVERSION_ID=1234567890123\n",
            {},
            root("debian", "Debi\ufffdan", 123456789),
        ),
    ],
)
def test_it_is_told(release: str, more: dict[str, str], expected: Root) -> None:
    assert described("/dev/sda1", {"/etc/os-release": release, **more}) == expected


@pytest.mark.parametrize(
    "release", ["", "ID=debian\n", "PRETTY_NAME=Linux\n", "NAME=Slackware\nID=slackware\nVERSION_ID=15.0\n"]
)
def test_a_system_that_is_not_known_here(release: str) -> None:
    assert described("/dev/sda1", {"/etc/os-release": release}) is None
