"""What consoles show of boots that go wrong, and the words for it."""

import pytest

from hyperctl.activities.prove.console import diagnose, is_stopped_by_emulator, readable

CONSOLES = {
    "initramfs-tools": (
        b"Begin: Waiting for root file system ... Begin: Running /scripts/local-block ... done.\r\n"
        b"Begin: Running /scripts/local-block ... mdadm: No arrays found in config file or automatically\r\n"
        b"done.\r\n"
        b"Gave up waiting for root file system device.  Common problems:\r\n"
        b" - Boot args (cat /proc/cmdline)\r\n   - Check rootdelay= (did the system wait long enough?)\r\n"
        b" - Missing modules (cat /proc/modules; ls /dev)\r\n"
        b"ALERT!  /dev/sda2 does not exist.  Dropping to a shell!\r\n\r\n\r\n"
        b"BusyBox v1.35.0 (Debian 1:1.35.0-4+b7) built-in shell (ash)\r\n"
        b"Enter 'help' for a list of built-in commands.\r\n\r\n(initramfs) ",
        "root device not found: the initramfs waited for /dev/sda2",
    ),
    "initramfs-tools-mount": (
        b"mount: mounting /dev/vda2 on /root failed: Invalid argument\r\ndone.\r\n"
        b"Begin: Running /scripts/local-bottom ... done.\r\n"
        b"Failed to mount /dev/vda2 as root file system.\r\n",
        "could not mount the root filesystem /dev/vda2",
    ),
    "initramfs-tools-init": (
        b"run-init: can't execute '/sbin/init': No such file or directory\r\n"
        b"Target filesystem doesn't have requested /sbin/init.\r\n"
        b"No init found. Try passing init= bootarg.\r\n\r\n(initramfs) ",
        "the root filesystem has no init",
    ),
    "dracut": (
        b"[  138.230480] dracut-initqueue[254]: Warning: dracut-initqueue timeout - starting timeout"
        b" scripts\r\n"
        b"[  138.830532] dracut-initqueue[254]: Warning: Could not boot.\r\n"
        b"[  138.838455] dracut-initqueue[254]: Warning: /dev/centos/root does not exist\r\n"
        b"         Starting Dracut Emergency Shell...\r\n"
        b"Warning: /dev/centos/root does not exist\r\n\r\n"
        b'Generating "/run/initramfs/rdsosreport.txt"\r\n\r\n\r\n'
        b"Entering emergency mode. Exit the shell to continue.\r\n",
        "root device not found: dracut waited for /dev/centos/root",
    ),
    "dracut-shell": (
        b'Generating "/run/initramfs/rdsosreport.txt"\r\n\r\n'
        b"Entering emergency mode. Exit the shell to continue.\r\n"
        b'Type "journalctl" to view system logs.\r\n',
        "emergency mode: the initramfs (dracut)",
    ),
    "mkinitcpio": (
        b":: running early hook [udev]\r\n:: running hook [udev]\r\n:: Triggering uevents...\r\n"
        b"ERROR: device 'UUID=0a3407de-014b-458b-b5c1-848e92a327a3' not found. Skipping fsck.\r\n"
        b":: mounting 'UUID=0a3407de-014b-458b-b5c1-848e92a327a3' on real root\r\n"
        b"You are now being dropped into an emergency shell.\r\n",
        "root device not found: the initramfs waited for UUID=0a3407de",
    ),
    "kernel": (
        b'[    2.281404] VFS: Cannot open root device "sda2" or unknown-block(0,0): error -6\r\n'
        b'[    2.282341] Please append a correct "root=" boot option; here are the available partitions:\r\n'
        b"[    2.284611] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\r\n"
        b"[    2.285550] CPU: 0 PID: 1 Comm: swapper/0 Not tainted 6.1.0-18-amd64 #1\r\n",
        "kernel panic: the kernel could not mount the root filesystem on unknown-block(0,0)",
    ),
    "no-init": (
        b"[    3.1] Run /bin/sh as init process\r\n"
        b"[    3.2] Kernel panic - not syncing: No working init found.  Try passing init= option.\r\n",
        "kernel panic: No working init found.",
    ),
    "device": (
        b"[\x1b[0;1;31m TIME \x1b[0m] Timed out waiting for device "
        b"\x1b[0;1;39mdev-sdb1.device\x1b[0m - /dev/sdb1.\r\n"
        b"[\x1b[0;1;38;5;185mDEPEND\x1b[0m] Dependency failed for "
        b"\x1b[0;1;39mlocal-fs.target\x1b[0m - Local File Systems.\r\n"
        b'You are in emergency mode. After logging in, type "journalctl -xb" to view\r\n'
        b"Give root password for maintenance\r\n(or press Control-D to continue): ",
        "emergency mode: the device dev-sdb1.device - /dev/sdb1 has not appeared",
    ),
    "mount": (
        b"[\x1b[0;1;31mFAILED\x1b[0m] Failed to mount \x1b[0;1;39mdata.mount\x1b[0m - /data.\r\n"
        b"See 'systemctl status data.mount' for details.\r\n"
        b'You are in emergency mode. After logging in, type "journalctl -xb" to view\r\n',
        "emergency mode: data.mount - /data could not be mounted",
    ),
    "locked": (
        b'You are in rescue mode. After logging in, type "journalctl -xb" to view\r\n'
        b"Cannot open access to console, the root account is locked.\r\n",
        "rescue mode: a unit that the boot needs has failed",
    ),
    "fsck": (
        b"/dev/vda2: UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY.\r\n"
        b"\t(i.e., without -a or -p options)\r\nfsck exited with status code 4\r\n"
        b"Failure: File system check of the root filesystem failed\r\n"
        b"The root filesystem on /dev/vda2 requires a manual fsck\r\n\r\n(initramfs) ",
        "a filesystem is damaged: /dev/vda2: UNEXPECTED INCONSISTENCY",
    ),
    "no-root": (
        b"No root device specified. Boot arguments must include a root= parameter.\r\n\r\n(initramfs) ",
        "the boot loader names no root device",
    ),
    "grub-on-serial": (
        b"\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS (version 1.16.2-debian-1.16.2-1)\r\n"
        b"Booting from Hard Disk...\r\nGRUB loading.\r\n\x1b[0;30;47mWelcome to GRUB!\r\n\n"
        b"\x1b[0merror: unknown filesystem.\r\ngrub rescue> ",
        "GRUB rescue: GRUB could not read its own files (unknown filesystem.)",
    ),
    "grub-2.06": (
        b"GRUB loading.\r\nWelcome to GRUB!\r\n\r\n"
        b"error: no such device: 5b7c4f7b-08f8-4d7f-a7d6-31e0dbc2a0a5.\r\n"
        b"error: unknown filesystem.\r\nEntering rescue mode...\r\ngrub rescue> ",
        "GRUB rescue: GRUB could not read its own files (no such device: 5b7c4f7b",
    ),
    "grub-2.12": (
        b"GRUB loading..\r\nWelcome to GRUB!\r\n\r\n"
        b"error: ../../grub-core/kern/disk.c:236:disk `lvmid/Ee7mMg' not found.\r\n"
        b"Entering rescue mode...\r\ngrub rescue> ",
        "GRUB rescue: GRUB could not read its own files (disk `lvmid/Ee7mMg' not found.)",
    ),
    "grub-prompt": (
        b"                             GNU GRUB  version 2.06-13+deb12u1\r\n\r\n"
        b"   Minimal BASH-like line editing is supported. For the first word, TAB\r\n   lists.\r\n\r\ngrub> ",
        "GRUB found no configuration",
    ),
    "seabios": (
        b"SeaBIOS (version 1.16.2-debian-1.16.2-1)\r\nBooting from Hard Disk...\r\n"
        b"Boot failed: not a bootable disk\r\n\r\nNo bootable device.\r\n",
        "no bootable device: the firmware found nothing",
    ),
    "ovmf": (
        b'BdsDxe: failed to load Boot0002 "UEFI Misc Device" from PciRoot(0x0)/Pci(0x3,0x0): Not Found\r\n'
        b"BdsDxe: No bootable option or device was found.\r\nBdsDxe: Press any key to enter the Boot Manager",
        "no bootable device",
    ),
    "ovmf-shell": (
        b"UEFI Interactive Shell v2.2\r\nEDK II\r\nUEFI v2.70 (Debian distribution of EDK II, 0x00010000)\r\n"
        b"Mapping table\r\nPress ESC in 1 seconds to skip startup.nsh.\r\nShell> ",
        "no bootable device: the UEFI firmware",
    ),
    "windows-boot-sector": (
        b"Booting from Hard Disk...\r\n\r\nBOOTMGR is missing\r\nPress Ctrl+Alt+Del to restart\r\n",
        "the disk's boot sector says 'BOOTMGR is missing'",
    ),
    "windows-boot-manager": (
        b"                           Windows Boot Manager\r\n\r\n"
        b"Windows failed to start. A recent hardware or software change might be the cause.\r\n\r\n"
        b"    Status: 0xc000000f\r\n\r\n    Info: The boot selection failed because a required device is\r\n",
        "could not start it (status 0xc000000f)",
    ),
    "windows-stop": (
        b"A problem has been detected and Windows has been shut down.\r\n\r\nTechnical information:\r\n\r\n"
        b"*** STOP: 0x0000007B (0xF78D2524,0xC0000034,0x00000000,0x00000000)\r\n",
        "Windows stopped with the error 0x0000007B",
    ),
}
"""What consoles show, as it is written to a serial port or a text screen."""


@pytest.mark.parametrize("name", CONSOLES)
def test_diagnosis_of_a_console(name: str) -> None:
    said, words = CONSOLES[name]
    found = diagnose(readable(said))
    assert found is not None
    assert words in found.words


def test_what_only_an_emulator_does_is_no_fault_of_the_guest() -> None:
    said = (
        b"[    0.512081] ...trying to set up timer as ExtINT IRQ...\r\n[    0.617170] ..... failed :(.\r\n"
        b"[    0.617520] Kernel panic - not syncing: IO-APIC + timer doesn't work!  Boot with apic=debug and "
        b"send a report.  Then try booting with the 'noapic' option.\r\n"
    )
    assert is_stopped_by_emulator(said)
    assert not any(is_stopped_by_emulator(console) for console, _ in CONSOLES.values())
