"""`convert`, `start`, `retry` and `import`: what makes something happen."""

from typing import Annotated

import typer

from hyperctl.client.cli.asking import Asked, make_request
from hyperctl.client.cli.follow import follow
from hyperctl.client.cli.options import (
    Job,
    Json,
    NetworkMap,
    VCenterOfJob,
    VmOfJob,
    find,
    parse_network_map,
    takes,
)
from hyperctl.client.cli.session import ExitCode, load_configuration, print_document, refuse, run
from hyperctl.client.config import Configuration
from hyperctl.client.migration import Migration, Origin
from hyperctl.client.render.screen import Screen, choose_screen
from hyperctl.client.render.text import clock, safe
from hyperctl.client.sdk import MigrationClient
from hyperctl.workflows.request import MigrationRequest

Again = Annotated[
    bool, typer.Option("--again", help="Migrate once more what has been migrated; earlier images stay.")
]
Detach = Annotated[bool, typer.Option("--detach", help="Print the job's id and do not wait.")]


@takes(Asked)
def convert(asked: Asked, *, again: Again = False, detach: Detach = False, as_json: Json = False) -> None:
    """Migrate a VM and follow it. Ctrl-C detaches; the migration goes on."""
    configuration = load_configuration()
    request = make_request(asked, configuration)
    _go(configuration, request, again=again, detach=detach, as_json=as_json)


@takes(Asked)
def start(asked: Asked, *, again: Again = False, as_json: Json = False) -> None:
    """Start a migration and print its job id: `convert --detach`."""
    configuration = load_configuration()
    request = make_request(asked, configuration)
    _go(configuration, request, again=again, detach=True, as_json=as_json)


def retry(job: Job = None, detach: Detach = False, as_json: Json = False) -> None:
    """Start a failed or cancelled migration again; nothing that is finished is done again."""
    if job is None:
        refuse(["--job is missing: the job to try again"])
    configuration = load_configuration()

    async def act(client: MigrationClient) -> ExitCode:
        return await _present(await client.retry(job), configuration, detach=detach, as_json=as_json)

    raise typer.Exit(run(configuration, act))


def import_domain(
    job: Job = None,
    vm: VmOfJob = None,
    vcenter: VCenterOfJob = None,
    start: Annotated[bool, typer.Option("--start", help="Start the domain, too.")] = False,
    name: Annotated[
        str | None, typer.Option(help="The domain's name; the VM's own.", show_default=False)
    ] = None,
    network_map: NetworkMap = None,
    as_json: Json = False,
) -> None:
    """Define the libvirt domain of a job that ended after its conversion."""
    problems: list[str] = []
    mapped = parse_network_map(network_map, problems) if network_map else None
    if problems:
        refuse(problems)
    which = find(job, vm, vcenter)

    async def act(client: MigrationClient) -> None:
        migration = await which(client)
        imported = await migration.import_domain(start=start, network_map=mapped, domain_name=name)
        if as_json:
            print_document(imported)
            return
        print(f"Defined in libvirt: {safe(imported.domain)}" + (", started" if imported.started else ""))
        for warning in imported.warnings:
            print(f"  warning: {safe(warning)}")

    run(load_configuration(), act)


def _go(
    configuration: Configuration, request: MigrationRequest, *, again: bool, detach: bool, as_json: bool
) -> None:
    async def act(client: MigrationClient) -> ExitCode:
        migration = await client.start(request, again=again)
        return await _present(migration, configuration, detach=detach, as_json=as_json, request=request)

    raise typer.Exit(run(configuration, act))


async def _present(
    migration: Migration,
    configuration: Configuration,
    *,
    detach: bool,
    as_json: bool,
    request: MigrationRequest | None = None,
) -> ExitCode:
    """Say what was begun and, unless detached, follow it."""
    if detach and as_json:
        print_document({"job_id": migration.job_id, "origin": migration.origin})
        return ExitCode.OK
    with choose_screen(configuration.ui, silent=as_json) as screen:
        await _introduce(migration, screen, request)
        if not detach:
            return await follow(migration, screen, as_json=as_json)
        screen.say(f"Follow it: hyperctl status --job {migration.job_id} --follow")
    return ExitCode.OK


async def _introduce(migration: Migration, screen: Screen, request: MigrationRequest | None) -> None:
    began = clock((await migration.describe()).start_time)
    again = "to do it once more: --again"
    screen.say(
        {
            Origin.STARTED: "🚀 Starting VM conversion",
            Origin.RETRIED: "🚀 Trying again: going on from what the last attempt left",
            Origin.ATTACHED: f"Attached to the migration under way since {began}",
            Origin.FINISHED: f"This VM has been migrated already, started {began}; {again}",
        }[migration.origin or Origin.ATTACHED]
    )
    screen.say(f"Job ID: {migration.job_id}")
    if request and migration.origin in (Origin.ATTACHED, Origin.FINISHED):
        first = await migration.request()
        fields = [
            name
            for name in MigrationRequest.model_fields
            if name not in ("requested_by", "tags") and getattr(first, name) != getattr(request, name)
        ]
        if fields:
            screen.say(f"It was asked for with other options, and these hold: {', '.join(fields)}")
