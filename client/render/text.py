"""Text for a terminal: sizes and times as people read them, and nothing that a terminal would obey."""

import unicodedata
from collections.abc import Iterator, Sequence
from datetime import datetime

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")


def safe(text: str) -> str:
    """One line that can be printed: control, format and bidirectional characters made visible.

    Names and messages come from a vCenter or out of a guest; either may be hostile.
    """
    return "".join(_visible(char) for char in text)


def safe_lines(text: str) -> list[str]:
    """The same for a text of several lines."""
    return [safe(line.expandtabs()) for line in text.split("\n")]


def _visible(char: str) -> str:
    if char.isprintable() or char == " ":
        return char
    if unicodedata.category(char) == "Zs":
        return " "
    number = ord(char)
    return (
        f"\\x{number:02x}"
        if number < 0x100
        else f"\\u{number:04x}"
        if number < 0x10000
        else f"\\U{number:08x}"
    )


def size(size_bytes: float) -> str:
    """`85.2 GiB`; whole bytes below a KiB."""
    if size_bytes < 1024:
        return f"{size_bytes:.0f} B"
    for unit in _UNITS:
        size_bytes /= 1024
        if size_bytes < 999.95 or unit == _UNITS[-1]:
            break
    return f"{size_bytes:.1f} {unit}"


def duration(seconds: float) -> str:
    """`45s`, `2m 15s`, `1h 02m`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def clock(moment: datetime) -> str:
    """The local time of day, with the date where it is not today's."""
    local = moment.astimezone()
    today = datetime.now(local.tzinfo).date()
    return f"{local:%H:%M:%S}" if local.date() == today else f"{local:%Y-%m-%d %H:%M:%S}"


def plural(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A line for each row, its cells below each other's."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
