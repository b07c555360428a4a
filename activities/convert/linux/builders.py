"""The command lines of the tools that make an initramfs or a unified kernel image.

Sources: mkinitramfs(8), dracut(8), mkinitcpio(8), SUSE's and Red Hat's mkinitrd(8), Alpine's mkinitfs(1),
ukify(1).
"""

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Building:
    """One initramfs to be made."""

    version: str
    image: str
    """The kernel's."""
    output: str
    modules: tuple[str, ...]
    is_suse: bool = False
    readable: bool = False
    """Packed with gzip, which every kernel reads, in place of what the guest's settings say."""


def command(tool: str, building: Building) -> tuple[str, ...]:
    """The tool by its bare name and its arguments. Each writes to where it is told and to no other place.

    `update-initramfs` is not called, since it writes over the image that is there.
    """
    version, output = building.version, building.output
    packed: tuple[str, ...]
    if tool == "initramfs-tools":
        packed = ("-c", "gzip") if building.readable else ()
        return ("mkinitramfs", *packed, "-o", output, version)
    if tool == "dracut":
        packed = ("--gzip",) if building.readable else ()
        return ("dracut", "--force", *packed, output, version)
    if tool == "mkinitcpio":
        packed = ("-z", "gzip") if building.readable else ()
        # What the hook `autodetect` would see is the appliance's hardware.
        return ("mkinitcpio", *packed, "-S", "autodetect", "-k", version, "-g", output)
    if tool == "mkinitfs":
        return ("mkinitfs", "-o", output, version)
    if building.is_suse:
        # Without -B it would have the boot loader's own tool rewrite its menu, and fail as that does; its
        # modules are those of /etc/sysconfig/kernel, which -m would take the place of.
        return ("mkinitrd", "-B", "-k", building.image, "-i", output)
    loaded = tuple(f"--with={name}" for name in building.modules)
    return ("mkinitrd", "-f", *loaded, output, version)


def unified_command(
    builder: str, version: str, arguments: str, folder: str, output: str, profiles: int = 0
) -> tuple[str, ...]:
    """From the parts `linux`, `cmdline` and, for ukify, `initrd` in a folder of the guest.

    With so many profiles: the first's `profile0` is there too, and the others as `profileN.efi`.
    """
    linux, arguments_file = f"{folder}/linux", f"{folder}/cmdline"
    if builder == "ukify":
        return (
            "ukify",
            "build",
            f"--linux={linux}",
            f"--initrd={folder}/initrd",
            f"--cmdline=@{arguments_file}",
            f"--uname={version}",
            "--os-release=@/etc/os-release",
            *((f"--profile=@{folder}/profile0",) if profiles else ()),
            *(f"--join-profile={folder}/profile{number}.efi" for number in range(1, profiles)),
            f"--output={output}",
        )
    if builder == "dracut":
        ours = ("--kernel-image", linux, "--kernel-cmdline", arguments)
        return ("dracut", "--force", "--uefi", *ours, output, version)
    return (
        "mkinitcpio",
        "-S",
        "autodetect",
        "--kernelimage",
        linux,
        "--cmdline",
        arguments_file,
        "-k",
        version,
        "-U",
        output,
    )


def profile_command(folder: str, number: int, parts: Collection[str]) -> tuple[str, ...]:
    """ukify's for one profile behind the first, of `profileN`, `cmdlineN` and `initrdN` in the folder.

    ukify has profiles since systemd 257; what the first has becomes what all share.
    """
    options = {"profile": "--profile=@", "cmdline": "--cmdline=@", "initrd": "--initrd="}
    given = (f"{options[part]}{folder}/{part}{number}" for part in options if part in parts)
    return ("ukify", "build", *given, f"--output={folder}/profile{number}.efi")
