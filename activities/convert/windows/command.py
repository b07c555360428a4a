"""The command line of virt-v2v-in-place(1), and the machine that it is given on stdin. Pure."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence

from hyperctl.activities.convert.windows.found import StaticAddress, WindowsFound
from hyperctl.activities.convert.windows.parts import PROGRAMME

CAPABILITIES = (PROGRAMME, "--machine-readable")
"""Prints what this version can, a word a line."""
BLOCK_DRIVER = "block-driver-option"
_STDIN = "/dev/stdin"


def conversion_command(found: WindowsFound, *, block_driver: str = "") -> list[str]:
    """Convert the system that was found, saying each message as a line of JSON. Nothing is ever asked.

    `block_driver` is for versions with `BLOCK_DRIVER` only; empty is virtio-blk.
    """
    argv = [PROGRAMME, "--machine-readable=stream:stdout", "-i", "libvirtxml", "--root", found.root]
    if block_driver:
        argv += ["--block-driver", block_driver]
    for address in found.addresses:
        argv += ["--mac", _mac_option(address)]
    return [*argv, _STDIN]


def source_xml(name: str, overlays: Sequence[str]) -> str:
    """The least that `-i libvirtxml` needs: the disks together, in their order."""
    domain = ET.Element("domain", type="kvm")
    ET.SubElement(domain, "name").text = name
    ET.SubElement(domain, "memory", unit="MiB").text = "1024"
    ET.SubElement(domain, "vcpu").text = "1"
    ET.SubElement(ET.SubElement(domain, "os"), "type").text = "hvm"
    devices = ET.SubElement(domain, "devices")
    for overlay in overlays:
        disk = ET.SubElement(devices, "disk", type="file", device="disk")
        ET.SubElement(disk, "driver", name="qemu", type="qcow2")
        ET.SubElement(disk, "source", file=overlay)
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode") + "\n"


def _mac_option(one: StaticAddress) -> str:
    fields = [one.address, one.gateway, str(one.prefix_length), *one.name_servers]
    return f"{one.mac}:ip:{','.join(fields)}"
