"""`make demo`: a migration from beginning to end, before one's eyes; `make demo-down` takes it all away."""

import re
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

from deploy.dev.__main__ import developers_stack
from deploy.dev.detached import DidNotStart
from deploy.dev.libvirt import URI, LibvirtUnreachable, ensure_libvirt, virsh
from deploy.dev.prepare import NotSetUp
from deploy.dev.stack import Stack

VM = "web-server-01"


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


def clear(stack: Stack) -> None:
    """Stop the stack and remove all that an earlier demo made, the domain among it."""
    remove_domain(stack)
    stopped = stack.down()
    stack.wipe()
    if stopped:
        print("Stopped:", ", ".join(stopped), flush=True)


def remove_domain(stack: Stack) -> None:
    """Undefine the demo's domain, if there is one that hyperctl made from this stack's images."""
    if not stack.output_dir.exists():
        return
    ensure_libvirt(stack.folder)
    described = virsh("dumpxml", "--inactive", VM)
    if described.returncode != 0 or not _is_ours(described.stdout, stack):
        return
    if virsh("domstate", VM).stdout.strip() == "running":
        virsh("destroy", VM)
    done = virsh("undefine", "--nvram", VM)
    print(f"Undefined the domain {VM}." if done.returncode == 0 else done.stderr.strip(), flush=True)


def _is_ours(xml: str, stack: Stack) -> bool:
    domain = ElementTree.fromstring(xml)
    made_here = any(re.match(r"\{[^}]*hyperctl[^}]*\}", child.tag) for child in domain.iterfind("metadata/*"))
    sources = [source.get("file", "") for source in domain.iterfind("devices/disk/source")]
    return made_here and all(path.startswith(f"{stack.output_dir}/") for path in sources)


def main(arguments: list[str]) -> int:
    stack = developers_stack()
    try:
        if arguments == ["down"]:
            clear(stack)
            print("Nothing of the demo is left.")
            return 0
        return demonstrate(stack)
    except (DidNotStart, LibvirtUnreachable, NotSetUp) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
