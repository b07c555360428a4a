"""VMDK descriptors: read as qemu reads them, or refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperctl.activities.source.names import objection
from hyperctl.activities.source.problems import Problems
from hyperctl.activities.source.vmdk_descriptor import (
    CreateType,
    Extent,
    VmdkDescriptor,
    read_vmdk_descriptor,
)
from hyperctl.workflows.errors import ErrorCode, Failure
from tests.unit.qemu_vmdk import as_qemu_reads

FLAT = """# Disk DescriptorFile
version=1
encoding="UTF-8"
CID=fffffffe
parentCID=ffffffff
isNativeSnapshot="no"
createType="twoGbMaxExtentFlat"

# Extent description
RW 4192256 FLAT "disk-f001.vmdk" 0
RW 2048 FLAT "disk-f002.vmdk" 8

# The Disk Data Base
#DDB

ddb.adapterType = "lsilogic"
ddb.uuid = "60 00 C2 9a 5f 4f 1c 3d-4a 2b 8e 1f 00 11 22 33"
"""


def read(text: str | bytes) -> tuple[VmdkDescriptor | None, tuple[Failure, ...]]:
    problems = Problems("disk.vmdk")
    descriptor = read_vmdk_descriptor(text if isinstance(text, bytes) else text.encode(), problems)
    assert (descriptor is None) == bool(problems)
    return descriptor, problems.failures


@pytest.mark.parametrize("digits", range(1, 9))
def test_a_cid_that_qemu_img_has_made_shorter(digits: int) -> None:
    """By chance: it takes its CIDs at random, and writes the text over the old one."""
    shorter = FLAT.replace("fffffffe", "f" * digits).encode() + b"\0"
    descriptor, _ = read(shorter + FLAT.encode()[len(shorter) :])
    assert descriptor == read(FLAT)[0]


def test_a_disk_in_several_files() -> None:
    for text in (FLAT, FLAT.replace("\n", "\r\n"), FLAT + "\0" * 300):
        descriptor, _ = read(text)
        assert descriptor is not None
        assert descriptor.create_type is CreateType.SPLIT_FLAT
        assert descriptor.extents == (
            Extent("disk-f001.vmdk", 4192256, False, 0),
            Extent("disk-f002.vmdk", 2048, False, 4096),
        )
        assert descriptor.capacity_bytes == (4192256 + 2048) * 512


def test_other_layouts() -> None:
    sparse = FLAT.replace("twoGbMaxExtentFlat", "twoGbMaxExtentSparse").replace("FLAT", "SPARSE")
    descriptor, _ = read(sparse.replace('" 0\n', '"\n').replace('" 8\n', '"\n'))
    assert descriptor is not None
    assert [extent.is_sparse for extent in descriptor.extents] == [True, True]
    vmfs = FLAT.replace("twoGbMaxExtentFlat", "vmfs").replace("FLAT", "VMFS").replace('" 0\n', '"\n')
    descriptor, _ = read(vmfs)
    assert descriptor is not None
    assert [extent.offset_bytes for extent in descriptor.extents] == [0, 4096]
    stream = FLAT.replace("twoGbMaxExtentFlat", "streamOptimized").replace(
        "RW 4192256 FLAT", "RDONLY 1 SPARSE"
    )
    descriptor, _ = read(stream)
    assert descriptor == VmdkDescriptor(CreateType.STREAM_OPTIMIZED, ())


@pytest.mark.parametrize(
    ("old", "new", "code", "words"),
    [
        ("disk-f001.vmdk", "/etc/passwd", ErrorCode.SOURCE_UNSAFE, "absolute"),
        ("disk-f001.vmdk", "../x.vmdk", ErrorCode.SOURCE_UNSAFE, "out of its folder"),
        ("disk-f001.vmdk", "sub/x.vmdk", ErrorCode.SOURCE_UNSAFE, "plain file name"),
        ("disk-f001.vmdk", "nbd:127.0.0.1:10809", ErrorCode.SOURCE_UNSAFE, "address"),
        ("disk-f001.vmdk", "\\\\.\\PhysicalDrive0", ErrorCode.SOURCE_UNSAFE, "absolute"),
        ("disk-f001.vmdk", "", ErrorCode.SOURCE_UNSAFE, "empty name"),
        ("parentCID=ffffffff", "parentCID=12345678", ErrorCode.SOURCE_UNSAFE, "parent disk"),
        ("#DDB", '# parentFileNameHint="/etc/passwd"', ErrorCode.SOURCE_UNSAFE, "parentFileNameHint"),
        ("twoGbMaxExtentFlat", "fullDevice", ErrorCode.VM_UNSUPPORTED, "physical disk"),
        ("twoGbMaxExtentFlat", "vmfsRawDeviceMap", ErrorCode.VM_UNSUPPORTED, "raw device"),
        ("twoGbMaxExtentFlat", "vmfsSparse", ErrorCode.VM_UNSUPPORTED, "snapshot"),
        ("twoGbMaxExtentFlat", "custom9", ErrorCode.VM_UNSUPPORTED, "not known"),
        ("#DDB", '# createType="vmfs"', ErrorCode.SOURCE_INVALID, "2 times"),
        ("RW 2048 FLAT", "RDONLY 2048 FLAT", ErrorCode.VM_UNSUPPORTED, "cannot be read rightly"),
        ("RW 2048 FLAT", "NOACCESS 2048 FLAT", ErrorCode.VM_UNSUPPORTED, "cannot be read rightly"),
        ('RW 2048 FLAT "disk-f002.vmdk" 8', "RW 2048 ZERO", ErrorCode.VM_UNSUPPORTED, "ZERO"),
        ("RW 2048 FLAT", "RW 2048 VMFS", ErrorCode.VM_UNSUPPORTED, "VMFS"),
        ("RW 2048 FLAT", "RW 0 FLAT", ErrorCode.SOURCE_INVALID, "0 sectors"),
        ("RW 2048 FLAT", "RW 999999999999999 FLAT", ErrorCode.SOURCE_INVALID, "sectors"),
        ('"disk-f002.vmdk" 8', '"disk-f002.vmdk"', ErrorCode.SOURCE_INVALID, "no offset"),
        ("# Extent description\n", "\n", ErrorCode.SOURCE_INVALID, "read twice"),
        ("RW 2048 FLAT", "RW\n2048 FLAT", ErrorCode.SOURCE_INVALID, "is no extent"),
        ("RW 2048 FLAT", "RW\v2048 FLAT", ErrorCode.SOURCE_INVALID, "end a line"),
        ("# Extent description", "Extents:", ErrorCode.SOURCE_INVALID, "neither"),
        ("# Disk DescriptorFile", "# Disk", ErrorCode.SOURCE_INVALID, "no VMDK descriptor"),
        ("#DDB", "\0DDB", ErrorCode.SOURCE_INVALID, "behind its end"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, code: ErrorCode, words: str) -> None:
    assert old in FLAT
    _, failures = read(FLAT.replace(old, new))
    assert any(failure.code is code and words in failure.message for failure in failures), failures


def test_all_problems_come_at_once() -> None:
    text = FLAT.replace("disk-f001.vmdk", "/dev/sda").replace("2048", "0").replace("ffffffff", "1")
    _, failures = read(text)
    assert len(failures) == 3


FRAGMENTS = st.sampled_from(
    [
        'RW 100 FLAT "a.vmdk" 0',
        'RW 100 FLAT "../a" 0',
        'RW  7  FLAT "b.vmdk"  5 ',
        "RW",
        "100",
        'FLAT "/etc/passwd" 0',
        "",
        " ",
        "\t",
        "#",
        "# RW",
        "a=b",
        'a = "RW"',
        "\r",
        "RDONLY 5 ZERO",
        "\x0b",
    ]
)


@given(st.lists(FRAGMENTS, max_size=6), st.sampled_from(["\n", "\r\n", " "]))
def test_what_is_taken_means_the_same_to_qemu(lines: list[str], separator: str) -> None:
    text = '# Disk DescriptorFile\ncreateType="monolithicFlat"\n# Extents\n' + separator.join(lines) + "\n"
    descriptor, _ = read(text)
    if descriptor is not None:
        assert [(extent.sectors, extent.file) for extent in descriptor.extents] == as_qemu_reads(text)
        assert all(objection(extent.file) is None for extent in descriptor.extents)


@given(st.binary(max_size=400))
def test_junk_is_refused(junk: bytes) -> None:
    assert read(junk)[0] is None
    read(b'# Disk DescriptorFile\ncreateType="vmfs"\n#\n' + junk)
