"""A folder of real files with the calls of libguestfs that a conversion makes on a guest's filesystems."""

import glob
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import guestfs

from hyperctl.activities.convert.files import GuestFiles


class Tree:
    """Paths are the guest's; nothing outside the folder is reached by those that tests use."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._attributes: dict[str, str] = {}

    def _at(self, path: str) -> Path:
        assert path.startswith("/"), "libguestfs takes whole paths only"
        return self._root / path.lstrip("/")

    def is_file(self, path: str, followsymlinks: bool = False) -> bool:
        return self._at(path).is_file() and (followsymlinks or not self._at(path).is_symlink())

    def is_dir(self, path: str, followsymlinks: bool = False) -> bool:
        return self._at(path).is_dir() and (followsymlinks or not self._at(path).is_symlink())

    def exists(self, path: str) -> bool:
        return self._at(path).exists()

    def filesize(self, path: str) -> int:
        return self._at(path).stat().st_size

    def read_file(self, path: str) -> bytes:
        return self._at(path).read_bytes()

    def pread(self, path: str, count: int, offset: int) -> bytes:
        with self._at(path).open("rb") as file:
            file.seek(offset)
            return file.read(count)

    def pwrite(self, path: str, content: bytes, offset: int) -> None:
        with self._at(path).open("r+b") as file:
            file.seek(offset)
            file.write(content)

    def download(self, path: str, local: str) -> None:
        shutil.copyfile(self._at(path), local)

    def upload_offset(self, local: str, path: str, offset: int) -> None:
        if "i" in self.get_e2attrs(path):
            raise RuntimeError(f"upload_offset: {path}: Operation not permitted")
        self.pwrite(path, Path(local).read_bytes(), offset)

    def statvfs(self, path: str) -> dict[str, int]:
        found = os.statvfs(self._at(path))
        free = {"bavail": found.f_bavail, "bfree": found.f_bfree, "blocks": found.f_blocks}
        return {**free, "bsize": found.f_frsize}

    def get_e2attrs(self, path: str) -> str:
        return self._attributes.get(path, "")

    def set_e2attrs(self, path: str, attributes: str, clear: bool = False) -> None:
        held = set(self.get_e2attrs(path))
        changed = held - set(attributes) if clear else held | set(attributes)
        self._attributes[path] = "".join(sorted(changed))

    def write(self, path: str, content: bytes) -> None:
        if "i" in self.get_e2attrs(path):
            raise RuntimeError(f"write: {path}: Operation not permitted")
        self._at(path).write_bytes(content)

    def mkdir_p(self, path: str) -> None:
        self._at(path).mkdir(parents=True, exist_ok=True)

    def mkdtemp(self, pattern: str) -> str:
        folder = pattern.replace("XXXXXX", "000000")
        self.mkdir_p(folder)
        return folder

    def rm_rf(self, path: str) -> None:
        shutil.rmtree(self._at(path))

    def chmod(self, mode: int, path: str) -> None:
        self._at(path).chmod(mode)

    def cp(self, source: str, target: str) -> None:
        self._at(target).write_bytes(self._at(source).read_bytes())

    def mv(self, source: str, target: str) -> None:
        self._at(source).rename(self._at(target))

    def rm(self, path: str) -> None:
        self._at(path).unlink()

    def ln_s(self, target: str, path: str) -> None:
        self._at(path).symlink_to(target)

    def is_symlink(self, path: str) -> bool:
        return self._at(path).is_symlink()

    def readlink(self, path: str) -> str:
        return os.readlink(self._at(path))

    def vfs_type(self, device: str) -> str:
        return "ext4"

    def lstatns(self, path: str) -> dict[str, int]:
        return {"st_mode": self._at(path).lstat().st_mode}

    def lsetxattr(self, name: str, value: str, length: int, path: str) -> None:
        raise RuntimeError("lsetxattr: this filesystem has no room for attributes")

    def lgetxattrs(self, path: str) -> list[dict[str, Any]]:
        return []

    def ls(self, path: str) -> list[str]:
        return sorted(os.listdir(self._at(path)))

    def find0(self, path: str, local: str) -> None:
        top = self._at(path)
        found = sorted(str(one.relative_to(top)) for one in top.rglob("*"))
        Path(local).write_text("".join(f"/{one}\0" for one in found))

    def glob_expand(self, pattern: str) -> list[str]:
        start = len(str(self._root))
        return [path[start:] for path in glob.glob(f"{self._root}{pattern}")]


def tree(root: Path, files: Mapping[str, str | bytes]) -> GuestFiles:
    """The files put into a folder, as a conversion sees them."""
    for name, content in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return GuestFiles(cast(guestfs.GuestFS, Tree(root)))
