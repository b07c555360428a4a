"""Which transport a machine's disks are copied by, and why, in words for its owner. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hyperctl.workflows.errors import ErrorCode, Failure
from hyperctl.workflows.machine import Machine
from hyperctl.workflows.request import TransportChoice

HOLES_PAY_BELOW = 1 / 3
"""Of the capacity in use. An export lease sends one stream a disk, at about a third of what four connections
to a datastore bring (field reports: 19 to 29 MB/s, 56 to 97 MB/s), but leaves holes out."""
PREFERENCE = (TransportChoice.VDDK, TransportChoice.DATASTORE, TransportChoice.NFC)

_ADVANTAGES = {
    TransportChoice.VDDK: "VMware's own library reads only what is in use, and a copy that breaks goes on "
    "inside a disk",
    TransportChoice.DATASTORE: "each disk is read over several connections, and a copy that breaks goes on "
    "inside a disk",
    TransportChoice.NFC: "every vSphere offers it",
}


@dataclass(frozen=True, slots=True)
class Offer:
    """What was found out of one transport for one machine."""

    transport: TransportChoice
    objection: Failure | None = None
    """Why it cannot be used."""


@dataclass(frozen=True, slots=True)
class Choice:
    transport: TransportChoice
    reason: str
    """Why this one, in a sentence."""
    problem: Failure | None = None
    """What stands against it."""


def choose(asked: TransportChoice, offers: Sequence[Offer], machine: Machine) -> Choice:
    """The transport to use. One that was asked for is never replaced by another in silence."""
    objections = {offer.transport: offer.objection for offer in offers}
    usable = [way for way in PREFERENCE if way in objections and objections[way] is None]
    if asked is not TransportChoice.AUTO:
        return _asked(asked, objections, usable, machine)
    if not usable:
        return Choice(TransportChoice.NFC, "", _none(objections, machine))
    if TransportChoice.VDDK not in usable and TransportChoice.NFC in usable and _mostly_holes(machine):
        share = machine.allocated_bytes / machine.capacity_bytes
        reason = f"only {share:.0%} of the disks' capacity is in use, and holes are not sent"
        return Choice(TransportChoice.NFC, reason)
    chosen = usable[0]
    passed = [way for way in PREFERENCE[: PREFERENCE.index(chosen)] if objections.get(way) is not None]
    # That a library is not installed explains a choice only where something is worse for it.
    told = [way for way in passed if way is not TransportChoice.VDDK or chosen is TransportChoice.NFC]
    because = "; ".join(f"{way} cannot be used ({_text(objections, way)})" for way in told)
    return Choice(chosen, f"{_ADVANTAGES[chosen]}; {because}" if because else _ADVANTAGES[chosen])


def _asked(
    asked: TransportChoice,
    objections: Mapping[TransportChoice, Failure | None],
    usable: Sequence[TransportChoice],
    machine: Machine,
) -> Choice:
    if asked in usable:
        return Choice(asked, "it was asked for")
    objection = objections.get(asked)
    code = objection.code if objection else ErrorCode.INVALID_REQUEST
    alternatives = f"Can be used: --transport {', '.join([*usable, TransportChoice.AUTO])}."
    hint = f"{objection.hint} {alternatives}".strip() if objection else alternatives
    message = f"{machine.name} cannot be copied by {asked}: {_text(objections, asked)}"
    return Choice(asked, "it was asked for", Failure(code=code, message=message, hint=hint))


def _none(objections: Mapping[TransportChoice, Failure | None], machine: Machine) -> Failure:
    every = "; ".join(f"{way}: {_text(objections, way)}" for way in objections)
    return Failure(code=ErrorCode.VM_UNSUPPORTED, message=f"{machine.name} can be copied in no way: {every}")


def _text(objections: Mapping[TransportChoice, Failure | None], way: TransportChoice) -> str:
    objection = objections.get(way)
    return objection.message if objection else "it is not for machines in a vCenter"


def _mostly_holes(machine: Machine) -> bool:
    return 0 < machine.allocated_bytes < machine.capacity_bytes * HOLES_PAY_BELOW
