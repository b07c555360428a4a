"""`rehearse`: know which machines will boot, before a byte of them is copied."""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from hyperctl.client.cli.asking import AskedAlike, make_rehearsal, rehearsal_defaults
from hyperctl.client.cli.batch_file import read_batch
from hyperctl.client.cli.follow import exit_code, follow
from hyperctl.client.cli.options import Detach, Json, takes
from hyperctl.client.cli.session import (
    ExitCode,
    complain,
    load_configuration,
    print_document,
    refuse,
    run,
)
from hyperctl.client.config import Configuration
from hyperctl.client.job import Origin
from hyperctl.client.rehearsal import RehearsalBatch
from hyperctl.client.render.batch import BatchTeller, batch_table, plain_rows
from hyperctl.client.render.events import Working
from hyperctl.client.render.rehearsed import count_text, failures_first
from hyperctl.client.render.report import report_page
from hyperctl.client.render.screen import choose_screen, is_live, make_console
from hyperctl.client.sdk import MigrationClient
from hyperctl.workflows.rehearsal import RehearsalBatchStatus, RehearsalRequest, RehearsalResult

BatchFile = Annotated[
    str | None,
    typer.Option(
        "--batch",
        metavar="FILE",
        help="Many VMs: a name a line, or a YAML list; - is stdin.",
        show_default=False,
    ),
]
Parallel = Annotated[
    int | None,
    typer.Option(min=1, max=100, help="With --batch: so many at a time, 2 when missing.", show_default=False),
]
Attach = Annotated[
    str | None, typer.Option(metavar="BATCH", help="Follow a batch under way, by its id.", show_default=False)
]
Html = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Also write a report, one HTML file.", show_default=False),
]


@takes(AskedAlike)
def rehearse(
    asked: AskedAlike,
    *,
    batch: BatchFile = None,
    parallel: Parallel = None,
    attach: Attach = None,
    html: Html = None,
    detach: Detach = False,
    as_json: Json = False,
) -> None:
    """Convert and boot a VM over its disks where they are, and tell whether it will boot. Nothing is copied.

    The VM must be off, or be read from a --snapshot. Ctrl-C detaches; the rehearsal goes on. Exit code 0:
    every VM boots.
    """
    configuration = load_configuration()
    problems: list[str] = []
    one = ("--file", asked.file) if asked.file else ("--vm", asked.vm)
    named = [flag for flag, it in (one, ("--batch", batch), ("--attach", attach)) if it]
    if len(named) > 1:
        problems.append(f"{' and '.join(named)} exclude each other")
    if parallel is not None and batch is None:
        problems.append("--parallel goes with --batch")
    if html is not None:
        _check_writable(html, problems)
        if detach:
            problems.append("--html needs the end of it: leave --detach out, or --attach later")
    requests: tuple[RehearsalRequest, ...] = ()
    if batch is not None:
        defaults = rehearsal_defaults(asked, configuration, problems)
        requests = read_batch(batch, defaults, problems)
    if problems:
        refuse(problems)
    show = _Showing(configuration, html=html, detach=detach, as_json=as_json)
    if attach is not None:
        code = run(configuration, lambda client: show.batch(client.rehearsal_batch(attach)))
    elif batch is not None:
        code = run(configuration, lambda client: show.all_of(client, requests, parallel or 2))
    else:
        request = make_rehearsal(asked, configuration)
        code = run(configuration, lambda client: show.one(client, request))
    raise typer.Exit(code)


class _Showing:
    """How what comes of it is told, by the options."""

    def __init__(
        self, configuration: Configuration, *, html: Path | None, detach: bool, as_json: bool
    ) -> None:
        self._configuration = configuration
        self._html = html
        self._detach = detach
        self._as_json = as_json

    async def one(self, client: MigrationClient, request: RehearsalRequest) -> ExitCode:
        rehearsal = await client.rehearse(request)
        if self._detach:
            self._print_id("job_id", rehearsal.job_id, rehearsal.origin)
            return ExitCode.OK
        with choose_screen(self._configuration.ui, silent=self._as_json) as screen:
            if rehearsal.origin is Origin.ATTACHED:
                screen.say("Attached to the rehearsal under way; none was started")
            else:
                screen.say("🎭 Starting rehearsal")
            screen.say(f"Job ID: {rehearsal.job_id}")
            code = await follow(rehearsal, screen, as_json=self._as_json)
        if self._html is not None:
            self._write([await rehearsal.result()])
        return code

    async def all_of(
        self, client: MigrationClient, requests: Sequence[RehearsalRequest], parallel: int
    ) -> ExitCode:
        batch = await client.rehearse_all(requests, parallel=parallel)
        if self._detach:
            self._print_id("batch_id", batch.batch_id, batch.origin)
            return ExitCode.OK
        return await self.batch(batch)

    async def batch(self, batch: RehearsalBatch) -> ExitCode:
        """Follow it to its end, with what came of each."""
        status = await self._followed(batch)
        results = failures_first(await batch.results(status))
        if self._as_json:
            document = [result.model_dump(mode="json") for result in results]
            print_document(
                {"batch_id": batch.batch_id, "cancelled": status.cancelled, "rehearsals": document}
            )
        elif is_live(self._configuration.ui, sys.stdout):
            make_console(self._configuration.ui, sys.stdout).print(batch_table(results))
        else:
            print("\n".join(["", *plain_rows(results)]), flush=True)
        if self._html is not None:
            self._write(results)
        if not self._as_json:
            left = len(status.items) - len(results)
            cancelled = f"; cancelled, {left} without a verdict" if status.cancelled else ""
            print(f"{count_text(results)}{cancelled}", flush=True)
        return exit_code(*results) if not status.cancelled else ExitCode.FAILED

    async def _followed(self, batch: RehearsalBatch) -> RehearsalBatchStatus:
        teller = BatchTeller()
        with choose_screen(self._configuration.ui, silent=self._as_json) as screen:
            screen.say(f"Batch ID: {batch.batch_id}")
            try:
                async for status in batch.watch(on_wait=lambda text: screen.show(Working(text))):
                    for event in teller.tell(status):
                        screen.show(event)
            except asyncio.CancelledError:
                screen.__exit__(None, None, None)
                print(_detached(batch.batch_id), file=sys.stderr if self._as_json else sys.stdout, flush=True)
                raise
        return status

    def _print_id(self, key: str, value: str, origin: Origin | None) -> None:
        if self._as_json:
            print_document({key: value, "origin": origin})
        else:
            print(value, flush=True)

    def _write(self, results: Sequence[RehearsalResult]) -> None:
        assert self._html is not None
        try:
            self._html.write_text(report_page(results), encoding="utf-8")
        except OSError as error:
            complain(f"the report {self._html} could not be written: {error.strerror}")
            raise typer.Exit(ExitCode.FAILED) from error
        if not self._as_json:
            print(f"Report: {self._html}", flush=True)


def _check_writable(path: Path, problems: list[str]) -> None:
    """Before hours of work, and without making anything."""
    if path.is_dir():
        problems.append(f"--html {path}: it is a folder")
    elif not path.parent.is_dir():
        problems.append(f"--html {path}: there is no folder {path.parent}")
    elif not os.access(path if path.exists() else path.parent, os.W_OK):
        problems.append(f"--html {path}: it cannot be written")


def _detached(batch_id: str) -> str:
    return (
        "\nDetached: the batch goes on.\n"
        f"  Follow it: hyperctl rehearse --attach {batch_id}\n"
        f"  Cancel it: hyperctl cancel --job {batch_id}"
    )
