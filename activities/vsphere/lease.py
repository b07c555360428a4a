"""The lease under which a vCenter hands out a virtual machine's disks.

vSphere API reference: VirtualMachine.ExportVm, VirtualMachineSnapshot.ExportSnapshot, HttpNfcLease. A lease
dies when it hears no progress call for its timeout, keeps the machine from being powered on (or its snapshot
from being removed), and must be completed or aborted.
"""

import http.client
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pyVmomi import vim, vmodl

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.vsphere.hardware import SourceMachine
from hyperctl.activities.vsphere.session import CLEAN_UP_SECONDS, Session, fault_text
from hyperctl.activities.vsphere.task import BUSY_WAIT_SECONDS, pause, when_free
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.machine import MachineDisk

READY_WAIT_SECONDS = 600.0
POLL_SECONDS = 0.5
FIRST_POLL_SECONDS = 0.03
"""Most leases are ready at once."""
LONGEST_SILENCE_SECONDS = 20.0

_GONE = (
    vim.fault.NotAuthenticated,
    vim.fault.InvalidState,
    vim.fault.Timedout,
    vmodl.fault.ManagedObjectNotFound,
)
_CONTROLLER_OF_CLASS = {
    "ParaVirtualSCSIController": "pvscsi",
    "VirtualLsiLogicController": "lsilogic",
    "VirtualLsiLogicSASController": "lsisas",
    "VirtualBusLogicController": "buslogic",
    "VirtualAHCIController": "ahci",
    "VirtualSATAController": "ahci",
    "VirtualNVMEController": "nvme",
    "VirtualIDEController": "ide",
}


@dataclass(frozen=True, slots=True)
class DeviceUrl:
    """Where one of the lease's disks is to be fetched. `url` is a secret: whoever has it gets the disk."""

    key: str
    url: str
    thumbprint: str
    """SHA-1 of the certificate of the host that serves it, hex; empty where it was not told."""


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """What the source says it has sent for one device."""

    size_bytes: int
    sha1: str


class Lease:
    """A ready lease. Its keep-alive thread has connections of its own in the session that opened it."""

    def __init__(self, session: Session, lease: Any, info: Any, attempt: Attempt) -> None:
        self._lease = lease
        self._attempt = attempt
        self._session = session
        self._timeout_seconds = float(info.leaseTimeout or 300)
        self._kept = session.on(lease, min(session.timeout_seconds, self._timeout_seconds / 2))
        self._ended = threading.Event()
        self._lost = ""
        self._percent = 0
        self._heard = time.monotonic()
        self._beating = threading.Lock()
        self.urls = tuple(
            DeviceUrl(item.key, item.url, (item.sslThumbprint or "").replace(":", "").lower())
            for item in info.deviceUrl or ()
            if item.disk
        )
        self._keeper = threading.Thread(target=self._keep, name="lease-keep-alive", daemon=True)
        self._keeper.start()

    def told(self, percent: int) -> None:
        """What the next progress call will say."""
        self._percent = max(0, min(100, percent))

    def check(self) -> None:
        """Raise `HyperctlError` (`lease_lost`) once the lease is known to be gone."""
        if self._lost:
            raise HyperctlError(
                ErrorCode.LEASE_LOST,
                f"{self._session.endpoint} has dropped the export lease: {self._lost}",
                "The copy is begun anew with a new lease.",
            )

    def probe(self) -> None:
        """Ask the vCenter whether the lease still lives. Raises like `check`."""
        self._beat()
        self.check()

    def manifest(self) -> dict[str, ManifestEntry]:
        """What the source says it has sent, by device key; of what it has sent whole."""
        try:
            entries = self._lease.HttpNfcLeaseGetManifest()
        except _GONE as error:
            self._lost = self._lost or fault_text(error)
            self.check()
            raise
        except vmodl.fault.NotSupported as error:
            self._attempt.log.warning("the source gives no manifest: %s", fault_text(error))
            return {}
        return {
            item.key: ManifestEntry(item.size or 0, item.sha1 or "") for item in entries or () if item.size
        }

    def complete(self) -> None:
        """End the lease well. The disks are safe by then, so a failure is only worth a line in the log."""
        self._stop_keeping()
        try:
            self._session.on(self._lease, self._session.timeout_seconds / 4).HttpNfcLeaseComplete()
        except (OSError, http.client.HTTPException, vmodl.MethodFault) as error:
            self._attempt.log.warning("the lease could not be completed: %s", fault_text(error))
            abort(self._session, self._lease, self._attempt)

    def abort(self) -> None:
        """End the lease badly, in seconds."""
        self._stop_keeping()
        abort(self._session, self._lease, self._attempt)

    def _stop_keeping(self) -> None:
        self._ended.set()
        self._keeper.join(POLL_SECONDS)

    def _keep(self) -> None:
        interval = min(self._timeout_seconds / 4, LONGEST_SILENCE_SECONDS)
        while not self._ended.wait(interval) and not self._lost:
            self._beat()

    def _beat(self) -> None:
        with self._beating:
            try:
                self._kept.HttpNfcLeaseProgress(self._percent)
                self._heard = time.monotonic()
            except _GONE as error:
                self._lost = self._lost or fault_text(error)
            except (OSError, http.client.HTTPException, vmodl.MethodFault) as error:
                self._attempt.log.warning("the lease's progress call failed: %s", fault_text(error))
                if time.monotonic() - self._heard > self._timeout_seconds:
                    self._lost = self._lost or f"no progress call came through ({fault_text(error)})"


