"""Following one job to its end on the screen, and what a Ctrl-C means meanwhile."""

import asyncio
import sys
from collections.abc import Callable

from hyperctl.client.cli.session import ExitCode, print_document
from hyperctl.client.errors import MigrationFailed
from hyperctl.client.migration import Migration
from hyperctl.client.rehearsal import Rehearsal
from hyperctl.client.render.ending import failure, success
from hyperctl.client.render.events import Line, Mark
from hyperctl.client.render.rehearsed import rehearsal_ending
from hyperctl.client.render.screen import Screen
from hyperctl.client.render.teller import Teller
from hyperctl.client.render.text import safe
from hyperctl.workflows.rehearsal import RehearsalResult, Verdict
from hyperctl.workflows.status import JobStatus, MigrationStatus


async def follow(migration: Migration | Rehearsal, screen: Screen, *, as_json: bool = False) -> ExitCode:
    """Show a job until it has ended; the code to leave with. The screen must have been entered.

    With `as_json` the result, or the status of one that failed, is printed at the end. A Ctrl-C leaves the
    job alone.
    """
    teller = Teller()
    status: MigrationStatus | None = None
    try:
        async for status in migration.watch():
            for event in teller.tell(status):
                screen.show(event)
        if isinstance(migration, Rehearsal) and status and status.status is not JobStatus.CANCELLED:
            return await _judged(migration, screen, as_json)
        if status is None or isinstance(migration, Rehearsal) or status.status is not JobStatus.COMPLETED:
            return _ended_badly(status, screen, as_json)
        return await _ended_well(migration, status, screen, as_json)
    except asyncio.CancelledError:
        screen.__exit__(None, None, None)
        print(_detached(migration), file=sys.stderr if as_json else sys.stdout, flush=True)
        raise


def waiting(screen: Screen, *, silent: bool) -> Callable[[str], None]:
    """Tells why an answer is not there yet; beside a JSON document on stderr."""

    def tell(note: str) -> None:
        if silent:
            print(f"hyperctl: {safe(note)}", file=sys.stderr, flush=True)
        else:
            screen.show(Line(Mark.WAITING, note))

    return tell


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


async def _judged(rehearsal: Rehearsal, screen: Screen, as_json: bool) -> ExitCode:
    result = await rehearsal.result()
    screen.end(rehearsal_ending(result))
    if as_json:
        print_document(result)
    return exit_code(result)


def exit_code(*results: RehearsalResult) -> ExitCode:
    return ExitCode.OK if all(one.verdict is Verdict.BOOTS for one in results) else ExitCode.FAILED


def _detached(job: Migration | Rehearsal) -> str:
    return (
        f"\nDetached: the {job.kind} goes on.\n"
        f"  Follow it: hyperctl status --job {job.job_id} --follow\n"
        f"  Cancel it: hyperctl cancel --job {job.job_id}"
    )
