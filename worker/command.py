"""`hyperctl worker`: the command line of the worker process."""

import asyncio
import logging
import sys
from typing import Annotated

import typer
from pydantic import ValidationError

from hyperctl.activities.settings import HostSettings
from hyperctl.worker.service import serve
from hyperctl.worker.settings import WORK_ROLES, WorkerSettings
from hyperctl.workflows.queues import Role


def parse_roles(text: str) -> tuple[Role, ...]:
    """`export,verify` or `all`; raises `typer.BadParameter` naming every unknown role."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names == ["all"]:
        return WORK_ROLES
    unknown = [name for name in names if name not in set(WORK_ROLES)]
    if unknown or not names:
        raise typer.BadParameter(
            f"unknown role {', '.join(unknown) or '(none)'}; the roles are {', '.join(WORK_ROLES)} and all"
        )
    return tuple(dict.fromkeys(Role(name) for name in names))


def worker(
    role: Annotated[
        str, typer.Option(help="Any of export, verify, convert, import, rehearse; or all.")
    ] = "all",
    host: Annotated[
        str | None, typer.Option(help="The name of this host's own queues; its host name.")
    ] = None,
    address: Annotated[str | None, typer.Option(help="Temporal's address, HOST:PORT.")] = None,
    namespace: Annotated[str | None, typer.Option(help="Temporal's namespace.")] = None,
    drain: Annotated[
        float | None, typer.Option(help="Seconds to wait for running work when stopped.")
    ] = None,
) -> None:
    """Serve migrations on this host until stopped by SIGTERM, then drain."""
    roles = parse_roles(role)
    given = {"temporal_address": address, "temporal_namespace": namespace, "drain_seconds": drain}
    try:
        settings = WorkerSettings.model_validate(
            WorkerSettings().model_dump() | {key: value for key, value in given.items() if value is not None}
        )
        host_settings = HostSettings(host=host) if host else HostSettings()
    except ValidationError as error:
        for problem in error.errors():
            name = "HYPERCTL_" + "_".join(str(part) for part in problem["loc"]).upper()
            typer.echo(f"{name}: {problem['msg']}", err=True)
        raise typer.Exit(2) from None
    logging.basicConfig(
        stream=sys.stderr,
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    asyncio.run(serve(host_settings, settings, roles))
