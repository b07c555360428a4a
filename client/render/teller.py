"""From one status to the next: the events that have not been told yet."""

from hyperctl.client.render.events import DisksMoved, Event, Line, Mark, Working
from hyperctl.client.render.rehearsed import rehearsal_story
from hyperctl.client.render.story import story
from hyperctl.client.render.text import clock, size
from hyperctl.workflows.status import JobKind, MigrationStatus


class Teller:
    """Tells every fact once and in order, however many steps lie between two statuses."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._last: MigrationStatus | None = None

    def tell(self, status: MigrationStatus) -> list[Event]:
        """The events between the status before and this one."""
        events: list[Event] = []
        told = rehearsal_story(status) if status.kind is JobKind.REHEARSAL else story(status)
        for key, event in told:
            if key not in self._told:
                self._told.add(key)
                events.append(event)
        events += self._changes(status)
        if not status.status.is_final:
            progress = status.progress
            if progress and progress.disks:
                events.append(DisksMoved(progress.phase, progress.disks, progress.overall))
            events.append(Working(_working(status)))
        self._last = status
        return events

    def _changes(self, status: MigrationStatus) -> list[Event]:
        """What comes and goes, and so may be told again."""
        last = self._last
        events: list[Event] = []
        way_out = f"hyperctl resume --job {status.job_id}"
        wait, known_wait = status.space_wait, last.space_wait if last else None
        if wait and not (known_wait and known_wait.since == wait.since):
            events.append(Line(Mark.WARNING, f"Paused: {wait.failure.message}"))
            events.append(Line(Mark.INFO, wait.failure.hint, detail=True))
        if wait and not (known_wait and known_wait.next_attempt_at == wait.next_attempt_at):
            when = f"Looks again at {clock(wait.next_attempt_at)}; at once: {way_out}"
            events.append(Line(Mark.WAITING, when))
        elif status.paused and not wait and not (last and last.paused and not known_wait):
            events.append(Line(Mark.WAITING, f"Paused; to go on: {way_out}"))
        if last and last.paused and not status.paused and not status.status.is_final:
            events.append(Line(Mark.GOING, "Resumed"))
        if last and last.priority is not status.priority:
            events.append(Line(Mark.INFO, f"Priority is {status.priority} now"))
        if last and last.bandwidth_bytes_per_second != status.bandwidth_bytes_per_second:
            cap = status.bandwidth_bytes_per_second
            text = f"Bandwidth is {size(cap)}/s at most now" if cap else "Bandwidth has no cap any more"
            events.append(Line(Mark.INFO, text))
        known = last.notes if last else ()
        events += [Line(Mark.WAITING, note) for note in status.notes if note not in known]
        if last and last.retry and not status.retry and not status.status.is_final:
            events.append(Line(Mark.GOING, "Trying again"))
        return events


def _working(status: MigrationStatus) -> str:
    if status.notes:
        return status.notes[0]
    if status.paused:
        return f"paused: {status.space_wait.failure.message}" if status.space_wait else "paused"
    if status.retry:
        return "waiting for the next attempt"
    if status.progress and status.progress.message:
        return status.progress.message
    return str(status.status)
