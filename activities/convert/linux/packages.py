"""The guest agent's package, put in offline from a folder of the worker's, by the guest's own dpkg or rpm.

The guest's programmes run in libguestfs' appliance, which has no network, and start no service.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

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
from hyperctl.activities.convert.linux.room import assert_room
from hyperctl.activities.convert.linux.rpm import RpmPackage, needed_rpms, read_rpm
from hyperctl.activities.convert.refusal import StepFailed
from hyperctl.activities.convert.work import Work

AGENT = "qemu-guest-agent"
DPKG, STATUS = "/usr/bin/dpkg", "/var/lib/dpkg/status"
RPM = ("/usr/bin/rpm", "/bin/rpm")
POLICY = "/usr/sbin/policy-rc.d"
"""invoke-rc.d(8) asks it whether a service may be started."""
FORBIDDEN = "#!/bin/sh\nexit 101\n"
ENVIRONMENT = ("DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin")
MOST_PACKAGES = 5000
LARGEST_STATUS_BYTES = 64 << 20
LONGEST_COMPLAINT = 600
KIB = 1 << 10


class _Named(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def architecture(self) -> str: ...
    @property
    def path(self) -> Path: ...


AnyPackage = TypeVar("AnyPackage", bound=_Named)


def install_agent(inspected: Inspected, folder: Path, work: Work) -> None:
    """Put it in with what it depends on. Raises `StepFailed` with all that is missing, nothing changed."""
    files = inspected.files
    if not folder.is_dir():
        raise StepFailed(f"there is no folder {folder} on this host to take guest packages from")
    rpm = next((path for path in RPM if files.exists(path)), "")
    if files.exists(DPKG) and files.exists(STATUS):
        _by_dpkg(inspected, folder, work)
    elif rpm:
        _by_rpm(inspected, folder, rpm, work)
    else:
        raise StepFailed(
            f"{inspected.system.product_name} has neither dpkg nor rpm to put packages in: leave "
            "--guest-packages out, and install qemu-guest-agent in the guest"
        )


def _by_dpkg(inspected: Inspected, folder: Path, work: Work) -> None:
    files = inspected.files
    installed = installed_packages(_text(files, STATUS))
    offered = _offered(folder, "*.deb", read_package, work)
    chosen = choose(inspected.system.product_name, installed, offered, folder)
    sizes = {one.path: one.installed_kib * KIB for one in chosen}
    with _uploaded(inspected, sizes) as paths, _no_service_starts(files):
        options = ("--force-confdef", "--force-confold", "--install")
        if complaint := _complaint(inspected, [DPKG, *options, *paths]):
            raise StepFailed(f"the guest's dpkg could not install {AGENT}: {complaint}")
    now = {(one.name, one.version) for one in installed_packages(_text(files, STATUS))}
    for one in chosen:
        if (one.name, one.version) not in now:
            raise StepFailed(f"{one.name} {one.version} was not installed by the guest's dpkg")
        own = f"/var/lib/dpkg/info/{one.name}"
        lists = files.matching(f"{own}.list", f"{own}:*.list")
        _note(files, [path for name in lists for path in (files.text(name) or "").splitlines()], work)
        work.done.append(f"{one.name} {one.version} installed")


def choose(
    system: str, installed: Sequence[Package], offered: Sequence[Package], folder: Path
) -> list[Package]:
    """The newest agent that the guest can have, with what it needs. Raises `StepFailed` without any."""
    own = next((one.architecture for one in installed if one.name == "dpkg"), "")
    fitting = _fitting(system, offered, (own, "all"), folder, ".deb")
    agents = sorted((one for one in fitting if one.name == AGENT), key=lambda one: version_key(one.version))
    have = [one for one in installed if one.architecture in (own, "all")]
    reasons = []
    for agent in reversed(agents):
        chosen, missing = needed_packages(agent, have, fitting)
        if not missing:
            return chosen
        reasons.append(f"{agent.path.name} needs {', '.join(missing)}")
    raise _nothing_fits(system, reasons, folder)


def _by_rpm(inspected: Inspected, folder: Path, rpm: str, work: Work) -> None:
    files, system = inspected.files, inspected.system.product_name
    offered = _offered(folder, "*.rpm", read_rpm, work)
    own = str(files.guest.file_architecture(rpm))
    fitting = _fitting(system, offered, (own, "noarch"), folder, ".rpm")
    agents = sorted((one for one in fitting if one.name == AGENT), key=lambda one: one.order)
    sizes = {one.path: one.size_bytes for one in fitting}
    reasons = []
    for agent in reversed(agents):

        def complaints(packages: Sequence[RpmPackage]) -> str:
            with _uploaded(inspected, {one.path: sizes[one.path] for one in packages}) as paths:
                return _complaint(inspected, [rpm, "-U", "--test", *paths], whole=True)

        chosen, missing = needed_rpms(agent, fitting, complaints)
        if missing:
            reasons.append(f"{agent.path.name} needs {', '.join(missing)}")
            continue
        with _uploaded(inspected, {one.path: sizes[one.path] for one in chosen}) as paths:
            if complaint := _complaint(inspected, [rpm, "-U", *paths]):
                raise StepFailed(f"the guest's rpm could not install {AGENT}: {complaint}")
            for one in chosen:
                if _complaint(inspected, [rpm, "-q", f"{one.name}-{one.full_version}"]):
                    raise StepFailed(f"{one.name} {one.full_version} was not installed by the guest's rpm")
                _note(files, one.files, work)
                work.done.append(f"{one.name} {one.full_version} installed")
        return
    raise _nothing_fits(system, reasons, folder)


def _offered(folder: Path, pattern: str, read: Callable[[Path], AnyPackage], work: Work) -> list[AnyPackage]:
    """The packages of a folder and those below it; what could not be read is a warning."""
    found = []
    for number, path in enumerate(sorted(folder.rglob(pattern))):
        if number >= MOST_PACKAGES:
            raise StepFailed(f"{folder} holds more than {MOST_PACKAGES} packages")
        try:
            found.append(read(path))
        except (PackageError, OSError) as error:
            work.warnings.append(str(error))
    return found


def _fitting(
    system: str, offered: Sequence[AnyPackage], architectures: tuple[str, str], folder: Path, ending: str
) -> list[AnyPackage]:
    """Those of the guest's architecture. Raises `StepFailed` where no agent is among them."""
    agents = [one for one in offered if one.name == AGENT]
    if not agents:
        raise StepFailed(f"{folder} holds no package {AGENT} (a {ending}) for {system}")
    fitting = [one for one in offered if one.architecture in architectures]
    if not any(one.name == AGENT for one in fitting):
        others = ", ".join(sorted(f"{one.path.name} ({one.architecture})" for one in agents))
        raise StepFailed(
            f"{folder} holds {AGENT} for another architecture than {system}'s {architectures[0]}: {others}"
        )
    return fitting


