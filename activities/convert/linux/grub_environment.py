"""GRUB's environment block (grub-editenv): lines of `name=value`, filled up with `#` to a fixed size."""

import re

from hyperctl.activities.convert.refusal import StepFailed

BYTES = 1024
HEAD = "# GRUB Environment Block\n"
_SAVED = re.compile(r"^saved_entry=([^\n]*)\n", re.MULTILINE)


def environment_block(before: str, after: str) -> str:
    """A changed block, exactly as long as it was. Raises `StepFailed` when it has grown beyond that."""
    if after == before:
        return before
    body = after.rstrip("#")
    size = max(BYTES, len(before))
    if len(body) > size:
        raise StepFailed("GRUB's environment block has no room for what is to be put into it")
    return body + "#" * (size - len(body))


def saved_entry(block: str) -> str:
    """The menu entry that `GRUB_DEFAULT=saved` boots, or an empty string."""
    found = _SAVED.search(block)
    return found[1] if found else ""


def with_saved_entry(block: str, address: str) -> str:
    """The block, or a new one, with another saved entry. Raises `StepFailed` when it has no room."""
    body = (block or HEAD).rstrip("#")
    line = f"saved_entry={address}\n"
    changed = _SAVED.sub(lambda _: line, body) if _SAVED.search(body) else body + line
    return environment_block(block, changed)
