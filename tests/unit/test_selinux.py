"""When a guest is left to label its own files, by files as Red Hat's releases have them.

What a policy gives is `test_file_contexts`', labels on a filesystem `test_families`'. Here a filesystem takes
none.
"""

from pathlib import Path

import pytest

from hyperctl.activities.convert.linux.selinux import AUTORELABEL, every_path, is_on, relabel
from hyperctl.activities.convert.work import Work
from tests.unit.test_layouts import inspected

POLICY = {"/etc/selinux/targeted/policy/policy.33": "binary"}
CONTEXTS = {"/etc/selinux/targeted/contexts/files/file_contexts": "/.*\tsystem_u:object_r:default_t:s0\n"}
WHOLE = {**POLICY, **CONTEXTS}
NEW = "/etc/udev/rules.d/71-hyperctl-nic-names.rules"


@pytest.mark.parametrize(
    ("config", "there", "is_made"),
    [
        ("SELINUX=enforcing\nSELINUXTYPE=targeted\n", WHOLE, True),
        ("# comment\n SELINUX=Permissive\n", WHOLE, True),
        ("SELINUX=disabled\n", WHOLE, False),
        ("SELINUX=Disabled\n", WHOLE, False),
        ("#SELINUX=enforcing\n", WHOLE, False),
        ("SELINUX=permissive\nSELINUXTYPE=default\n", {}, False),
        ("SELINUX=permissive\nSELINUXTYPE=mls\n", WHOLE, False),
        ("SELINUX=enforcing\n", CONTEXTS, False),
        ("", {}, False),
    ],
    ids=["enforcing", "permissive", "off", "in capitals", "a comment", "none", "another", "no policy", "no"],
)
def test_a_guest_labels_its_files_where_selinux_is_on_and_we_cannot(
    tmp_path: Path, config: str, there: dict[str, str], is_made: bool
) -> None:
    guest, work = inspected(tmp_path, {"/etc/selinux/config": config, **there, NEW: ""}), Work()
    guest.changed.append(NEW)
    relabel(guest, work)
    assert is_on(guest.files) is is_made
    assert guest.files.exists(AUTORELABEL) is is_made
    assert [AUTORELABEL] * is_made == work.changed
    assert ["boots once more" in warning for warning in work.warnings] == [True] * is_made
    again = Work()
    relabel(guest, again)
    assert (again.changed, again.warnings) == ([], [])


@pytest.mark.parametrize(
    ("config", "there", "why"),
    [
        ("SELINUX=enforcing\n", POLICY, "file_contexts is missing, so that 4 new files have no label"),
        ("SELINUX=enforcing\nAUTORELABEL=0\n", WHOLE, "would have the guest's boot wait at a shell"),
    ],
    ids=["no contexts", "by hand only"],
)
def test_one_that_would_not_come_through_it_is_not_left_to_it(
    tmp_path: Path, config: str, there: dict[str, str], why: str
) -> None:
    guest, work = inspected(tmp_path, {"/etc/selinux/config": config, **there, NEW: ""}), Work()
    guest.changed.append(NEW)
    relabel(guest, work)
    assert not guest.files.exists(AUTORELABEL)
    (warning,) = work.warnings
    assert why in warning
    assert "fixfiles restore" in warning


def test_what_has_nothing_new_is_left_alone(tmp_path: Path) -> None:
    work = Work()
    relabel(inspected(tmp_path, {"/etc/selinux/config": "SELINUX=enforcing\n", **POLICY}), work)
    assert (work.changed, work.warnings) == ([], [])


def test_snapshots_of_the_root_are_none_of_its_paths(tmp_path: Path) -> None:
    files = {"/etc/selinux/config": "", "/.snapshots/1/snapshot/etc/fstab": "", "/.autorelabel": ""}
    guest = inspected(tmp_path, files)
    assert set(every_path(guest.files)) == {
        *("/etc", "/etc/selinux", "/etc/selinux/config"),
        *("/.snapshots", "/.autorelabel"),
    }