def _nothing_fits(system: str, reasons: Sequence[str], folder: Path) -> StepFailed:
    return StepFailed(
        f"{AGENT} cannot be put into {system}: {'; '.join(reasons)}. Put packages of the guest's own release "
        f"into {folder}, or leave --guest-packages out"
    )


@contextmanager
def _uploaded(inspected: Inspected, sizes: Mapping[Path, int]) -> Iterator[list[str]]:
    """Packages where the guest's programmes find them. By path, what each takes when it is installed."""
    with inspected.files.work_folder() as place:
        paths = {path: f"{place}/{path.name}" for path in sizes}
        assert_room(inspected, {paths[path]: size + path.stat().st_size for path, size in sizes.items()})
        for path, there in paths.items():
            inspected.files.guest.upload(str(path), there)
        yield list(paths.values())


def _complaint(inspected: Inspected, argv: Sequence[str], *, whole: bool = False) -> str:
    """What one of the guest's programmes says when it fails; empty where it does not."""
    inspected.guest_code.append(argv[0])
    try:
        inspected.files.guest.command(["/usr/bin/env", *ENVIRONMENT, *argv])
    except RuntimeError as error:
        return str(error) if whole else " ".join(str(error).split())[-LONGEST_COMPLAINT:]
    return ""


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


def _note(files: GuestFiles, paths: Sequence[str], work: Work) -> None:
    work.changed += [path for path in paths if files.is_there(path) and not files.is_folder(path)]


def _text(files: GuestFiles, path: str) -> str:
    size = files.size(path)
    if size > LARGEST_STATUS_BYTES:
        raise StepFailed(f"{path} is larger than {LARGEST_STATUS_BYTES} bytes")
    return files.reader(path)(0, size).decode("utf-8", "replace")
