"""A secret for a programme to read from a file, without a file that could be left behind."""

import os
from pathlib import Path


class SecretFile:
    """A file in memory, with no name but that of its descriptor: it is gone with those who have it open."""

    def __init__(self, content: str) -> None:
        self.descriptor = os.memfd_create("hyperctl-secret", os.MFD_CLOEXEC)
        os.write(self.descriptor, content.encode())

    @property
    def path(self) -> Path:
        """Where a programme that inherits the descriptor finds it."""
        return Path(f"/proc/self/fd/{self.descriptor}")

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> "SecretFile":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
