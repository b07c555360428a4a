"""Talking to libvirt: the connection, and its errors as ours."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import libvirt

from hyperctl.activities.target.domain import METADATA_NAMESPACE
from hyperctl.workflows.errors import ErrorCode, HyperctlError


def _be_silent(_context: object, _error: object) -> None:
    """In place of libvirt's own handler, which prints to stderr what is raised anyway."""


libvirt.registerErrorHandler(_be_silent, None)


@dataclass(frozen=True, slots=True)
class QemuUser:
    """Who qemu processes run as under this libvirt."""

    uid: int
    gid: int

    @property
    def label(self) -> str:
        return f"+{self.uid}:+{self.gid}"


@contextmanager
def connect(uri: str) -> Iterator[libvirt.virConnect]:
    """A connection for the length of a `with`.

    Raises `LIBVIRT_UNREACHABLE` when there is none to be had, and turns whatever libvirt refuses inside
    the block into `LIBVIRT_REFUSED`.
    """
    try:
        connection = libvirt.open(uri)
    except libvirt.libvirtError as error:
        raise HyperctlError(
            ErrorCode.LIBVIRT_UNREACHABLE,
            f"libvirt does not answer at {uri}: {error.get_error_message()}",
            "Start it (systemctl start libvirtd) or set HYPERCTL_LIBVIRT_URI to where it is.",
        ) from error
    try:
        yield connection
    except libvirt.libvirtError as error:
        raise HyperctlError(
            ErrorCode.LIBVIRT_REFUSED, f"libvirt refused: {error.get_error_message()}"
        ) from error
    finally:
        connection.close()


def find_domain(connection: libvirt.virConnect, name: str) -> libvirt.virDomain | None:
    """The domain of that name, running or not."""
    try:
        return connection.lookupByName(name)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def most_processors(connection: libvirt.virConnect, machine_type: str, domain_type: str) -> int:
    """How many a domain of such a machine may have on this host; 0 where its libvirt does not say."""
    try:
        text = connection.getDomainCapabilities(None, "x86_64", machine_type, domain_type)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
            return 0
        raise
    vcpu = ET.fromstring(text).find("./vcpu")
    return int(vcpu.get("max", "0")) if vcpu is not None else 0


def find_network(connection: libvirt.virConnect, name: str) -> libvirt.virNetwork | None:
    """The virtual network of that name, active or not."""
    try:
        return connection.networkLookupByName(name)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_NETWORK:
            return None
        raise


def job_of(domain: libvirt.virDomain) -> str | None:
    """The job that made a domain, by its metadata; None for a domain that is none of ours."""
    try:
        text = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, METADATA_NAMESPACE, 0)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_METADATA:
            return None
        raise
    return ET.fromstring(text).get("job")


def disk_files(domain: libvirt.virDomain) -> set[str]:
    """The files that a domain's disks are, those of its persistent definition where it has one; none of a
    domain that has gone since it was listed."""
    try:
        flags = libvirt.VIR_DOMAIN_XML_INACTIVE if domain.isPersistent() else 0
        sources = ET.fromstring(domain.XMLDesc(flags)).iterfind("./devices/disk/source")
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return set()
        raise
    return {source.get("file", "") for source in sources}


def qemu_user(connection: libvirt.virConnect) -> QemuUser | None:
    """Who runs qemu, by the base label of libvirt's DAC driver; None where it runs as libvirt itself."""
    capabilities = ET.fromstring(connection.getCapabilities())
    for model in capabilities.iterfind("./host/secmodel"):
        if model.findtext("model") == "dac":
            for label in model.iterfind("baselabel"):
                uid, _, gid = (label.text or "").partition(":")
                return QemuUser(int(uid.lstrip("+")), int(gid.lstrip("+")))
    return None
