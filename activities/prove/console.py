"""What the console of a guest that does not boot says, in words: a diagnosis by known phrases."""

import re
from dataclasses import dataclass

_ANSI = re.compile(r"\x1b(\[[0-9;?=]*[A-Za-z]|[()][A-Z0-9]|[=>c78])")
_NOT_PRINTABLE = re.compile(r"[^\t\n\x20-\x7e]")
TAIL_CHARACTERS = 64 * 1024
PASSPHRASE_PROMPT = re.compile(
    r"(?:Please (?:unlock|enter (?:\w+ )?passphrase for) disk |Enter passphrase for "
    r"|Password (?=\(/dev/))(?P<what>[^:\n]+):"
)
"""Of cryptsetup in Debian's initramfs, systemd, GRUB and cryptsetup as other initramfs call it, dracut."""
_NO_TICKS = b"IO-APIC + timer doesn't work!"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why a boot does not go on."""

    words: str
    final: bool
    """Nothing can come after it; otherwise the boot may still recover."""
    root_missing: bool = False
    """The root device was not found."""


_ROOT_PATTERNS: tuple[tuple[re.Pattern[str], str, bool], ...] = (
    (
        re.compile(r"ALERT!\s+(?P<what>\S+) does not exist"),
        "root device not found: the initramfs waited for {what}, which does not exist on this hardware "
        "(no driver for its controller, or a name that is gone)",
        True,
    ),
    (
        re.compile(r"Gave up waiting for root (?:file system )?device"),
        "root device not found: the initramfs gave up waiting for it",
        True,
    ),
    (
        re.compile(r"dracut-initqueue.*?Warning: (?P<what>/dev/\S+) does not exist"),
        "root device not found: dracut waited for {what}, which does not exist on this hardware",
        True,
    ),
    (
        re.compile(r"dracut.*?Warning: Could not boot"),
        "the initramfs (dracut) could not find or mount the root filesystem",
        True,
    ),
    (
        re.compile(r"ERROR: device '(?P<what>[^']+)' not found"),
        "root device not found: the initramfs waited for {what}",
        True,
    ),
    (
        re.compile(r"VFS: Unable to mount root fs(?P<what>.*)"),
        "kernel panic: the kernel could not mount the root filesystem {what}",
        True,
    ),
)
"""Of a boot that has not found its root device."""
_GRUB_ERROR = r"error: (?:\S+\.c:\d+:)?"
"""GRUB 2.12 says where in its source an error is."""
_PATTERNS: tuple[tuple[re.Pattern[str], str, bool], ...] = (
    (
        re.compile(r"Failed to mount (?P<what>\S+) as root file system"),
        "the initramfs could not mount the root filesystem {what}",
        True,
    ),
    (
        re.compile(r"(?P<what>[^\n]*(?:UNEXPECTED INCONSISTENCY|requires a manual fsck))"),
        "a filesystem is damaged: {what}",
        True,
    ),
    (
        re.compile(r"No root device specified"),
        "the boot loader names no root device to the kernel",
        True,
    ),
    (
        re.compile(r"No init found. Try passing init= bootarg"),
        "the root filesystem has no init that the initramfs could start",
        True,
    ),
    (re.compile(r"Kernel panic - not syncing: (?P<what>.*)"), "kernel panic: {what}", True),
    (
        re.compile(
            _GRUB_ERROR + r"(?P<what>(?:no such|unknown|disk|file|symbol|invalid)[^\n]*)[\s\S]*grub rescue>"
        ),
        "GRUB rescue: GRUB could not read its own files ({what})",
        True,
    ),
    (re.compile(r"grub rescue>"), "GRUB rescue: GRUB could not read its own files", True),
    (
        re.compile(
            _GRUB_ERROR + r"(?P<what>(?:no such device|file `[^']*' not found|no such partition)[^\n]*)"
        ),
        "GRUB reported: {what}",
        False,
    ),
    (re.compile(r"grub> *$"), "GRUB found no configuration and shows its prompt", True),
    (
        re.compile(r"No bootable device|No bootable option or device was found"),
        "no bootable device: the firmware found nothing to boot on the disks",
        True,
    ),
    (
        re.compile(
            r"(?P<what>(?:BOOTMGR|NTLDR|bootmgr) is (?:missing|compressed)|A disk read error occurred|"
            r"Missing operating system|Error loading operating system|Invalid partition table)"
        ),
        "no bootable system: the disk's boot sector says {what!r}",
        True,
    ),
    (
        re.compile(r"Windows failed to start\.[\s\S]*?Status: (?P<what>0x[0-9a-fA-F]+)"),
        "Windows' boot manager could not start it (status {what})",
        True,
    ),
    (re.compile(r"\*\*\* STOP: (?P<what>0x[0-9A-F]{8})"), "Windows stopped with the error {what}", True),
    (
        re.compile(r"UEFI Interactive Shell|^Shell>", re.MULTILINE),
        "no bootable device: the UEFI firmware found no boot loader and opened its shell",
        True,
    ),
    (
        re.compile(
            r"BdsDxe: failed to load Boot\S+[^\n]*: (?P<what>Not Found|Access Denied|Security Violation)"
        ),
        "the UEFI firmware could not load a boot entry ({what})",
        False,
    ),
    (
        PASSPHRASE_PROMPT,
        "the guest asks for the passphrase of the encrypted disk {what}, which the trial boot could not give",
        True,
    ),
    (
        re.compile(r"Entering emergency mode. Exit the shell to continue"),
        "emergency mode: the initramfs (dracut) could not do its work and opened a shell",
        True,
    ),
    (
        re.compile(r"Timed out waiting for device (?P<what>[^\n]+?)\.?\s*\n[\s\S]*You are in emergency mode"),
        "emergency mode: the device {what} has not appeared",
        False,
    ),
    (
        re.compile(r"Failed to mount (?P<what>[^\n]+?)\.?\s*\n[\s\S]*You are in emergency mode"),
        "emergency mode: {what} could not be mounted",
        False,
    ),
    (
        re.compile(r"You are in (?P<what>emergency|rescue) mode"),
        "{what} mode: a unit that the boot needs has failed",
        False,
    ),
    (
        re.compile(r"Dependency failed for (?P<what>[^\n]+?)\.?\s*$", re.MULTILINE),
        "a unit that the boot needs has failed: {what}",
        False,
    ),
    (re.compile(r"\blogin: *$"), "a login prompt appeared, but the guest's reporter did not speak", False),
)


def is_stopped_by_emulator(serial_log: bytes) -> bool:
    """Whether a boot in software emulation ended by what no real processor does.

    A kernel counts ten ticks of its timer before it goes on (Linux, arch/x86/kernel/apic/io_apic.c), and an
    emulator on a busy host may give it none meanwhile.
    """
    return _NO_TICKS in serial_log


def readable(raw: bytes) -> str:
    """A console's bytes as lines of printable text: no escape sequences, no control characters."""
    text = raw[-TAIL_CHARACTERS:].decode("ascii", "replace").replace("\r\n", "\n").replace("\r", "\n")
    return _NOT_PRINTABLE.sub("", _ANSI.sub("", text))


def diagnose(*texts: str) -> Diagnosis | None:
    """The first known phrase, the gravest first, in what the serial console and the screen show."""
    for patterns in (_ROOT_PATTERNS, _PATTERNS):
        for pattern, words, final in patterns:
            for text in texts:
                found = pattern.search(text)
                if found:
                    what = (found.groupdict().get("what") or "").strip()
                    return Diagnosis(words.format(what=what[:200]), final, patterns is _ROOT_PATTERNS)
    return None


def last_line(*texts: str) -> str:
    """The last thing that was said, for a boot that fits no known pattern."""
    for text in texts:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if lines:
            return lines[-1][:200]
    return ""