@contextmanager
def export_lease(
    session: Session, source: SourceMachine, attempt: Attempt, busy_wait_seconds: float = BUSY_WAIT_SECONDS
) -> Iterator[Lease]:
    """Export a machine that is off, or the snapshot that its disks are read from, under a lease.

    It is completed when the block ends well, aborted when not.

    A machine that another lease holds is waited for. Raises `HyperctlError`: `vm_busy`, `vm_powered_on`,
    `vcenter_fault`.
    """
    managed = _request(session, source, attempt, busy_wait_seconds)
    try:
        info = _ready(managed, source, attempt)
        lease = Lease(session, managed, info, attempt)
    except BaseException:
        abort(session, managed, attempt)
        raise
    attempt.log.info("export lease on %s, %d disk(s)", source.machine.name, len(lease.urls))
    try:
        yield lease
    except BaseException:
        lease.abort()
        raise
    lease.complete()


def abort(session: Session, managed: Any, attempt: Attempt) -> None:
    """Abort a lease, whatever state it is in; where that fails it dies by its own timeout."""
    try:
        session.on(managed, CLEAN_UP_SECONDS).HttpNfcLeaseAbort()
        attempt.log.info("the lease is aborted")
    except _GONE:
        attempt.log.info("the lease was gone already")
    except (OSError, http.client.HTTPException, vmodl.MethodFault) as error:
        attempt.log.warning("the lease could not be aborted and will time out: %s", fault_text(error))


def match_urls(urls: Sequence[DeviceUrl], disks: Sequence[MachineDisk]) -> dict[int, DeviceUrl]:
    """Which URL is which disk, by disk key.

    A device key ends in controller class, bus and unit (`/vm-58/ParaVirtualSCSIController0:1`). Where one
    does not, the order decides, which is the hardware's on every known release. Raises `HyperctlError`
    (`vcenter_fault`) where there are not as many URLs as disks.
    """
    addresses = {(disk.controller, disk.controller_bus, disk.unit): disk.key for disk in disks}
    found: dict[int, DeviceUrl] = {}
    for url in urls:
        parsed = re.search(r"/([A-Za-z]+)(\d+):(\d+)$", url.key)
        kind = _CONTROLLER_OF_CLASS.get(parsed[1], "") if parsed else ""
        address = (kind, int(parsed[2]), int(parsed[3])) if parsed else ("", 0, 0)
        if address in addresses:
            found[addresses[address]] = url
    if len(found) == len(disks) == len(urls):
        return found
    if len(urls) != len(disks):
        raise HyperctlError(
            ErrorCode.VCENTER_FAULT,
            f"the export lease offers {len(urls)} disk(s), the machine has {len(disks)}",
        )
    return {disk.key: url for disk, url in zip(disks, urls, strict=True)}


def _request(session: Session, source: SourceMachine, attempt: Attempt, busy_wait_seconds: float) -> Any:
    exported = source.reference
    method = "ExportVm"
    if source.snapshot is not None:
        exported, method = session.managed(vim.vm.Snapshot, source.snapshot.moref), "ExportSnapshot"
    try:
        return when_free(session, source, attempt, getattr(exported, method), busy_wait_seconds)
    except vim.fault.InvalidPowerState as error:
        raise HyperctlError(
            ErrorCode.VM_POWERED_ON,
            f"{source.machine.name} is powered on",
            "Shut it down in the guest, then try again.",
        ) from error


def _ready(managed: Any, source: SourceMachine, attempt: Attempt) -> Any:
    """Wait until a lease is ready and return its info."""
    deadline = time.monotonic() + READY_WAIT_SECONDS
    wait_seconds = FIRST_POLL_SECONDS
    while True:
        state = managed.state
        if state == vim.HttpNfcLease.State.ready:
            return managed.info
        if state in (vim.HttpNfcLease.State.error, vim.HttpNfcLease.State.done):
            fault = managed.error if state == vim.HttpNfcLease.State.error else None
            reason = fault_text(fault) if fault is not None else f"it is {state}"
            raise HyperctlError(
                ErrorCode.VCENTER_FAULT, f"the export lease on {source.machine.name} failed: {reason}"
            )
        if time.monotonic() > deadline:
            raise HyperctlError(
                ErrorCode.VM_BUSY,
                f"the export lease on {source.machine.name} was not ready after {READY_WAIT_SECONDS:.0f} s",
            )
        pause(attempt, wait_seconds)
        wait_seconds = min(2 * wait_seconds, POLL_SECONDS / 2)
