"""SELinux labels of everything that a conversion has written.

A file that was there keeps its label when it is written; what is new gets the one that the guest's own policy
says. Sources: selinux_config(5), selinux(8), restorecon(8); for /.autorelabel Red Hat's selinux-autorelabel
and, of release 6, rc.sysinit: both pass it over where SELinux is off, and make it then.
"""

import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import guestfs

from hyperctl.activities.convert.files import GuestFiles
from hyperctl.activities.convert.inspect import Inspected
from hyperctl.activities.convert.linux.file_contexts import FileContexts
from hyperctl.activities.convert.mounts import filesystem_of
from hyperctl.activities.convert.work import Work

FOLDER = "/etc/selinux"
SETTINGS = f"{FOLDER}/config"
CONTEXTS = "contexts/files/file_contexts"
ATTRIBUTE = "security.selinux"
AUTORELABEL = "/.autorelabel"
MODES = frozenset({"enforcing", "permissive"})
LABELLED_FILESYSTEMS = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "jfs"})
"""Others get one label for all their files when they are mounted."""
SNAPSHOTS = ".snapshots"
"""Of snapper's, at the root's top."""
BATCH = 1000
CLOCK_SECONDS = 5
_SETTING = re.compile(r"^[ \t]*(SELINUX|SELINUXTYPE|AUTORELABEL)[ \t]*=[ \t]*(\S+)", re.MULTILINE)


def relabel(inspected: Inspected, work: Work) -> None:
    """Label what has no label yet; where that cannot be done, have the guest label all at its next boot."""
    files = inspected.files
    settings = _settings(files)
    folder, enabled = _folder(settings), _is_on(files, settings)
    if not (enabled or label_of(files.guest, "/etc")) or files.exists(AUTORELABEL):
        return
    bare = [path for path in sorted(_written(inspected)) if _lacks_label(inspected, path)]
    if not bare:
        return
    policy = _policy(files, folder)
    if policy is None and enabled:
        # Its own fixfiles(8) fails without them, after which it boots once more all the same.
        work.warnings.append(
            f"SELinux: {folder}/{CONTEXTS} is missing, so that {len(bare)} new files have no label: restore "
            "the policy's package, then run fixfiles restore in the guest"
        )
    reason, labelled = "", 0
    for path in bare if policy else ():
        label = policy.label(path, files.guest.lstatns(path)["st_mode"]) if policy else None
        if label is None:  # the policy says that it has none
            continue
        try:
            set_label(files.guest, path, label)
        except RuntimeError as error:
            reason = f"{path} cannot be labelled: {error}"
            break
        labelled += 1
        work.changed.append(path)
    if labelled:
        work.done.append(f"{labelled} new files labelled by the guest's policy")
    if reason and enabled:
        _leave_to_guest(files, settings, reason, work)


def _leave_to_guest(files: GuestFiles, settings: Mapping[str, str], reason: str, work: Work) -> None:
    if settings.get("AUTORELABEL") == "0":
        work.warnings.append(
            f"SELinux: {reason}; AUTORELABEL=0 in {SETTINGS} would have the guest's boot wait at a shell, so "
            "run fixfiles restore in the guest"
        )
        return
    files.create(AUTORELABEL, "", work)
    work.done.append("labels are made at the next boot")
    work.warnings.append(
        f"SELinux: {reason}; the guest labels all its files at its first boot, and then boots once more"
    )


def is_on(files: GuestFiles) -> bool:
    """Whether its settings have a kernel load a policy, and there is one."""
    return _is_on(files, _settings(files))


def _is_on(files: GuestFiles, settings: Mapping[str, str]) -> bool:
    has_policy = bool(files.matching(f"{_folder(settings)}/policy/policy.*"))
    return has_policy and settings.get("SELINUX", "").lower() in MODES


def _settings(files: GuestFiles) -> dict[str, str]:
    return dict(_SETTING.findall(files.text(SETTINGS) or ""))


def _folder(settings: Mapping[str, str]) -> str:
    return f"{FOLDER}/{settings.get('SELINUXTYPE', 'targeted')}"


def _written(inspected: Inspected) -> set[str]:
    """Every path that a conversion may have made, with the folders above it."""
    paths = set(inspected.changed)
    if inspected.guest_code:
        paths |= set(_changed_since(inspected.files, inspected.opened_at - CLOCK_SECONDS))
    return paths | {above for path in paths for above in _above(path)}


def _above(path: str) -> Iterator[str]:
    while path.rpartition("/")[0]:
        path = path.rpartition("/")[0]
        yield path


def _lacks_label(inspected: Inspected, path: str) -> bool:
    files = inspected.files
    if not files.is_there(path):
        return False
    kind = files.guest.vfs_type(inspected.mounts[filesystem_of(path, inspected.mounts)])
    return kind in LABELLED_FILESYSTEMS and not label_of(files.guest, path)


def label_of(guest: guestfs.GuestFS, path: str) -> str:
    """Empty where it has none, or its filesystem has no attributes."""
    try:
        attributes = guest.lgetxattrs(path)
    except RuntimeError:
        return ""
    found = {one["attrname"]: bytes(one["attrval"]) for one in attributes}
    return found.get(ATTRIBUTE, b"").rstrip(b"\0").decode("ascii", "replace")


def set_label(guest: guestfs.GuestFS, path: str, label: str) -> None:
    """Raises RuntimeError, as libguestfs does, where a filesystem has no labels."""
    guest.lsetxattr(ATTRIBUTE, label, len(label), path)


def _policy(files: GuestFiles, folder: str) -> FileContexts | None:
    base = f"{folder}/{CONTEXTS}"
    main = files.text(base)
    if main is None:
        return None
    more = [files.text(f"{base}{ending}") or "" for ending in (".homedirs", ".local")]
    substitutions = [files.text(f"{base}{ending}") or "" for ending in (".subs", ".subs_dist")]
    return FileContexts([main, *more], substitutions)


def every_path(files: GuestFiles) -> Iterator[str]:
    """Of a guest, but for its snapshots: where the root is one of them, find(1) meets it in itself."""
    for top in files.guest.ls("/"):
        yield f"/{top}"
        if top == SNAPSHOTS or not files.guest.is_dir(f"/{top}"):
            continue
        with tempfile.NamedTemporaryFile(prefix="hyperctl-paths-") as local:
            files.guest.find0(f"/{top}", local.name)
            found = Path(local.name).read_bytes().split(b"\0")
        # Each begins with a slash, where the folder's name ends without one.
        yield from (f"/{top}/{one.decode('utf-8', 'replace').lstrip('/')}" for one in found if one)


def _changed_since(files: GuestFiles, moment: float) -> Iterator[str]:
    """What the guest's own programmes may have made, wherever: it is in a folder that has changed since."""
    names: dict[str, list[str]] = {}
    for path in every_path(files):
        folder, _, name = path.rpartition("/")
        names.setdefault(folder or "/", []).append(name)

    def changed(folder: str, within: list[str]) -> Iterator[str]:
        for at in range(0, len(within), BATCH):
            batch = within[at : at + BATCH]
            for name, facts in zip(batch, files.guest.lstatnslist(folder, batch), strict=True):
                if facts["st_ctime_sec"] >= moment:
                    yield f"{folder.rstrip('/')}/{name}"

    folders = ["/"]
    for folder, within in names.items():
        inner = [name for name in within if f"{folder.rstrip('/')}/{name}" in names]
        folders += changed(folder, inner)
    for folder in folders:
        yield from changed(folder, names[folder])
