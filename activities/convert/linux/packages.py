"""The guest agent's package, put in offline from a folder of the worker's, by the guest's own dpkg.

Which packages are needed is worked out here; the guest's programmes run in libguestfs' appliance, which has
no network, and start no service.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hyperctl.activities.convert.files import GuestFiles
from hyperctl.activities.convert.inspect import Inspected
from hyperctl.activities.convert.linux.deb import (
    Package,
    PackageError,
    installed_packages,
    needed_packages,
    read_package,
    version_key,
)
from hyperctl.activities.convert.linux.initramfs import assert_room
from hyperctl.activities.convert.refusal import StepFailed
from hyperctl.activities.convert.work import Work

AGENT = "qemu-guest-agent"
DPKG = "/usr/bin/dpkg"
STATUS = "/var/lib/dpkg/status"
POLICY = "/usr/sbin/policy-rc.d"
"""invoke-rc.d(8) asks it whether a service may be started."""
FORBIDDEN = "#!/bin/sh\nexit 101\n"
ENVIRONMENT = ("DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
MOST_PACKAGES = 5000
LARGEST_STATUS_BYTES = 64 << 20
LONGEST_COMPLAINT = 600
KIB = 1 << 10


def install_agent(inspected: Inspected, folder: Path, work: Work) -> None:
    """Put it in with what it depends on. Raises `StepFailed` with all that is missing, nothing changed."""
    files = inspected.files
    if not folder.is_dir():
        raise StepFailed(f"there is no folder {folder} on this host to take guest packages from")
    if not files.exists(DPKG) or not files.exists(STATUS):
        raise StepFailed(
            f"{inspected.system.product_name} has no dpkg, and packages of other kinds cannot be put in: "
            "leave --guest-packages out, and install qemu-guest-agent in the guest"
        )
    installed = installed_packages(_text(files, STATUS))
    offered, complaints = _offered(folder)
    chosen = choose(inspected.system.product_name, installed, offered, folder)
    work.warnings += complaints
    with files.work_folder() as place:
        paths = [f"{place}/{one.path.name}" for one in chosen]
        sizes = [one.path.stat().st_size + one.installed_kib * KIB for one in chosen]
        assert_room(inspected, dict(zip(paths, sizes, strict=True)))
        for one, path in zip(chosen, paths, strict=True):
            files.guest.upload(str(one.path), path)
        with _no_service_starts(files):
            _run(inspected, paths)
    now = {(one.name, one.version) for one in installed_packages(_text(files, STATUS))}
    for one in chosen:
        if (one.name, one.version) not in now:
            raise StepFailed(f"{one.name} {one.version} was not installed by the guest's dpkg")
        work.changed += _files_of(files, one)
        work.done.append(f"{one.name} {one.version} installed")


def choose(
    system: str, installed: Sequence[Package], offered: Sequence[Package], folder: Path
) -> list[Package]:
    """The newest agent that the guest can have, with what it needs. Raises `StepFailed` without any."""
    agents = [one for one in offered if one.name == AGENT]
    if not agents:
        raise StepFailed(f"{folder} holds no package {AGENT} (a .deb) for {system}")
    own = next((one.architecture for one in installed if one.name == "dpkg"), "")
    fitting = [one for one in offered if one.architecture in (own, "all")]
    native = sorted((one for one in agents if one in fitting), key=lambda one: version_key(one.version))
    if not native:
        others = ", ".join(sorted(f"{one.path.name} ({one.architecture})" for one in agents))
        raise StepFailed(f"{folder} holds {AGENT} for another architecture than {system}'s {own}: {others}")
    have = [one for one in installed if one.architecture in (own, "all")]
    reasons = []
    for agent in reversed(native):
        chosen, missing = needed_packages(agent, have, fitting)
        if not missing:
            return chosen
        reasons.append(f"{agent.path.name} needs {', '.join(missing)}")
    raise StepFailed(
        f"{AGENT} cannot be put into {system}: {'; '.join(reasons)}. Put packages of the guest's own release "
        f"into {folder}, or leave --guest-packages out"
    )


def _offered(folder: Path) -> tuple[list[Package], list[str]]:
    """The packages of a folder and those below it, and what could not be read."""
    found, complaints = [], []
    for number, path in enumerate(sorted(folder.rglob("*.deb"))):
        if number >= MOST_PACKAGES:
            raise StepFailed(f"{folder} holds more than {MOST_PACKAGES} packages")
        try:
            found.append(read_package(path))
        except (PackageError, OSError) as error:
            complaints.append(str(error))
    return found, complaints


def _run(inspected: Inspected, paths: Sequence[str]) -> None:
    inspected.guest_code.append("dpkg")
    argv = [
        "/usr/bin/env",
        "DEBIAN_FRONTEND=noninteractive",
        "LC_ALL=C",
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    ]
    try:
        inspected.files.guest.command(
            [*argv, DPKG, "--force-confdef", "--force-confold", "--install", *paths]
        )
    except RuntimeError as error:
        complaint = " ".join(str(error).split())[-LONGEST_COMPLAINT:]
        raise StepFailed(f"the guest's dpkg could not install {AGENT}: {complaint}") from error


@contextmanager
def _no_service_starts(files: GuestFiles) -> Iterator[None]:
    """A policy that forbids every start; the guest's own is back afterwards."""
    own = f"{POLICY}.before-hyperctl"
    had = files.is_there(POLICY)
    if had:
        files.guest.mv(POLICY, own)
    try:
        files.guest.write(POLICY, FORBIDDEN.encode())
        files.guest.chmod(0o755, POLICY)
        yield
    finally:
        files.guest.rm_f(POLICY)
        if had:
            files.guest.mv(own, POLICY)


def _files_of(files: GuestFiles, package: Package) -> list[str]:
    lists = files.matching(
        f"/var/lib/dpkg/info/{package.name}.list", f"/var/lib/dpkg/info/{package.name}:*.list"
    )
    paths = [path for one in lists for path in (files.text(one) or "").splitlines()]
    return [path for path in paths if files.is_there(path) and not files.is_folder(path)]


def _text(files: GuestFiles, path: str) -> str:
    size = files.size(path)
    if size > LARGEST_STATUS_BYTES:
        raise StepFailed(f"{path} is larger than {LARGEST_STATUS_BYTES} bytes")
    return files.reader(path)(0, size).decode("utf-8", "replace")
