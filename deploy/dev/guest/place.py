"""Where the built guests are kept; needs nothing but the system's Python."""

import platform
from pathlib import Path

from deploy.dev.artifact import kept
from deploy.dev.guest.guest import Guest
from deploy.dev.guest.recipe import DEMO
from deploy.dev.guest.script import build_script
from deploy.dev.guest.tree import base_key, install_script
from deploy.dev.layout import DEV, digest

SHELF = "guests"


def build_name(guest: Guest) -> str:
    """Changes with the guest's recipe and with what makes disks of it, and not with other guests."""
    steps = [base_key(guest.suite), install_script(guest, ""), build_script(guest, {}, guest.files)]
    return f"{guest.name}-{digest([DEV / 'guest' / 'shape.py'], guest.recipe, *steps, platform.machine())}"


def find_guest(guest: Guest) -> Path | None:
    """The folder that holds the guest's own, as built from today's recipe, or None."""
    folder = kept(build_name(guest), SHELF)
    return folder if (folder / guest.name / "guest.json").is_file() else None


def find_guests() -> Path | None:
    """The folder that the simulated vCenter of the demo serves: it has the demo's guest only."""
    return find_guest(DEMO)
