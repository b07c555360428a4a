"""`hyperctl`: the one command. What a package plugs in under `hyperctl.commands` is a subcommand too."""

from importlib.metadata import entry_points

import typer

COMMAND_GROUP = "hyperctl.commands"

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def hyperctl() -> None:
    """Moves virtual machines from vSphere to KVM and proves that they arrived."""


def main() -> None:
    """Run the command line; commands of other packages, such as the worker, are found by entry point."""
    for entry in entry_points(group=COMMAND_GROUP):
        app.command(entry.name)(entry.load())
    app()
