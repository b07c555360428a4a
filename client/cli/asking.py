"""From the command line and the user's defaults to a request; every problem at once."""

import getpass
import os
from dataclasses import dataclass

from pydantic import ValidationError

from hyperctl.client.cli.options import parse_network_map
from hyperctl.client.cli.session import refuse
from hyperctl.client.config import Configuration
from hyperctl.workflows.request import MigrationRequest

_FLAGS = {
    "vm_name": "--vm",
    "vcenter.server": "--vcenter",
    "vcenter.username": "--username",
    "vcenter.datacenter": "--datacenter",
    "vcenter.certificate_sha256": "--certificate-sha256",
    "output_dir": "--output-dir",
    "priority": "--priority",
    "verify": "--verify",
    "prove": "--prove",
    "host": "--host",
    "tags": "--tags",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What was typed; None where the user's configuration decides."""

    vm: str | None
    vcenter: str | None
    username: str | None
    datacenter: str | None
    certificate_sha256: str | None
    output_dir: str | None
    to_libvirt: bool
    start: bool
    priority: str
    virtio: bool | None
    grub: bool | None
    network: bool | None
    fstab: bool | None
    tools: bool | None
    verify: str
    prove: str
    network_map: list[str]
    tags: str
    host: str | None


def make_request(asked: Asked, configuration: Configuration) -> MigrationRequest:
    """The request, or every problem on the screen and the end."""
    vsphere, conversion = configuration.vsphere, configuration.conversion
    problems: list[str] = []
    server = asked.vcenter or vsphere.server
    if not asked.vm:
        problems.append("--vm is missing: the name of the VM in vSphere")
    if not server:
        problems.append("--vcenter is missing, and vsphere.server is not in the configuration either")
    if asked.start and not asked.to_libvirt:
        problems.append("--start needs --to-libvirt: only a defined domain can be started")
    network_map = parse_network_map(asked.network_map, problems)
    same_server = asked.vcenter in (None, vsphere.server)
    document = {
        "vm_name": asked.vm or "missing",
        "vcenter": {
            "server": server or "missing",
            "username": asked.username or (vsphere.username if same_server else None),
            "datacenter": asked.datacenter or (vsphere.datacenter if same_server else None),
            "certificate_sha256": asked.certificate_sha256
            or (vsphere.certificate_sha256 if same_server else None),
        },
        "output_dir": asked.output_dir or conversion.output_dir,
        "to_libvirt": asked.to_libvirt,
        "start": asked.start,
        "priority": asked.priority,
        "fix": {
            "virtio": _first(asked.virtio, conversion.fix_virtio),
            "grub": _first(asked.grub, conversion.fix_grub),
            "network": _first(asked.network, conversion.fix_network),
            "fstab": _first(asked.fstab, conversion.fix_fstab),
            "tools": _first(asked.tools, conversion.fix_tools),
        },
        "verify": asked.verify,
        "prove": asked.prove,
        "network_map": network_map,
        "host": asked.host,
        "tags": [tag.strip() for tag in asked.tags.split(",") if tag.strip()],
        "requested_by": os.environ.get("SUDO_USER") or _user(),
    }
    try:
        request = MigrationRequest.model_validate(document)
    except ValidationError as error:
        for problem in error.errors(include_input=False):
            key = ".".join(str(part) for part in problem["loc"])
            problems.append(f"{_FLAGS.get(key, key)}: {problem['msg'].removeprefix('Value error, ')}")
        refuse(problems)
    if problems:
        refuse(problems)
    return request


def _first(given: bool | None, default: bool) -> bool:
    return default if given is None else given


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"  # a container without an entry for its user
