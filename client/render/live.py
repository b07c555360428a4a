"""The console on a terminal: facts scroll by, below them a bar a disk and what is being done now."""

from rich.box import DOUBLE
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from hyperctl.client.render.ending import Ending
from hyperctl.client.render.events import DisksMoved, Event, Line, Mark, StageBegun, Working
from hyperctl.client.render.plain import percent_of
from hyperctl.client.render.text import duration, safe, safe_lines, size
from hyperctl.workflows.status import DiskProgress

BAR_WIDTH = 32
BOX_WIDTH = 60
REFRESH_PER_SECOND = 8
_STYLES = {Mark.OK: "green", Mark.FAILED: "bold red", Mark.WARNING: "yellow", Mark.WAITING: "yellow"}


class LiveScreen:
    """Draws with rich. All text that comes from outside goes through `safe` and never is markup."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._disks: tuple[DiskProgress, ...] = ()
        self._overall: DiskProgress | None = None
        self._working = ""
        self._spinner = Spinner("dots")
        self._live = Live(
            console=console,
            refresh_per_second=REFRESH_PER_SECOND,
            transient=True,
            get_renderable=self._render,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> "LiveScreen":
        self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()

    def show(self, event: Event) -> None:
        match event:
            case StageBegun(stage):
                self._disks, self._overall, self._working = (), None, ""
                self._print(Text(f"\nPhase {stage.number}: {stage.title}", style="bold cyan"))
            case Line(mark, text, detail):
                style = "dim" if detail else _STYLES.get(mark, "")
                self._print(Text.assemble("  ", f"{mark.sign} ", (safe(text), style)))
            case DisksMoved(_, disks, overall):
                self._disks, self._overall = disks, overall
            case Working(text):
                self._working = safe(text)

    def say(self, text: str) -> None:
        for line in safe_lines(text):
            self._print(Text(line))

    def end(self, ending: Ending) -> None:
        self._disks, self._overall, self._working = (), None, ""
        self._live.stop()
        mark = Mark.OK if ending.succeeded else Mark.FAILED
        colour = "green" if ending.succeeded else "red"
        box = Panel(
            Text(f"{mark.sign} {ending.title}", justify="center", style="bold"),
            box=DOUBLE,
            border_style=colour,
            width=min(BOX_WIDTH, self._console.width),
        )
        self._console.print()
        self._console.print(box)
        width = max((len(label) for label, _ in ending.rows), default=0) + 1
        for label, value in ending.rows:
            self._whole(Text.assemble((f"{label + ':':{width}} ", "bold"), safe(value)))
        if ending.problems:
            self._console.print()
        for problem in ending.problems:
            first, *rest = safe_lines(problem.message)
            self._console.print(Text.assemble(f"{Mark.FAILED.sign} ", (first, "bold")))
            for line in rest:
                self._console.print(Text(f"   {line}"))
            for line in safe_lines(problem.hint) if problem.hint else []:
                self._console.print(Text(f"   {line}", style="cyan"))
        if ending.remarks:
            self._console.print()
        for remark in ending.remarks:
            self._console.print(Text(safe(remark)))
        if ending.next_steps:
            self._console.print(Text("\nNext steps:", style="bold"))
        for number, step in enumerate(ending.next_steps, 1):
            self._console.print(Text(f"  {number}. {step.title}:"))
            for position, line in enumerate(step.command):
                more = " \\" if position + 1 < len(step.command) else ""
                self._whole(Text(f"     {'  ' if position else ''}{safe(line)}{more}", style="cyan"))

    def _print(self, text: Text) -> None:
        self._console.print(text)

    def _whole(self, text: Text) -> None:
        """Paths and commands are to be copied: the terminal may wrap them, we do not."""
        self._console.print(text, soft_wrap=True)

    def _render(self) -> RenderableType:
        parts: list[RenderableType] = []
        active = [disk for disk in self._disks if not disk.finished]
        room = max(1, self._console.height - (4 if self._overall is None else 5))
        if active:
            table = Table.grid(padding=(0, 1))
            for _ in range(4):
                table.add_column(no_wrap=True)
            for disk in active[:room]:
                table.add_row(*_cells(disk, min(BAR_WIDTH, max(8, self._console.width - 60))))
            if self._overall is not None and len(self._disks) > 1:
                table.add_row(*_cells(self._overall, min(BAR_WIDTH, max(8, self._console.width - 60))))
            parts.append(table)
            if len(active) > room:
                parts.append(Text(f"     and {len(active) - room} more", style="dim"))
        if self._working:
            self._spinner.text = Text(self._working, style="dim", no_wrap=True, overflow="ellipsis")
            grid = Table.grid(padding=(0, 1))
            grid.add_row(Text("  "), self._spinner)
            parts.append(grid)
        return Group(*parts)


def _cells(disk: DiskProgress, width: int) -> tuple[Text, Text, Text, Text]:
    share = percent_of(disk) / 100
    filled = round(share * width)
    bar = Text.assemble("[", ("█" * filled, "green"), ("░" * (width - filled), "dim"), "]")
    rate = f"{size(disk.rate_bytes_per_second)}/s" if disk.rate_bytes_per_second else ""
    eta = f"ETA: {duration(disk.eta_seconds)}" if disk.eta_seconds is not None else ""
    about = "about " if disk.total_is_estimate else ""
    done = f"{share:4.0%} ({size(disk.done_bytes)} of {about}{size(disk.total_bytes)})"
    return Text(f"     {disk.index or 'all'}"), bar, Text(done), Text(f"{rate} {eta}".strip(), style="dim")
