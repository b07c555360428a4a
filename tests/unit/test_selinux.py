"""When a guest is left to label its own files, by files as Red Hat's releases have them.

What a policy gives is `test_file_contexts`', labels on a filesystem `test_families`'.
"""

from pathlib import Path

import pytest

from hyperctl.activities.convert.linux.selinux import AUTORELABEL, relabel
from hyperctl.activities.convert.work import Work
from tests.unit.test_layouts import inspected

POLICY = {"/etc/selinux/targeted/policy/policy.33": "binary"}
COMPILED = {"/etc/selinux/targeted/contexts/files/file_contexts.bin": "binary"}
NEW = "/etc/udev/rules.d/71-hyperctl-nic-names.rules"


@pytest.mark.parametrize(
    ("config", "there", "is_made"),
    [
        ("SELINUX=enforcing\nSELINUXTYPE=targeted\n", {**POLICY, **COMPILED}, True),
        ("# comment\n SELINUX=Permissive\n", {**POLICY, **COMPILED}, True),
        ("SELINUX=disabled\n", {**POLICY, **COMPILED}, False),
        ("SELINUX=Disabled\n", {**POLICY, **COMPILED}, False),
        ("#SELINUX=enforcing\n", {**POLICY, **COMPILED}, False),
        ("SELINUX=permissive\nSELINUXTYPE=default\n", {}, False),
        ("SELINUX=permissive\nSELINUXTYPE=mls\n", {**POLICY, **COMPILED}, False),
        ("", {}, False),
    ],
    ids=["enforcing", "permissive", "disabled", "in capitals", "a comment", "no policy", "another", "none"],
)
def test_a_guest_labels_its_files_where_selinux_is_on_and_we_cannot(
    tmp_path: Path, config: str, there: dict[str, str], is_made: bool
) -> None:
    guest, work = inspected(tmp_path, {"/etc/selinux/config": config, **there, NEW: ""}), Work()
    guest.changed.append(NEW)
    relabel(guest, work)
    assert guest.files.exists(AUTORELABEL) is is_made
    assert [AUTORELABEL] * is_made == work.changed
    assert ["boots once more" in warning for warning in work.warnings] == [True] * is_made
    again = Work()
    relabel(guest, again)
    assert (again.changed, again.warnings) == ([], [])


@pytest.mark.parametrize(
    ("config", "there", "why"),
    [
        ("SELINUX=enforcing\n", POLICY, "nor could it label them itself"),
        ("SELINUX=enforcing\nAUTORELABEL=0\n", {**POLICY, **COMPILED}, "would have its boot wait at a shell"),
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
