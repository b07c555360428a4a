"""The source guest boots on VMware's hardware, with its network, and is what a conversion is judged by.

`test_prove` shows that it does not boot on KVM's. It boots once for each image that was built, and when the
code that boots and judges it changes.
"""

import json
import logging
from pathlib import Path

import pytest

from deploy.dev.layout import ROOT
from deploy.dev.prepare import load_parts
from hyperctl.activities.attempt import Attempt
from hyperctl.activities.prove.activity import prove_and_record
from hyperctl.activities.prove.report import reports_in
from hyperctl.workflows.contract import ProveInput
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.guest import BootProof, Difference, Kind
from hyperctl.workflows.request import ProveMode
from hyperctl.workflows.status import Phase
from tests.found_out import is_known, name_of, remember
from tests.integration import source_guest as landing
from tests.integration.source_guest import GUEST, UNITS, ConvertedGuest, SourceGuest


def attempt() -> Attempt:
    return Attempt(Phase.PROVE, logging.getLogger("test"))


@pytest.mark.timeout(2400)
def test_a_conversion_is_judged_by_what_worked_on_vmwares_hardware(
    converted_guest: ConvertedGuest, source_guest: SourceGuest, guest_output_dir: Path, libvirt_uri: str
) -> None:
    code = [*(ROOT / "activities/prove").glob("*.py"), *(ROOT / "activities/convert").glob("**/*.py")]
    tests = [Path(__file__), Path(landing.__file__)]
    fact = name_of("judged-by-vmware", [source_guest.disk], [*tests, *code])
    if is_known(fact):
        return
    staging = converted_guest.staging
    argument = ProveInput(
        job_id=staging.job_id,
        output_dir=str(guest_output_dir),
        machine=source_guest.machine,
        disks=converted_guest.result.disks,
        mode=ProveMode.DIFF,
    )
    with pytest.raises(HyperctlError) as failed:
        prove_and_record(argument, libvirt_uri, attempt())
    assert failed.value.code is ErrorCode.PROOF_FAILED
    assert "only-on-vmware.service has failed, and had not before" in str(failed.value)
    assert "limping" not in str(failed.value)

    kept = guest_output_dir / ".errors" / staging.job_id
    proof = BootProof.model_validate_json((kept / "proof.json").read_text())
    assert proof.multi_user
    assert set(proof.failed_units) == set(UNITS)
    assert len(proof.problems) == 1
    assert proof.comparison is not None
    assert proof.comparison.hardware == "pvscsi, vmxnet3"
    assert proof.comparison.obstacle == ""
    assert proof.comparison.failed_units == ("limping.service",)
    assert proof.comparison.differences == (Difference(kind=Kind.UNIT, what="only-on-vmware.service"),)
    for name in ("proof.png", "unconverted.png"):
        assert (kept / name).read_bytes().startswith(b"\x89PNG")
    assert b"limping.service" in (kept / "unconverted.serial.log").read_bytes()
    (before,) = reports_in((kept / "unconverted.report.txt").read_text())
    (after,) = reports_in((kept / "proof.report.txt").read_text())
    for report in (before, after):
        assert report.addresses["ens192"] == ("192.0.2.10/24",)
        assert {"/", "/boot", "/srv"} <= report.mounts.keys()
        assert "tcp 0.0.0.0:80" in report.listening
    assert before.mounts["/"] != after.mounts["/"], "one on VMware's controller, one on virtio"
    remember(fact)


def test_its_facts_are_those_of_a_guest_on_vmware() -> None:
    folder = load_parts().guests / GUEST
    facts = json.loads((folder / "guest.json").read_text())
    assert facts["scsi"] == "pvscsi"
    assert [nic["adapter"] for nic in facts["nics"]] == ["vmxnet3"]
    assert (folder / "disk1.raw").stat().st_size == 4 << 30
    assert (folder / "disk1.vmdk").read_bytes()[-512:] == bytes(512)
