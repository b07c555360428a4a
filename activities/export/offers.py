"""What each transport says of a machine when it is asked whether it could copy it. Changes nothing."""

from collections.abc import Callable

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.choice import Choice, Offer, choose
from hyperctl.activities.export.datastore import probe_datastore
from hyperctl.activities.export.vddk import probe_vddk
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.vsphere.hardware import SourceMachine
from hyperctl.activities.vsphere.session import Session
from hyperctl.workflows.errors import HyperctlError
from hyperctl.workflows.request import MigrationRequest, TransportChoice


def choose_transport(
    session: Session,
    source: SourceMachine,
    request: MigrationRequest,
    settings: HostSettings,
    running: Attempt,
) -> Choice:
    """Ask the transports that matter for the request, and choose."""
    # Each raises the `HyperctlError` that says why a transport cannot copy this machine from this host.
    probes: dict[TransportChoice, Callable[[], None]] = {
        TransportChoice.VDDK: lambda: probe_vddk(settings, running),
        TransportChoice.DATASTORE: lambda: probe_datastore(session, source, request.running.action, running),
        # What stands against an export lease stands against the migration, and is a problem of its own.
        TransportChoice.NFC: lambda: None,
    }

    def offer(way: TransportChoice) -> Offer:
        try:
            probes[way]()
        except HyperctlError as error:
            return Offer(way, error.failure)
        return Offer(way)

    asked = request.transport
    offers = [offer(asked)] if asked in probes else []
    if not offers or offers[0].objection is not None:
        offers += [offer(way) for way in probes if way is not asked]
    return choose(asked, offers, source.machine)
