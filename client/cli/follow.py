"""Following one migration to its end on the screen, and what a Ctrl-C means meanwhile."""

import asyncio
import sys

from hyperctl.client.cli.session import ExitCode, print_document
from hyperctl.client.errors import MigrationFailed
from hyperctl.client.migration import Migration
from hyperctl.client.render.ending import failure, success
from hyperctl.client.render.screen import Screen
from hyperctl.client.render.teller import Teller
from hyperctl.workflows.status import JobStatus, MigrationStatus


async def follow(migration: Migration, screen: Screen, *, as_json: bool = False) -> ExitCode:
    """Show a migration until it has ended; the code to leave with. The screen must have been entered.

    With `as_json` the result, or the status of one that failed, is printed at the end. A Ctrl-C leaves the
    migration alone.
    """
    teller = Teller()
    status: MigrationStatus | None = None
    try:
        async for status in migration.watch():
            for event in teller.tell(status):
                screen.show(event)
        if status is None or status.status is not JobStatus.COMPLETED:
            return _ended_badly(status, screen, as_json)
        return await _ended_well(migration, status, screen, as_json)
    except asyncio.CancelledError:
        screen.__exit__(None, None, None)
        print(_detached(migration.job_id), file=sys.stderr if as_json else sys.stdout, flush=True)
        raise


async def _ended_well(
    migration: Migration, status: MigrationStatus, screen: Screen, as_json: bool
) -> ExitCode:
    try:
        result = await migration.result()
    except MigrationFailed as error:  # it was started anew, and ended otherwise, in this very moment
        return _ended_badly(error.status, screen, as_json)
    request = await migration.request()
    screen.end(success(result, status, request.network_map))
    if as_json:
        print_document(result)
    return ExitCode.OK


def _ended_badly(status: MigrationStatus | None, screen: Screen, as_json: bool) -> ExitCode:
    if status is not None:
        screen.end(failure(status))
        if as_json:
            print_document(status)
    return ExitCode.FAILED


def _detached(job_id: str) -> str:
    return (
        f"\nDetached: the migration goes on.\n"
        f"  Follow it: hyperctl status --job {job_id} --follow\n"
        f"  Cancel it: hyperctl cancel --job {job_id}"
    )
