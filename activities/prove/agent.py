"""The guest agent, asked over its channel: whether it is there, which system it runs in, its addresses.

Protocol: QEMU Guest Agent Protocol Reference (docs/interop/qemu-ga-ref): a JSON object a line each way; an
answer to guest-sync-delimited begins with a byte 0xFF. The guest may answer anything, or never.
"""

import json
import os
import secrets
import select
import time
from collections.abc import Iterator
from dataclasses import dataclass

from hyperctl.activities.prove.report import normal_address

LARGEST_ANSWER_BYTES = 256 << 10
LONGEST_TEXT = 200
PIECE_BYTES = 4096
MOST_INTERFACES = 256
DELIMITER = 0xFF


class AgentError(Exception):
    """It does not answer, or not as an agent does."""


@dataclass(frozen=True, slots=True)
class AgentInterface:
    name: str
    mac: str
    """In small letters; empty where it has none."""
    addresses: tuple[str, ...]
    """With their prefix length; link-local ones are left out."""


@dataclass(frozen=True, slots=True)
class AgentAnswer:
    """What the agent says of its guest."""

    system: str
    """`Debian GNU/Linux 12 (bookworm)`; empty where an old agent cannot say it."""
    kernel: str
    interfaces: tuple[AgentInterface, ...]


class GuestAgent:
    """Over a descriptor of the channel, a socket or a terminal in raw mode, which stays the caller's."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._read = bytearray()

    def ask(self, timeout_seconds: float) -> AgentAnswer:
        """Everything, within the time. Raises `AgentError` where it is not there or cannot be understood."""
        deadline = time.monotonic() + timeout_seconds
        self._synchronise(deadline)
        self._call("guest-ping", deadline)
        try:
            facts = self._call("guest-get-osinfo", deadline)
        except _RefusedError:
            facts = {}  # older than 2.10
        try:
            interfaces = self._call("guest-network-get-interfaces", deadline)
        except _RefusedError:
            interfaces = []  # the guest's own configuration may forbid it
        system = _text(facts, "pretty-name") or _text(facts, "name")
        return AgentAnswer(system, _text(facts, "kernel-release"), tuple(_interfaces(interfaces)))

    def _synchronise(self, deadline: float) -> None:
        """Throw away whatever came before, up to the answer that has our number."""
        number = secrets.randbelow(1 << 31)
        # The delimiter makes the agent drop what was left half said.
        self._send(bytes([DELIMITER]) + _request("guest-sync-delimited", {"id": number}), deadline)
        while True:
            line = self._line(deadline)
            _, found, answer = line.rpartition(bytes([DELIMITER]))
            if found and _decoded(answer) == {"return": number}:
                return

    def _call(self, command: str, deadline: float) -> object:
        self._send(_request(command), deadline)
        answer = _decoded(self._line(deadline))
        if not isinstance(answer, dict) or "return" not in answer:
            if isinstance(answer, dict) and "error" in answer:
                raise _RefusedError(f"{command}: {_text(answer['error'], 'desc')}")
            raise AgentError(f"{command}: no answer of an agent")
        return answer["return"]

    def _send(self, data: bytes, deadline: float) -> None:
        while data:
            self._wait(deadline, to_write=True)
            try:
                data = data[os.write(self._descriptor, data) :]
            except OSError as error:
                raise AgentError(f"the channel is closed: {error.strerror}") from error

    def _line(self, deadline: float) -> bytes:
        while b"\n" not in self._read:
            if len(self._read) > LARGEST_ANSWER_BYTES:
                raise AgentError(f"an answer of more than {LARGEST_ANSWER_BYTES >> 10} KiB")
            self._wait(deadline, to_write=False)
            try:
                piece = os.read(self._descriptor, PIECE_BYTES)
            except OSError as error:
                raise AgentError(f"the channel is closed: {error.strerror}") from error
            if not piece:
                raise AgentError("the channel is closed")
            self._read += piece
        line, _, self._read = self._read.partition(b"\n")
        return bytes(line)

    def _wait(self, deadline: float, *, to_write: bool) -> None:
        left = deadline - time.monotonic()
        own = [self._descriptor]
        ready = left > 0 and select.select([] if to_write else own, own if to_write else [], [], left)
        if not ready or not any(ready):
            raise AgentError("it does not answer")


class _RefusedError(AgentError):
    """The agent's own error: a command that it does not have or that is forbidden."""


def _request(command: str, arguments: dict[str, int] | None = None) -> bytes:
    document = {"execute": command, **({"arguments": arguments} if arguments else {})}
    return json.dumps(document).encode() + b"\n"


def _decoded(line: bytes) -> object:
    try:
        return json.loads(line.decode("utf-8", "replace").lstrip("\ufffd"))
    except (ValueError, RecursionError):
        return None


def _text(document: object, key: str) -> str:
    value = document.get(key) if isinstance(document, dict) else None
    return "".join(filter(str.isprintable, value))[:LONGEST_TEXT] if isinstance(value, str) else ""


def _interfaces(document: object) -> Iterator[AgentInterface]:
    for one in document[:MOST_INTERFACES] if isinstance(document, list) else ():
        listed = one.get("ip-addresses") if isinstance(one, dict) else None
        addresses = map(_address, listed[:MOST_INTERFACES] if isinstance(listed, list) else ())
        name, mac = _text(one, "name"), _text(one, "hardware-address").lower()
        yield AgentInterface(name, mac, tuple(filter(None, addresses)))


def _address(document: object) -> str:
    prefix = document.get("prefix") if isinstance(document, dict) else None
    if not isinstance(prefix, int):
        return ""
    return normal_address(f"{_text(document, 'ip-address')}/{prefix}", link_local=False)
