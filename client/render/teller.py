"""From one status to the next: the events that have not been told yet."""

from hyperctl.client.render.events import DisksMoved, Event, Line, Mark, Working
from hyperctl.client.render.story import story
from hyperctl.workflows.status import MigrationStatus


class Teller:
    """Tells every fact once and in order, however many steps lie between two statuses."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._last: MigrationStatus | None = None

    def tell(self, status: MigrationStatus) -> list[Event]:
        """The events between the status before and this one."""
        events: list[Event] = []
        for key, event in story(status):
            if key not in self._told:
                self._told.add(key)
                events.append(event)
        events += self._changes(status)
        if not status.status.is_final:
            progress = status.progress
            if progress and progress.disks:
                events.append(DisksMoved(progress.phase, progress.disks))
            events.append(Working(_working(status)))
        self._last = status
        return events

    def _changes(self, status: MigrationStatus) -> list[Event]:
        """What comes and goes, and so may be told again."""
        last = self._last
        events: list[Event] = []
        if status.paused and not (last and last.paused):
            way_out = f"hyperctl resume --job {status.job_id}"
            events.append(Line(Mark.WAITING, f"Paused; to go on: {way_out}"))
        if last and last.paused and not status.paused and not status.status.is_final:
            events.append(Line(Mark.GOING, "Resumed"))
        if last and last.priority is not status.priority:
            events.append(Line(Mark.INFO, f"Priority is {status.priority} now"))
        known = last.notes if last else ()
        events += [Line(Mark.WAITING, note) for note in status.notes if note not in known]
        if last and last.retry and not status.retry and not status.status.is_final:
            events.append(Line(Mark.GOING, "Trying again"))
        return events


def _working(status: MigrationStatus) -> str:
    if status.notes:
        return status.notes[0]
    if status.paused:
        return "paused"
    if status.retry:
        return "waiting for the next attempt"
    if status.progress and status.progress.message:
        return status.progress.message
    return str(status.status)
