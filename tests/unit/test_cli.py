"""The command line before anybody is asked: what it takes, what it refuses, with which exit code."""

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.main import get_command
from typer.testing import CliRunner, Result

from hyperctl.client.cli import migrate
from hyperctl.client.cli.asking import Asked, AskedAlike, make_rehearsal, make_request
from hyperctl.client.cli.main import CommandGroup, app
from hyperctl.client.cli.options import parse_bandwidth, parse_since
from hyperctl.client.config import Configuration
from hyperctl.client.plugins import COMMANDS, DOCTOR, plugged
from hyperctl.workflows.rehearsal import RehearsalRequest
from hyperctl.workflows.request import (
    FirmwareChoice,
    JobRequest,
    MigrationRequest,
    RunningSource,
    WhenRunning,
)

CONVERT = ("convert", "--vm", "db-1", "--vcenter", "vc.example.com")


@pytest.fixture(autouse=True)
def _nobody_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HYPERCTL_TEMPORAL_ADDRESS", "127.0.0.1:1")


def _hyperctl(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def _requested(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> MigrationRequest:
    """The request that a command line comes to, taken where it would be sent."""
    taken: list[MigrationRequest] = []

    def take(_: Configuration, request: MigrationRequest, **__: bool) -> None:
        taken.append(request)

    monkeypatch.setattr(migrate, "_go", take)
    done = _hyperctl(*arguments)
    assert done.exit_code == 0, done.output
    (request,) = taken
    return request


def test_the_shortest_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    request = _requested(monkeypatch, *CONVERT)
    assert request.vcenter is not None
    assert (request.vm_name, request.vcenter.server) == ("db-1", "vc.example.com")
    assert request.fix == request.fix.model_copy(update=dict.fromkeys(type(request.fix).model_fields, True))
    assert request.requested_by


def test_every_flag_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    request = _requested(
        monkeypatch,
        *CONVERT,
        *("--username", "me@vsphere.local", "--datacenter", "DC1", "--certificate-sha256", "AB" * 32),
        *("--output-dir", "/images", "--to-libvirt", "--start", "--priority", "high", "--host", "kvm-01"),
        *("--verify", "none", "--prove", "boot", "--tags", "web, prod,", "--skip-virtio", "--skip-tools"),
        *("--network-map", "VM Network=lan", "--network-map", "a=b=bridge:br0"),
        *("--initramfs", "rebuild", "--disk-bus", "sata", "--nic-model", "e1000e", "--serial-console"),
    )
    assert (request.initramfs, request.serial_console) == ("rebuild", True)
    assert (request.hardware.disk_bus, request.hardware.nic_model) == ("sata", "e1000e")
    vcenter = request.vcenter
    assert vcenter is not None
    assert (vcenter.username, vcenter.datacenter) == ("me@vsphere.local", "DC1")
    assert vcenter.certificate_sha256 == "AB" * 32
    assert (request.output_dir, request.host) == ("/images", "kvm-01")
    assert (request.to_libvirt, request.start, request.priority) == (True, True, "high")
    assert (request.verify, request.prove, request.tags) == ("none", "boot", ("web", "prod"))
    assert request.network_map == {"VM Network": "lan", "a=b": "bridge:br0"}
    assert (request.fix.virtio, request.fix.grub, request.fix.tools) == (False, True, False)


@pytest.mark.parametrize("spelling", ["--skip-network", "--skip-network-fix"])
def test_both_spellings_of_leaving_the_network_out(monkeypatch: pytest.MonkeyPatch, spelling: str) -> None:
    assert not _requested(monkeypatch, *CONVERT, spelling).fix.network


def test_the_users_defaults_hold_until_a_flag_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "hyper2kvm").mkdir()
    (tmp_path / "hyper2kvm" / "config.yaml").write_text(
        "vsphere: {server: vc-default, username: u, datacenter: d}\n"
        "conversion: {fix_network: false, fix_grub: false, output_dir: /default}\n"
    )
    request = _requested(monkeypatch, "convert", "--vm", "a", "--fix-grub")
    assert request.vcenter is not None
    assert (request.vcenter.server, request.vcenter.username, request.vcenter.datacenter) == (
        "vc-default",
        "u",
        "d",
    )
    assert (request.fix.network, request.fix.grub, request.output_dir) == (False, True, "/default")
    elsewhere = _requested(monkeypatch, "convert", "--vm", "a", "--vcenter", "other")
    assert elsewhere.vcenter is not None
    assert (elsewhere.vcenter.username, elsewhere.vcenter.datacenter) == (None, None)


def test_all_problems_are_named_together_and_nothing_is_asked() -> None:
    done = _hyperctl(
        "convert", "--start", "--network-map", "x", "--output-dir", "here", "--priority", "urgent"
    )
    assert done.exit_code == 2
    for flag in ("--vm", "--vcenter", "--start", "--network-map", "--output-dir", "--priority"):
        assert f"- {flag}" in done.output, flag


def test_a_file_in_place_of_a_vcenter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    request = _requested(monkeypatch, "convert", "--file", "guest.ova", "--vcpus", "4", "--firmware", "efi")
    assert (request.vcenter, request.vm_name) == (None, None)
    assert request.file is not None
    assert (request.file.path, request.file.vcpus) == (str(tmp_path / "guest.ova"), 4)
    assert request.file.firmware is FirmwareChoice.EFI
    raw = ("--source-format", "raw", "--memory-mib", "512", "--vm", "db")
    other = _requested(monkeypatch, "convert", "--file", "/srv/disk.vmdk", *raw)
    assert other.file is not None
    assert (other.file.source_format, other.file.memory_mib, other.name) == ("raw", 512, "db")


def test_what_does_not_go_together_with_a_file_is_refused_together() -> None:
    both = ("--vcenter", "vc", "--username", "u", "--datacenter", "d", "--certificate-sha256", "AB" * 32)
    done = _hyperctl("convert", "--file", "/a.ova", *both, "--source-format", "qcow2", "--firmware", "x")
    assert done.exit_code == 2
    for flag in (*both[::2], "--source-format", "--firmware"):
        assert f"- {flag}" in done.output, flag
    other = _hyperctl(*CONVERT, "--source-format", "raw", "--vcpus", "2", "--memory-mib", "512")
    assert other.exit_code == 2
    for flag in ("--source-format", "--vcpus", "--memory-mib"):
        assert f"- {flag} goes with --file only" in other.output, flag


@pytest.mark.parametrize("flag", ["--password", "--vsphere-password"])
def test_a_password_is_not_taken_from_the_command_line_nor_repeated(flag: str) -> None:
    done = _hyperctl(*CONVERT, flag, "hunter2")
    assert done.exit_code == 2
    assert "hunter2" not in done.output


def test_a_request_holds_no_password() -> None:
    request = make_request(Asked(vm="a", vcenter="b"), Configuration())
    assert "password" not in request.model_dump_json()


def test_start_takes_every_option_of_convert_but_detach() -> None:
    """Both are made from `Asked`: an option that is added there is in both."""
    group = get_command(app)
    assert isinstance(group, CommandGroup)
    found = {name: group.get_command(None, name) for name in ("convert", "start")}
    options = {
        name: {one.name: one.opts for one in command.params} for name, command in found.items() if command
    }
    assert options["convert"].pop("detach")
    assert options["start"] == options["convert"]
    assert {field.name for field in dataclasses.fields(Asked)} <= options["start"].keys()


@pytest.mark.parametrize(
    "command", ["status", "query", "logs", "cancel", "pause", "resume", "retry-now", "import"]
)
def test_a_job_has_to_be_named_once(command: str) -> None:
    assert _hyperctl(command).exit_code == 2
    assert _hyperctl(command, "--job", "job-1", "--vm", "a").exit_code == 2


def test_temporal_that_does_not_answer_is_exit_code_3_with_the_way_out() -> None:
    done = _hyperctl("list")
    assert done.exit_code == 3
    assert "Temporal at 127.0.0.1:1 does not answer" in done.output
    assert "HYPERCTL_TEMPORAL_ADDRESS" in done.output


def test_a_configuration_that_cannot_be_used_is_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "hyper2kvm").mkdir()
    (tmp_path / "hyper2kvm" / "config.yaml").write_text("ui: {colour: false}\n")
    done = _hyperctl("list")
    assert done.exit_code == 2
    assert "ui.colour: there is no such key; did you mean color?" in done.output


