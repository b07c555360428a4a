"""Signs of life of a guest that has no reporter: its agent's answer, else its disks at work and its console.

The weaker claim: what is mounted, which services run and whether they work is not seen.
"""

import hashlib
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import libvirt

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.prove.agent import AgentAnswer, AgentError, GuestAgent
from hyperctl.activities.prove.limit import Patience
from hyperctl.activities.prove.screen import take_picture
from hyperctl.activities.target.domain import AGENT_CHANNEL

LOOK_SECONDS = 5.0
ASK_SECONDS = 3.0
LEAST_WRITTEN_BYTES = 256 << 10
LEAST_WRITING_LOOKS = 3
"""A boot loader writes a block once, a journal is replayed in one go; a system that runs goes on writing."""
_LOGIN = re.compile(r"\blogin: *$")


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a domain's disks have done up to a moment, and what is on its screen."""

    at_seconds: float
    read_bytes: int
    written_bytes: int
    screen: str = ""
    """A digest of it."""


@dataclass(slots=True)
class Life:
    """What the pulses say. Pure."""

    pulses: list[Pulse] = field(default_factory=list)
    login_at: float | None = None
    """When a login prompt was first seen on a console."""

    def look(self, pulse: Pulse, *consoles: str) -> None:
        self.pulses.append(pulse)
        prompts = any(_LOGIN.search(text.rstrip("\n")) for text in consoles)
        if not prompts:
            self.login_at = None
        elif self.login_at is None:
            self.login_at = pulse.at_seconds

    @property
    def written_bytes(self) -> int:
        return self.pulses[-1].written_bytes if self.pulses else 0

    @property
    def works_its_disks(self) -> bool:
        pairs = pairwise(self.pulses)
        writing = sum(later.written_bytes > earlier.written_bytes for earlier, later in pairs)
        return self.written_bytes >= LEAST_WRITTEN_BYTES and writing >= LEAST_WRITING_LOOKS

    def is_calm(self, seconds: float) -> bool:
        """Whether its disks have hardly been read for so long: it has come to where it was going."""
        now = self.pulses[-1]
        before = [pulse for pulse in self.pulses if pulse.at_seconds <= now.at_seconds - seconds]
        return bool(before) and now.read_bytes - before[-1].read_bytes < LEAST_WRITTEN_BYTES

    @property
    def words(self) -> str:
        """What was seen, for people."""
        screens = len({pulse.screen for pulse in self.pulses} - {""})
        read = self.pulses[-1].read_bytes if self.pulses else 0
        parts = [f"read {read >> 20} MiB and wrote {self.written_bytes >> 10} KiB"]
        parts += [f"showed {screens} different screens"] if screens > 1 else []
        parts += ["shows a login prompt"] if self.login_at is not None else []
        return ", ".join(parts)


class SignsOfLife:
    """Looks at a running domain, now and then."""

    def __init__(
        self,
        domain: libvirt.virDomain,
        disks: Sequence[str],
        agent: GuestAgent | None,
        patience: Patience,
        running: Attempt,
    ) -> None:
        """`disks`: their names in the domain, vda and so on."""
        self._domain = domain
        self._disks = disks
        self._agent = agent
        self._patience = patience
        self._running = running
        self._looked_at = -LOOK_SECONDS
        self._enough_at: float | None = None
        self.life = Life()
        self.answer: AgentAnswer | None = None

    def suffice(self, now: float, *consoles: str) -> bool:
        """Whether enough was seen. An agent that is slower than the disks is waited for a little."""
        if now - self._looked_at < LOOK_SECONDS:
            return False
        self._looked_at = now
        if self._agent and self.answer is None:
            try:
                self.answer = self._agent.ask(ASK_SECONDS)
                self._running.log.info("the guest's agent answers: %s", self.answer)
            except AgentError as error:
                self._running.log.debug("the guest's agent: %s", error)
        if self.answer is not None:
            return True
        try:
            pulse = self._pulse(now)
        except libvirt.libvirtError as error:
            self._running.log.info("the domain says nothing of its disks: %s", error)
            return False
        self.life.look(pulse, *consoles)
        arrived = self.life.is_calm(self._patience.standstill / 2) or now > self._patience.boot / 2
        alive = self.life.login_at is not None or (self.life.works_its_disks and arrived)
        if not alive:
            self._enough_at = None
        elif self._enough_at is None:
            self._enough_at = now
        return self._enough_at is not None and now - self._enough_at > self._patience.grace

    def _pulse(self, now: float) -> Pulse:
        counts = [self._domain.blockStats(disk) for disk in self._disks]
        screen = hashlib.sha256(take_picture(self._domain)).hexdigest()
        return Pulse(now, sum(one[1] for one in counts), sum(one[3] for one in counts), screen)


@contextmanager
def agent_of(domain: libvirt.virDomain) -> Iterator[GuestAgent | None]:
    """The guest agent at the other end of the domain's channel for it, where it has one: a terminal."""
    channels = ET.fromstring(domain.XMLDesc(0)).iterfind("./devices/channel[@type='pty']")
    named = (one for one in channels if one.find(f"./target[@name='{AGENT_CHANNEL}']") is not None)
    source = next((one.find("source") for one in named), None)
    if source is None:
        yield None
        return
    descriptor = os.open(source.get("path", ""), os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        yield GuestAgent(descriptor)
    finally:
        os.close(descriptor)
