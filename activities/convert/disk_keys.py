"""Keys of encrypted disks: the worker's own, from a file that only it may read. A request holds none.

The file is YAML:

    passphrases: [...]              # tried on every encrypted disk, after the machine's own
    key_files: [/etc/hyperctl/system.key]
    machines:
      production-db:
        passphrases: [...]
        key_files: [...]
"""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from hyperctl.workflows.errors import ErrorCode, HyperctlError

VARIABLE = "HYPERCTL_DISK_KEYS_FILE"
LARGEST_KEY_BYTES = 8 << 20
"""As cryptsetup itself limits a key file."""


@dataclass(frozen=True, slots=True)
class DiskKey:
    """One key, and what it may be called in a log."""

    title: str
    content: bytes = field(repr=False)


class _Keys(BaseModel):
    model_config = ConfigDict(extra="forbid")

    passphrases: tuple[SecretStr, ...] = ()
    key_files: tuple[Path, ...] = ()


class _KeysFile(_Keys):
    machines: dict[str, _Keys] = Field(default_factory=dict)


def read_disk_keys(file: Path | None, machine_name: str) -> tuple[DiskKey, ...]:
    """The keys to try for a machine, its own first; none where the worker has no such file.

    Raises `HyperctlError`: `credentials_missing` for a file that cannot be read or understood,
    `credentials_unsafe` for one that others may read.
    """
    if file is None:
        return ()
    with _opened(file) as opened:
        try:
            content = yaml.safe_load(opened)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f" (line {mark.line + 1})" if mark else ""
            raise _malformed(file, f"it is no YAML{line}") from None  # its text may quote a passphrase
    try:
        known = _KeysFile.model_validate(content or {})
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, item["loc"])) + ": " + item["msg"] for item in error.errors())
        raise _malformed(file, fields) from None
    own = known.machines.get(machine_name)
    keys: list[DiskKey] = []
    for entry, whose in ((own, f"{machine_name}'s"), (known, "the general")):
        if entry is None:
            continue
        for number, passphrase in enumerate(entry.passphrases, start=1):
            keys.append(DiskKey(f"{whose} passphrase {number}", passphrase.get_secret_value().encode()))
        for path in entry.key_files:
            with _opened(path) as opened:
                keys.append(DiskKey(f"{whose} key file {path}", opened.read(LARGEST_KEY_BYTES)))
    return tuple(keys)


def _opened(file: Path) -> BinaryIO:
    try:
        opened = file.open("rb")
    except OSError as error:
        raise HyperctlError(
            ErrorCode.CREDENTIALS_MISSING,
            f"cannot read the disk keys in {file}: {error.strerror}",
            f"{VARIABLE} on the worker names the file of disk keys, and that names key files.",
        ) from error
    status = os.fstat(opened.fileno())
    if stat.S_IMODE(status.st_mode) & 0o077 or status.st_uid not in (0, os.geteuid()):
        opened.close()
        raise HyperctlError(
            ErrorCode.CREDENTIALS_UNSAFE,
            f"the disk keys in {file} may be read or changed by others "
            f"(mode {stat.S_IMODE(status.st_mode):04o}, owner {status.st_uid})",
            f"It must belong to the worker's user and be closed to others: chmod 0600 {file}",
        )
    return opened


def _malformed(file: Path, reason: str) -> HyperctlError:
    return HyperctlError(
        ErrorCode.CREDENTIALS_MISSING,
        f"the file of disk keys {file} cannot be used: {reason}",
        "Expected are passphrases: and key_files:, and machines: with the same by VM name.",
    )
