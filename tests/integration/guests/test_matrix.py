"""Every guest of the matrix: not bootable on virtio as it came, and there in full after its conversion.

`make test` has the fast ones, `make test-guests` all, and rehearses the fast ones, too: a rehearsal says what
the migration does. `tests/e2e` and `test_prove` show the same of the demo's guest.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from deploy.dev.guest.build import make_guest
from deploy.dev.guest.guest import Guest
from deploy.dev.guest.matrix import ALL, FAST
from deploy.dev.guest.recipe import DEMO
from hyperctl.activities.settings import HostSettings
from hyperctl.workflows.contract import ConvertResult
from hyperctl.workflows.guest import BootProof, Outcome, Step
from hyperctl.workflows.rehearsal import Rehearsed, Verdict
from tests.found_out import AGAIN, is_known, name_of, remember
from tests.integration.conftest import state_of
from tests.integration.guests import arrival as arriving
from tests.integration.guests.arrival import Arrival, arrive, attempt
from tests.integration.rehearsing import assert_nothing_is_left, machine_of, rehearsed
from tests.simulator import VCenterSimulator

WANTED = [guest for guest in (ALL if AGAIN else FAST) if guest is not DEMO]
TIMEOUT_SECONDS = 2400


pytestmark = pytest.mark.usefixtures("libvirt_uri")


@pytest.fixture
def output_dir() -> Iterator[Path]:
    """One that qemu, which runs as a user of its own, can pass through; pytest's are closed to others."""
    with TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.mark.timeout(TIMEOUT_SECONDS)
@pytest.mark.parametrize("guest", WANTED, ids=lambda guest: guest.name)
def test_it_arrives(guest: Guest, output_dir: Path, request: pytest.FixtureRequest) -> None:
    arrival = arrive(guest, output_dir)
    before = arrival.bases()

    converted = arrival.convert(attempt())
    steps = {step.step: step for step in converted.steps}
    assert steps[Step.INSPECT].outcome is Outcome.DONE
    # Without this driver a kernel does not see its root's disk, so it did not boot before.
    assert "virtio_blk" in steps[Step.VIRTIO].detail
    assert all(step.outcome is not Outcome.FAILED for step in converted.steps)
    assert converted.guest.initramfs_tool == guest.initramfs.partition(",")[0]

    images = [Path(path) for disk in converted.disks for path in (disk.base, disk.overlay)]
    unproved = state_of(images)
    proof = arrival.prove(converted, attempt())
    assert state_of(images) == unproved, "neither base nor overlay may be written, or change hands"
    assert not arrival.staging.proof().exists()
    assert arrival.prove(converted, attempt()) == proof, "what is proved is not proved again"
    assert proof.passed, proof.problems
    assert proof.multi_user
    assert all(mount.active for mount in proof.mounts if mount.required), proof.mounts
    listed = {line.split()[1] for line in guest.files["/etc/fstab"].splitlines() if line[:1] not in ("", "#")}
    places = {one.mount_point for one in guest.layout.filesystems} & listed
    assert "/" in places
    assert places <= {mount.target for mount in proof.mounts}
    assert {nic.mac: nic.name for nic in proof.nics} == {nic.mac: nic.name for nic in guest.nics}
    assert all(nic.missing_addresses == () for nic in proof.nics), proof.nics
    assert proof.default_routes
    assert arrival.bases() == before
    if AGAIN and guest in FAST:
        found = _rehearsed(guest, output_dir, request, arrival.disk_keys_file)
        _assert_alike(found, arrival, converted, proof)


def _rehearsed(
    guest: Guest, output_dir: Path, request: pytest.FixtureRequest, keys: Path | None
) -> Rehearsed:
    """Over the datastore's HTTPS of a simulated vCenter."""
    simulator: VCenterSimulator = request.getfixturevalue("sim")
    settings: HostSettings = request.getfixturevalue("settings")
    request.getfixturevalue("own_tmp")
    simulator.call("POST", "/guests", {"directory": str(make_guest(guest) / guest.name)})
    changes = {
        "output_dir": str(output_dir / "rehearsals"),
        "libvirt_uri": request.getfixturevalue("libvirt_uri"),
        "disk_keys_file": keys,
    }
    host = settings.model_copy(update=changes)
    machine = machine_of(simulator, guest.name, host, attempt())
    found = rehearsed(simulator, host, machine, attempt())
    assert_nothing_is_left(simulator, host)
    return found


def _assert_alike(found: Rehearsed, arrival: Arrival, converted: ConvertResult, proof: BootProof) -> None:
    assert found.verdict is Verdict.BOOTS, found.reason
    assert found.guest == converted.guest
    outcomes = [(step.step, step.outcome, step.warnings) for step in converted.steps]
    assert [(step.step, step.outcome, step.warnings) for step in found.steps] == outcomes
    assert found.proof is not None
    assert found.proof.mounts == proof.mounts
    assert found.proof.nics == proof.nics
    assert found.proof.failed_units == proof.failed_units
    capacity = sum(disk.capacity_bytes for disk in arrival.landed)
    assert 0 < found.read_bytes < min(300 << 20, capacity)


@pytest.mark.timeout(TIMEOUT_SECONDS)
@pytest.mark.parametrize("guest", WANTED, ids=lambda guest: guest.name)
def test_it_does_not_boot_as_it_came(guest: Guest, output_dir: Path) -> None:
    """Seen once for each image that was built; what the proof makes of such a boot is `test_prove`'s."""
    disks = sorted((make_guest(guest) / guest.name).glob("disk*.raw"))
    fact = name_of(f"does-not-boot-{guest.name}", disks, [Path(arriving.__file__)])
    if is_known(fact):
        return
    proof = arrive(guest, output_dir).boot_as_it_came(attempt())
    assert not proof.multi_user
    assert proof.diagnosis
    remember(fact)
