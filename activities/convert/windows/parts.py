"""What a host must have so that Windows guests can be converted on it.

virt-v2v(1) documents them under FILES and ENVIRONMENT VARIABLES.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from hyperctl.activities.settings import HostSettings
from hyperctl.workflows.errors import ErrorCode, Failure
from hyperctl.workflows.hardware import Hardware

PROGRAMME = "virt-v2v-in-place"
USUAL_VIRTIO_WIN = (Path("/usr/share/virtio-win/virtio-win.iso"), Path("/usr/share/virtio-win"))
USUAL_TOOLS_DIR = Path("/usr/share/virt-tools")
SERVICES = ("rhsrvany.exe", "pvvxsvc.exe")
"""One of them runs in Windows, as the service that starts scripts at its first boot."""
VARIABLE = "HYPERCTL_VIRTIO_WIN"
VARIABLE_TOOLS = "HYPERCTL_VIRT_TOOLS_DIR"
WITHOUT_VIRTIO = "--disk-bus sata --nic-model e1000e"


class WindowsParts(BaseModel):
    """Where this host has them."""

    model_config = ConfigDict(frozen=True)

    virtio_win: Path | None = None
    """Drivers: an ISO image or a folder with its content; None where there are none."""
    tools_dir: Path = USUAL_TOOLS_DIR

    @classmethod
    def of(cls, settings: HostSettings) -> "WindowsParts":
        usual = next((path for path in USUAL_VIRTIO_WIN if path.exists()), None)
        return cls(
            virtio_win=settings.virtio_win or usual, tools_dir=settings.virt_tools_dir or USUAL_TOOLS_DIR
        )

    @property
    def environment(self) -> Mapping[str, str]:
        """For virt-v2v, which takes both from there."""
        found = {"VIRT_TOOLS_DATA_DIR": str(self.tools_dir)}
        return found | {"VIRTIO_WIN": str(self.virtio_win)} if self.virtio_win else found

    def missing(self, hardware: Hardware) -> tuple[Failure, ...]:
        """All that this host lacks for a Windows guest on such hardware."""
        found = []
        if shutil.which(PROGRAMME) is None:
            found.append(
                (
                    f"this host has no {PROGRAMME}, which converts Windows guests",
                    "Install it (apt install virt-v2v).",
                )
            )
        if not any((self.tools_dir / name).is_file() for name in SERVICES):
            found.append(
                (
                    f"there is no {' or '.join(SERVICES)} in {self.tools_dir}, by which Windows finishes its "
                    "conversion at its first boot",
                    f"Put rhsrvany.exe there (the README says whence), or name its folder: {VARIABLE_TOOLS}.",
                )
            )
        needed = hardware.disk_bus.needs_virtio or hardware.nic_model.needs_virtio
        if needed and self.virtio_win is None:
            found.append(
                (
                    "this host has no VirtIO drivers for Windows (virtio-win)",
                    f"Name its ISO or folder: {VARIABLE}. Or do without VirtIO: {WITHOUT_VIRTIO}.",
                )
            )
        elif needed and self.virtio_win is not None and not self.virtio_win.exists():
            found.append(
                (f"there are no VirtIO drivers for Windows at {self.virtio_win}", f"Correct {VARIABLE}.")
            )
        return tuple(
            Failure(code=ErrorCode.HOST_INCAPABLE, message=message, hint=hint) for message, hint in found
        )
