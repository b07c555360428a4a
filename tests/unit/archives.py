"""Appliances for tests: a descriptor that fits its disks, and tars of every make."""

import hashlib
import io
import tarfile
from collections.abc import Mapping

ENVELOPE = """<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
 xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData">
<References>{files}</References><DiskSection>{disks}</DiskSection>
<VirtualSystem ovf:id="{name}"><VirtualHardwareSection>
<Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType>
<rasd:VirtualQuantity>2</rasd:VirtualQuantity></Item>
<Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:InstanceID>2</rasd:InstanceID>
<rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>512</rasd:VirtualQuantity></Item>
{items}</VirtualHardwareSection></VirtualSystem></Envelope>
"""


def envelope(files: Mapping[str, int], capacity: int, name: str = "guest") -> bytes:
    """A descriptor of a machine with one disk a file; the sizes are those of the files."""
    numbered = list(enumerate(files.items(), start=1))
    return ENVELOPE.format(
        name=name,
        files="".join(
            f'<File ovf:id="f{n}" ovf:href="{file}" ovf:size="{size}"/>' for n, (file, size) in numbered
        ),
        disks="".join(
            f'<Disk ovf:diskId="d{n}" ovf:fileRef="f{n}" ovf:capacity="{capacity}"/>' for n, _ in numbered
        ),
        items="".join(
            f"<Item><rasd:ElementName>Disk {n}</rasd:ElementName><rasd:HostResource>ovf:/disk/d{n}"
            f"</rasd:HostResource><rasd:InstanceID>{10 + n}</rasd:InstanceID>"
            "<rasd:ResourceType>17</rasd:ResourceType></Item>"
            for n, _ in numbered
        ),
    ).encode()


def manifest(files: Mapping[str, bytes], algorithm: str = "sha256") -> bytes:
    lines = (
        f"{algorithm.upper()}({name})= {hashlib.new(algorithm, data).hexdigest()}\n"
        for name, data in files.items()
    )
    return "".join(lines).encode()


def tar(members: Mapping[str, bytes], format_: int = tarfile.USTAR_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format_) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()
