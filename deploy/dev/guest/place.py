"""Where the built guests are kept; needs nothing but the system's Python."""

import platform
from pathlib import Path

from deploy.dev.artifact import kept
from deploy.dev.guest.guest import Guest
from deploy.dev.guest.recipe import DEMO
from deploy.dev.layout import DEV, digest

SHELF = "guests"
MAKERS = ("guest.py", "tree.py", "script.py", "shape.py")


def build_name(guest: Guest) -> str:
    """Changes with the guest's recipe and with what makes disks of one."""
    makers = [DEV / "guest" / name for name in MAKERS]
    return f"{guest.name}-{digest(makers, guest.recipe, platform.machine())}"


def find_guest(guest: Guest) -> Path | None:
    """The folder that holds the guest's own, as built from today's recipe, or None."""
    folder = kept(build_name(guest), SHELF)
    return folder if (folder / guest.name / "guest.json").is_file() else None


def find_guests() -> Path | None:
    """The folder that the simulated vCenter of the demo serves: it has the demo's guest only."""
    return find_guest(DEMO)