def test_the_exit_codes_are_documented() -> None:
    text = " ".join(_hyperctl("--help").output.split())
    for code in ("0 done", "1 the migration failed", "2 wrong usage", "3 Temporal", "130 interrupted"):
        assert code in text


def test_since() -> None:
    now = datetime.now(UTC)
    two_hours = parse_since("2h")
    assert two_hours is not None
    assert abs(now - timedelta(hours=2) - two_hours) < timedelta(seconds=5)
    assert parse_since("2026-01-17T10:00:00+00:00") == datetime(2026, 1, 17, 10, tzinfo=UTC)
    assert parse_since(None) is None
    assert _hyperctl("list", "--since", "yesterday").exit_code == 2


def test_the_worker_and_the_hosts_checks_are_plugged_in() -> None:
    assert "worker" in plugged(COMMANDS)
    assert "host" in plugged(DOCTOR)
    assert "--role" in _hyperctl("worker", "--help").output


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("200MiB", 200 << 20),
        ("200 MiB/s", 200 << 20),
        ("1.5GiB", 3 << 29),
        ("64k", 64 << 10),
        ("500kB", 500_000),
        ("1gb", 10**9),
        ("4096", 4096),
        ("none", None),
    ],
)
def test_a_bandwidth_is_written_as_people_write_it(text: str, expected: int | None) -> None:
    problems: list[str] = []
    assert parse_bandwidth(text, problems) == expected
    assert problems == []


