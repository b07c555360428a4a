"""Which of a Windows guest's static addresses belongs to which adapter. Pure.

Windows keeps them with the adapter's PCI device, so that a new adapter has none. The registry knows them by
an interface's GUID, vSphere by the MAC: an address that both know joins them.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from hyperctl.activities.convert.windows.found import StaticAddress
from hyperctl.workflows.machine import MachineNic

UNSET = "0.0.0.0"


@dataclass(frozen=True, slots=True)
class StaticInterface:
    """The IPv4 settings of an interface under `Services\\Tcpip\\Parameters\\Interfaces`, without DHCP."""

    addresses: tuple[str, ...]
    """With their prefix length."""
    gateway: str = ""
    name_servers: tuple[str, ...] = ()


def static_interface(
    addresses: Sequence[str], masks: Sequence[str], gateways: Sequence[str], name_servers: str
) -> StaticInterface | None:
    """From the registry's values, as a guest may have written them; None where they give no address."""
    usable = [
        f"{address}/{ipaddress.ip_network(f'0.0.0.0/{mask}').prefixlen}"
        for address, mask in zip(addresses, masks, strict=False)
        if _is_address(address) and _is_mask(mask)
    ]
    if not usable:
        return None
    servers = name_servers.replace(",", " ").split()
    return StaticInterface(
        tuple(usable),
        next((one for one in gateways if _is_address(one)), ""),
        tuple(one for one in servers if _is_address(one)),
    )


def keep_addresses(
    interfaces: Sequence[StaticInterface], nics: Sequence[MachineNic]
) -> tuple[tuple[StaticAddress, ...], tuple[str, ...]]:
    """What virt-v2v is to set, and in words what it cannot."""
    kept: list[StaticAddress] = []
    warnings: list[str] = []
    for interface in interfaces:
        nic = _adapter(interface, interfaces, nics)
        shown = ", ".join(interface.addresses)
        if nic is None:
            warnings.append(
                f"the static address {shown} is of no adapter that vSphere knows by its addresses: where one "
                "is to have it, set it again in Windows"
            )
            continue
        if not interface.gateway:
            warnings.append(
                f"the static address {shown} of {nic.label} has no gateway, without which virt-v2v cannot "
                "set it: set it again in Windows"
            )
            continue
        first, *others = interface.addresses
        address, _, length = first.partition("/")
        kept.append(
            StaticAddress(
                mac=nic.mac.lower(),
                address=address,
                prefix_length=int(length),
                gateway=interface.gateway,
                name_servers=interface.name_servers,
            )
        )
        if others:
            warnings.append(
                f"{nic.label} has further addresses, to be set again in Windows: {', '.join(others)}"
            )
    return tuple(kept), tuple(warnings)


def _adapter(
    interface: StaticInterface, interfaces: Sequence[StaticInterface], nics: Sequence[MachineNic]
) -> MachineNic | None:
    own = {address.partition("/")[0] for address in interface.addresses}
    for nic in nics:
        if own & {address.partition("/")[0] for address in nic.addresses}:
            return nic
    if len(interfaces) == len(nics) == 1 and not nics[0].addresses:
        return nics[0]
    return None


def _is_address(text: str) -> bool:
    try:
        return text != UNSET and bool(ipaddress.IPv4Address(text))
    except ValueError:
        return False


def _is_mask(text: str) -> bool:
    try:
        return ipaddress.ip_network(f"0.0.0.0/{text}").netmask == ipaddress.IPv4Address(text)
    except ValueError:
        return False
