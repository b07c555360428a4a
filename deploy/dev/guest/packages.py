"""The guest agent's packages for guests of this machine's own release, from the mirror that its apt uses."""

import subprocess
from pathlib import Path

from deploy.dev.artifact import keep
from deploy.dev.guest.place import SHELF
from deploy.dev.layout import digest

AGENT = "qemu-guest-agent"
NEEDED = ("libnuma1", "liburing2", "libglib2.0-0", "libpcre2-8-0")
"""What it depends on, and a small system may lack."""


def agent_packages() -> Path:
    """A folder with the packages, kept in the cache."""
    names = (AGENT, *NEEDED)
    return keep(f"{AGENT}-{digest([], *names)}", lambda folder: _download(names, folder), SHELF)


def _download(names: tuple[str, ...], folder: Path) -> None:
    argv = ["apt-get", "-o", "APT::Sandbox::User=root", "download", *names]
    subprocess.run(argv, check=True, cwd=folder, timeout=600)
