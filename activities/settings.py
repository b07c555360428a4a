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
    """YAML, 0600: `username`, `password`, or a mapping of server to these."""
    vsphere_timeout_seconds: float = 60.0
    disk_keys_file: Path | None = None
    """Keys of encrypted disks: YAML, 0600; `activities/convert/disk_keys.py` documents it."""

    @property
    def log_dir(self) -> Path:
        return self.work_dir / "logs"
