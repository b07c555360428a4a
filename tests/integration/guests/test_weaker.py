"""A guest without systemd: proved by its agent, and where that cannot be reached by its disks and screen."""

from pathlib import Path

import pytest

from deploy.dev.guest.sysvinit import ADDRESS, SYSVINIT
from hyperctl.activities.prove.activity import prove
from hyperctl.activities.prove.boot import Trial
from hyperctl.activities.prove.trial import TrialFiles
from hyperctl.workflows.contract import ConvertResult
from hyperctl.workflows.guest import BootProof, Claim
from hyperctl.workflows.hardware import VIRTIO, DiskBus, Hardware, NicModel
from hyperctl.workflows.request import ProveMode
from tests.found_out import AGAIN
from tests.integration.guests.arrival import Arrival, arrive, attempt

WITHOUT_VIRTIO = Hardware(disk_bus=DiskBus.SATA, nic_model=NicModel.E1000E)


def proof_on(arrival: Arrival, result: ConvertResult, uri: str, hardware: Hardware) -> BootProof:
    trial = Trial(
        job_id=arrival.staging.job_id,
        machine=arrival.machine,
        guest=result.guest,
        disks=result.disks,
        files=TrialFiles(arrival.staging.proof()),
        libvirt_uri=uri,
        hardware=hardware,
    )
    return prove(trial, ProveMode.FULL, attempt()).proof


@pytest.mark.timeout(2400)
@pytest.mark.skipif(not AGAIN, reason="boots of minutes: make test-guests")
def test_a_guest_without_systemd_is_proved_by_what_it_shows(guest_output_dir: Path, libvirt_uri: str) -> None:
    arrival = arrive(SYSVINIT, guest_output_dir)
    converted = arrival.convert(attempt())

    proof = proof_on(arrival, converted, libvirt_uri, VIRTIO)
    assert proof.passed, proof
    assert proof.claim is Claim.AGENT
    assert not proof.multi_user
    assert "bookworm" in proof.system
    assert proof.kernel.startswith("6.")
    (nic,) = proof.nics
    assert (nic.name, nic.addresses, nic.missing_addresses) == ("ens192", (ADDRESS,), ())

    # Without virtio there is no channel for an agent.
    proof = proof_on(arrival, converted, libvirt_uri, WITHOUT_VIRTIO)
    assert proof.passed, proof
    assert proof.claim is Claim.ACTIVITY
    assert "wrote" in proof.seen
    assert proof.nics == ()
