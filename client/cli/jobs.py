"""The commands that start, ask and tell migrations."""

import asyncio
import getpass
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer
from pydantic import ValidationError

from hyperctl.client.sdk import Migration, MigrationClient
from hyperctl.workflows.request import MigrationRequest
from hyperctl.workflows.status import JobStatus, MigrationStatus

T = TypeVar("T")

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

EXIT_FAILED = 1
EXIT_USAGE = 2

Job = Annotated[str, typer.Option("--job", help="The job's id.")]
Vm = Annotated[str, typer.Option("--vm", help="The VM's name in vSphere.")]
VCenterServer = Annotated[str, typer.Option("--vcenter", help="The vCenter, HOST or HOST:PORT.")]
Username = Annotated[str | None, typer.Option(help="Whose credentials the worker uses.")]
Datacenter = Annotated[str | None, typer.Option(help="Where two datacenters have a VM of that name.")]
Fingerprint = Annotated[str | None, typer.Option(help="The SHA-256 of the certificate to trust.")]
OutputDir = Annotated[str | None, typer.Option(help="Absolute path on the target host.")]
ToLibvirt = Annotated[bool, typer.Option("--to-libvirt", help="Define a libvirt domain.")]
PriorityName = Annotated[str, typer.Option(help="low, normal or high.")]
Again = Annotated[bool, typer.Option("--again", help="Migrate again what has been migrated.")]


@app.callback()
def hyperctl() -> None:
    """Moves virtual machines from vSphere to KVM and proves that they arrived."""


@app.command()
def convert(
    vm: Vm,
    vcenter: VCenterServer,
    username: Username = None,
    datacenter: Datacenter = None,
    certificate_sha256: Fingerprint = None,
    output_dir: OutputDir = None,
    to_libvirt: ToLibvirt = False,
    priority: PriorityName = "normal",
    again: Again = False,
    detach: Annotated[bool, typer.Option("--detach", help="Print the job id and leave.")] = False,
) -> None:
    """Migrate a VM and follow it; Ctrl-C leaves it running."""
    place = {
        "server": vcenter,
        "username": username,
        "datacenter": datacenter,
        "certificate_sha256": certificate_sha256,
    }
    request = _request(
        vm_name=vm,
        vcenter=place,
        output_dir=output_dir,
        to_libvirt=to_libvirt,
        priority=priority,
        requested_by=getpass.getuser(),
    )

    async def act(client: MigrationClient) -> bool:
        migration = await client.start(request, again=again)
        print(f"Job ID: {_plain(migration.job_id)}", flush=True)
        return detach or await _follow(migration)

    if not _run(act):
        raise typer.Exit(EXIT_FAILED)


@app.command()
def start(
    vm: Vm,
    vcenter: VCenterServer,
    username: Username = None,
    datacenter: Datacenter = None,
    certificate_sha256: Fingerprint = None,
    output_dir: OutputDir = None,
    to_libvirt: ToLibvirt = False,
    priority: PriorityName = "normal",
    again: Again = False,
) -> None:
    """Start a migration and print its job id."""
    convert(
        vm,
        vcenter,
        username,
        datacenter,
        certificate_sha256,
        output_dir,
        to_libvirt,
        priority,
        again,
        detach=True,
    )


@app.command()
def query(job: Job) -> None:
    """Print the status document as JSON."""
    print(_run(lambda client: _status(client, job)).model_dump_json(indent=2))


@app.command()
def status(job: Job, follow: Annotated[bool, typer.Option("--follow", "-f")] = False) -> None:
    """Say where a migration is."""

    async def act(client: MigrationClient) -> bool:
        migration = await client.get(job)
        if follow:
            return await _follow(migration)
        for line in _lines(await migration.status()):
            print(line)
        return True

    if not _run(act):
        raise typer.Exit(EXIT_FAILED)


