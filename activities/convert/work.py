"""What a step did, noted down while it works."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Work:
    done: list[str] = field(default_factory=list)
    """Phrases for a person."""
    changed: list[str] = field(default_factory=list)
    """The guest's files that were written, made or removed."""
    warnings: list[str] = field(default_factory=list)
