"""What a user asks for, and the job id that follows from it."""

import json

import pytest
from pydantic import ValidationError

from hyperctl.workflows.identity import derive_job_id
from hyperctl.workflows.request import MigrationRequest, Priority, ProveMode, RunningSource


def test_two_fields_are_enough() -> None:
    request = MigrationRequest.model_validate_json(
        '{"vm_name": "db", "vcenter": {"server": "vc.example.com"}}'
    )
    assert request.priority is Priority.NORMAL
    assert request.prove is ProveMode.FULL
    assert all(request.fix.model_dump().values())


def test_the_same_vm_gives_the_same_job_however_the_server_is_written() -> None:
    assert derive_job_id("VC.example.com:443", None, "db") == derive_job_id("vc.example.com", None, "db")
    assert derive_job_id("vc.example.com", None, "db").startswith("job-")


@pytest.mark.parametrize(
    "other",
    [("vc2.example.com", None, "db"), ("vc.example.com", "DC1", "db"), ("vc.example.com", None, "db2")],
)
def test_another_server_datacenter_or_vm_is_another_job(other: tuple[str, str | None, str]) -> None:
    assert derive_job_id(*other) != derive_job_id("vc.example.com", None, "db")


def test_every_problem_of_a_request_is_named_at_once() -> None:
    document = {
        "vm_name": "",
        "vcenter": {"server": "vc", "password": "no"},
        "priority": "urgent",
        "output_dir": "relative",
        "colour": 1,
    }
    with pytest.raises(ValidationError) as caught:
        MigrationRequest.model_validate_json(json.dumps(document))
    named = {".".join(str(part) for part in problem["loc"]) for problem in caught.value.errors()}
    assert named == {"vm_name", "vcenter.password", "priority", "output_dir", "colour"}


@pytest.mark.parametrize("path", ["relative", "/a/../b", ""])
def test_an_output_folder_must_be_absolute_and_stay_where_it_says(path: str) -> None:
    with pytest.raises(ValidationError):
        MigrationRequest.model_validate({"vm_name": "a", "vcenter": {"server": "b"}, "output_dir": path})


@pytest.mark.parametrize(
    "running",
    [
        {"force_off": True},
        {"action": "snapshot", "force_off": True},
        {"action": "shutdown", "quiesce": True},
        {"action": "shutdown", "shutdown_timeout_seconds": 0},
    ],
)
def test_what_does_not_go_together_about_a_running_source_is_refused(running: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RunningSource.model_validate(running)


def test_a_file_alone_is_enough_and_gives_the_name() -> None:
    request = MigrationRequest.model_validate({"file": {"path": "/srv/in/guest 1.ova"}})
    assert (request.vm_name, request.name, request.origin) == (None, "guest 1", "/srv/in/guest 1.ova")
    assert MigrationRequest.model_validate_json(request.model_dump_json()) == request
    again = {"vm_name": "other", "file": {"path": "/srv/in/guest 1.ova"}, "host": "kvm-01"}
    other = MigrationRequest.model_validate(again)
    assert other.name == "other"
    assert len({request.job_id, other.job_id, derive_job_id("file", None, "guest 1")}) == 3


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({}, {"file"}),
        ({"vcenter": {"server": "vc"}}, {"vcenter"}),
        ({"vm_name": "a", "vcenter": {"server": "vc"}, "file": {"path": "/a.ova"}}, {"file"}),
        ({"file": {"path": "a.ova", "source_format": "qcow2", "firmware": "coreboot", "vcpus": 0}},
         {"file.path", "file.source_format", "file.firmware", "file.vcpus"}),
        ({"file": {"path": "/a.ova"}, "transport": "nfc", "running": {"action": "snapshot"}},
         {"transport", "running"}),
        ({"vm_name": "a", "vcenter": {"server": "vc"}, "transport": "file", "colour": 1},
         {"transport", "colour"}),
    ],
)  # fmt: skip
def test_a_request_has_one_source_and_what_fits_it(changes: dict[str, object], named: set[str]) -> None:
    with pytest.raises(ValidationError) as caught:
        MigrationRequest.model_validate(changes)
    found = {".".join(str(part) for part in problem["loc"]) for problem in caught.value.errors()}
    assert found == named
