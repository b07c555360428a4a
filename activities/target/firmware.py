"""UEFI firmware images on this host, found by the descriptors that firmware packages install.

Format: QEMU's docs/interop/firmware.json. A descriptor in a later folder replaces one of the same name in
an earlier folder; an empty one hides it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

DESCRIPTOR_FOLDERS = (Path("/usr/share/qemu/firmware"), Path("/etc/qemu/firmware"))
SECURE_FEATURES = frozenset({"secure-boot", "enrolled-keys"})


@dataclass(frozen=True, slots=True)
class FirmwareFiles:
    """The firmware's code and the template of its variables, both raw."""

    code: str
    variables_template: str
    secure_boot: bool = False
    """Keys are enrolled, so only signed loaders run; needs q35 and system management mode."""


class _Flash(BaseModel):
    filename: str
    format: str


class _Mapping(BaseModel):
    model_config = ConfigDict(extra="ignore")

    device: str
    mode: str = "split"
    executable: _Flash | None = None
    nvram_template: _Flash | None = Field(default=None, alias="nvram-template")


class _Target(BaseModel):
    architecture: str
    machines: tuple[str, ...]


class _Descriptor(BaseModel):
    model_config = ConfigDict(extra="ignore")

    interface_types: tuple[str, ...] = Field(alias="interface-types")
    mapping: _Mapping
    targets: tuple[_Target, ...]
    features: tuple[str, ...] = ()

    def serves(self, machine_type: str) -> bool:
        return "uefi" in self.interface_types and any(
            target.architecture == "x86_64"
            and any(fnmatchcase(machine_type, pattern) for pattern in target.machines)
            for target in self.targets
        )

    def files(self, secure_boot: bool) -> FirmwareFiles | None:
        mapping = self.mapping
        if mapping.device != "flash" or mapping.mode != "split":
            return None
        code, template = mapping.executable, mapping.nvram_template
        if code is None or template is None or code.format != "raw" or template.format != "raw":
            return None
        features = set(self.features)
        fits = features >= SECURE_FEATURES if secure_boot else "secure-boot" not in features
        return FirmwareFiles(code.filename, template.filename, secure_boot) if fits else None


def find_firmware(
    *, secure_boot: bool, q35: bool = True, folders: Sequence[Path] = DESCRIPTOR_FOLDERS
) -> FirmwareFiles | None:
    """The best firmware of this host for x86_64 guests, or None where no installed one fits."""
    machine_type = "pc-q35-9.9" if q35 else "pc-i440fx-9.9"
    by_name = {path.name: path for folder in folders for path in folder.glob("*.json")}
    for name in sorted(by_name):
        try:
            descriptor = _Descriptor.model_validate_json(by_name[name].read_bytes())
        except (OSError, ValidationError):
            continue  # an empty file hides a descriptor; one in a newer format cannot be judged
        files = descriptor.files(secure_boot) if descriptor.serves(machine_type) else None
        if files and Path(files.code).exists() and Path(files.variables_template).exists():
            return files
    return None
