"""`doctor`: is this host able, is Temporal there, does every role have a worker."""

import asyncio
from collections.abc import Callable
from typing import Annotated

import typer
from temporalio.service import RPCError

from hyperctl.client.cli.options import Json
from hyperctl.client.cli.session import ExitCode, print_document
from hyperctl.client.config import Configuration, Temporal, default_path
from hyperctl.client.connection import Connection, connect
from hyperctl.client.errors import ClientError, ConfigurationError
from hyperctl.client.plugins import DOCTOR, plugged
from hyperctl.client.pollers import PollerKind, live_pollers
from hyperctl.client.render.text import plural, safe
from hyperctl.workflows.doctor import Check, CheckState
from hyperctl.workflows.queues import WORKFLOW_QUEUE, Role, task_queue

_WORDS = {CheckState.OK: "ok", CheckState.WARNING: "warn", CheckState.FAILED: "FAIL"}
_ROLES = (Role.EXPORT, Role.VERIFY, Role.CONVERT, Role.IMPORT)


def doctor(
    host: Annotated[
        bool, typer.Option("--host/--no-host", help="Whether to look at this machine as a target host, too.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Check all that a migration needs; every problem comes with the way out."""
    checks: list[Check] = []

    def note(found: list[Check]) -> None:
        checks.extend(found)
        for check in found if not as_json else ():
            print(f"{_WORDS[check.state]:4}  {check.name}: {safe(check.detail)}", flush=True)
            if check.hint and check.state is not CheckState.OK:
                print(f"      {safe(check.hint)}", flush=True)

    settings, found = _configuration()
    note(found)
    asyncio.run(_temporal(settings, note))
    if host:
        for name, entry in plugged(DOCTOR).items():
            note(_plugged(name, entry.load))
    if as_json:
        print_document(
            [{"name": c.name, "state": c.state, "detail": c.detail, "hint": c.hint} for c in checks]
        )
    failed = any(check.state is CheckState.FAILED for check in checks)
    raise typer.Exit(ExitCode.FAILED if failed else ExitCode.OK)


def _configuration() -> tuple[Temporal, list[Check]]:
    try:
        configuration = Configuration.load()
    except ConfigurationError as error:
        problems = "; ".join(error.problems)
        check = Check("configuration", CheckState.FAILED, f"{error.message}: {problems}", error.hint)
        return Temporal(), [check]
    path = default_path()
    detail = str(path) if path.exists() else f"defaults; there is no {path}"
    return configuration.daemons.temporal, [Check("configuration", CheckState.OK, detail)]


async def _temporal(settings: Temporal, note: Callable[[list[Check]], None]) -> None:
    try:
        connection = await connect(settings)
        where = f"{settings.address}, namespace {settings.namespace}"
        note([Check("Temporal", CheckState.OK, where)])
        note([await _search_attributes(connection)])
        note([await _poller(connection, WORKFLOW_QUEUE, PollerKind.WORKFLOW, "hyperctl worker")])
        for role in _ROLES:
            command = f"hyperctl worker --role {role}"
            note([await _poller(connection, task_queue(role), PollerKind.ACTIVITY, command)])
    except ClientError as error:
        note([Check("Temporal", CheckState.FAILED, error.message, error.hint)])
    except RPCError as error:
        note([Check("Temporal", CheckState.FAILED, error.message)])


async def _search_attributes(connection: Connection) -> Check:
    missing = await connection.missing_search_attributes()
    if not missing:
        return Check("search attributes", CheckState.OK, "all there")
    return Check(
        "search attributes",
        CheckState.WARNING,
        f"the namespace lacks {', '.join(missing)}",
        "The first worker that starts registers them: hyperctl worker",
    )


async def _poller(connection: Connection, queue: str, kind: PollerKind, command: str) -> Check:
    found = await live_pollers(connection.client, queue, kind)
    name = f"queue {queue}"
    if found:
        return Check(name, CheckState.OK, f"{plural(len(found), 'worker')}: {', '.join(found)}")
    return Check(name, CheckState.WARNING, "no worker", f"Start one: {command}")


def _plugged(name: str, load: Callable[[], Callable[[], list[Check]]]) -> list[Check]:
    try:
        checks = load()
    except ImportError as error:
        return [
            Check(
                name, CheckState.FAILED, f"its checks cannot be loaded: {error}", "Install what is missing."
            )
        ]
    return checks()
