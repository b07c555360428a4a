"""Compensation: what puts a step's traces away, registered before the step acts."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from temporalio.exceptions import ActivityError

from hyperctl.workflows.steps import failures_of


@dataclass(frozen=True, slots=True)
class Undo:
    """One thing to put back, named in words for the case that it cannot be."""

    name: str
    action: Callable[[], Awaitable[object]]
    after: frozenset[str] = frozenset()
    """Undos without which this one would do harm: it is left where one of them could not be done."""


class UndoStack:
    """The undos of a migration, run last first."""

    def __init__(self) -> None:
        self._undos: list[Undo] = []

    def push(self, undo: Undo) -> None:
        """Register, before acting, what takes the act back. The same name is registered once."""
        if all(known.name != undo.name for known in self._undos):
            self._undos.append(undo)

    def __contains__(self, name: str) -> bool:
        return any(undo.name == name for undo in self._undos)

    def forget(self, name: str) -> None:
        """The act is now meant to stay."""
        self._undos = [undo for undo in self._undos if undo.name != name]

    async def run(self) -> tuple[str, ...]:
        """Take everything back, last first; one that fails does not stop the others.

        Returns what could not be undone, in words.
        """
        left: list[str] = []
        failed: set[str] = set()
        while self._undos:
            undo = self._undos.pop()
            if undo.after & failed:
                left.append(f"{undo.name}: left, because this failed: {', '.join(undo.after & failed)}")
                continue
            try:
                await undo.action()
            except ActivityError as error:
                reasons = (f"{failure.message} {failure.hint}".strip() for failure in failures_of(error))
                left.append(f"{undo.name}: {'; '.join(reasons)}")
                failed.add(undo.name)
        return tuple(left)
