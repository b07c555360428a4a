"""Machines that come as files, copied: byte for byte, whatever the format, or refused with the reason."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from temporalio.exceptions import CancelledError

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.activity import export_disks
from hyperctl.activities.export.ledger import read_ledger
from hyperctl.activities.plan_source import plan_source
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.staging import Staging
from hyperctl.activities.verify.activity import verify_disks
from hyperctl.workflows.contract import ExportInput, ExportResult, VerifyInput
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.machine import Firmware
from hyperctl.workflows.plan import SourcePlan
from hyperctl.workflows.request import FileSource, MigrationRequest, VerifyMode
from tests.integration.ledgers import received_bytes
from tests.moments import SOON_SECONDS, once, until
from tests.unit.archives import envelope, manifest, tar
from tests.unit.vmdk_streams import vmware_stream

from .conftest import MIB, sha256, write_disk
from .exporting import copying_threads
from .filesystems import mounted
from .test_source_files import FORMATS, SIZE, content, make

Copy = Callable[[FileSource], ExportResult]


def plan(file: FileSource, settings: HostSettings, running: Attempt, name: str | None = None) -> SourcePlan:
    return plan_source(MigrationRequest(file=file, vm_name=name), settings, running)


def export_input(
    file: FileSource, settings: HostSettings, running: Attempt, bandwidth: int | None = None
) -> ExportInput:
    planned = plan(file, settings, running)
    assert not planned.problems, planned.problems
    assert planned.machine is not None
    return ExportInput(
        job_id="job-file",
        file=file,
        machine=planned.machine,
        transport=planned.transport,
        output_dir=settings.output_dir,
        bandwidth_bytes_per_second=bandwidth,
    )


@pytest.fixture
def copy(settings: HostSettings, running: Attempt) -> Copy:
    def copied(file: FileSource) -> ExportResult:
        return export_disks(export_input(file, settings, running), settings, running)

    return copied


@pytest.fixture
def staging(settings: HostSettings) -> Staging:
    return Staging(settings.output_dir, "job-file")


def noise(size: int) -> bytes:
    """The same each time: what begins by chance as an archive does is taken for one."""
    return random.Random(size).randbytes(size)


def landed(result: ExportResult, index: int = 1) -> bytes:
    return Path(result.disks[index - 1].path).read_bytes()


def make_ova(path: Path, disks: dict[str, bytes], *, algorithm: str = "sha256", lie: bool = False) -> Path:
    files = {"guest.ovf": envelope({name: len(data) for name, data in disks.items()}, SIZE), **disks}
    stated = manifest(files, algorithm)
    if lie:
        # Of the last file: its digest begins with another digit.
        at = stated.rindex(b"= ") + 2
        digit = b"0" if stated[at : at + 1] != b"0" else b"1"
        stated = stated[:at] + digit + stated[at + 1 :]
    path.write_bytes(tar({"guest.ovf": files.pop("guest.ovf"), "guest.mf": stated, **files}))
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_arrives_byte_for_byte(name: str, tmp_path: Path, copy: Copy, running: Attempt) -> None:
    _, options = FORMATS[name]
    data = content()
    source = make(tmp_path, "disk.bin", data, options)
    before = sha256(source), source.stat().st_mtime_ns
    result = copy(FileSource(path=str(source)))
    assert landed(result).rstrip(b"\0") == data
    assert Path(result.disks[0].path).stat().st_blocks * 512 <= SIZE
    assert (sha256(source), source.stat().st_mtime_ns) == before, "the source is never written"
    verified = verify_disks(
        VerifyInput(
            job_id="job-file",
            output_dir=str(Path(result.disks[0].path).parents[2]),
            disks=result.disks,
            mode=VerifyMode.FULL,
        ),
        running,
    )
    assert result.disks[0].root_digest in verified.disks[0].statement


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
def test_an_ova_with_several_disks_and_its_manifest(algorithm: str, tmp_path: Path, copy: Copy) -> None:
    contents = {name: content(seed=seed) for seed, name in enumerate(("a.vmdk", "b.qcow2", "c.raw"))}
    disks = {
        "a.vmdk": vmware_stream(contents["a.vmdk"]) + bytes(70_000),
        "b.qcow2": make(tmp_path, "b", contents["b.qcow2"], ("qcow2", "-c")).read_bytes(),
        "c.raw": contents["c.raw"],
    }
    source = make_ova(tmp_path / "guest.ova", disks, algorithm=algorithm)
    result = copy(FileSource(path=str(source)))
    for index, (name, data) in enumerate(contents.items(), start=1):
        assert landed(result, index) == data
        expected = f"{algorithm}:{hashlib.new(algorithm, disks[name]).hexdigest()}"
        assert result.disks[index - 1].source_checksum == expected
    assert result.disks[0].received_bytes == len(disks["a.vmdk"])


@pytest.mark.parametrize("name", ["a.vmdk", "b.qcow2", "c.raw"])
def test_a_wrong_manifest_is_no_success(name: str, tmp_path: Path, copy: Copy, staging: Staging) -> None:
    data = {
        "a.vmdk": vmware_stream(content()),
        "b.qcow2": make(tmp_path, "b", content(), ("qcow2",)).read_bytes(),
        "c.raw": content(),
    }[name]
    source = make_ova(tmp_path / "guest.ova", {name: data}, lie=True)
    with pytest.raises(HyperctlError, match="where the manifest says") as caught:
        copy(FileSource(path=str(source)))
    assert caught.value.code is ErrorCode.SOURCE_INVALID
    assert not caught.value.code.is_transient
    assert read_ledger(staging.ledger(1)).finish is None


def test_an_ovf_with_its_files_or_its_folder(tmp_path: Path, copy: Copy) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    stream = vmware_stream(content())
    files = {"guest.ovf": envelope({"disk1.vmdk": len(stream)}, SIZE), "disk1.vmdk": stream}
    for name, data in {**files, "guest.mf": manifest(files, "sha512")}.items():
        (folder / name).write_bytes(data)
    for path in (folder, folder / "guest.ovf"):
        result = copy(FileSource(path=str(path)))
        assert landed(result) == content()
        assert result.disks[0].source_checksum.startswith("sha512:")


@pytest.mark.parametrize("cut", [512, 20_000, 400_000])
def test_an_ova_that_was_cut_off_is_refused_by_the_plan(
    cut: int, tmp_path: Path, settings: HostSettings, running: Attempt
) -> None:
    source = make_ova(tmp_path / "guest.ova", {"a.vmdk": vmware_stream(content())})
    whole = source.read_bytes().rstrip(b"\0")
    source.write_bytes(whole[:-cut])
    planned = plan(FileSource(path=str(source)), settings, running)
    assert planned.problems
    assert {problem.code for problem in planned.problems} == {ErrorCode.SOURCE_INVALID}


def test_a_vmdk_in_an_archive_that_begins_with_junk_is_no_raw_disk(
    tmp_path: Path, settings: HostSettings, running: Attempt
) -> None:
    damaged = bytes(512) + vmware_stream(content())[512:]
    files = {"guest.ovf": envelope({"a.vmdk": len(damaged)}, 512), "a.vmdk": damaged}
    source = tmp_path / "guest.ova"
    source.write_bytes(tar(files))
    (problem,) = plan(FileSource(path=str(source)), settings, running).problems
    assert problem.code is ErrorCode.SOURCE_INVALID
    assert "a.vmdk: it has neither a VMDK's header" in problem.message


def test_an_output_that_cannot_be_used_is_named(
    tmp_path: Path, settings: HostSettings, running: Attempt, staging: Staging
) -> None:
    source = make(tmp_path, "disk.raw", content(), ("raw",))
    argument = export_input(FileSource(path=str(source)), settings, running)
    Path(settings.output_dir).write_text("no folder")
    order = VerifyInput(job_id="job-file", output_dir=settings.output_dir, disks=(), mode=VerifyMode.FULL)
    for step in (lambda: export_disks(argument, settings, running), lambda: verify_disks(order, running)):
        with pytest.raises(HyperctlError, match=f"{staging.folder}.*: Not a directory") as caught:
            step()
        assert caught.value.code is ErrorCode.STORAGE_FAILED


def test_a_file_system_without_inodes_says_so(
    tmp_path: Path, settings: HostSettings, running: Attempt
) -> None:
    source = make(tmp_path, "disk.raw", content(), ("raw",))
    with mounted("tmpfs", tmp_path, options="nr_inodes=4") as place:
        there = settings.model_copy(update={"output_dir": str(place / "output"), "space_reserve_bytes": 0})
        with pytest.raises(HyperctlError, match="no inode left") as caught:
            export_disks(export_input(FileSource(path=str(source)), there, running), there, running)
        assert caught.value.code is ErrorCode.NO_SPACE


def test_what_names_foreign_files_is_refused_by_the_plan_with_all_of_it(
    tmp_path: Path, settings: HostSettings, running: Attempt
) -> None:
    source = make(tmp_path, "disk.vmdk", content(), ("vmdk", "-o", "subformat=twoGbMaxExtentFlat"))
    text = source.read_text().replace("disk-f001.vmdk", "/etc/passwd")
    source.write_text(text.replace("parentCID=ffffffff", "parentCID=00000001"))
    planned = plan(FileSource(path=str(source)), settings, running)
    assert planned.machine is None
    assert [problem.code for problem in planned.problems] == [ErrorCode.SOURCE_UNSAFE] * 2
    assert any("passwd" in problem.message for problem in planned.problems)


def test_a_source_that_is_not_here_names_the_host_and_the_way_out(
    tmp_path: Path, settings: HostSettings, running: Attempt
) -> None:
    (problem,) = plan(FileSource(path=str(tmp_path / "none.ova")), settings, running).problems
    assert problem.code is ErrorCode.SOURCE_NOT_FOUND
    assert "does not exist on kvm-test" in problem.message
    assert "--host" in problem.hint
    for path in ("/srv/a\nb.ova", "/srv/a\0b.ova"):
        (problem,) = plan(FileSource(path=path), settings, running).problems
        assert problem.code is ErrorCode.INVALID_REQUEST
        assert repr(path) in problem.message, "on one line"


def test_what_is_asked_for_wins_over_what_the_file_says(
    tmp_path: Path, settings: HostSettings, running: Attempt
) -> None:
    source = make_ova(tmp_path / "guest.ova", {"a.raw": content()})
    file = FileSource(path=str(source), firmware="efi", memory_mib=768, vcpus=3)
    planned = plan(file, settings, running, "renamed")
    assert planned.machine is not None
    machine = planned.machine
    assert (machine.name, machine.firmware, machine.vcpus) == ("renamed", Firmware.EFI, 3)
    assert machine.memory_bytes == 768 * MIB
    plain = plan(FileSource(path=str(source)), settings, running).machine
    assert plain is not None
    assert (plain.name, plain.firmware) == ("guest", Firmware.BIOS)


def test_a_guest_that_is_no_linux_or_windows_is_refused_and_a_vague_one_is_not(
    tmp_path: Path, settings: HostSettings, running: Attempt
) -> None:
    described = envelope({"a.raw": SIZE}, SIZE)
    said = {
        'ovf:id="94"/': False,
        'ovf:id="1"><Description>Rocky</Description></OperatingSystemSection': False,
        'ovf:id="112" osType="windows9Server64Guest"/': False,
        'ovf:id="78" osType="freebsd13_64Guest"/': True,
    }
    for section, refused in said.items():
        section = f"<OperatingSystemSection {section}><VirtualHardwareSection>"
        text = described.replace(b"<VirtualHardwareSection>", section.encode())
        (tmp_path / "guest.ovf").write_bytes(text)
        (tmp_path / "a.raw").write_bytes(content())
        planned = plan(FileSource(path=str(tmp_path / "guest.ovf")), settings, running)
        codes = [problem.code for problem in planned.problems]
        assert codes == ([ErrorCode.GUEST_UNSUPPORTED] if refused else []), section


def test_a_vmdks_data_are_taken_as_raw_only_when_that_is_said(
    tmp_path: Path, settings: HostSettings, running: Attempt, copy: Copy
) -> None:
    make(tmp_path, "disk.vmdk", content(), ("vmdk", "-o", "subformat=monolithicFlat"))
    path = str(tmp_path / "disk-flat.vmdk")
    (problem,) = plan(FileSource(path=path), settings, running).problems
    assert "--source-format raw" in problem.hint
    assert landed(copy(FileSource(path=path, source_format="raw"))) == content()


def test_holes_are_not_read(tmp_path: Path, copy: Copy) -> None:
    source = tmp_path / "disk.raw"
    write_disk(source, 64 * MIB, seed=1)
    result = copy(FileSource(path=str(source)))
    assert sha256(Path(result.disks[0].path)) == sha256(source)
    assert result.disks[0].received_bytes < 24 * MIB


def test_a_source_that_changes_while_it_is_copied(
    tmp_path: Path,
    settings: HostSettings,
    running: Attempt,
    staging: Staging,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hyperctl.activities.export.file.LOOK_SECONDS", 0.2)
    source = tmp_path / "disk.raw"
    source.write_bytes(noise(16 * MIB))
    argument = export_input(FileSource(path=str(source)), settings, running, bandwidth=MIB)
    with (
        once(staging.image(1).exists, lambda: os.utime(source, (1, 1))),
        pytest.raises(HyperctlError, match="was changed while it was being read") as caught,
    ):
        export_disks(argument, settings, running)
    assert caught.value.code is ErrorCode.SOURCE_INVALID


def test_what_was_exchanged_after_the_plan_is_copied_anew_or_refused(
    tmp_path: Path, settings: HostSettings, running: Attempt
) -> None:
    source = tmp_path / "disk.raw"
    source.write_bytes(content(seed=1))
    argument = export_input(FileSource(path=str(source)), settings, running)
    export_disks(argument, settings, running)
    source.write_bytes(content(seed=2))
    assert landed(export_disks(argument, settings, running)) == content(seed=2)
    source.write_bytes(content(SIZE + 512))
    with pytest.raises(HyperctlError, match="other disks than when") as caught:
        export_disks(argument, settings, running)
    assert caught.value.code is ErrorCode.SOURCE_INVALID


@pytest.mark.parametrize("format_", ["raw", "qcow2", "stream"])
def test_a_cap_holds_and_a_cancel_ends_it(
    format_: str, tmp_path: Path, settings: HostSettings, running: Attempt, staging: Staging
) -> None:
    data = noise(24 * MIB)
    source = tmp_path / "disk.img"
    if format_ == "stream":
        source.write_bytes(vmware_stream(data))
    else:
        make(tmp_path, source.name, data, (format_,))
    cap = 2 * MIB
    argument = export_input(FileSource(path=str(source)), settings, running, bandwidth=cap)

    def has_landed() -> bool:
        return staging.image(1).exists() and staging.image(1).stat().st_blocks > 0

    started = time.monotonic()
    with once(has_landed, running.stop) as stopped, pytest.raises(CancelledError):
        export_disks(argument, settings, running)
    assert stopped.seconds < SOON_SECONDS
    until(lambda: not copying_threads(), copying_threads, SOON_SECONDS)
    assert 4 * MIB <= received_bytes(staging.ledger(1)) <= cap * (time.monotonic() - started) + 2 * MIB


KILLED = """
import logging, sys
from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.activity import export_disks
from hyperctl.activities.settings import HostSettings
from hyperctl.workflows.contract import ExportInput
from hyperctl.workflows.status import Phase
argument = ExportInput.model_validate_json(sys.stdin.read())
settings = HostSettings(output_dir=argument.output_dir)
export_disks(argument, settings, Attempt(Phase.EXPORT, logging.getLogger("killed")))
"""


@pytest.mark.parametrize("format_", ["raw", "qcow2"])
def test_a_copy_that_was_killed_goes_on_where_it_was(
    format_: str, tmp_path: Path, settings: HostSettings, running: Attempt, staging: Staging
) -> None:
    data = noise(96 * MIB)
    source = make(tmp_path, "disk.img", data, (format_,))
    argument = export_input(FileSource(path=str(source)), settings, running, bandwidth=16 * MIB)
    process = subprocess.Popen([sys.executable, "-c", KILLED], stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(argument.model_dump_json().encode())
    process.stdin.close()
    until(lambda: received_bytes(staging.ledger(1)) >= 40 * MIB or process.poll() is not None)
    assert process.poll() is None, "it ended by itself"
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = read_ledger(staging.ledger(1)).received_bytes
    free = argument.model_copy(update={"bandwidth_bytes_per_second": None})
    result = export_disks(free, settings, running)
    assert landed(result) == data
    again = result.disks[0].received_bytes - before
    assert again <= 96 * MIB - before + 64 * MIB
    assert again < 96 * MIB, "what had landed was not read again"
