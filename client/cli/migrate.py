"""`convert`, `start`, `retry` and `import`: what makes something happen."""

import sys
from typing import Annotated

import typer

from hyperctl.client.cli.asking import Asked, make_request
from hyperctl.client.cli.follow import follow
from hyperctl.client.cli.options import (
    Detach,
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
from hyperctl.client.errors import JobConflict
from hyperctl.client.job import Origin
from hyperctl.client.migration import Migration
from hyperctl.client.rehearsal import Rehearsal
from hyperctl.client.render.rehearsed import age, verdict_text
from hyperctl.client.render.screen import Screen, choose_screen
from hyperctl.client.render.text import clock, safe
from hyperctl.client.sdk import MigrationClient
from hyperctl.workflows.control import domain_name_problem
from hyperctl.workflows.request import MigrationRequest

Again = Annotated[
    bool, typer.Option("--again", help="Migrate once more what has been migrated; earlier images stay.")
]


@takes(Asked)
def convert(asked: Asked, *, again: Again = False, detach: Detach = False, as_json: Json = False) -> None:
    """Migrate a VM and follow it. Ctrl-C detaches; the migration goes on."""
    configuration = load_configuration()
    request = make_request(asked, configuration)
    _go(configuration, request, again=again, detach=detach, as_json=as_json)


@takes(Asked)
def start(asked: Asked, *, again: Again = False, as_json: Json = False) -> None:
    """Start a migration and print its job id, and nothing else, on stdout: `convert --detach`."""
    configuration = load_configuration()
    request = make_request(asked, configuration)
    _go(configuration, request, again=again, detach=True, as_json=as_json)


def retry(job: Job = None, detach: Detach = False, as_json: Json = False) -> None:
    """Start a failed or cancelled migration, or a rehearsal, again; what a migration has finished stays."""
    if job is None:
        refuse(["--job is missing: the job to try again"])
    configuration = load_configuration()

    async def act(client: MigrationClient) -> ExitCode:
        found = await client.job(job)
        again = await (client.retry(job) if isinstance(found, Migration) else _rehearse_again(client, found))
        return await _present(again, configuration, detach=detach, as_json=as_json)

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
    if name is not None and domain_name_problem(name):
        problems.append(f"--name {name!r}: {domain_name_problem(name)}")
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
        await _refuse_other_options(migration, request)
        return await _present(
            migration,
            configuration,
            detach=detach,
            as_json=as_json,
            request=request,
            remembered="" if as_json else await _remembered(client, request),
        )

    raise typer.Exit(run(configuration, act))


async def _rehearse_again(client: MigrationClient, rehearsal: Rehearsal) -> Rehearsal:
    return await client.rehearse(await rehearsal.request())


async def _remembered(client: MigrationClient, request: MigrationRequest) -> str:
    """The VM's last rehearsal in a line; empty where none is known."""
    last = await client.last_rehearsal_of(request)
    if last is None or last.verdict is None or last.ended_at is None:
        return ""
    return f"Last rehearsal, {age(last.ended_at)}: {verdict_text(last.verdict, last.reason)}"


async def _present(
    migration: Migration | Rehearsal,
    configuration: Configuration,
    *,
    detach: bool,
    as_json: bool,
    request: MigrationRequest | None = None,
    remembered: str = "",
) -> ExitCode:
    """Say what was begun and, unless detached, follow it."""
    if detach and as_json:
        print_document({"job_id": migration.job_id, "origin": migration.origin})
        return ExitCode.OK
    # Detached, stdout is for the job's id alone: `JOB=$(hyperctl start ...)`.
    with choose_screen(configuration.ui, silent=as_json, stream=sys.stderr if detach else None) as screen:
        await _introduce(migration, screen, request)
        if remembered:
            screen.say(remembered)
        if not detach:
            return await follow(migration, screen, as_json=as_json)
        screen.say(f"Follow it: hyperctl status --job {migration.job_id} --follow")
    print(migration.job_id, flush=True)
    return ExitCode.OK


async def _introduce(
    migration: Migration | Rehearsal, screen: Screen, request: MigrationRequest | None
) -> None:
    began = clock((await migration.describe()).start_time)
    screen.say(
        {
            Origin.STARTED: "🚀 Starting VM conversion",
            Origin.RETRIED: "🚀 Trying again",
            Origin.ATTACHED: f"Attached to the migration under way since {began}; none was started",
            Origin.FINISHED: "Nothing was done now: this VM was migrated already, by a migration started "
            f"{began}. What follows is the result of then; to migrate it once more: --again",
        }[migration.origin or Origin.ATTACHED]
    )
    screen.say(f"Job ID: {migration.job_id}")
    if request and isinstance(migration, Migration) and migration.origin is Origin.ATTACHED:
        fields = await _differing(migration, request)
        if fields:
            screen.say(f"It was asked for with other options than now, and those hold: {', '.join(fields)}")


async def _refuse_other_options(migration: Migration, request: MigrationRequest) -> None:
    """A result of other options must not pass for the one that was asked for now."""
    if migration.origin is not Origin.FINISHED:
        return
    fields = await _differing(migration, request)
    if fields:
        began = clock((await migration.describe()).start_time)
        raise JobConflict(
            f"nothing was done: {request.vm_name} was migrated already ({migration.job_id}, started "
            f"{began}), with other options than now: {', '.join(fields)}",
            "To migrate it once more with today's options: --again. "
            f"The result of then: hyperctl status --job {migration.job_id}",
        )


async def _differing(migration: Migration, request: MigrationRequest) -> list[str]:
    """The fields in which a migration was asked for otherwise. A host that nobody asks for now is none."""
    first = await migration.request()
    return [
        name
        for name in MigrationRequest.model_fields
        if name not in ("requested_by", "tags")
        and getattr(first, name) != getattr(request, name)
        and not (name == "host" and request.host is None)
    ]
