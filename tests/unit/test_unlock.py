"""A passphrase is typed where a guest asks for it, and shown nowhere: on a real terminal."""

import logging
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.prove import unlock
from hyperctl.activities.prove.console import diagnose, readable
from hyperctl.activities.prove.unlock import Unlocking, is_typed
from hyperctl.workflows.status import Phase
from tests.moments import LONGEST_SECONDS

RUNNING = Attempt(Phase.CONVERT, logging.getLogger("unlock"))
RIGHT, OTHER = b"a passphrase, with a comma", "zwei Wörter".encode()
ASK = (
    'echo "[ 1.2] a kernel"; until [ "$answer" = "a passphrase, with a comma" ]; do'
    " read -rsp 'Please unlock disk system: ' answer; echo; done; echo opened; read -r more; echo $more"
)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unlock, "LISTENING_SECONDS", 0.1)
    monkeypatch.setattr(unlock, "TYPING_SECONDS", 0.3)


class Console:
    """What a guest has shown on its terminal, which is that of the host's at the same time."""

    def __init__(self, terminal: str) -> None:
        self.terminal = terminal
        self.shown = b""


@contextmanager
def guest(script: str) -> Iterator[Console]:
    """A shell on a terminal of its own, joined with a second one as qemu joins a serial port with a pty."""
    own, its = os.openpty()
    port, outside = os.openpty()
    process = subprocess.Popen(["bash", "-c", script], stdin=its, stdout=its, stderr=its)
    console = Console(os.ttyname(outside))

    def show() -> None:
        while True:
            try:
                piece = os.read(own, 4096)
            except OSError:
                return
            console.shown += piece

    def pass_on() -> None:
        while True:
            try:
                os.write(own, os.read(port, 4096))
            except OSError:
                return

    subprocess.run(["stty", "raw", "-echo"], stdin=outside, check=True)
    os.close(its)
    for work in (show, pass_on):
        threading.Thread(target=work, daemon=True).start()
    try:
        yield console
    finally:
        process.kill()
        process.wait()
        os.close(outside)


def watch(console: Console, unlocking: Unlocking, word: bytes) -> str:
    """Look now and then, as a trial does, until the console shows the word; returns all that it shows."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < deadline:
        unlocking.look(console.shown)
        if word in console.shown:
            return readable(unlocking.hidden(console.shown))
        threading.Event().wait(0.05)
    raise AssertionError(console.shown)


@pytest.mark.parametrize("passphrases", [(RIGHT,), (OTHER, RIGHT), (OTHER, OTHER, RIGHT)])
def test_a_prompt_is_answered(passphrases: tuple[bytes, ...]) -> None:
    with guest(ASK) as console:
        unlocking = Unlocking(console.terminal, passphrases, RUNNING)
        text = watch(console, unlocking, b"opened")
    assert text.count("Please unlock disk system:") == len(set(passphrases))
    assert diagnose(text, "") is not None
    assert diagnose(unlocking.unanswered(text), "") is None
    assert not unlocking.is_at_its_end
    assert unlocking.warnings == ("the guest asks for the passphrase of system at every boot",)


def test_a_disk_that_refuses_all_of_them_is_what_the_boot_ends_with() -> None:
    with guest(ASK) as console:
        unlocking = Unlocking(console.terminal, (OTHER,), RUNNING)
        while not unlocking.is_at_its_end:
            text = watch(console, unlocking, b"Please unlock")
    found = diagnose(unlocking.unanswered(text), "")
    assert found is not None
    assert found.final
    assert found.words.startswith("the guest asks for the passphrase of the encrypted disk system, which the")


def test_a_passphrase_that_a_guest_shows_is_not_kept() -> None:
    with guest("read -rp 'Please enter passphrase for disk data (luks-1): ' answer; echo shown") as console:
        text = watch(console, Unlocking(console.terminal, (RIGHT,), RUNNING), b"shown")
        assert RIGHT in console.shown
    assert RIGHT.decode() not in text
    assert "********" in text


@pytest.mark.parametrize(
    ("prompt", "disk"),
    [
        ("Please unlock disk sda3_crypt: ", "sda3_crypt"),
        ("Please enter passphrase for disk VMware_Virtual_disk (luks-1)!: ", "VMware_Virtual_disk (luks-1)!"),
        ("\U0001f510 Please enter passphrase for disk data: (press TAB for no echo) ", "data"),
        (
            "A password is required to access the system volume:\nEnter passphrase for /dev/sda2: ",
            "/dev/sda2",
        ),
        ("Password (/dev/sda2): ", "(/dev/sda2)"),
        ("Attempting to decrypt master key...\nEnter passphrase for hd0,gpt2 (5f0c): ", "hd0,gpt2 (5f0c)"),
    ],
)
def test_prompts_are_known(prompt: str, disk: str) -> None:
    found = diagnose(readable(f"[ 1.2] a kernel\r\n{prompt}".encode()), "")
    assert found is not None
    assert f"the encrypted disk {disk}, which" in found.words


def test_only_a_line_of_text_is_typed() -> None:
    assert is_typed(RIGHT)
    assert is_typed(OTHER)
    assert not any(map(is_typed, (b"", b"two\nlines", bytes(range(256)), b"x" * 4096)))
