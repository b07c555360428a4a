"""A hive of a guest's registry, read and written in the appliance.

One at a time: libguestfs has one hive open. Keys are given by their names from the hive's root on, values
by name; neither's case matters. Types are those of Windows' `winnt.h`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import guestfs

REG_DWORD = 4
Path = tuple[str, ...]


class Hive:
    def __init__(self, guest: guestfs.GuestFS) -> None:
        self._guest = guest

    def has(self, key: Path) -> bool:
        return self._node(key) != 0

    def keys(self, key: Path) -> list[str]:
        """The names of the keys under a key; none where it is not there."""
        node = self._node(key)
        children = self._guest.hivex_node_children(node) if node else []
        return [self._guest.hivex_node_name(child["hivex_node_h"]) for child in children]

    def number(self, key: Path, name: str) -> int | None:
        """A REG_DWORD; None where there is no such value."""
        data = self._data(key, name)
        return int.from_bytes(data[:4], "little") if data else None

    def texts(self, key: Path, name: str) -> tuple[str, ...]:
        """The strings of a REG_SZ, REG_EXPAND_SZ or REG_MULTI_SZ without empty ones."""
        text = (self._data(key, name) or b"").decode("utf-16-le", "replace")
        return tuple(part for part in text.split("\0") if part)

    def text(self, key: Path, name: str) -> str:
        """The first string, or an empty one."""
        return next(iter(self.texts(key, name)), "")

    def set_number(self, key: Path, name: str, value: int) -> None:
        """Set a REG_DWORD of a key that is there."""
        self._guest.hivex_node_set_value(self._node(key), name, REG_DWORD, value.to_bytes(4, "little"))

    def commit(self) -> None:
        self._guest.hivex_commit(None)

    def _data(self, key: Path, name: str) -> bytes | None:
        node = self._node(key)
        value = self._guest.hivex_node_get_value(node, name) if node else 0
        return bytes(self._guest.hivex_value_value(value)) if value else None

    def _node(self, key: Path) -> int:
        node = self._guest.hivex_root()
        for name in key:
            node = self._guest.hivex_node_get_child(node, name)
            if not node:
                return 0
        return int(node)


@contextmanager
def opened_hive(guest: guestfs.GuestFS, path: str, *, write: bool = False) -> Iterator[Hive]:
    """Changes are lost but for what was committed."""
    guest.hivex_open(path, write=write)
    try:
        yield Hive(guest)
    finally:
        guest.hivex_close()
