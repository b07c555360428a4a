"""fstab and crypttab by names that stay true; LVM and mdadm that look at virtio's disks."""

import re
from collections.abc import Callable

from hyperctl.activities.convert.devices import TAGS, StableNames, tag_in
from hyperctl.activities.convert.inspect import Inspected
from hyperctl.activities.convert.linux.arguments import linked
from hyperctl.activities.convert.linux.storage import MULTIPATH, rewrites
from hyperctl.activities.convert.linux.unit_names import renamed_units
from hyperctl.activities.convert.linux.units import FILES as UNITS
from hyperctl.activities.convert.linux.units import fix_units
from hyperctl.activities.convert.mounts import unescaped
from hyperctl.activities.convert.work import Work

FSTAB = "/etc/fstab"
CRYPTTAB = "/etc/crypttab"
_FIELD = re.compile(r"^(\s*)([^\s#]\S*)(\s+)(\S+)(.*)$", re.DOTALL)
MAPS = ("/etc/auto.*", "/etc/auto_*", "/etc/autofs/auto.*")
WATCHED = (
    "/etc/udev/rules.d/*.rules",
    "/etc/initramfs-tools/scripts/*/*",
    "/etc/initramfs-tools/hooks/*",
    "/etc/overlayroot*.conf",
    *MULTIPATH,
    *MAPS,
    *UNITS,
    "/etc/default/*",
    "/etc/hdparm.conf",
    "/etc/kdump.conf",
    "/etc/rc.local",
    "/etc/rc.d/rc.local",
    "/etc/drbd.conf",
    "/etc/drbd.d/*.res",
    "/etc/smartd.conf",
    "/etc/smartmontools/smartd.conf",
    "/etc/sysconfig/sbd",
    "/etc/sysconfig/rawdevices",
    "/etc/sysconfig/docker-storage-setup",
    "/etc/sysconfig/smartmontools",
    "/etc/systemd/zram-generator.conf",
    "/etc/security/pam_mount.conf.xml",
    "/etc/target/saveconfig.json",
)
"""What may name disks for a purpose that only its owner knows."""
_GONE = re.compile(r"^(?:/dev/fd\d\w*|/dev/floppy\S*|(?:vmhgfs-fuse#)?\.host:\S*|vmhgfs-fuse)$")
"""Floppy drives and VMware's shared folders."""
_DRIVE = re.compile(r"^/dev/(?:sr\d+|scd\d+|hd[a-d]|cdrom\d*|cdrw\d*|dvd(?:rw|ram)?\d*)$")
_MEDIA = re.compile(r"^\s+(?:(?:udf|auto),)*iso9660(?:,(?:udf|auto))*(?!\S)")
"""By a label or UUID these can only be a CD's; udf alone may be a copied disk's."""
_DVD = re.compile(r"^\s+udf(?!\S)")
_OF_CD = frozenset({"iso9660", "udf", "auto"})
_KIND_AND_OPTIONS = re.compile(r"^(\s+)([^\s#]\S*)(?:(\s+)([^\s#]\S*))?")
_OPTION = re.compile(
    r"(?<![^\s,])((?:device|logdev|rtdev|journal_path|x-systemd\.(?:requires|after|before))=)(/dev/[^\s,]+)"
)
"""A filesystem's other disks: btrfs(5), xfs(5), ext4(5); and what it waits for: systemd.mount(5)."""
_KEY_FIELDS = re.compile(r"^([ \t]*[^\s#]\S*[ \t]+\S+[ \t]+)(\S[^\n]*)", re.MULTILINE)
"""What stands behind a device in crypttab(5)."""
_KEY_DEVICE = re.compile(r"((?<![^\s:,])(?:header=)?)(/dev/(?:disk/by-path/[^\s,/]*[^\s,/:]|[^\s,:]+))")
"""As a key, before the path of one (`DEVICE:PATH`, cryptsetup's passdev) or behind it (systemd's)."""
_OF_VMWARE = re.compile(
    r"^[ \t]*(?![#\s])[^\n]*?(/dev/(?:sd[a-z]|nvme\d|disk/by-path/)|\bdev-sd[a-z]|KERNEL==\"sd[a-z?*\[]"
    r"|\b(?:scsi-|naa\.|3)?6000c29[0-9a-f]*)",
    re.MULTILINE | re.IGNORECASE,
)
_OF_MAP = re.compile(r"^((?![ \t]*#)(?:[^\n]*?[ \t])??:)(/dev/[^\s,;]+)", re.MULTILINE)


