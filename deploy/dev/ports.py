"""The loopback ports of a stack: the usual ones if free, else any; once chosen they stay."""

import contextlib
import json
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Ports:
    """0 stands for any free port."""

    temporal: int = 0
    web: int = 0
    vcenter: int = 0


USUAL = Ports(temporal=7233, web=8233, vcenter=8989)
_reserved: dict[int, socket.socket] = {}


def choose_ports(file: Path, wanted: Ports) -> Ports:
    """The ports recorded in a file, or the wanted ones; what another process has is replaced, and recorded.

    Only to be asked while nothing of the stack runs.
    """
    with contextlib.suppress(FileNotFoundError):
        wanted = Ports(**json.loads(file.read_text()))
    chosen = Ports(
        **{
            name: port if _is_free(port) and _reserve(port) else _free()
            for name, port in asdict(wanted).items()
        }
    )
    file.write_text(json.dumps(asdict(chosen)))
    return chosen


def read_ports(file: Path) -> Ports:
    """The ports of a stack that has been up. Raises `FileNotFoundError` if it never was."""
    return Ports(**json.loads(file.read_text()))


def answers(port: int) -> bool:
    """Whether something listens there."""
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex((LOOPBACK, port)) == 0


def _is_free(port: int) -> bool:
    if port == 0 or answers(port):
        return False
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _free() -> int:
    while True:
        with socket.socket() as server:
            server.bind((LOOPBACK, 0))
            port: int = server.getsockname()[1]
        if port not in _reserved and _reserve(port):
            return port


def _reserve(port: int) -> bool:
    """Keep a port from other stacks that choose theirs before this one's services listen, until this process
    ends: a socket of the kernel's abstract names (unix(7)) says so."""
    if port in _reserved:
        return True
    sign = socket.socket(socket.AF_UNIX)
    try:
        sign.bind(f"\0hyperctl-dev-port-{port}")
    except OSError:
        sign.close()
        return False
    _reserved[port] = sign
    return True
