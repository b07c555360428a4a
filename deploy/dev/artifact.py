"""Things that are built once and kept in the cache, each in a folder named after what made it."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from deploy.dev.layout import cache_dir


def kept(name: str, shelf: str = "bin") -> Path:
    """The folder of one build in the cache; it exists only when the build was complete."""
    return cache_dir() / shelf / name


def keep(name: str, build: Callable[[Path], None], shelf: str = "bin") -> Path:
    """Build into a new folder and put it under its name in one step; what is there already stays.

    Two builds of the same name may run at once: the first to finish is kept.
    """
    final = kept(name, shelf)
    if final.is_dir():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".{name}."))
    try:
        folder.chmod(0o755)
        build(folder)
        try:
            os.rename(folder, final)
        except OSError:
            if not final.is_dir():
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return final
