"""How long a trial boot may take, by how fast this host runs guests."""

from dataclasses import dataclass, replace

from hyperctl.activities.acceleration import Acceleration

SLOW_UNITS_SECONDS = 300
"""systemd's own 90 s are short for a guest in software emulation on a busy host."""

BOOTS_OF_RELABELLING = 3
"""One that labels, one after it, and the firmware's and the loader's time of both."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for what, in seconds."""

    boot: float
    """Until multi-user is reached."""
    settle: float
    """After multi-user, until nothing is starting any more."""
    grace: float
    """After that, for addresses and mounts that come a little later."""
    standstill: float
    """Of a console that has shown trouble and says nothing more."""
    network: float
    """More for the boot of a guest that waits for a network, which a trial has not."""
    label: float
    """For one file that a guest labels for SELinux before it boots again."""

    @classmethod
    def under(cls, acceleration: Acceleration) -> "Patience":
        if acceleration is Acceleration.KVM:
            return cls(boot=120, settle=60, grace=15, standstill=45, network=420, label=0.001)
        return cls(boot=600, settle=180, grace=40, standstill=120, network=480, label=0.01)

    @property
    def longest(self) -> float:
        """Nothing takes longer, whatever a guest does."""
        return self.boot + self.network + self.settle + self.grace + self.standstill

    def with_relabelling(self, files: int) -> "Patience":
        """For a guest that labels so many files for SELinux, says little of it, and boots again."""
        boot = BOOTS_OF_RELABELLING * self.boot + files * self.label
        return replace(self, boot=boot, standstill=BOOTS_OF_RELABELLING * self.standstill)


def unit_seconds(acceleration: Acceleration) -> int:
    """What the guest's systemd is to give devices and services; 0 leaves that to the guest."""
    return SLOW_UNITS_SECONDS if acceleration is Acceleration.TCG else 0