@pytest.mark.parametrize("text", ["", "fast", "-5MiB", "12XB", "MiB", "1.2.3M", "100", "2000TiB", "9" * 400])
def test_what_is_no_bandwidth_is_refused(text: str) -> None:
    done = _hyperctl(*CONVERT, "--bandwidth", text, "--priority", "urgent")
    assert done.exit_code == 2
    assert "--bandwidth" in done.output
    assert "--priority" in done.output, "every problem at once"
    assert _hyperctl("set-bandwidth", text, "--job", "job-1").exit_code == 2


def test_a_bandwidth_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    request = _requested(monkeypatch, *CONVERT, "--bandwidth", "200MiB", "--verify", "sample")
    assert request.bandwidth_bytes_per_second == 200 << 20
    assert request.verify == "sample"


def test_what_is_done_to_a_running_source_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _requested(monkeypatch, *CONVERT).running == RunningSource()
    shutdown = _requested(monkeypatch, *CONVERT, "--shutdown", "--force-off", "--shutdown-timeout", "2m")
    assert shutdown.running == RunningSource(
        action=WhenRunning.SHUTDOWN, force_off=True, shutdown_timeout_seconds=120
    )
    snapshot = _requested(monkeypatch, *CONVERT, "--snapshot", "--quiesce")
    assert snapshot.running == RunningSource(action=WhenRunning.SNAPSHOT, quiesce=True)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--shutdown", "--snapshot"), ["--shutdown and --snapshot exclude each other"]),
        (("--force-off", "--quiesce"), ["--force-off needs --shutdown", "--quiesce needs --snapshot"]),
        (("--shutdown-timeout", "5m"), ["--shutdown-timeout needs --shutdown"]),
        (("--shutdown", "--shutdown-timeout", "soon"), ["'soon' is no length of time"]),
        (("--shutdown", "--shutdown-timeout", "0"), ["--shutdown-timeout: ", "greater than 0"]),
    ],
)
def test_what_does_not_fit_a_running_source_is_refused(given: tuple[str, ...], words: list[str]) -> None:
    done = _hyperctl(*CONVERT, *given)
    assert done.exit_code == 2
    for text in words:
        assert text in " ".join(done.output.split())


