"""`hyperctl`: the entry point. What a package plugs in under `hyperctl.commands` is a subcommand too."""

import sys
from importlib.metadata import entry_points

from hyperctl.client.cli.jobs import app
from hyperctl.client.errors import ClientError

COMMAND_GROUP = "hyperctl.commands"
EXIT_UNREACHABLE = 3


def main() -> None:
    """Run the command line; commands of other packages, such as the worker, are found by entry point."""
    for entry in entry_points(group=COMMAND_GROUP):
        app.command(entry.name)(entry.load())
    try:
        app()
    except ClientError as error:
        print(f"hyperctl: {error}", file=sys.stderr)
        if error.hint:
            print(error.hint, file=sys.stderr)
        sys.exit(EXIT_UNREACHABLE)
