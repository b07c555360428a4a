"""What a NIC is plugged into on the target: vSphere's network name mapped to libvirt's."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hyperctl.workflows.machine import Machine

DEFAULT_NETWORK = "default"
BRIDGE_PREFIX = "bridge:"


@dataclass(frozen=True, slots=True)
class LibvirtNetwork:
    """A virtual network of libvirt's, by name."""

    name: str


@dataclass(frozen=True, slots=True)
class HostBridge:
    """A bridge of the host's, by its device name."""

    device: str


@dataclass(frozen=True, slots=True)
class DeadEnd:
    """Frames leave as datagrams on the loopback device and end in a socket that answers nothing.

    The link is up, so that addresses come up, and no network is reachable.
    """

    sink_address: str
    sink_port: int
    local_address: str
    local_port: int


NicSource = LibvirtNetwork | HostBridge | DeadEnd


def map_network(name: str, network_map: Mapping[str, str]) -> LibvirtNetwork | HostBridge:
    """Where a NIC of the given vSphere network goes."""
    mapped = network_map.get(name, DEFAULT_NETWORK)
    if mapped.startswith(BRIDGE_PREFIX):
        return HostBridge(mapped.removeprefix(BRIDGE_PREFIX))
    return LibvirtNetwork(mapped)


def sources_of(machine: Machine, network_map: Mapping[str, str]) -> tuple[LibvirtNetwork | HostBridge, ...]:
    """One source for each of the machine's NICs, in their order."""
    return tuple(map_network(nic.network, network_map) for nic in machine.nics)


def networks_of(machine: Machine, network_map: Mapping[str, str]) -> dict[str, str]:
    """Where each of its vSphere networks goes, in the words of a request's map."""
    return {nic.network: network_map.get(nic.network, DEFAULT_NETWORK) for nic in machine.nics}


def libvirt_networks(sources: Iterable[NicSource]) -> tuple[str, ...]:
    """The names of libvirt's own networks among them, each once."""
    return tuple(dict.fromkeys(source.name for source in sources if isinstance(source, LibvirtNetwork)))
