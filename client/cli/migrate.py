"""`convert`, `start`, `retry` and `import`: what makes something happen."""

from typing import Annotated

import typer

from hyperctl.client.cli.asking import Asked, make_request
from hyperctl.client.cli.follow import follow
from hyperctl.client.cli.options import Job, Json, VCenterOfJob, VmOfJob, find, parse_network_map
from hyperctl.client.cli.session import ExitCode, load_configuration, print_document, refuse, run
from hyperctl.client.config import Configuration
from hyperctl.client.migration import Migration, Origin
from hyperctl.client.render.screen import Screen, choose_screen
from hyperctl.client.render.text import clock, safe
from hyperctl.client.sdk import MigrationClient
from hyperctl.workflows.request import MigrationRequest

Vm = Annotated[str | None, typer.Option("--vm", help="The VM's name in vSphere.", show_default=False)]
VCenter = Annotated[str | None, typer.Option("--vcenter", help="HOST or HOST:PORT.", show_default=False)]
Username = Annotated[
    str | None,
    typer.Option(help="Whose credentials the worker uses; it has the password.", show_default=False),
]
Datacenter = Annotated[str | None, typer.Option(help="Where two hold a VM of that name.", show_default=False)]
Fingerprint = Annotated[
    str | None, typer.Option(help="The SHA-256 of the one certificate to trust.", show_default=False)
]
OutputDir = Annotated[
    str | None, typer.Option(help="Where images go on the target host.", show_default=False)
]
ToLibvirt = Annotated[bool, typer.Option("--to-libvirt", help="Define the guest as a libvirt domain.")]
Start = Annotated[bool, typer.Option("--start", help="Start the domain; needs --to-libvirt.")]
Urgency = Annotated[str, typer.Option(metavar="low|normal|high", help="How urgent it is.")]
FixVirtio = Annotated[bool | None, typer.Option("--fix-virtio/--skip-virtio", show_default=False)]
FixGrub = Annotated[bool | None, typer.Option("--fix-grub/--skip-grub", show_default=False)]
FixNetwork = Annotated[
    bool | None, typer.Option("--fix-network/--skip-network", " /--skip-network-fix", show_default=False)
]
FixFstab = Annotated[bool | None, typer.Option("--fix-fstab/--skip-fstab", show_default=False)]
FixTools = Annotated[bool | None, typer.Option("--fix-tools/--skip-tools", show_default=False)]
Verify = Annotated[str, typer.Option(metavar="full|none", help="Whether the images are read again.")]
Prove = Annotated[str, typer.Option(metavar="full|boot|none", help="What the trial boot must show.")]
NetworkMap = Annotated[
    list[str] | None,
    typer.Option(
        help="VSPHERE-NETWORK=LIBVIRT-NETWORK or =bridge:NAME; may be repeated.", show_default=False
    ),
]
Tags = Annotated[str, typer.Option(help="Words to find it by, a,b,c.", show_default=False)]
Host = Annotated[str | None, typer.Option(help="The target host; any when missing.", show_default=False)]
Again = Annotated[bool, typer.Option("--again", help="Migrate once more what has been migrated.")]
Detach = Annotated[bool, typer.Option("--detach", help="Print the job's id and do not wait.")]


def convert(
    vm: Vm = None,
    vcenter: VCenter = None,
    username: Username = None,
    datacenter: Datacenter = None,
    certificate_sha256: Fingerprint = None,
    output_dir: OutputDir = None,
    to_libvirt: ToLibvirt = False,
    start: Start = False,
    priority: Urgency = "normal",
    fix_virtio: FixVirtio = None,
    fix_grub: FixGrub = None,
    fix_network: FixNetwork = None,
    fix_fstab: FixFstab = None,
    fix_tools: FixTools = None,
    verify: Verify = "full",
    prove: Prove = "full",
    network_map: NetworkMap = None,
    tags: Tags = "",
    host: Host = None,
    again: Again = False,
    detach: Detach = False,
    as_json: Json = False,
) -> None:
    """Migrate a VM and follow it. Ctrl-C detaches; the migration goes on."""
    asked = Asked(
        vm=vm,
        vcenter=vcenter,
        username=username,
        datacenter=datacenter,
        certificate_sha256=certificate_sha256,
        output_dir=output_dir,
        to_libvirt=to_libvirt,
        start=start,
        priority=priority,
        virtio=fix_virtio,
        grub=fix_grub,
        network=fix_network,
        fstab=fix_fstab,
        tools=fix_tools,
        verify=verify,
        prove=prove,
        network_map=network_map or [],
        tags=tags,
        host=host,
    )
    configuration = load_configuration()
    request = make_request(asked, configuration)
    _go(configuration, request, again=again, detach=detach, as_json=as_json)


def start(
    vm: Vm = None,
    vcenter: VCenter = None,
    username: Username = None,
    datacenter: Datacenter = None,
    certificate_sha256: Fingerprint = None,
    output_dir: OutputDir = None,
    to_libvirt: ToLibvirt = False,
    start: Start = False,
    priority: Urgency = "normal",
    fix_virtio: FixVirtio = None,
    fix_grub: FixGrub = None,
    fix_network: FixNetwork = None,
    fix_fstab: FixFstab = None,
    fix_tools: FixTools = None,
    verify: Verify = "full",
    prove: Prove = "full",
    network_map: NetworkMap = None,
    tags: Tags = "",
    host: Host = None,
    again: Again = False,
    as_json: Json = False,
) -> None:
    """Start a migration and print its job id: `convert --detach`."""
    convert(
        vm,
        vcenter,
        username,
        datacenter,
        certificate_sha256,
        output_dir,
        to_libvirt,
        start,
        priority,
        fix_virtio,
        fix_grub,
        fix_network,
        fix_fstab,
        fix_tools,
        verify,
        prove,
        network_map,
        tags,
        host,
        again,
        detach=True,
        as_json=as_json,
    )


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
