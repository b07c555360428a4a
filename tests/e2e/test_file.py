"""`hyperctl convert --file`: a guest in an OVA, without any vCenter; and a watched folder.

What follows on the copy is the same for every source, and `test_convert` has its boot proof.
"""

import hashlib
import json
import tarfile
from pathlib import Path

from deploy.dev.prepare import load_parts
from hyperctl.workflows.guest import Step
from hyperctl.workflows.status import MigrationResult
from tests.e2e.conftest import Running
from tests.moments import until

VM = "web-server-01"
DESCRIPTOR = """<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
 xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
 xmlns:vmw="http://www.vmware.com/schema/ovf">
<References><File ovf:id="f1" ovf:href="disk1.vmdk" ovf:size="{size}"/></References>
<DiskSection><Disk ovf:diskId="d1" ovf:fileRef="f1" ovf:capacity="{capacity}"/></DiskSection>
<VirtualSystem ovf:id="{name}"><OperatingSystemSection ovf:id="96" vmw:osType="debian12_64Guest"/>
<VirtualHardwareSection>
<Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType>
<rasd:VirtualQuantity>2</rasd:VirtualQuantity></Item>
<Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:InstanceID>2</rasd:InstanceID>
<rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>1024</rasd:VirtualQuantity></Item>
<Item><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceSubType>VirtualSCSI</rasd:ResourceSubType>
<rasd:ResourceType>6</rasd:ResourceType></Item>
<Item><rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:ElementName>Hard disk 1</rasd:ElementName>
<rasd:HostResource>ovf:/disk/d1</rasd:HostResource><rasd:InstanceID>4</rasd:InstanceID>
<rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>
<Item><rasd:Address>00:50:56:aa:bb:01</rasd:Address><rasd:AddressOnParent>7</rasd:AddressOnParent>
<rasd:Connection>VM Network</rasd:Connection><rasd:ElementName>Network adapter 1</rasd:ElementName>
<rasd:InstanceID>5</rasd:InstanceID><rasd:ResourceSubType>VmxNet3</rasd:ResourceSubType>
<rasd:ResourceType>10</rasd:ResourceType></Item>
</VirtualHardwareSection></VirtualSystem></Envelope>
"""


def make_ova(folder: Path) -> Path:
    """The demo's guest as an appliance, its descriptor and its manifest in front."""
    guest = load_parts().guests / VM
    stream = guest / "disk1.vmdk"
    descriptor, stated = folder / f"{VM}.ovf", folder / f"{VM}.mf"
    capacity = (guest / "disk1.raw").stat().st_size
    descriptor.write_text(DESCRIPTOR.format(size=stream.stat().st_size, capacity=capacity, name=VM))
    with stated.open("w") as lines:
        for path in (descriptor, stream):
            with path.open("rb") as file:
                lines.write(f"SHA256({path.name})= {hashlib.file_digest(file, 'sha256').hexdigest()}\n")
    ova = folder / "shop.ova"
    with tarfile.open(ova, "w", format=tarfile.USTAR_FORMAT) as archive:
        for path in (descriptor, stated, stream):
            archive.add(path, path.name)
    return ova


def test_an_ova_is_migrated_without_a_vcenter(stack: Running, tmp_path: Path) -> None:
    ova = make_ova(tmp_path)
    done = stack.hyperctl("convert", "--file", str(ova), "--prove", "none")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Source: {ova}" in done.stdout
    assert "vSphere" not in done.stdout

    (document,) = stack.output_dir.glob(f"????-??-??/{VM}/migration.json")
    result = MigrationResult.model_validate_json(document.read_text())
    assert result.proof is None
    (network,) = (step for step in result.steps if step.step is Step.NETWORK)
    assert "ens192 stays with 00:50:56:aa:bb:01" in network.detail
    (landed,) = result.landed
    assert landed.source_checksum.startswith("sha256:")
    listed = json.loads(stack.hyperctl("list", "--vcenter", "file", "--json").stdout)
    assert [(job["job_id"], job["vm_name"]) for job in listed] == [(result.job_id, VM)]


def test_what_is_dropped_and_is_damaged_gets_an_error_file(stack: Running, tmp_path: Path) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    stack.restart_worker(HYPERCTL_WATCH_DIR=str(watched), HYPERCTL_FILE_STABLE_TIMEOUT="1")
    try:
        ova = watched / "cut.ova"
        ova.write_bytes(make_ova(tmp_path).read_bytes()[:-2_000_000])
        error = watched / ".errors" / "cut.ova.error.json"
        until(error.exists, lambda: stack.worker_log[-4000:])
        record = json.loads(error.read_text())
        assert record["filename"] == "cut.ova"
        assert record["phase"] == "plan"
        assert str(ova) in record["error"]
        listed = json.loads(
            stack.hyperctl("list", "--vcenter", "file", "--status", "failed", "--json").stdout
        )
        assert record["job_id"] in [job["job_id"] for job in listed]
        assert ova.exists()
    finally:
        stack.restart_worker()
