"""One line of a bench's table."""

from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Row:
    """Runs of ours and of a peer, alternating, on the same machine in the same minutes."""

    what: str
    unit: str
    ours: tuple[float, ...]
    peer_name: str
    peer: tuple[float, ...]
    note: str = ""

    @property
    def ratio(self) -> float:
        """How many times the peer's median is of ours; above 1, ours takes less."""
        return round(median(self.peer) / median(self.ours), 2)

    def line(self) -> str:
        ours, peer = (f"{median(runs):.1f} {self.unit}" for runs in (self.ours, self.peer))
        line = f"{self.what}: ours {ours}, {self.peer_name} {peer}, ratio {self.ratio}"
        return f"{line} (medians of {len(self.ours)}){f'; {self.note}' if self.note else ''}"
