"""The interface that the commands print through, and the choice of who answers to it."""

import os
import sys
from typing import Protocol, TextIO

from rich.console import Console

from hyperctl.client.config import Ui
from hyperctl.client.render.ending import Ending
from hyperctl.client.render.events import Event
from hyperctl.client.render.live import LiveScreen
from hyperctl.client.render.plain import PlainScreen


class Screen(Protocol):
    """Shows a migration. Used as a context; nothing is left half drawn when it is left."""

    def __enter__(self) -> "Screen": ...
    def __exit__(self, *exception: object) -> None: ...
    def show(self, event: Event) -> None: ...
    def say(self, text: str) -> None: ...
    def end(self, ending: Ending) -> None: ...


class Silence:
    """For `--json`: the document at the end is all there is."""

    def __enter__(self) -> "Silence":
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def show(self, event: Event) -> None:
        return None

    def say(self, text: str) -> None:
        return None

    def end(self, ending: Ending) -> None:
        return None


def choose_screen(ui: Ui, *, silent: bool = False, stream: TextIO | None = None) -> Screen:
    """Live on a terminal that can; plain lines elsewhere, and where the user wants no progress."""
    if silent:
        return Silence()
    stream = stream or sys.stdout
    return LiveScreen(make_console(ui, stream)) if is_live(ui, stream) else PlainScreen(stream)


def is_live(ui: Ui, stream: TextIO) -> bool:
    """Whether it is a terminal that can be drawn on, and the user wants that."""
    return ui.show_progress and stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def make_console(ui: Ui, stream: TextIO) -> Console:
    """Without markup, emoji codes or highlighting: what is printed is text, whoever wrote it.

    NO_COLOR is rich's own to obey.
    """
    no_color = True if not ui.color else None
    return Console(file=stream, markup=False, emoji=False, highlight=False, no_color=no_color)
