"""What each transport says of a machine when it is asked whether it could copy it. Changes nothing."""

from collections.abc import Callable
from typing import TypeAlias

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.choice import Choice, Offer, choose
from hyperctl.activities.export.datastore import probe_datastore
from hyperctl.activities.export.vddk import probe_vddk
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.vsphere.hardware import SourceMachine
from hyperctl.activities.vsphere.session import Session
from hyperctl.workflows.errors import HyperctlError
from hyperctl.workflows.request import MigrationRequest, TransportChoice

Probe: TypeAlias = Callable[[Session, SourceMachine, MigrationRequest, HostSettings, Attempt], None]
"""Raises the `HyperctlError` that says why a transport cannot copy this machine from this host."""


def _probe_nfc(
    session: Session,
    source: SourceMachine,
    request: MigrationRequest,
    settings: HostSettings,
    running: Attempt,
) -> None:
    """Whatever stands against an export lease stands against the migration, and is a problem of its own."""


def _probe_datastore(
    session: Session,
    source: SourceMachine,
    request: MigrationRequest,
    settings: HostSettings,
    running: Attempt,
) -> None:
    probe_datastore(session, source, request.running.action, running)


def _probe_vddk(
    session: Session,
    source: SourceMachine,
    request: MigrationRequest,
    settings: HostSettings,
    running: Attempt,
) -> None:
    probe_vddk(settings, running)


PROBES: dict[TransportChoice, Probe] = {
    TransportChoice.VDDK: _probe_vddk,
    TransportChoice.DATASTORE: _probe_datastore,
    TransportChoice.NFC: _probe_nfc,
}


def choose_transport(
    session: Session,
    source: SourceMachine,
    request: MigrationRequest,
    settings: HostSettings,
    running: Attempt,
) -> Choice:
    """Ask the transports that matter for the request, and choose."""

    def offer(way: TransportChoice) -> Offer:
        try:
            PROBES[way](session, source, request, settings, running)
        except HyperctlError as error:
            return Offer(way, error.failure)
        return Offer(way)

    asked = request.transport
    offers = [offer(asked)] if asked in PROBES else []
    if not offers or offers[0].objection is not None:
        offers += [offer(way) for way in PROBES if way is not asked]
    return choose(asked, offers, source.machine)
