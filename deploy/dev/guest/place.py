"""Where the built guests are kept; needs nothing but the system's Python."""

import platform
from pathlib import Path

from deploy.dev.artifact import kept
from deploy.dev.guest.recipe import NAME
from deploy.dev.layout import DEV, digest

SHELF = "guests"


def build_name() -> str:
    """Changes with the recipe and with what makes a disk of it."""
    return f"source-{digest((DEV / 'guest').glob('*.py'), platform.machine())}"


def find_guests() -> Path | None:
    """The folder of guests as built from today's recipe, or None."""
    folder = kept(build_name(), SHELF)
    return folder if (folder / NAME / "guest.json").is_file() else None
