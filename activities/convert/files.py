"""Reading and writing the guest's files, bounded, through libguestfs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import guestfs

from hyperctl.activities.convert.refusal import StepFailed
from hyperctl.activities.convert.work import Work

LARGEST_TEXT_BYTES = 2 << 20
WORK_FOLDER = "/var/tmp"
HOLDING = "ia"
"""Attributes under which a file cannot be written."""
LARGEST_PIECE_BYTES = 2 << 20
"""libguestfs' messages hold no more than 4 MiB."""
LARGEST_CONTENT_BYTES = 256 << 20
"""More than any module of a kernel has."""


class GuestFiles:
    """The guest's mounted filesystems. Text keeps bytes that are no UTF-8 as they are."""

    def __init__(self, guest: guestfs.GuestFS) -> None:
        self.guest = guest

    def text(self, path: str) -> str | None:
        """A configuration file's content, or None where there is no such file or it is far too long."""
        if not self.is_file(path) or (size := self.size(path)) > LARGEST_TEXT_BYTES:
            return None
        return self.reader(path)(0, size).decode("utf-8", "surrogateescape")

    def size(self, path: str) -> int:
        return int(self.guest.filesize(path))

    def content(self, path: str, largest_bytes: int = LARGEST_CONTENT_BYTES) -> bytes:
        """The whole of a file. Raises `StepFailed` where it is larger, as a sparse one may be.

        For a small one, libguestfs' own calls take a hundred times as long.
        """
        if (size := self.size(path)) > largest_bytes:
            raise StepFailed(f"{path} is larger than {largest_bytes} bytes")
        return self.reader(path)(0, size)

    def reader(self, path: str) -> Callable[[int, int], bytes]:
        """Reads a file of any size in pieces: so many bytes from an offset on, fewer at its end."""

        def read(offset: int, count: int) -> bytes:
            pieces = []
            while count > 0:
                piece: bytes = self.guest.pread(path, min(count, LARGEST_PIECE_BYTES), offset)
                if not piece:
                    break
                pieces.append(piece)
                offset, count = offset + len(piece), count - len(piece)
            return b"".join(pieces)

        return read

    def is_folder(self, path: str) -> bool:
        return bool(self.guest.is_dir(path, followsymlinks=True))

    def is_file(self, path: str) -> bool:
        return bool(self.guest.is_file(path, followsymlinks=True))

    def exists(self, path: str) -> bool:
        return bool(self.guest.exists(path))

    def is_there(self, path: str) -> bool:
        """Also a link that leads nowhere, such as one to /dev/null, which an image has no device for."""
        return self.exists(path) or bool(self.guest.is_symlink(path))

    def links_to(self, path: str) -> str:
        """What a symbolic link says, or an empty string where there is none."""
        return str(self.guest.readlink(path)) if self.guest.is_symlink(path) else ""

    def matching(self, *patterns: str) -> list[str]:
        """Paths that match any of the glob patterns, in order; folders without their slash."""
        found = {path.rstrip("/") for pattern in patterns for path in self.guest.glob_expand(pattern)}
        return sorted(found)

    def replace(self, path: str, text: str, work: Work) -> None:
        """Write a file that exists; owner, mode, labels and attributes (chattr(1)) stay."""
        content = text.encode("utf-8", "surrogateescape")
        self.write_held(path, lambda: self.guest.write(path, content))
        work.changed.append(path)

    def write_held(self, path: str, write: Callable[[], object]) -> None:
        """Write over a file by this call; attributes that hold it are put aside for it."""
        try:
            write()
        except RuntimeError:
            held = self._holding(path)
            if not held:
                raise
            self.guest.set_e2attrs(path, held, clear=True)
            try:
                write()
            finally:
                self.guest.set_e2attrs(path, held)

    def _holding(self, path: str) -> str:
        try:
            return "".join(one for one in self.guest.get_e2attrs(path) if one in HOLDING)
        except RuntimeError:  # a filesystem without attributes
            return ""

    def create(self, path: str, text: str, work: Work, mode: int = 0o644) -> None:
        """Write a new file. Its SELinux label comes last, with those of all others."""
        self.guest.mkdir_p(path.rpartition("/")[0] or "/")
        self.guest.write(path, text.encode("utf-8", "surrogateescape"))
        self.guest.chmod(mode, path)
        work.changed.append(path)

    def edit(self, path: str, text: str, work: Work) -> bool:
        """Write a file if its content is another; says whether it was.

        Raises `StepFailed` for what has no text: a folder, a pipe, which nobody would read from, or a file
        that is far too long.
        """
        before = self.text(path)
        if before == text:
            return False
        if before is not None:
            self.replace(path, text, work)
        elif self.exists(path):
            raise StepFailed(f"{path} is no file of up to {LARGEST_TEXT_BYTES} bytes, and is not written")
        else:
            self.create(path, text, work)
        return True

    def move(self, path: str, new: str, work: Work) -> None:
        self.guest.mv(path, new)
        work.changed += [path, new]

    def relink(self, path: str, new: str, target: str, work: Work) -> None:
        """A symbolic link under another name, to another target."""
        self.guest.ln_s(target, new)
        self.guest.rm(path)
        work.changed += [path, new]

    @contextmanager
    def work_folder(self) -> Iterator[str]:
        """A folder of the guest's for the length of a `with`, which its own programmes can reach."""
        self.guest.mkdir_p(WORK_FOLDER)
        folder = str(self.guest.mkdtemp(f"{WORK_FOLDER}/hyperctl-XXXXXX"))
        try:
            yield folder
        finally:
            self.guest.rm_rf(folder)