def update_fstab(inspected: Inspected, work: Work) -> None:
    """Rename what depends on the controller. What cannot be told is a warning; the boot proof will tell."""
    files, names = inspected.files, inspected.names
    tables: list[tuple[str, Callable[[str, StableNames], tuple[str, list[str]]]]]
    tables = [(FSTAB, stable_fstab), (CRYPTTAB, stable_crypttab)]
    tables += [(path, stable_map) for path in files.matching(*MAPS)]
    for path, rewrite in tables:
        text = files.text(path)
        if text is None:
            continue
        changed, unknown = rewrite(text, names)
        work.warnings += [f"{path}: {name} is on none of the copied disks" for name in unknown]
        if files.edit(path, changed, work):
            work.done.append(f"{path} {_what(text, changed)}")
    fix_units(files, names, work)
    told = {warning.partition(": ")[0] for warning in work.warnings}
    for path in sorted({*files.matching(*WATCHED)} - told):
        if name := names_vmwares_disk(files.text(path) or ""):
            work.warnings.append(f"{path} names disks as VMware has them ({name}), and stays as it is")
    for path, widen in rewrites(inspected.order.hardware.disk_bus).items():
        text = files.text(path)
        if text is not None and files.edit(path, widen(text), work):
            work.done.append(f"{path} for the disks' new names")


def _what(before: str, after: str) -> str:
    """What was changed in it, in words."""
    signs = {"by UUID": "UUID", "without what stays behind": "\n# ", "with nofail for CDs": "nofail"}
    old, new = (f"\n{text}".replace("uuid", "UUID") for text in (before, after))
    return ", ".join(what for what, sign in signs.items() if new.count(sign) > old.count(sign)) or "by UUID"


def stable_fstab(text: str, names: StableNames) -> tuple[str, list[str]]:
    """fstab(5) with sources by UUID, entries of VMware's devices commented out and CDs no boot waits for, all
    else byte for byte.

    The second part are the devices that could not be resolved.
    """
    return _rewritten(text, names, column=0)


def stable_crypttab(text: str, names: StableNames) -> tuple[str, list[str]]:
    """crypttab(5), whose second field is the device; the key and a detached header may be on another."""
    text, unknown = _rewritten(text, names, column=1)

    def renamed(found: re.Match[str]) -> str:
        changed, more = linked(_KEY_DEVICE, found[2], names)
        unknown.extend(more)
        return found[1] + changed

    return _KEY_FIELDS.sub(renamed, text), unknown


def names_vmwares_disk(text: str) -> str:
    """How a setting that is in force names a disk of VMware's, or an empty string."""
    found = _OF_VMWARE.search(text)
    return found[1] if found else ""


def stable_map(text: str, names: StableNames) -> tuple[str, list[str]]:
    """autofs(5)'s map, whose local devices stand behind a colon."""
    return linked(_OF_MAP, text, names)


def _is_of_cd(device: str, rest: str, names: StableNames) -> bool:
    """Whether an entry is of what VMware had in its drive; `rest` is what stands behind its mount point."""
    if _DRIVE.match(device):
        return names.device(device) is None
    if _MEDIA.match(rest):
        return tag_in(device)[0] in TAGS
    return _DVD.match(rest) is not None and names.is_elsewhere(unescaped(device))


def _not_waited_for(found: re.Match[str]) -> str:
    """The options of a CD that VMware had in its drive, and without which a boot would stop."""
    options = found[4] or "defaults"
    if set(found[2].split(",")) - _OF_CD or {"noauto", "nofail"} & set(options.split(",")):
        return found[0]
    return f"{found[1]}{found[2]}{found[3] or ' '}{options},nofail"


def _rewritten(text: str, names: StableNames, column: int) -> tuple[str, list[str]]:
    lines, unknown = [], []
    for line in re.findall(r"[^\n]*\n|[^\n]+", text):  # and at nothing else that Python ends a line at
        found = _FIELD.match(line)
        if not found:
            lines.append(line)
            continue
        before, first, gap, second, rest = found.groups()
        device = (first, second)[column]
        if column == 0 and _GONE.match(device):
            lines.append(f"# {line}")
            continue
        if names.is_unstable(device):
            is_root = column == 0 and second == "/"
            stable = names.stable_root(device) if is_root else names.stable(device)
            if stable is None:
                unknown.append(device)
            else:
                first, second = (stable, second) if column == 0 else (first, stable)
        if column == 0:
            rest, more = linked(_OPTION, rest, names)
            rest = renamed_units(rest, names.lasting)
            unknown += more
            if _is_of_cd(device, rest, names):
                rest = _KIND_AND_OPTIONS.sub(_not_waited_for, rest, count=1)
        lines.append(f"{before}{first}{gap}{second}{rest}")
    return "".join(lines), unknown