def test_a_rehearsal_takes_the_options_that_change_the_guest() -> None:
    asked = AskedAlike(vm="db-1", vcenter="vc", disk_bus="sata", initramfs="rebuild", fix_network=False)
    rehearsal = make_rehearsal(asked, Configuration())
    migration = make_request(
        Asked(vm="db-1", vcenter="vc", disk_bus="sata", initramfs="rebuild", fix_network=False),
        Configuration(),
    )
    for name in JobRequest.model_fields:
        assert getattr(rehearsal, name) == getattr(migration, name), name
    assert rehearsal.hardware.disk_bus == "sata"


def test_what_does_not_go_together_in_a_rehearsal_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    done = _hyperctl(
        *("rehearse", "--vm", "a", "--batch", str(tmp_path / "none"), "--attach", "rehearsals-1"),
        *("--vcenter", "vc", "--html", str(tmp_path)),
    )
    assert done.exit_code == 2
    for told in ("--vm and --batch and --attach exclude", "it is a folder", "No such file"):
        assert told in done.output
    alone = _hyperctl("rehearse", "--vm", "a", "--vcenter", "vc", "--parallel", "3")
    assert (alone.exit_code, "--parallel goes with --batch" in alone.output) == (2, True)
    nobody = _hyperctl("rehearse", "--prove", "none")
    assert nobody.exit_code == 2
    for told in ("--vm is missing", "--vcenter is missing", "--prove: a rehearsal is a trial boot"):
        assert told in nobody.output


def test_a_rehearsal_takes_a_file_or_a_snapshot_and_switches_nothing_off() -> None:
    configuration = Configuration()
    of_file = make_rehearsal(AskedAlike(file="db.ova", memory_mib=4096), configuration)
    assert of_file.file is not None
    assert (of_file.file.path, of_file.file.memory_mib) == (f"{Path.cwd()}/db.ova", 4096)
    running = make_rehearsal(AskedAlike(vm="a", vcenter="vc", snapshot=True, quiesce=True), configuration)
    assert (running.running.action, running.running.quiesce) == (WhenRunning.SNAPSHOT, True)
    wrong = _hyperctl(
        "rehearse", "--file", "db.ova", "--vcenter", "vc", "--quiesce", "--attach", "rehearsals-1"
    )
    assert wrong.exit_code == 2
    assert "--file and --attach exclude each other" in wrong.output
    wrong = _hyperctl("rehearse", "--file", "db.ova", "--vcenter", "vc", "--quiesce")
    for told in ("--vcenter does not go with --file", "--quiesce needs --snapshot"):
        assert told in wrong.output
    with pytest.raises(ValidationError, match="never switches its source off"):
        RehearsalRequest.model_validate(
            {"vm_name": "a", "vcenter": {"server": "vc"}, "running": {"action": "shutdown"}}
        )


def test_a_batch_with_wrong_lines_starts_nothing(tmp_path: Path) -> None:
    file = tmp_path / "vms"
    file.write_text(f"good\n{'x' * 256}\ngood\n")
    done = _hyperctl("rehearse", "--batch", str(file), "--vcenter", "vc")
    assert done.exit_code == 2
    assert "line 2: --vm" in done.output
    assert "line 3: good is on line 1 already" in done.output
    file.write_text("good\n")
    assert _hyperctl("rehearse", "--batch", str(file), "--vcenter", "vc").exit_code == 3


def test_a_plan_takes_what_a_migration_takes() -> None:
    def options(name: str) -> set[str]:
        command = get_command(app).get_command(None, name)  # type: ignore[attr-defined]
        return {option for parameter in command.params for option in parameter.opts}

    assert options("convert") - options("plan") == {"--again", "--detach"}
    assert options("plan") <= options("convert")


def test_an_inventory_names_all_problems_together() -> None:
    done = _hyperctl("inventory", "--name", " ", "--names", "--json", "--certificate-sha256", "AB")
    assert done.exit_code == 2
    for flag in ("--vcenter", "--name", "--names and --json", "--certificate-sha256"):
        assert f"- {flag}" in done.output, flag
