"""The guest agent's protocol: with qemu's own agent, and with guests that answer what they like."""

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperctl.activities.prove.agent import LARGEST_ANSWER_BYTES, AgentAnswer, AgentError, GuestAgent
from hyperctl.activities.prove.weaker import nics_by_agent
from tests.moments import LONGEST_SECONDS, SOON_SECONDS, until
from tests.unit.machines import machine, nic

QEMU_GA = shutil.which("qemu-ga", path=f"{os.environ['PATH']}:/usr/sbin")


@contextmanager
def real_agent(folder: Path, *options: str) -> Iterator[socket.socket]:
    """qemu's agent as it runs in guests, on a Unix socket."""
    if QEMU_GA is None:
        pytest.skip("qemu-guest-agent is not installed: deploy/dev/setup installs it")
    path = folder / "agent.sock"
    argv = [QEMU_GA, "-m", "unix-listen", "-p", str(path), "-t", str(folder), "-f", str(folder / "pid")]
    process = subprocess.Popen([*argv, *options], stderr=subprocess.DEVNULL)
    try:
        until(lambda: path.exists() or process.poll() is not None)
        assert process.poll() is None
        with socket.socket(socket.AF_UNIX) as ours:
            ours.connect(str(path))
            yield ours
    finally:
        process.kill()
        process.wait()


def test_qemus_own_agent_tells_its_system_and_its_addresses(tmp_path: Path) -> None:
    with real_agent(tmp_path) as ours:
        ours.send(b'{"execute": "guest-fsfr')  # somebody's before us, left half said
        agent = GuestAgent(ours.fileno())
        answer = agent.ask(LONGEST_SECONDS)
        again = agent.ask(LONGEST_SECONDS)
        assert (again.system, again.kernel) == (answer.system, answer.kernel), "it may be asked again"
    assert answer.kernel == os.uname().release
    assert answer.system
    loopback = next(one for one in answer.interfaces if one.name == "lo")
    assert "127.0.0.1/8" in loopback.addresses


def test_what_the_guests_owner_forbids_is_done_without(tmp_path: Path) -> None:
    forbidden = "--blacklist=guest-network-get-interfaces,guest-get-osinfo"
    with real_agent(tmp_path, forbidden) as ours:
        assert GuestAgent(ours.fileno()).ask(LONGEST_SECONDS) == AgentAnswer("", "", ())


Reply = Callable[[dict[str, object]], bytes]


def asked(reply: Reply, timeout_seconds: float = LONGEST_SECONDS) -> AgentAnswer:
    """What is made of a guest's replies to each request."""
    ours, guests = socket.socketpair()

    def serve() -> None:
        # They have hung up in the middle of something: which is theirs to do.
        with suppress(OSError), guests, guests.makefile("rb") as requests:
            for line in requests:
                guests.sendall(reply(json.loads(line.lstrip(b"\xff"))))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        return GuestAgent(ours.fileno()).ask(timeout_seconds)
    finally:
        ours.shutdown(socket.SHUT_RDWR)
        ours.close()
        thread.join()


def synced(request: dict[str, object], then: bytes) -> bytes:
    arguments = request.get("arguments")
    if isinstance(arguments, dict):
        return b'{"return": 1}\nnoise\xff' + json.dumps({"return": arguments["id"]}).encode() + b"\n"
    return then + b"\n"


INTERFACES = [
    {"name": "lo", "ip-addresses": [{"ip-address": "127.0.0.1", "prefix": 8}]},
    {
        "name": "Ethernet",
        "hardware-address": "00:50:56:AA:BB:01",
        "ip-addresses": [
            {"ip-address": "192.0.2.10", "prefix": 24, "ip-address-type": "ipv4"},
            {"ip-address": "2001:db8::10%3", "prefix": 64},
            {"ip-address": "fe80::1", "prefix": 64},
            {"ip-address": "999.1.2.3", "prefix": 24},
            {"ip-address": "192.0.2.11", "prefix": "all"},
            "none",
        ],
    },
    7,
]


def windows(request: dict[str, object]) -> bytes:
    facts = {
        "pretty-name": "Windows Server 2019 Standard\x1b[2J",
        "kernel-release": "17763",
        "id": "mswindows",
    }
    answers = {"guest-get-osinfo": facts, "guest-network-get-interfaces": INTERFACES}
    return synced(request, json.dumps({"return": answers.get(str(request["execute"]), {})}).encode())


def test_interfaces_go_by_their_macs() -> None:
    answer = asked(windows)
    assert answer.system == "Windows Server 2019 Standard[2J"
    first, second = nics_by_agent(answer, machine(nics=(nic(1), nic(2))))
    assert (first.name, first.addresses[0], first.missing_addresses) == ("Ethernet", "192.0.2.10/24", ())
    assert len(first.addresses) == 2
    assert (second.name, second.addresses) == ("", ())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"not JSON", "no answer of an agent"),
        (b"[" * 100_000, "no answer of an agent"),
        (b'{"return"', "no answer of an agent"),
        (b'{"error": {"desc": "no such command"}}', "no such command"),
        (b"x" * (LARGEST_ANSWER_BYTES + 10_000), "more than"),
    ],
)
def test_answers_that_are_none(answer: bytes, words: str) -> None:
    with pytest.raises(AgentError, match=words):
        asked(lambda request: synced(request, answer))


def test_silence_and_a_channel_that_closes_end_in_time() -> None:
    began = time.monotonic()
    with pytest.raises(AgentError, match="does not answer"):
        asked(lambda request: b"", timeout_seconds=0.3)
    with pytest.raises(AgentError, match="does not answer"):
        asked(lambda request: b"chatter\n" * 10, timeout_seconds=0.3)
    assert time.monotonic() - began < SOON_SECONDS
    ours, guests = socket.socketpair()
    with ours:
        guests.close()
        with pytest.raises(AgentError, match="closed"):
            GuestAgent(ours.fileno()).ask(LONGEST_SECONDS)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["name", "hardware-address", "ip-addresses", "ip-address", "prefix"]), inner
        )
    ),
    max_leaves=12,
)


@given(values)
def test_whatever_a_guest_answers_is_read_or_refused(value: object) -> None:
    answer = asked(lambda request: synced(request, json.dumps({"return": value}).encode()))
    nics_by_agent(answer, machine())
