"""`status`, `query`, `list` and `logs`: what only looks."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from hyperctl.client.cli.follow import follow
from hyperctl.client.cli.options import Follow, Job, Json, VCenterOfJob, VmOfJob, find_job, parse_since
from hyperctl.client.cli.session import ExitCode, load_configuration, print_document, run
from hyperctl.client.rehearsal import Rehearsal
from hyperctl.client.render.ending import failure
from hyperctl.client.render.events import DisksMoved, Working
from hyperctl.client.render.plain import PlainScreen, describe_disk
from hyperctl.client.render.rehearsed import rehearsal_ending
from hyperctl.client.render.screen import choose_screen
from hyperctl.client.render.teller import Teller
from hyperctl.client.render.text import clock, columns, safe, safe_lines
from hyperctl.client.sdk import JobSummary, MigrationClient
from hyperctl.workflows.status import JobKind, JobStatus


def status(
    job: Job = None,
    vm: VmOfJob = None,
    vcenter: VCenterOfJob = None,
    follow_it: Follow = False,
    as_json: Json = False,
) -> None:
    """Say where a migration or rehearsal is."""
    which = find_job(job, vm, vcenter)
    configuration = load_configuration()

    async def act(client: MigrationClient) -> ExitCode:
        migration = await which(client)
        if follow_it:
            with choose_screen(configuration.ui, silent=as_json) as screen:
                screen.say(f"Job ID: {migration.job_id}")
                return await follow(migration, screen, as_json=as_json)
        found = await migration.status()
        if as_json:
            print_document(found)
            return ExitCode.OK
        print(f"{safe(found.vm_name)} ({found.job_id}): {found.status}, priority {found.priority}")
        plain = PlainScreen(sys.stdout)
        for event in Teller().tell(found):
            if isinstance(event, DisksMoved):
                for disk in event.disks:
                    percent = min(100, disk.done_bytes * 100 // max(1, disk.total_bytes))
                    plain.say(f"  {describe_disk(disk, len(event.disks), percent)}")
            elif isinstance(event, Working):
                if found.progress and found.progress.message:
                    plain.say(f"  now: {found.progress.message}")
            else:
                plain.show(event)
        if isinstance(migration, Rehearsal) and found.status in (JobStatus.FAILED, JobStatus.COMPLETED):
            plain.end(rehearsal_ending(await migration.result()))
        elif found.status in (JobStatus.FAILED, JobStatus.CANCELLED):
            plain.end(failure(found))
        return ExitCode.OK

    raise typer.Exit(run(configuration, act))


def query(job: Job = None, vm: VmOfJob = None, vcenter: VCenterOfJob = None) -> None:
    """Print the status document: `status --json`."""
    status(job, vm, vcenter, follow_it=False, as_json=True)


def list_migrations(
    wanted: Annotated[
        JobStatus | None, typer.Option("--status", help="Only those in this state.", show_default=False)
    ] = None,
    kind: Annotated[
        JobKind | None, typer.Option(help="Only migrations, or only rehearsals.", show_default=False)
    ] = None,
    vcenter: Annotated[
        str | None, typer.Option(help="Only those of this vCenter.", show_default=False)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="Only those started since: 90m, 2h, 3d, 2026-01-17.", show_default=False),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10000, help="At most so many.")] = 50,
    as_json: Json = False,
) -> None:
    """List migrations and rehearsals, the newest first; of a rehearsal that has ended, its verdict."""
    moment = parse_since(since)

    async def act(client: MigrationClient) -> Sequence[JobSummary]:
        return await client.list(wanted, vcenter=vcenter, since=moment, limit=limit, kind=kind)

    found = run(load_configuration(), act)
    if as_json:
        print_document([item.model_dump(mode="json") for item in found])
        return
    if not found:
        nothing = not (wanted or kind or vcenter or since)
        print("No migrations." if nothing else "No migrations or rehearsals fit.")
        return
    header = ("JOB", "KIND", "STATUS", "PRIORITY", "VM", "VCENTER", "HOST", "STARTED")
    print("\n".join(columns([header, *(_row(item) for item in found)])))


def _row(item: JobSummary) -> tuple[str, ...]:
    state = item.verdict.words if item.verdict else item.status
    cells = (item.job_id, item.kind, state, item.priority, item.vm_name, item.vcenter, item.host)
    return (*(safe(cell) or "-" for cell in cells), clock(item.started_at))


def logs(
    job: Job = None,
    vm: VmOfJob = None,
    vcenter: VCenterOfJob = None,
    follow_it: Follow = False,
    tail: Annotated[int | None, typer.Option(min=0, help="Only the last lines.", show_default=False)] = None,
) -> None:
    """Print a job's log, read from the host that does the work."""
    which = find_job(job, vm, vcenter)

    async def act(client: MigrationClient) -> None:
        migration = await which(client)
        waits: set[str] = set()

        def note(text: str) -> None:
            if text not in waits:
                waits.add(text)
                print(f"hyperctl: {safe(text)}", file=sys.stderr, flush=True)

        async for piece in migration.logs(tail=tail, follow=follow_it, on_wait=note):
            waits.clear()
            for line in safe_lines(piece.removesuffix("\n")):
                print(line)
            sys.stdout.flush()

    run(load_configuration(), act)
