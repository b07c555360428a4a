"""Descriptors of disks on a datastore: the flat file is found, everything else is refused."""

import pytest

from hyperctl.activities.export.flat_descriptor import flat_extent
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
    extent = flat_extent(DESCRIPTOR.encode(), "web.vmdk")
    assert (extent.file, extent.size_bytes) == ("web [1]-flat.vmdk", 40 << 30)
    assert flat_extent(DESCRIPTOR.replace("\n", "\r\n").encode(), "web.vmdk") == extent


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('"vmfs"', '"vmfsSparse"', "delta of a snapshot"),
        ('"vmfs"', '"seSparse"', "delta of a snapshot"),
        ('"vmfs"', '"vmfsRawDeviceMap"', "raw device"),
        ('"vmfs"', '"vmfsPassthroughRawDeviceMap"', "raw device"),
        ('"vmfs"', '"streamOptimized"', "no flat file"),
        ('createType="vmfs"', "", "createType"),
        ("parentCID=ffffffff", "parentCID=0badcafe", "parent"),
        ("#DDB", 'parentFileNameHint="web.vmdk"', "parent"),
        ("RW 83886080", 'RW 8 VMFS "more-flat.vmdk"\nRW 83886080', "2 extents"),
        ("RW 83886080 VMFS", "# none", "no extent"),
        ("RW 83886080", "RDONLY 83886080", "read rightly"),
        ("VMFS ", "VMFSRDM ", "VMFSRDM"),
        ('-flat.vmdk"', '-flat.vmdk" 63', "beginning of their file"),
        ("web [1]-flat", "/vmfs/volumes/other/web-flat", "extent"),
        ("web [1]-flat.vmdk", "..", "extent"),
        ("web [1]-flat.vmdk", "vsan://5aa1", "extent"),
    ],
)
def test_what_is_no_flat_disk_is_refused(before: str, after: str, words: str) -> None:
    assert before in DESCRIPTOR
    with pytest.raises(HyperctlError, match=words) as caught:
        flat_extent(DESCRIPTOR.replace(before, after).encode(), "web.vmdk")
    assert "web.vmdk" in str(caught.value)
    assert not caught.value.code.is_transient


@pytest.mark.parametrize("data", [b"", b"KDMV\1\0\0\0", DESCRIPTOR.encode() + b"\0x"])
def test_what_is_no_descriptor_is_refused(data: bytes) -> None:
    with pytest.raises(HyperctlError) as caught:
        flat_extent(data, "web.vmdk")
    assert caught.value.code is ErrorCode.SOURCE_INVALID
