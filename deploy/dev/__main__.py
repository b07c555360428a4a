"""`python -m deploy.dev up | down | status | env`: the development stack by hand."""

import argparse
import sys
from pathlib import Path

from deploy.dev.detached import DidNotStart
from deploy.dev.layout import state_dir
from deploy.dev.libvirt import LibvirtUnreachable
from deploy.dev.ports import USUAL, Ports
from deploy.dev.prepare import NotSetUp
from deploy.dev.stack import Stack

DEMO_OUTPUT = Path("/var/lib/hyper2kvm/demo")
"""Outside of the home folder, which qemu's own account could not enter."""


def developers_stack() -> Stack:
    """The one that `make demo` and `make dev` use."""
    return Stack(state_dir(), output_dir=DEMO_OUTPUT, ports=USUAL)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.dev", description=__doc__)
    parser.add_argument("command", choices=("up", "down", "status", "env"))
    parser.add_argument("--state", type=Path, help="another folder for all it keeps; its ports are then any")
    parser.add_argument("--output", type=Path, help="the worker's output folder")
    given = parser.parse_args(arguments)
    if given.state or given.output:
        folder = (given.state or state_dir()).absolute()
        stack = Stack(folder, output_dir=given.output, ports=Ports() if given.state else USUAL)
    else:
        stack = developers_stack()
    try:
        _COMMANDS[given.command](stack)
    except (DidNotStart, LibvirtUnreachable, NotSetUp) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def describe(stack: Stack) -> None:
    """Say where everything is."""
    print(f"Temporal          {stack.temporal_address}")
    print(f"Web UI            {stack.web_ui}")
    print(f"Simulated vCenter {stack.vcenter.server}   faults: {stack.vcenter.control}")
    print(f"Images            {stack.output_dir}")
    print(f"Logs              {stack.log('worker').parent}")


def _up(stack: Stack) -> None:
    stack.up()
    describe(stack)
    print(f"\nTo use it: export HYPERCTL_TEMPORAL_ADDRESS={stack.temporal_address}; .venv/bin/hyperctl list")


def _down(stack: Stack) -> None:
    print("stopped:", ", ".join(stack.down()) or "nothing was running")


def _status(stack: Stack) -> None:
    for name, pid in stack.status().items():
        print(f"{name:<17} {f'process {pid}' if pid else 'not running'}")
    if all(stack.status().values()):
        describe(stack)


def _env(stack: Stack) -> None:
    for name, value in stack.environment().items():
        if name.startswith("HYPERCTL_"):
            print(f"export {name}={value}")


_COMMANDS = {"up": _up, "down": _down, "status": _status, "env": _env}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
