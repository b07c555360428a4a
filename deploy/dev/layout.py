"""Where things are: the checkout, the caches, and keys that change when what is built from them does."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEV = ROOT / "deploy" / "dev"
BUILD = ROOT / "build"
VENV = ROOT / ".venv"


def cache_dir() -> Path:
    """What is expensive to make and may be thrown away: `$XDG_CACHE_HOME/hyperctl`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "hyperctl"


def state_dir() -> Path:
    """What the development stack keeps: `$XDG_STATE_HOME/hyperctl/dev`."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "hyperctl" / "dev"


def digest(files: Iterable[Path], *facts: str) -> str:
    """A short key over the files' names and contents and over further facts, for a cache entry's name."""
    key = hashlib.sha256()
    for fact in facts:
        key.update(fact.encode() + b"\0")
    for file in sorted(files):
        key.update(str(file.relative_to(ROOT)).encode() + b"\0")
        key.update(hashlib.sha256(file.read_bytes()).digest())
    return key.hexdigest()[:16]
