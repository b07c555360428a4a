"""How qemu reads a VMDK's descriptor, to compare with."""

import re


def as_qemu_reads(text: str) -> list[tuple[int, str]]:
    """What `vmdk_parse_extents` in qemu's block/vmdk.c makes of a descriptor.

    It is `sscanf` from every line's start, where white space in the pattern stands for any, line ends too.
    """
    pattern = re.compile(r'\s*(\S{1,10})\s*([+-]?\d+)\s*(\S{1,10})\s*"([^\n\r"]{1,511})"(?:\s*([+-]?\d+))?')
    found = []
    at = 0
    while at < len(text):
        match = pattern.match(text, at)
        if match and match[1] == "RW" and match[3] in ("FLAT", "SPARSE", "VMFS", "VMFSSPARSE", "SESPARSE"):
            found.append((int(match[2]), match[4]))
        end = text.find("\n", at)
        at = len(text) if end < 0 else end + 1
    return found
