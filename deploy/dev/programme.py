"""A Go programme of this repository, built once and kept: `python -m deploy.dev.programme NAME`."""

import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from deploy.dev import toolchain
from deploy.dev.artifact import keep, kept
from deploy.dev.layout import DEV, digest


@dataclass(frozen=True, slots=True)
class GoProgramme:
    """The main package of the module in `deploy/dev/NAME`."""

    name: str

    def find(self) -> Path | None:
        """The programme as built from today's sources, or None."""
        binary = kept(self._build()) / self.name
        return binary if binary.is_file() else None

    def make(self) -> Path:
        """Build it where it has not been built."""
        module = DEV / self.name
        return (
            keep(self._build(), lambda folder: toolchain.build(module, ".", folder / self.name)) / self.name
        )

    def _build(self) -> str:
        module = DEV / self.name
        sources = [path for path in module.glob("*.go") if not path.name.endswith("_test.go")]
        key = digest([*sources, module / "go.mod", module / "go.sum"], platform.machine())
        return f"{self.name}-{key}"


VCENTER = GoProgramme("vcenter")
"""The simulated vCenter."""
GOVC = GoProgramme("govc")
"""govmomi's client, which `make bench-copy` measures against."""

if __name__ == "__main__":
    print(GoProgramme(sys.argv[1]).make())