@app.command("list")
def list_migrations(
    status: Annotated[str | None, typer.Option(help=f"One of {', '.join(JobStatus)}.")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 100,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """List migrations, the newest first."""
    if status is not None and status not in set(JobStatus):
        raise typer.BadParameter(f"{status!r} is none of {', '.join(JobStatus)}", param_hint="--status")
    found = _run(lambda client: client.list(status, limit))
    if as_json:
        fields = ("job_id", "vm_name", "status", "vcenter", "priority")
        document = [
            {name: getattr(item, name) for name in fields} | {"started_at": item.started_at.isoformat()}
            for item in found
        ]
        print(json.dumps(document, indent=2))
        return
    for item in found:
        print(f"{_plain(item.job_id):16} {item.status:11} {item.priority:7} {_plain(item.vm_name)}")


@app.command()
def cancel(
    job: Job,
    discard: Annotated[bool, typer.Option("--discard", help="Also delete the copied disks.")] = False,
    reason: Annotated[str, typer.Option(help="For the record.")] = "",
) -> None:
    """Stop a migration and take back what it did."""
    _tell(job, lambda migration: migration.cancel(discard=discard, reason=reason))


@app.command()
def pause(job: Job) -> None:
    """Hold a migration before its next step; a copy stops at once."""
    _tell(job, lambda migration: migration.pause())


@app.command()
def resume(job: Job) -> None:
    """Let a paused migration go on."""
    _tell(job, lambda migration: migration.resume())


@app.command("retry-now")
def retry_now(job: Job) -> None:
    """Do not wait for the next try."""
    _tell(job, lambda migration: migration.retry_now())


@app.command("set-priority")
def set_priority(job: Job, priority: Annotated[str, typer.Argument(help="low, normal or high")]) -> None:
    """Change how urgent a migration is."""
    if priority not in ("low", "normal", "high"):
        raise typer.BadParameter("must be low, normal or high", param_hint="priority")
    _tell(job, lambda migration: migration.set_priority(priority))


@app.command()
def logs(job: Job, tail: Annotated[int, typer.Option(min=1, help="How many lines.")] = 1000) -> None:
    """Print the end of a job's log, read from its host."""

    async def act(client: MigrationClient) -> str:
        return (await (await client.get(job)).log(offset=-tail)).text

    sys.stdout.write(_run(act))


def _tell(job: str, act: Callable[[Migration], Awaitable[None]]) -> None:
    async def tell(client: MigrationClient) -> None:
        await act(await client.get(job))

    _run(tell)


def _run(act: Callable[[MigrationClient], Awaitable[T]]) -> T:
    async def connected() -> T:
        return await act(await MigrationClient.connect())

    return asyncio.run(connected())


def _request(**fields: object) -> MigrationRequest:
    """The request, or every problem with it on the screen and the end."""
    try:
        return MigrationRequest.model_validate(fields)
    except ValidationError as error:
        for problem in error.errors():
            print(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}", file=sys.stderr)
        raise typer.Exit(EXIT_USAGE) from None


async def _status(client: MigrationClient, job: str) -> MigrationStatus:
    return await (await client.get(job)).status()


async def _follow(migration: Migration) -> bool:
    shown: list[str] = []
    try:
        async for status in migration.watch():
            lines = _lines(status)
            for line in lines:
                if line not in shown:
                    print(line, flush=True)
            shown = lines
    except asyncio.CancelledError:
        print(f"\nThe migration goes on: hyperctl status --follow --job {migration.job_id}", flush=True)
        raise
    return status.status is JobStatus.COMPLETED


def _lines(status: MigrationStatus) -> list[str]:
    """What there is to say, one fact a line."""
    lines = [f"{_plain(status.vm_name)}: {status.status} (phase {status.phase})"]
    lines += [f"  {step.step}: {step.outcome}: {_plain(step.detail)}" for step in status.steps]
    if status.retry:
        when = f"{status.retry.next_attempt_at:%H:%M:%S} UTC"
        lines.append(f"  next try at {when}: {_plain(status.retry.failure.message)}")
    for failure in status.failures:
        lines += [f"  {failure.code}: {_plain(failure.message)}"]
        lines += [f"    {_plain(failure.hint)}"] if failure.hint else []
    lines += [f"  could not be undone: {_plain(text)}" for text in status.not_undone]
    if status.output_dir:
        lines.append(f"  output: {_plain(status.output_dir)}")
    return lines


def _plain(text: str) -> str:
    """Text from a vCenter or a guest without what a terminal would obey."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
