"""`plan`: what a migration would begin with, and everything that stands against it."""

import sys

import typer

from hyperctl.client.cli.asking import Asked, make_request
from hyperctl.client.cli.follow import waiting
from hyperctl.client.cli.options import Json, takes
from hyperctl.client.cli.session import ExitCode, load_configuration, print_document, run
from hyperctl.client.remembered import jobs_document
from hyperctl.client.render.events import Working
from hyperctl.client.render.planned import plan_ending
from hyperctl.client.render.screen import choose_screen
from hyperctl.client.sdk import MigrationClient


@takes(Asked)
def plan(asked: Asked, *, as_json: Json = False) -> None:
    """Look at a VM and at its target host, and say all that stands against its migration. Nothing is moved.

    Takes what convert takes. Exit code 0: it could be migrated now.
    """
    configuration = load_configuration()
    request = make_request(asked, configuration)

    async def act(client: MigrationClient) -> ExitCode:
        with choose_screen(configuration.ui, silent=as_json) as screen:
            screen.show(Working(f"Looking at {request.name} in {request.origin} and at the target host"))
            found = await client.plan(request, on_wait=waiting(screen, silent=as_json))
            rehearsal = await client.last_rehearsal_of(request)
            migration = await client.last_migration(request)
            typed = [word for word in sys.argv[2:] if word != "--json"]
            screen.end(plan_ending(found, request, rehearsal, migration, typed))
        if as_json:
            print_document({**found.model_dump(mode="json"), **jobs_document(rehearsal, migration)})
        return ExitCode.OK if found.possible else ExitCode.FAILED

    raise typer.Exit(run(configuration, act))
