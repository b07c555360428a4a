"""Defining domains in the real libvirt, and what its own tools say of our XML."""

import logging
import subprocess
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import libvirt
import pytest

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.plan_target import TargetPreflight
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.target.activity import import_domain, remove_domain
from hyperctl.activities.target.libvirt_host import connect, disk_files, find_domain, job_of, qemu_user
from hyperctl.workflows.contract import ImportInput, PlanTargetInput
from hyperctl.workflows.disk import OutputDisk
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.machine import Firmware
from hyperctl.workflows.request import MigrationRequest, VCenter
from hyperctl.workflows.status import Phase
from tests.unit.machines import guest, machine, nic

GOLDEN = sorted((Path(__file__).parents[1] / "unit" / "golden").glob("*.xml"))
RUNNING = Attempt(Phase.IMPORT, logging.getLogger("test"))


@dataclass(frozen=True)
class Host:
    """A libvirt, a name that is free in it, and a folder that qemu can reach."""

    uri: str
    name: str
    folder: Path

    def argument(self, **changes: object) -> ImportInput:
        image = self.folder / "disk1.raw"
        if not image.exists():
            with image.open("wb") as file:
                file.truncate(1 << 20)
        about = machine(name=self.name, uuid=str(uuid.uuid5(uuid.NAMESPACE_OID, self.name)), nics=())
        facts: dict[str, object] = {
            "job_id": "job-1",
            "machine": about,
            "domain_name": self.name,
            "disks": (OutputDisk(index=1, path=str(image), format="raw", capacity_bytes=1 << 20),),
            "guest": guest(),
            "network_map": {},
            "start": False,
        }
        return ImportInput.model_validate(facts | changes)

    def xml(self) -> ET.Element:
        with connect(self.uri) as connection:
            domain = find_domain(connection, self.name)
            assert domain is not None
            return ET.fromstring(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))

    def exists(self) -> bool:
        with connect(self.uri) as connection:
            return find_domain(connection, self.name) is not None


@pytest.fixture
def host(libvirt_uri: str) -> Iterator[Host]:
    with TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o711)
        found = Host(libvirt_uri, f"hyperctl-test-{uuid.uuid4().hex[:8]}", Path(folder))
        yield found
        with connect(libvirt_uri) as connection:
            domain = find_domain(connection, found.name)
            if domain is not None:
                if domain.isActive():
                    domain.destroy()
                domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_libvirts_schema_takes_every_golden_file(file: Path) -> None:
    subprocess.run(["virt-xml-validate", str(file), "domain"], check=True, capture_output=True, timeout=30)


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.stem)
def test_libvirt_defines_every_golden_file(file: Path, host: Host) -> None:
    document = ET.fromstring(file.read_text())
    for tag, value in (("name", host.name), ("uuid", str(uuid.uuid4()))):
        element = document.find(tag)
        assert element is not None
        element.text = value
    with connect(host.uri) as connection:
        connection.defineXMLFlags(
            ET.tostring(document, encoding="unicode"), libvirt.VIR_DOMAIN_DEFINE_VALIDATE
        )


def test_the_domain_is_defined_once_and_known_as_ours(host: Host) -> None:
    argument = host.argument()
    result = import_domain(argument, host.uri, RUNNING)
    assert (result.domain, result.domain_uuid, result.started) == (host.name, argument.machine.uuid, False)
    assert import_domain(argument, host.uri, RUNNING) == result
    source = host.xml().find("devices/disk/source")
    assert source is not None
    assert source.get("file") == argument.disks[0].path
    with connect(host.uri) as connection:
        assert job_of(find_domain(connection, host.name)) == "job-1"


def test_somebody_elses_domain_is_neither_replaced_nor_removed(host: Host) -> None:
    import_domain(host.argument(job_id="job-2"), host.uri, RUNNING)
    with pytest.raises(HyperctlError) as refused:
        import_domain(host.argument(), host.uri, RUNNING)
    assert refused.value.code is ErrorCode.DOMAIN_EXISTS
    assert host.name in str(refused.value)
    remove_domain("job-1", host.name, host.uri, RUNNING)
    assert host.exists()


def test_a_domain_over_the_images_of_an_earlier_migration_is_not_taken_for_this_ones(host: Host) -> None:
    first = host.argument()
    import_domain(first, host.uri, RUNNING)
    image = host.folder / "again.raw"
    image.write_bytes(bytes(1 << 20))
    disks = (OutputDisk(index=1, path=str(image), format="raw", capacity_bytes=1 << 20),)
    with pytest.raises(HyperctlError) as refused:
        import_domain(host.argument(disks=disks), host.uri, RUNNING)
    assert refused.value.code is ErrorCode.DOMAIN_EXISTS
    assert "earlier migration" in str(refused.value)
    source = host.xml().find("devices/disk/source")
    assert source is not None
    assert source.get("file") == first.disks[0].path


def test_removing_takes_the_domain_and_leaves_the_disks(host: Host) -> None:
    argument = host.argument(machine=host.argument().machine.model_copy(update={"firmware": Firmware.EFI}))
    import_domain(argument, host.uri, RUNNING)
    for _ in range(2):
        remove_domain("job-1", host.name, host.uri, RUNNING)
        assert not host.exists()
    assert Path(argument.disks[0].path).exists()


