"""What every command needs: settings, a connection, and errors as messages with the right exit code."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from enum import IntEnum
from typing import NoReturn, TypeVar

import typer
from pydantic import BaseModel

from hyperctl.client.config import Configuration
from hyperctl.client.connection import connect
from hyperctl.client.errors import ClientError, ConfigurationError, MigrationFailed, UnreachableError
from hyperctl.client.render.text import safe, safe_lines
from hyperctl.client.sdk import MigrationClient

T = TypeVar("T")


class ExitCode(IntEnum):
    """What `hyperctl` exits with; shown by `hyperctl --help`."""

    OK = 0
    FAILED = 1
    """The migration failed or was cancelled, or what was asked for could not be done."""
    USAGE = 2
    """The command line or the configuration is wrong."""
    UNREACHABLE = 3
    """Temporal does not answer, or no worker is there."""
    INTERRUPTED = 130
    """Ctrl-C; a migration under way goes on."""


def load_configuration() -> Configuration:
    """The user's configuration, or its problems on the screen and the end."""
    try:
        return Configuration.load()
    except ConfigurationError as error:
        fail(error)


def run(configuration: Configuration, act: Callable[[MigrationClient], Awaitable[T]]) -> T:
    """Run a command's work with a connected client; an error becomes a message and an exit code."""

    async def connected() -> T:
        connection = await connect(configuration.daemons.temporal)
        return await act(MigrationClient(connection.client, connection.settings))

    try:
        return asyncio.run(connected())
    except ClientError as error:
        fail(error)
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def fail(error: ClientError) -> NoReturn:
    """Say what is wrong and what to do, and leave with the code that belongs to it."""
    problems = list(error.problems) if isinstance(error, ConfigurationError) else []
    if isinstance(error, MigrationFailed) and len(error.failures) > 1:
        problems = [f"{failure.message} {failure.hint}".rstrip() for failure in error.failures]
    complain(error.message if not isinstance(error, MigrationFailed) else _short(error), error.hint, problems)
    if isinstance(error, ConfigurationError):
        raise typer.Exit(ExitCode.USAGE)
    if isinstance(error, UnreachableError):
        raise typer.Exit(ExitCode.UNREACHABLE)
    raise typer.Exit(ExitCode.FAILED)


def refuse(problems: list[str]) -> NoReturn:
    """The command line cannot be meant like this; every problem at once."""
    if len(problems) == 1:
        complain(problems[0])
    else:
        complain("the command line has problems", "", problems)
    raise typer.Exit(ExitCode.USAGE)


def complain(message: str, hint: str = "", problems: list[str] | None = None) -> None:
    """To stderr, where nothing of it can be taken for the answer."""
    first, *rest = safe_lines(message)
    print(f"hyperctl: {first}", file=sys.stderr)
    for line in rest:
        print(f"  {line}", file=sys.stderr)
    for problem in problems or []:
        print(f"  - {safe(problem)}", file=sys.stderr)
    for line in safe_lines(hint) if hint else []:
        print(f"  {line}", file=sys.stderr)


def print_document(document: BaseModel | list[object] | dict[str, object]) -> None:
    """One JSON document. All but ASCII is escaped: it may come from anybody, and go to a terminal."""
    value = document.model_dump(mode="json") if isinstance(document, BaseModel) else document
    print(json.dumps(value, indent=2, ensure_ascii=True), flush=True)


def _short(error: MigrationFailed) -> str:
    if len(error.failures) > 1:
        return f"{error.status.job_id} ({error.status.vm_name}) has several problems"
    return error.message
