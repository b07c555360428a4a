"""What lies in the watched folder: which files make up one machine, and whether more may come."""

import hashlib
import html
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from hyperctl.activities.source.markup import MOST_BYTES
from hyperctl.activities.source.opened import open_regular
from hyperctl.activities.source.vmdk_descriptor import MAGIC as DESCRIPTOR_MAGIC
from hyperctl.workflows.errors import HyperctlError
from hyperctl.workflows.identity import derive_file_job_id

UNFINISHED = ".part"
"""How a name ends whose file is still being written; a leading dot says the same."""
_HREF = re.compile(r"""href\s*=\s*["']([^"']+)["']""")
_EXTENT = re.compile(r'^(?:RW|RDONLY)[ \t].*"([^"]+)"', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Parcel:
    """One machine that was dropped."""

    path: Path
    """The archive, the descriptor, the image, or the folder with a descriptor in it."""
    names: tuple[str, ...]
    """All of it that is there, in the watched folder itself."""
    state: str
    """Changes with all that is written to it."""
    is_whole: bool
    """It names what belongs to it, and all of that is there. A VMDK alone may be part of what is to come."""

    @property
    def job_id(self) -> str:
        """The same for the same file in the same state, on whichever host it is seen."""
        return derive_file_job_id(None, str(self.path), self.state)


def find_parcels(folder: Path) -> list[Parcel]:
    """The machines in a folder. A VMDK that a descriptor names belongs to that. Raises `OSError`."""
    present = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    present = {name for name in present if not name.lower().endswith(UNFINISHED)}
    named = {name: _named_by(folder / name) - {name} for name in present}
    taken = {other for names in named.values() for other in names}
    return [
        _parcel(folder / name, present, named)
        for name in sorted(present - taken)
        if _is_machine(folder / name)
    ]


def state_of(folder: Path) -> str:
    """Changes with anything that happens in a folder. Raises `OSError`."""
    return _state(sorted(path for path in folder.iterdir() if path.name not in (".processed", ".errors")))


def _is_machine(path: Path) -> bool:
    if path.is_dir() and not path.is_symlink():
        return any(inner.suffix.lower() == ".ovf" for inner in _inside(path))
    return path.suffix.lower() in (".ova", ".ovf", ".vmdk")


def _parcel(path: Path, present: set[str], named: dict[str, set[str]]) -> Parcel:
    wanted = set(named[path.name])
    for name in named[path.name]:
        wanted |= named.get(name, set())  # the extents of a VMDK that a package names
    # What another machine is made of is not carried away with this one.
    wanted = {name for name in wanted if not name.lower().endswith((".ova", ".ovf"))}
    beside = (
        {path.with_suffix(end).name for end in (".mf", ".cert")} if path.suffix.lower() == ".ovf" else set()
    )
    names = (path.name, *sorted((wanted | beside) & present))
    is_whole = path.suffix.lower() != ".vmdk" and wanted <= present
    return Parcel(path, names, _state([path.parent / name for name in names]), is_whole)


def _named_by(path: Path) -> set[str]:
    """The plain names that a descriptor holds, as they are meant; the preflight judges them properly."""
    if path.suffix.lower() not in (".ovf", ".vmdk"):
        return set()
    try:
        with open_regular(path) as opened:
            if (
                path.suffix.lower() == ".vmdk"
                and opened.read_at(0, len(DESCRIPTOR_MAGIC)) != DESCRIPTOR_MAGIC
            ):
                return set()
            text = opened.read_at(0, MOST_BYTES).decode(errors="replace")
    except HyperctlError:
        return set()  # the preflight will say why
    if path.suffix.lower() == ".vmdk":
        return {name for name in _EXTENT.findall(text) if "/" not in name}
    written = [html.unescape(name) for name in _HREF.findall(text)]
    return {unquote(name) for name in written if "/" not in unquote(name)}


def _state(paths: list[Path]) -> str:
    found = hashlib.sha256()
    for path in paths:
        status = path.lstat()
        found.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0".encode(errors="surrogateescape"))
        if stat.S_ISDIR(status.st_mode):
            found.update(_state(sorted(_inside(path))).encode())
    return found.hexdigest()


def _inside(folder: Path) -> list[Path]:
    """Nothing of a folder that is closed to us: `lost+found` is, at the top of a file system."""
    try:
        return list(folder.iterdir())
    except PermissionError:
        return []
