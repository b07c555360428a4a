"""The simulated vCenter's programme, built from `deploy/dev/vcenter`."""

import platform
from pathlib import Path

from deploy.dev import toolchain
from deploy.dev.artifact import keep, kept
from deploy.dev.layout import DEV, digest

MODULE = DEV / "vcenter"


def find_vcenter() -> Path | None:
    """The programme as built from today's sources, or None."""
    binary = kept(_name()) / "vcenter"
    return binary if binary.is_file() else None


def make_vcenter() -> Path:
    """Build it where it has not been built."""
    return keep(_name(), lambda folder: toolchain.build(MODULE, ".", folder / "vcenter")) / "vcenter"


def _name() -> str:
    sources = [path for path in MODULE.glob("*.go") if not path.name.endswith("_test.go")]
    return f"vcenter-{digest([*sources, MODULE / 'go.mod', MODULE / 'go.sum'], platform.machine())}"


if __name__ == "__main__":
    print(make_vcenter())
