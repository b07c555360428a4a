"""Which datastores have files that can be read."""

import pytest

from hyperctl.activities.export.datastore import check_kinds
from hyperctl.activities.vsphere.inventory import Datastore
from hyperctl.workflows.errors import HyperctlError


@pytest.mark.parametrize("kind", ["VMFS", "NFS", "NFS41", "OTHER", ""])
def test_datastores_of_files_are_taken(kind: str) -> None:
    check_kinds([Datastore("ds1", kind)])


@pytest.mark.parametrize(
    ("kind", "words"), [("vsan", "vSAN"), ("VVOL", "Virtual Volumes"), ("PMEM", "memory")]
)
def test_datastores_of_objects_are_refused_by_name(kind: str, words: str) -> None:
    with pytest.raises(HyperctlError, match=f"ds2 is .*{words}"):
        check_kinds([Datastore("ds1", "VMFS"), Datastore("ds2", kind)])
