"""Descriptors of disks on a datastore: the flat file is found, everything else is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperctl.activities.export.flat_descriptor import FlatExtent, flat_extent
from hyperctl.workflows.errors import ErrorCode, HyperctlError

DESCRIPTOR = """# Disk DescriptorFile
version=3
encoding="UTF-8"
CID=fb183c20
parentCID=ffffffff
createType="vmfs"

# Extent description
RW 83886080 VMFS "web [1]-flat.vmdk"

# The Disk Data Base
#DDB

ddb.adapterType = "lsilogic"
ddb.thinProvisioned = "1"
"""


def test_the_flat_file_is_found() -> None:
    assert flat_extent(DESCRIPTOR.encode(), "web.vmdk") == FlatExtent("web [1]-flat.vmdk", 40 << 30)
    windows = DESCRIPTOR.replace("\n", "\r\n").encode()
    assert flat_extent(windows, "web.vmdk") == FlatExtent("web [1]-flat.vmdk", 40 << 30)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('"vmfs"', '"vmfsSparse"', "delta of a snapshot"),
        ('"vmfs"', '"seSparse"', "delta of a snapshot"),
        ('"vmfs"', '"vmfsRawDeviceMap"', "raw device mapping"),
        ('"vmfs"', '"vmfsPassthroughRawDeviceMap"', "raw device mapping"),
        ('"vmfs"', '"twoGbMaxExtentSparse"', "layout"),
        ('createType="vmfs"', "", "layout"),
        ("parentCID=ffffffff", "parentCID=0badcafe", "parent"),
        ("#DDB", 'parentFileNameHint="web.vmdk"', "parent"),
        ("# The Disk", 'RW 8 VMFS "more-flat.vmdk"\n# The Disk', "2 extents"),
        ("RW 83886080 VMFS", "# none", "0 extents"),
        ("RW 83886080", "RDONLY 83886080", "one flat file"),
        ("VMFS ", "VMFSRDM ", "one flat file"),
        ("VMFS ", "SPARSE ", "one flat file"),
        ('-flat.vmdk"', '-flat.vmdk" 63', "one flat file"),
        ("web [1]-flat", "/vmfs/volumes/other/web-flat", "does not lie beside"),
        ("web [1]-flat.vmdk", "..", "does not lie beside"),
        ("web [1]-flat.vmdk", "vsan://5aa1", "does not lie beside"),
    ],
)
def test_what_is_no_flat_disk_is_refused(before: str, after: str, words: str) -> None:
    assert before in DESCRIPTOR
    with pytest.raises(HyperctlError, match=words) as caught:
        flat_extent(DESCRIPTOR.replace(before, after).encode(), "web.vmdk")
    assert caught.value.code is ErrorCode.VM_UNSUPPORTED
    assert "nfc" in caught.value.failure.hint


@pytest.mark.parametrize("data", [b"", b"KDMV\1\0\0\0", DESCRIPTOR.encode() + b"\0", b"\n" * (1 << 20)])
def test_what_is_no_descriptor_is_refused(data: bytes) -> None:
    with pytest.raises(HyperctlError) as caught:
        flat_extent(data, "web.vmdk")
    assert caught.value.code is ErrorCode.IMAGE_INVALID


@given(st.binary(max_size=200), st.integers(0, len(DESCRIPTOR)))
def test_any_damage_is_read_or_refused(damage: bytes, at: int) -> None:
    data = DESCRIPTOR.encode()
    try:
        extent = flat_extent(data[:at] + damage + data[at + len(damage) :], "web.vmdk")
    except HyperctlError:
        return
    assert "/" not in extent.file
    assert extent.size_bytes >= 0
