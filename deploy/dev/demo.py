"""`make demo`: a migration from beginning to end, before one's eyes; `make demo-down` takes it all away."""

import re
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

from deploy.dev.__main__ import developers_stack
from deploy.dev.detached import DidNotStart
from deploy.dev.libvirt import URI, LibvirtUnreachable, ensure_libvirt, virsh
from deploy.dev.prepare import NotSetUp
from deploy.dev.stack import Stack

VM = "web-server-01"


class NotTheDemos(Exception):
    """There is more on the stack than the demo has made; the message names it."""


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain with disks in the stack's output folder."""

    name: str
    is_ours: bool
    """hyperctl has made it, and all of its disks are there."""


def demonstrate(stack: Stack) -> int:
    """Bring up a fresh stack and migrate the demo's guest; the exit code of `hyperctl convert`."""
    clear(stack)
    print("Starting Temporal, the simulated vCenter, libvirt and a worker ...", flush=True)
    stack.up()
    command = ["hyperctl", "convert", "--vm", VM, "--vcenter", stack.vcenter.server, "--to-libvirt"]
    print(f"Web UI: {stack.web_ui}\n\n$ {' '.join(command)}", flush=True)
    # Ctrl-C is the client's to answer, which detaches; what is said below still holds then.
    signal.signal(signal.SIGINT, lambda *_: None)
    code = subprocess.run(command, env=stack.environment(), check=False).returncode
    print(
        f"\nThe migration in the Web UI   {stack.web_ui}"
        f"\nThe guest in libvirt          virsh -c {URI} list --all"
        f"\nMore commands                 export HYPERCTL_TEMPORAL_ADDRESS={stack.temporal_address}; "
        f".venv/bin/hyperctl list"
        f"\nStop and remove it all        make demo-down"
    )
    return code


def clear(stack: Stack, *, everything: bool = False) -> None:
    """Stop the stack and remove all that an earlier demo made, the domain among it.

    Raises `NotTheDemos`, with nothing touched, where somebody has made more on it by `make dev`, unless
    `everything` is to go; domains that hyperctl did not make never go.
    """
    domains = domains_over(stack)
    foreign = [domain.name for domain in domains if not domain.is_ours]
    if foreign:
        raise NotTheDemos(
            f"Domains that hyperctl did not make have their disks in {stack.output_dir}: "
            f"{', '.join(foreign)}. Undefine them or move their disks away first."
        )
    more = [domain.name for domain in domains if domain.name != VM]
    more += [str(folder) for folder in other_images(stack)]
    if more and not everything:
        raise NotTheDemos(
            f"This stack holds more than the demo has made: {', '.join(more)}.\n"
            "Move away what is to stay. To delete it all: make demo-down EVERYTHING=yes"
        )
    for domain in domains:
        remove_domain(domain.name)
    stopped = stack.down()
    stack.wipe()
    if stopped:
        print("Stopped:", ", ".join(stopped), flush=True)


def other_images(stack: Stack) -> list[Path]:
    """Folders of finished images, `DATE/VM`, of other machines than the demo's."""
    found = sorted(stack.output_dir.glob("[0-9]*-[0-9]*-[0-9]*/*"))
    return [folder for folder in found if folder.is_dir() and folder.name.partition("~")[0] != VM]


def domains_over(stack: Stack) -> list[Domain]:
    """Every domain with a disk in the stack's output folder."""
    if not stack.output_dir.exists():
        return []
    ensure_libvirt(stack.folder)
    names = virsh("list", "--all", "--name").stdout.splitlines()
    described = [(name, virsh("dumpxml", "--inactive", name)) for name in names if name]
    found = (_domain_over(name, answer.stdout, stack) for name, answer in described if not answer.returncode)
    return [domain for domain in found if domain is not None]


def remove_domain(name: str) -> None:
    """Stop and undefine a domain; its disks are not touched."""
    if virsh("domstate", name).stdout.strip() == "running":
        virsh("destroy", name)
    done = virsh("undefine", "--nvram", name)
    print(f"Undefined the domain {name}." if done.returncode == 0 else done.stderr.strip(), flush=True)


def _domain_over(name: str, xml: str, stack: Stack) -> Domain | None:
    domain = ElementTree.fromstring(xml)
    made_here = any(re.match(r"\{[^}]*hyperctl[^}]*\}", child.tag) for child in domain.iterfind("metadata/*"))
    sources = [source.get("file", "") for source in domain.iterfind("devices/disk/source")]
    inside = [path.startswith(f"{stack.output_dir}/") for path in sources]
    return Domain(name, made_here and all(inside)) if any(inside) else None


def main(arguments: list[str]) -> int:
    stack = developers_stack()
    try:
        if arguments[:1] == ["down"]:
            clear(stack, everything="--everything" in arguments)
            print("Nothing of the demo is left.")
            return 0
        return demonstrate(stack)
    except (NotTheDemos, DidNotStart, LibvirtUnreachable, NotSetUp) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
