"""A whole hyperctl on loopback: Temporal dev server, simulated vCenter, libvirt, worker.

Everything it keeps is in one folder, so that tests run stacks of their own beside the developer's.
"""

import fcntl
import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from deploy.dev.detached import Detached, DidNotStart, any_running
from deploy.dev.layout import VENV
from deploy.dev.libvirt import ensure_libvirt, release_libvirt
from deploy.dev.ports import LOOPBACK, Ports, choose_ports, read_ports
from deploy.dev.prepare import Parts, load_parts

USERNAME = "administrator@vsphere.local"
DATACENTER = "DC1"
NAMESPACE = "default"
SEARCH_ATTRIBUTES = (
    "Status",
    "Phase",
    "Priority",
    "VmName",
    "VCenter",
    "EsxiHost",
    "TargetHost",
    "BatchId",
    "RequestedBy",
)
ROLES = ("export", "verify", "convert", "import", "rehearse")
START_TIMEOUT_SECONDS = 60.0
DRAIN_SECONDS = 20
WORKER_READY = "worker ready"


@dataclass(frozen=True, slots=True)
class VCenter:
    """Where the simulated vCenter is, as it says itself in vcenter.json."""

    url: str
    server: str
    """`HOST:PORT`, as a request names it."""
    control: str
    """The URL of its endpoint for faults; see `deploy/dev/vcenter/README.md`."""
    certificate_sha256: str
    ca_file: str


