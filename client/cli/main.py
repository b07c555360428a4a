"""`hyperctl`: the entry point. What a package plugs in under `hyperctl.commands` is a subcommand too."""

import os
import sys
from importlib.metadata import entry_points
from typing import NoReturn

from hyperctl.client.cli.jobs import app
from hyperctl.client.errors import ClientError

COMMAND_GROUP = "hyperctl.commands"
EXIT_UNREACHABLE = 3


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    _add_plugged_in_commands(sys.argv[1:2])
    code = _run()
    sys.stdout.flush()
    sys.stderr.flush()
    # The interpreter's own shutdown races with the threads of the Temporal client and may abort.
    os._exit(code)


def _add_plugged_in_commands(first_word: list[str]) -> None:
    """Load what other packages plug in, the worker with all it needs, only where it is asked for."""
    for entry in entry_points(group=COMMAND_GROUP):
        if first_word in ([], ["--help"], [entry.name]):
            app.command(entry.name)(entry.load())


def _run() -> int:
    try:
        app()
    except ClientError as error:
        print(f"hyperctl: {error}", file=sys.stderr)
        if error.hint:
            print(error.hint, file=sys.stderr)
        return EXIT_UNREACHABLE
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else int(left.code is not None)
    return 0
