"""Where the trial guest's frames end: sockets on the loopback device that nobody reads.

A NIC of libvirt's type `udp` has its link up, so static addresses come up, and its frames go as datagrams to
one address. We hold that address ourselves for as long as the guest runs, so that nothing else can listen.
"""

import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from hyperctl.activities.target.network import DeadEnd


@contextmanager
def dead_ends(count: int) -> Iterator[tuple[DeadEnd, ...]]:
    """One dead end for each NIC, held for the length of a `with`."""
    with ExitStack() as sinks:
        found = []
        for _ in range(count):
            # An address of its own out of 127.0.0.0/8 keeps the ports of one trial from those of another.
            address = (
                f"127.{secrets.randbelow(254) + 1}.{secrets.randbelow(256)}.{secrets.randbelow(254) + 1}"
            )
            sink = sinks.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sink.bind((address, 0))
            sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.bind((address, 0))
                local_port = probe.getsockname()[1]
            found.append(DeadEnd(address, sink.getsockname()[1], address, local_port))
        yield tuple(found)