class Stack:
    """One stack, in one folder. `up` and `down` may be called at any time, from any process."""

    def __init__(
        self,
        folder: Path,
        *,
        output_dir: Path | None = None,
        ports: Ports | None = None,
        lease_timeout_seconds: int = 300,
    ) -> None:
        """The output folder is where the worker puts images, by default inside the stack's own folder.

        libvirt's qemu has to get there under an account of its own if domains are to be started.
        """
        self.folder = folder
        self.output_dir = output_dir or folder / "output"
        self._wanted_ports = ports or Ports()
        self._lease_timeout_seconds = lease_timeout_seconds
        self._vcenter_state = folder / "vcenter"
        self._password_file = folder / "password"

    def up(self, *, worker: bool = True) -> None:
        """Start what does not run. Raises `DidNotStart`, `NotSetUp` or `LibvirtUnreachable`."""
        parts = load_parts()
        with self._locked():
            self.make_password()
            if not any_running(self.folder):
                choose_ports(self.folder / "ports.json", self._wanted_ports)
            self.start_temporal(parts)
            self.start_vcenter(parts)
            ensure_libvirt(self.folder)
            if worker:
                self.start_worker()

    def down(self) -> list[str]:
        """Stop everything, the worker first; the names of what ran. What it has on disk stays."""
        if not self.folder.is_dir():
            return []
        with self._locked():
            names = sorted((file.stem for file in (self.folder / "run").glob("*.json")), reverse=True)
            stopped = [name for name in names if self._process(name).stop(DRAIN_SECONDS + 10)]
            if release_libvirt(self.folder):
                stopped.append("libvirt")
            return stopped

    def wipe(self) -> None:
        """Remove what it has on disk, images included; the ports stay. It must be down."""
        if any_running(self.folder):
            raise RuntimeError(f"the stack in {self.folder} is up")
        kept = self.folder / "ports.json"
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if path.is_dir():
                shutil.rmtree(path)
            elif path != kept:
                path.unlink()
        shutil.rmtree(self.output_dir, ignore_errors=True)

    def status(self) -> dict[str, int | None]:
        """The number of each process, None where it does not run."""
        names = {"temporal", "vcenter", "worker"} | {
            path.stem for path in (self.folder / "run").glob("*.json")
        }
        return {name: self._process(name).pid for name in sorted(names)}

    def start_temporal(self, parts: Parts) -> None:
        """Start the Temporal dev server, its data in a file, and wait until it serves."""
        ports = self.ports
        argv = [str(parts.temporal), "server", "start-dev", "--ip", LOOPBACK, "--log-level", "warn"]
        argv += ["--port", str(ports.temporal), "--ui-port", str(ports.web)]
        argv += ["--db-filename", str(self.folder / "temporal.db")]
        for name in SEARCH_ATTRIBUTES:
            argv += ["--search-attribute", f"{name}=Keyword"]
        server = self._process("temporal")
        if server.pid is None:
            server.start(argv, os.environ)
        health = [str(parts.temporal), "operator", "cluster", "health", "--address", self.temporal_address]
        for _ in _until_ready(server):
            done = subprocess.run(health, capture_output=True, text=True, check=False, timeout=30)
            if "SERVING" in done.stdout:
                return

    def start_vcenter(self, parts: Parts) -> None:
        """Start the simulated vCenter and wait until it can be logged in to."""
        server = self._process("vcenter")
        if server.pid is None:
            argv = [str(parts.vcenter), "--guests", str(parts.guests), "--state", str(self._vcenter_state)]
            argv += ["--listen", f"{LOOPBACK}:{self.ports.vcenter}", "--control", f"{LOOPBACK}:0"]
            argv += ["--username", USERNAME, "--password-file", str(self._password_file)]
            argv += ["--datacenter", DATACENTER, "--lease-timeout", f"{self._lease_timeout_seconds}s"]
            (self._vcenter_state / "vcenter.json").unlink(missing_ok=True)
            server.start(argv, os.environ)
        for _ in _until_ready(server):
            if (self._vcenter_state / "vcenter.json").exists():
                return

    def start_worker(
        self,
        name: str = "worker",
        *,
        roles: Sequence[str] = ROLES,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start a worker and wait until it serves its queues. Several are told apart by their names."""
        worker = self._process(name)
        if worker.pid is not None:
            return
        self.output_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
        said_before = worker.log.stat().st_size if worker.log.exists() else 0
        argv = [str(VENV / "bin" / "hyperctl"), "worker", "--role", ",".join(roles)]
        worker.start(argv, {**self.worker_environment(), **(environment or {})})
        for _ in _until_ready(worker):
            if WORKER_READY in worker.log.read_bytes()[said_before:].decode(errors="replace"):
                return

    def stop_worker(self, name: str = "worker") -> None:
        """Let a worker drain and end."""
        self._process(name).stop(DRAIN_SECONDS + 10)

    def kill_worker(self, name: str = "worker") -> None:
        """kill -9."""
        self._process(name).kill()

    def restart_worker(self, name: str = "worker") -> None:
        """Stop and start a worker with all roles."""
        self.stop_worker(name)
        self.start_worker(name)

    def log(self, name: str) -> Path:
        """The log of one of its processes: temporal, vcenter, worker."""
        return self._process(name).log

    @property
    def ports(self) -> Ports:
        return read_ports(self.folder / "ports.json")

    @property
    def temporal_address(self) -> str:
        return f"{LOOPBACK}:{self.ports.temporal}"

    @property
    def web_ui(self) -> str:
        return f"http://{LOOPBACK}:{self.ports.web}"

    @property
    def username(self) -> str:
        return USERNAME

    @property
    def password(self) -> str:
        """The simulated vCenter's, made at random when the stack was first up."""
        return self._password_file.read_text().strip()

    @property
    def vcenter(self) -> VCenter:
        document = json.loads((self._vcenter_state / "vcenter.json").read_text())
        return VCenter(**{field.name: document[field.name] for field in fields(VCenter)})

    def environment(self) -> dict[str, str]:
        """The environment of a client: where Temporal is, and `hyperctl` on PATH. It holds no secret."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("HYPERCTL_")},
            "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "HYPERCTL_TEMPORAL_ADDRESS": self.temporal_address,
            "HYPERCTL_TEMPORAL_NAMESPACE": NAMESPACE,
        }

    def worker_environment(self) -> dict[str, str]:
        """The environment of a worker: as a client's, with the credentials and this stack's folders."""
        return {
            **self.environment(),
            "HYPERCTL_WORK_DIR": str(self.folder / "work"),
            "HYPERCTL_OUTPUT_DIR": str(self.output_dir),
            "HYPERCTL_VSPHERE_CA_FILE": self.vcenter.ca_file,
            "HYPERCTL_DRAIN_SECONDS": str(DRAIN_SECONDS),
            "VSPHERE_USERNAME": USERNAME,
            "VSPHERE_PASSWORD": self.password,
        }

    def _process(self, name: str) -> Detached:
        return Detached(self.folder, name)

    def make_password(self) -> None:
        """Make the simulated vCenter's password, 0600, unless there is one."""
        try:
            descriptor = os.open(self._password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(24) + "\n")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _until_ready(process: Detached) -> Iterator[None]:
    """Turns of waiting, until the process has ended or has taken too long: then `DidNotStart`."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        yield
        process.require_running()
        time.sleep(0.1)
    raise DidNotStart(f"{process.name} was not ready in {START_TIMEOUT_SECONDS:.0f} s.\n{process.tail()}")
