"""Passphrases of encrypted disks, typed where a guest asks for them on its serial console."""

import os
import select
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence

import libvirt

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.prove.console import PASSPHRASE_PROMPT, readable

LISTENING_SECONDS = 1.5
"""systemd writes the prompt first and then has the terminal show nothing of what is typed."""
TYPING_SECONDS = 3.0
"""qemu looks once a second whether somebody is at its terminal."""
ROUNDS = 3
"""A prompt may be shown again for another reason than a wrong answer."""
LONGEST_LINE_BYTES = 512
HIDDEN = b"********"


class Unlocking:
    """Answers every prompt with one of the passphrases, the next at a disk's next prompt."""

    def __init__(self, terminal: str, passphrases: Sequence[bytes], running: Attempt) -> None:
        """`terminal` is the host's that the serial port is; `passphrases` have opened the guest's disks."""
        self._terminal = terminal
        self._passphrases = tuple(dict.fromkeys(passphrases))
        self._running = running
        self._seen_bytes = 0
        self._tries: dict[str, int] = {}
        self.is_at_its_end = not self._passphrases
        """A disk has refused all of them, or there is none."""

    def look(self, serial: bytes) -> None:
        """See to a prompt in what the console has shown since the last. `serial` is all that it has shown."""
        if self.is_at_its_end:
            return
        found = PASSPHRASE_PROMPT.search(readable(serial[self._seen_bytes :]))
        if found is None:
            return
        self._seen_bytes = len(serial)
        disk = found["what"].strip()
        number = self._tries.get(disk, 0)
        if number == len(self._passphrases) * ROUNDS:
            self.is_at_its_end = True
            return
        self._tries[disk] = number + 1
        self._running.log.info("the guest asks for the passphrase of %s: try %d", disk, number + 1)
        time.sleep(LISTENING_SECONDS)
        type_at(self._terminal, self._passphrases[number % len(self._passphrases)] + b"\n")

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(f"the guest asks for the passphrase of {disk} at every boot" for disk in self._tries)

    def unanswered(self, text: str) -> str:
        """A console's text without the prompts that are seen to."""
        return text if self.is_at_its_end or not self._tries else PASSPHRASE_PROMPT.sub("", text)

    def hidden(self, serial: bytes) -> bytes:
        """What a console has shown, without any passphrase that a guest has shown in it."""
        for one in self._passphrases:
            serial = serial.replace(one, HIDDEN)
        return serial


def is_typed(key: bytes) -> bool:
    """Whether a key is a line of text."""
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return False
    return 0 < len(key) <= LONGEST_LINE_BYTES and text.isprintable()


def terminal_of(domain: libvirt.virDomain) -> str:
    """The host's terminal that is a domain's first serial port."""
    source = ET.fromstring(domain.XMLDesc(0)).find("./devices/serial[@type='pty']/source")
    return source.get("path", "") if source is not None else ""


def type_at(terminal: str, text: bytes) -> None:
    """Stay for a moment, and take what is shown meanwhile: a terminal that nobody reads stops the guest's
    console."""
    descriptor = os.open(terminal, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        os.write(descriptor, text)
        until = time.monotonic() + TYPING_SECONDS
        while (left := until - time.monotonic()) > 0:
            if select.select([descriptor], [], [], left)[0]:
                os.read(descriptor, 1 << 16)
    finally:
        os.close(descriptor)
