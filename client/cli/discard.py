"""`discard`: delete what a migration that has ended has left on its hosts."""

from collections.abc import Iterable
from typing import Annotated

import typer

from hyperctl.client.cli.options import Job, Json, VCenterOfJob, VmOfJob, find
from hyperctl.client.cli.session import ExitCode, load_configuration, print_document, run
from hyperctl.client.migration import Migration
from hyperctl.client.render.leftovers import leftover_lines
from hyperctl.client.render.text import safe
from hyperctl.client.sdk import MigrationClient
from hyperctl.workflows.leftover import HostLeftovers


def discard(
    job: Job = None,
    vm: VmOfJob = None,
    vcenter: VCenterOfJob = None,
    images: Annotated[
        bool, typer.Option("--images", help="Also the finished images of a completed migration.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is there.")] = False,
    as_json: Json = False,
) -> None:
    """Delete the copy that a failed or cancelled migration has left; it cannot be gone on from then."""
    which = find(job, vm, vcenter)

    async def act(client: MigrationClient) -> ExitCode:
        return await discard_left(await which(client), images=images, dry_run=dry_run, as_json=as_json)

    raise typer.Exit(run(load_configuration(), act))


async def discard_left(
    migration: Migration, *, images: bool = False, dry_run: bool = False, as_json: bool = False
) -> ExitCode:
    """Have every host delete it, or only look, and say what each of them said."""
    found = await migration.discard(images=images, look_only=dry_run)
    if as_json:
        print_document([answer.model_dump(mode="json") for answer in found])
    else:
        for line in _said(migration, found):
            print(safe(line), flush=True)
    stayed = any(left.reason for answer in found for left in answer.left)
    return ExitCode.FAILED if stayed else ExitCode.OK


def _said(migration: Migration, found: tuple[HostLeftovers, ...]) -> Iterable[str]:
    if not found:
        return (f"No host is known that {migration.job_id} has worked on: there is nothing to delete.",)
    return leftover_lines(found)
