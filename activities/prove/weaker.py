"""The proof of a guest that has no reporter, by its agent or its disks and screen: it claims less."""

from hyperctl.activities.prove.agent import AgentAnswer
from hyperctl.activities.prove.boot import Boot
from hyperctl.activities.prove.life import SignsOfLife
from hyperctl.activities.prove.report import normal_address
from hyperctl.workflows.guest import BootProof, Claim, Comparison, NicReport
from hyperctl.workflows.machine import Machine, MachineNic
from hyperctl.workflows.request import ProveMode


def weaker_proof(
    booted: Boot,
    signs: SignsOfLife,
    machine: Machine,
    mode: ProveMode,
    comparison: Comparison | None,
    warnings: tuple[str, ...],
) -> BootProof:
    """Of a boot that went on until it had shown enough."""
    answer = signs.answer
    claim = Claim.AGENT if answer else Claim.ACTIVITY
    nics = nics_by_agent(answer, machine) if answer else ()
    problems: list[str] = []
    if nics and not any(nic.name for nic in nics) and mode is not ProveMode.BOOT:
        problems.append("the guest has none of its network interfaces")
    return BootProof(
        passed=not problems,
        mode=mode,
        acceleration=booted.acceleration,
        claim=claim,
        multi_user=False,
        boot_seconds=round(booted.ending.boot_seconds, 1),
        system=answer.system if answer else "",
        kernel=answer.kernel if answer else "",
        seen="" if answer else signs.life.words,
        nics=nics,
        comparison=comparison,
        problems=tuple(problems),
        warnings=(*warnings, *(text for nic in nics for text in _missing(nic))),
    )


def nics_by_agent(answer: AgentAnswer, machine: Machine) -> tuple[NicReport, ...]:
    """Every NIC of the machine with the addresses on all that has its MAC."""
    return tuple(_nic(nic, answer) for nic in machine.nics)


def _nic(nic: MachineNic, answer: AgentAnswer) -> NicReport:
    mac = nic.mac.lower()
    own = [interface for interface in answer.interfaces if interface.mac == mac]
    return NicReport(
        mac=mac,
        name=own[0].name if own else "",
        addresses=tuple(address for interface in own for address in interface.addresses),
        expected_addresses=tuple(normal_address(address) or address for address in nic.addresses),
    )


def _missing(nic: NicReport) -> tuple[str, ...]:
    """An agent does not tell whether an address is static, nor which NICs a bond has taken the MACs of."""
    if not nic.name:
        return (f"the guest's agent names no interface with the MAC {nic.mac}",)
    missing = ", ".join(nic.missing_addresses)
    waits = "; the trial boot has no network that could give it one"
    return (f"{nic.name} ({nic.mac}) lacks {missing}{waits}",) if missing else ()
