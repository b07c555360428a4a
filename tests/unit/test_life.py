"""Signs of life: what disks and consoles must show before a guest without a reporter is said to run."""

import pytest

from hyperctl.activities.prove.life import Life, Pulse

MIB = 1 << 20
LOOK = 5


def life_of(*pulses: tuple[int, int], console: str = "") -> Life:
    """Read MiB and written KiB at each look."""
    life = Life()
    for number, (read, written) in enumerate(pulses):
        screen = str(min(number, 3))
        life.look(Pulse(number * LOOK, read * MIB, written << 10, screen), console)
    return life


BOOTED = [(1, 0), (40, 0), (90, 20), (150, 300), (180, 700), *[(180, 700 + 8 * n) for n in range(1, 8)]]


def test_a_system_that_boots_reads_writes_and_comes_to_rest() -> None:
    life = life_of(*BOOTED)
    assert life.works_its_disks
    assert life.is_calm(25)
    assert not life_of(*BOOTED[:5]).is_calm(20)
    assert life.words == "read 180 MiB and wrote 756 KiB, showed 4 different screens"


@pytest.mark.parametrize(
    "pulses",
    [
        [(20, 0)] * 20,  # a boot loader's prompt, an initramfs that finds no root device
        [(20, 0), (20, 1), *[(20, 1)] * 20],  # GRUB has saved its environment
        [(60, 0), (80, 4000), *[(80, 4000)] * 20],  # a journal was replayed, and then a panic
    ],
)
def test_what_stops_before_a_system_runs_shows_no_life(pulses: list[tuple[int, int]]) -> None:
    assert not life_of(*pulses).works_its_disks


def test_nobody_looks_at_a_guest_that_has_not_begun() -> None:
    assert not Life().works_its_disks
    assert Life().words == "read 0 MiB and wrote 0 KiB"


def test_a_login_prompt_counts_as_long_as_it_is_there() -> None:
    prompt = "Debian GNU/Linux 7 web tty1\n\nweb login: "
    assert life_of((9, 0), (9, 0), console=prompt).login_at == 0
    assert "shows a login prompt" in life_of((9, 0), console=prompt).words
    assert life_of((9, 0), console=prompt + "\nKernel panic - not syncing: x").login_at is None
