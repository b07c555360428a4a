"""The descriptor of a disk on a datastore: which file beside it holds the disk's bytes. Pure.

Only what vSphere itself writes of a disk without snapshots is taken: one extent, in a plain file, from its
first byte.
"""

from hyperctl.activities.source.problems import Problems
from hyperctl.activities.source.vmdk_descriptor import CreateType, Extent, read_vmdk_descriptor

MOST_BYTES = 64 << 10
_OTHER_WAY = "Copy it with --transport nfc."


def flat_extent(data: bytes, name: str) -> Extent:
    """The file that is the disk, byte for byte.

    Raises `PreflightError`: `vm_unsupported` for other disks, `source_invalid` and `source_unsafe`.
    """
    problems = Problems(name)
    descriptor = read_vmdk_descriptor(data, problems)
    problems.raise_any()
    assert descriptor is not None, "no descriptor, and no problem"
    if descriptor.create_type not in (CreateType.VMFS, CreateType.MONOLITHIC_FLAT):
        problems.unsupported(f"it is no flat file (createType {descriptor.create_type})", _OTHER_WAY)
    elif len(descriptor.extents) != 1:
        problems.unsupported(f"it has {len(descriptor.extents)} extents; one can be read", _OTHER_WAY)
    elif descriptor.extents[0].offset_bytes:
        problems.unsupported("its bytes do not begin at the beginning of their file", _OTHER_WAY)
    problems.raise_any()
    return descriptor.extents[0]
