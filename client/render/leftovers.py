"""What the hosts said of what a job has left on them, in sentences."""

from collections.abc import Iterable, Iterator

from hyperctl.client.render.text import size
from hyperctl.workflows.leftover import HostLeftovers, Leftover, LeftoverKind

_WHAT = {LeftoverKind.COPY: "the copy", LeftoverKind.IMAGES: "the finished images"}


def leftover_lines(answers: Iterable[HostLeftovers]) -> Iterator[str]:
    """A line for each thing that was deleted or is there, and for each host that has nothing."""
    for answer in answers:
        for one in answer.removed:
            yield f"Deleted on {answer.host}: {_described(one)}"
        for one in answer.left:
            why = f": {one.reason}" if one.reason else ""
            yield f"Stays on {answer.host}: {_described(one)}{why}"
        if answer.problem:
            yield f"What is left on {answer.host} is not known: {answer.problem}"
        elif not answer.left:
            yield f"Nothing of it is left on {answer.host}."


def _described(one: Leftover) -> str:
    return f"{_WHAT[one.kind]} in {one.path} ({size(one.size_bytes)})"
