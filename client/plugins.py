"""What other parts plug into the client by entry points, loaded only when it is needed.

The client may not import a worker or an activity; these say of themselves where they belong.
"""

from importlib.metadata import EntryPoint, entry_points

COMMANDS = "hyperctl.commands"
"""Name of a command to a function with typer's annotations, or to a `typer.Typer`."""
DOCTOR = "hyperctl.doctor"
"""Name to a function without arguments that returns a list of `hyperctl.workflows.doctor.Check`."""


def plugged(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group by name, in the order of their names; nothing is imported yet."""
    return {entry.name: entry for entry in sorted(entry_points(group=group), key=lambda entry: entry.name)}
