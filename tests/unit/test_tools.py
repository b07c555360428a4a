"""What turns VMware's tools off, file by file; all else stays byte for byte."""

import pytest

from hyperctl.activities.convert.linux.tools import (
    hidden,
    with_display_driver,
    without_modules,
    without_repositories,
    without_sources,
)

ENTRY = "[Desktop Entry]\nType=Application\nExec=/usr/bin/vmware-user-suid-wrapper\nHidden={}\n\n[Other]\n"
XORG = """\
Section "Device"
    Identifier "VMware SVGA"
    Driver     "vmware"
    BusID      "PCI:0:15:0"
EndSection
Section "Device"
    Identifier "other"
    Driver "radeon"
    BusID "PCI:1:0:0"
EndSection
"""
REPOSITORY = """\
# ours
[base]
name=CentOS
enabled=1
baseurl=http://mirror.example.com/centos
[vmware-tools]
name=VMware Tools
baseurl = https://packages.vmware.com/tools/esx/5.5latest/rhel6/x86_64
{}gpgcheck=1
"""


def test_a_desktop_entry_is_hidden_once() -> None:
    once = hidden(ENTRY.format("false"))
    assert once.startswith("[Desktop Entry]\nHidden=true\nType=Application\n")
    assert once.count("Hidden") == 1
    assert hidden(once) == once


def test_lists_of_modules_lose_those_that_only_vmware_has() -> None:
    text = "# vmhgfs\nloop\nvmhgfs\nvmw-balloon\nvmw_pvscsi\nvirtio_net"
    changed = "# vmhgfs\nloop\n# vmhgfs\n# vmw-balloon\nvmw_pvscsi\nvirtio_net"
    assert without_modules(text) == changed
    assert without_modules(changed) == changed


def test_a_display_has_a_driver_that_fits_and_no_place_of_vmwares() -> None:
    changed = with_display_driver(XORG, "modesetting")
    assert '    Driver     "modesetting"\n    # BusID      "PCI:0:15:0"\n' in changed
    assert changed.endswith(XORG[XORG.rindex("Section") :]), "another display stays as it is"
    assert with_display_driver(changed, "modesetting") == changed


@pytest.mark.parametrize("enabled", ["", "enabled = 1\n", "enabled=true\n"])
def test_only_vmwares_repository_is_disabled(enabled: str) -> None:
    text = REPOSITORY.format(enabled)
    changed = without_repositories(text)
    before, after = text.split("[vmware-tools]\n"), changed.split("[vmware-tools]\n")
    assert before[0] == after[0]
    assert after[1].replace(" ", "").count("enabled=0") == 1
    assert after[1].count("\n") == before[1].count("\n") + (enabled == "")
    assert without_repositories(changed) == changed


@pytest.mark.parametrize("text", ["", "# emptied on purpose\n"])
def test_a_file_of_no_repository_stays(text: str) -> None:
    assert without_repositories(text) == text


def test_only_vmwares_source_of_packages_is_commented_out() -> None:
    ours = "deb http://mirror.example.com/ubuntu precise main\n"
    theirs = "deb http://packages.vmware.com/tools/esx/latest/ubuntu precise main"
    assert without_sources(ours + theirs) == f"{ours}# {theirs}"
    assert without_sources(f"{ours}# {theirs}") == f"{ours}# {theirs}"
