"""`inventory`: what a vCenter holds, and which of it can be migrated."""

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Annotated

import typer

from hyperctl.client.cli.asking import (
    AskedAlike,
    CertificateOption,
    DatacenterOption,
    HostOption,
    UsernameOption,
    VCenterOption,
    validated,
    vcenter_of,
)
from hyperctl.client.cli.batch_file import stands_in_a_line
from hyperctl.client.cli.follow import waiting
from hyperctl.client.cli.options import Json
from hyperctl.client.cli.session import complain, load_configuration, print_document, run
from hyperctl.client.config import Configuration
from hyperctl.client.remembered import Remembered, jobs_document, remember
from hyperctl.client.render.events import Working
from hyperctl.client.render.inventory import count_text, inventory_rows, inventory_table
from hyperctl.client.render.screen import choose_screen, is_live, make_console
from hyperctl.client.render.text import safe
from hyperctl.client.sdk import MigrationClient
from hyperctl.workflows.inventory import InventoryMachine, InventoryRequest, Readiness


def inventory(
    vcenter: VCenterOption = None,
    username: UsernameOption = None,
    datacenter: DatacenterOption = None,
    certificate_sha256: CertificateOption = None,
    host: HostOption = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", help="Only VMs of such a name: * and ?.", show_default=False),
    ] = None,
    folder: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", help="Only in or below it: Production/web.", show_default=False),
    ] = None,
    ready: Annotated[
        bool, typer.Option("--ready", help="Only what can be migrated as it is, without an option.")
    ] = False,
    names: Annotated[
        bool, typer.Option("--names", help="Only names, a line each: a file for --batch.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List what a vCenter holds: each VM, whether it can be migrated, its last rehearsal and migration."""
    configuration = load_configuration()
    asked = AskedAlike(
        vcenter=vcenter,
        username=username,
        datacenter=datacenter,
        certificate_sha256=certificate_sha256,
        host=host,
    )
    problems = ["--names and --json exclude each other"] if names and as_json else []
    request = _request(asked, configuration, {"name": name, "folder": folder, "host": host}, problems)

    async def act(client: MigrationClient) -> list[Remembered]:
        machines: list[InventoryMachine] = []
        # stdout is for what is asked for, which may go into a pipe.
        with choose_screen(configuration.ui, silent=as_json, stream=sys.stderr) as screen:
            screen.show(Working(f"Reading the inventory of {request.vcenter.server}"))
            async for page in client.inventory(request, on_wait=waiting(screen, silent=as_json)):
                machines += page.machines
                screen.show(Working(f"{len(machines)} of {page.fitting} virtual machines read"))
        if not page.fitting:
            _say_nothing_fits(request, page.visible)
        jobs = await client.remembered_jobs(request.vcenter.server) if machines and not names else ()
        found = remember(machines, jobs, request.vcenter.server)
        return [one for one in found if not ready or one.machine.ready is Readiness.YES]

    found = run(configuration, act)
    if as_json:
        print_document([_document(one) for one in found])
    elif names:
        _print_names([one.machine for one in found])
    elif found:
        _print_table(found, configuration)


def _request(
    asked: AskedAlike, configuration: Configuration, own: dict[str, str | None], problems: list[str]
) -> InventoryRequest:
    document = {"vcenter": vcenter_of(asked, configuration, problems), **own}
    return validated(InventoryRequest, document, problems)


def _document(one: Remembered) -> dict[str, object]:
    return {**one.machine.model_dump(mode="json"), **jobs_document(one.rehearsal, one.migration)}


def _print_table(found: Sequence[Remembered], configuration: Configuration) -> None:
    if not is_live(configuration.ui, sys.stdout):
        print("\n".join(inventory_rows(found)), flush=True)
        return
    console = make_console(configuration.ui, sys.stdout)
    table, left_out = inventory_table(found, console.width)
    console.print(table)
    console.print(count_text(found))
    if left_out:
        console.print(f"No room for {', '.join(left_out)}: a wider terminal, a pipe or --json has them.")


def _print_names(machines: Sequence[InventoryMachine]) -> None:
    """Each once, as a batch file takes them; what it would not take is said."""
    for name, count in Counter(machine.name for machine in machines).items():
        if not stands_in_a_line(name):
            complain(f"left out: {name!r} cannot stand in such a file", "Put it into a YAML list, in quotes.")
            continue
        print(name)
        if count > 1:
            places = ", ".join(f"{one.datacenter}/{one.folder}" for one in machines if one.name == name)
            complain(f"{safe(name)} is there {count} times: {safe(places)}", "Choose one with --datacenter.")
    sys.stdout.flush()


def _say_nothing_fits(request: InventoryRequest, visible: int) -> None:
    if visible:
        complain(f"none of the {visible} virtual machines in {request.vcenter.server} fits")
    else:
        complain(
            f"the worker's user sees no virtual machine in {request.vcenter.server}",
            "Check its permissions there.",
        )