def test_a_domain_is_started_and_removed_while_it_runs(host: Host) -> None:
    result = import_domain(host.argument(start=True), host.uri, RUNNING)
    assert result.started
    remove_domain("job-1", host.name, host.uri, RUNNING)
    assert not host.exists()


def test_a_uuid_that_a_clone_has_is_not_taken_again(host: Host) -> None:
    first = host.argument()
    import_domain(first, host.uri, RUNNING)
    second = f"{host.name}-clone"
    try:
        copy = host.folder / "copy.raw"
        copy.write_bytes(bytes(1 << 20))
        disks = (OutputDisk(index=1, path=str(copy), format="raw", capacity_bytes=1 << 20),)
        other = host.argument(domain_name=second, job_id="job-2", disks=disks)
        result = import_domain(other, host.uri, RUNNING)
        assert result.domain_uuid != first.machine.uuid
    finally:
        remove_domain("job-2", second, host.uri, RUNNING)


def test_two_domains_over_one_image_are_refused(host: Host) -> None:
    import_domain(host.argument(), host.uri, RUNNING)
    second = f"{host.name}-again"
    with pytest.raises(HyperctlError) as refused:
        import_domain(host.argument(domain_name=second), host.uri, RUNNING)
    assert refused.value.code is ErrorCode.DOMAIN_EXISTS
    assert host.name in str(refused.value)
    with connect(host.uri) as connection:
        assert find_domain(connection, second) is None


def test_a_domain_that_has_gone_since_it_was_listed_has_no_files(host: Host) -> None:
    argument = host.argument()
    import_domain(argument, host.uri, RUNNING)
    with connect(host.uri) as connection:
        listed = next(one for one in connection.listAllDomains() if one.name() == host.name)
        assert disk_files(listed) == {argument.disks[0].path}
        remove_domain("job-1", host.name, host.uri, RUNNING)
        assert disk_files(listed) == set()


def test_domains_of_one_job_under_several_names_have_uuids_of_their_own(host: Host) -> None:
    """The source's own uuid is taken by the first; the others must not meet in one."""
    names = [host.name, f"{host.name}-2", f"{host.name}-3"]
    found = set()
    try:
        for number, name in enumerate(names):
            image = host.folder / f"of-{number}.raw"
            image.write_bytes(bytes(1 << 20))
            disks = (OutputDisk(index=1, path=str(image), format="raw", capacity_bytes=1 << 20),)
            argument = host.argument(domain_name=name, disks=disks)
            found.add(import_domain(argument, host.uri, RUNNING).domain_uuid)
    finally:
        for name in names:
            remove_domain("job-1", name, host.uri, RUNNING)
    assert len(found) == 3


def test_networks_are_looked_for_before_anything_is_defined(host: Host) -> None:
    about = host.argument().machine.model_copy(update={"nics": (nic(1, network="A"), nic(2, network="B"))})
    mapped = {"A": "no-such-network", "B": "bridge:no-such-bridge"}
    with pytest.raises(HyperctlError) as refused:
        import_domain(host.argument(machine=about, network_map=mapped), host.uri, RUNNING)
    assert [failure.code for failure in refused.value.failures] == [ErrorCode.INVALID_REQUEST] * 2
    assert not host.exists()


def test_a_domain_that_cannot_be_started_is_not_left_behind(host: Host) -> None:
    argument = host.argument(start=True)
    Path(argument.disks[0].path).unlink()
    with pytest.raises(HyperctlError) as refused:
        import_domain(argument, host.uri, RUNNING)
    assert refused.value.code is ErrorCode.LIBVIRT_REFUSED
    assert not host.exists()


def test_what_libvirt_refuses_is_said_in_its_words(host: Host) -> None:
    broken = host.argument(machine=host.argument().machine.model_copy(update={"vcpus": 100_000}))
    with pytest.raises(HyperctlError) as refused:
        import_domain(broken, host.uri, RUNNING)
    assert refused.value.code is ErrorCode.LIBVIRT_REFUSED
    assert not host.exists()


def test_more_processors_than_a_domain_takes_are_a_plans_problem(host: Host) -> None:
    many = host.argument().machine.model_copy(update={"vcpus": 100_000})
    request = MigrationRequest(
        vm_name=host.name, vcenter=VCenter(server="vc"), to_libvirt=True, output_dir=str(host.folder)
    )
    settings = HostSettings(libvirt_uri=host.uri, work_dir=host.folder / "work")
    argument = PlanTargetInput(job_id="job-1", request=request, machine=many)
    found = TargetPreflight(argument, settings, RUNNING).plan()
    assert "100000 processors; a domain on this host takes" in "".join(one.message for one in found.problems)


def test_libvirt_that_is_not_there() -> None:
    with (
        pytest.raises(HyperctlError) as refused,
        connect("qemu+unix:///system?socket=/nonexistent/libvirt-sock"),
    ):
        pass
    assert refused.value.code is ErrorCode.LIBVIRT_UNREACHABLE
    assert "systemctl start libvirtd" in refused.value.failure.hint


def test_the_user_that_runs_qemu_is_known(libvirt_uri: str) -> None:
    with connect(libvirt_uri) as connection:
        user = qemu_user(connection)
    assert user is not None
    assert user.label == f"+{user.uid}:+{user.gid}"
