"""A worker host's own settings, from `HYPERCTL_...` environment variables."""

import socket
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from hyperctl.workflows.request import DEFAULT_OUTPUT_DIR


class HostSettings(BaseSettings):
    """What the activities need to know of the host they run on."""

    model_config = SettingsConfigDict(env_prefix="HYPERCTL_", extra="ignore")

    host: str = Field(default_factory=socket.gethostname)
    """The name under which this host's own task queues are known."""
    output_dir: str = DEFAULT_OUTPUT_DIR
    work_dir: Path = Path("/var/lib/hyper2kvm/work")
    """Logs and whatever else is the worker's own."""
    libvirt_uri: str = "qemu:///system"
    vsphere_ca_file: Path | None = None
    """Certificates to trust beside the system's, PEM."""
    vsphere_certificate_sha256: str = ""
    """The one certificate to trust, by its fingerprint; wins over any CA."""
    vsphere_credentials_file: Path | None = None
    """YAML, 0600: `username`, `password`, and under `servers` the same by server."""
    vsphere_timeout_seconds: float = 60.0
    stream_silence_seconds: float = Field(default=900.0, gt=0)
    """How long the stream of an export may send nothing: a host reads what is zero and sends none of it."""
    vddk_library_dir: Path | None = None
    """Where VMware's Virtual Disk Development Kit was unpacked; it holds `lib64`."""
    vddk_transports: str = Field(default="", pattern=r"^([a-z]+(:[a-z]+)*)?$")
    """What its library may use, in that order, `san:hotadd:nbdssl`; empty is its own choice."""
    disks_at_once: int = Field(default=3, ge=1)
    """Of one machine; the largest begin."""
    space_reserve_bytes: int = Field(default=256 << 20, ge=0)
    """Left free where images land, for ledgers, logs and the file system's own needs: a copy holds there."""
    space_patience_seconds: float = Field(default=600.0, ge=0)
    """How long a copy holds on a full file system before its job pauses and lets go of the source."""
    disk_keys_file: Path | None = None
    """Keys of encrypted disks: YAML, 0600; `activities/convert/disk_keys.py` documents it."""
    virtio_win: Path | None = None
    """VirtIO drivers for Windows: an ISO image or a folder; None is what `/usr/share/virtio-win` has."""
    virt_tools_dir: Path | None = None
    """What virt-v2v puts into Windows guests, `rhsrvany.exe`; `/usr/share/virt-tools` unless changed."""

    @property
    def log_dir(self) -> Path:
        return self.work_dir / "logs"
