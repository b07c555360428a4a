"""`hyperctl`: the entry point and the list of its commands.

What a package plugs in under `hyperctl.commands` is a command too; it is imported when it is called for.
"""

import os
import sys
from importlib.metadata import version as installed_version
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from hyperctl.client.cli import control, discard, doctor, inventory, migrate, plan, read, rehearse
from hyperctl.client.plugins import COMMANDS, plugged

_HELP = """Moves virtual machines from vSphere to KVM and proves that they arrived."""
_EPILOG = (
    "Exit codes: 0 done; 1 the migration failed or was cancelled, or it could not be done; 2 wrong usage or "
    "configuration; 3 Temporal or a worker is not reachable; 130 interrupted, the migration goes on."
)


class CommandGroup(TyperGroup):
    """Our own commands and the plugged ones."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [
            *super().list_commands(ctx),
            *(name for name in plugged(COMMANDS) if name not in self.commands),
        ]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        entry = None if cmd_name in self.commands else plugged(COMMANDS).get(cmd_name)
        return super().get_command(ctx, cmd_name) if entry is None else _as_command(cmd_name, entry.load())


def _as_command(name: str, loaded: Any) -> Any:
    if not isinstance(loaded, typer.Typer):
        single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        single.command(name)(loaded)
        loaded = single
    command = typer.main.get_command(loaded)
    command.name = name
    return command


app = typer.Typer(
    name="hyperctl",
    cls=CommandGroup,
    help=_HELP,
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def version() -> None:
    """Print the version."""
    print(f"hyperctl {installed_version('hyperctl')}")


app.command("inventory")(inventory.inventory)
app.command("plan")(plan.plan)
app.command("convert")(migrate.convert)
app.command("start")(migrate.start)
app.command("rehearse")(rehearse.rehearse)
app.command("status")(read.status)
app.command("query")(read.query)
app.command("list")(read.list_migrations)
app.command("logs")(read.logs)
app.command("cancel")(control.cancel)
app.command("discard")(discard.discard)
app.command("pause")(control.pause)
app.command("resume")(control.resume)
app.command("retry-now")(control.retry_now)
app.command("set-priority")(control.set_priority)
app.command("set-bandwidth")(control.set_bandwidth)
app.command("retry")(migrate.retry)
app.command("import")(migrate.import_domain)
app.command("doctor")(doctor.doctor)
app.command("version")(version)


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    code = _run()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        pass  # nobody is there to read it
    # The interpreter's own shutdown races with the threads of the Temporal client and may abort.
    os._exit(code)


def _run() -> int:
    try:
        app(prog_name="hyperctl")
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else int(left.code is not None)
    except BrokenPipeError:
        return 0  # the reader has seen enough: `hyperctl logs | head`
    return 0
