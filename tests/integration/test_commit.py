"""Merging overlays into bases with the real qemu-img, killed at any moment."""

import contextlib
import hashlib
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.chain import state_of_base
from hyperctl.activities.commit import MARKER, Begun, commit, commit_begun
from hyperctl.activities.output import RESULT_FILE
from hyperctl.activities.staging import Staging
from hyperctl.workflows.contract import CommitInput
from hyperctl.workflows.disk import ConvertedDisk
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.status import Phase
from tests.moments import once, until
from tests.processes import is_running

MIB = 1 << 20
CAPACITY = 256 * MIB
CHANGED = 96 * MIB
"""Much enough that a merge takes long enough to be killed in."""


@dataclass(frozen=True)
class Guest:
    """A guest of two disks after its conversion, and what its disks must hold after the merge."""

    staging: Staging
    argument: CommitInput
    expected: tuple[str, ...]


def run(*argv: str) -> None:
    subprocess.run(argv, check=True, timeout=120)


def digest(image: Path, image_format: str) -> str:
    """The content of an image as its guest sees it."""
    raw = image.with_name(f"{image.name}.seen")
    run("qemu-img", "convert", "-f", image_format, "-O", "raw", str(image), str(raw))
    try:
        with raw.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    finally:
        raw.unlink()


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    staging = Staging(tmp_path, "job-1")
    staging.create()
    disks = []
    for index in (1, 2):
        base, overlay = staging.image(index), staging.overlay(index)
        with base.open("wb") as file:
            file.truncate(CAPACITY)
            file.seek(16 * MIB * index)
            file.write(os.urandom(2 * MIB))
        base.chmod(0o640)
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(base), str(overlay))
        commands = [f"write -P {0x40 + index} 8M {CHANGED}", f"write -z {16 * index}M 1M"]
        run("qemu-io", "-f", "qcow2", *(part for c in commands for part in ("-c", c)), str(overlay))
        disks.append(
            ConvertedDisk(
                index=index,
                base=str(base),
                base_format="raw",
                overlay=str(overlay),
                capacity_bytes=CAPACITY,
                base_state=state_of_base(str(base)),
            )
        )
    argument = CommitInput(
        job_id="job-1", output_dir=str(tmp_path), vm_name="web/01", date="2026-01-17", disks=tuple(disks)
    )
    return Guest(staging, argument, tuple(digest(Path(disk.overlay), "qcow2") for disk in disks))


def attempt() -> Attempt:
    return Attempt(Phase.IMPORT, logging.getLogger("test"))


def check(guest: Guest) -> None:
    """The folder is complete and right, and asking again changes nothing."""
    result = commit(guest.argument, attempt())
    folder = Path(guest.argument.output_dir) / "2026-01-17" / "web_01"
    assert result.folder == str(folder)
    assert [Path(disk.path).name for disk in result.disks] == ["disk1.raw", "disk2.raw"]
    assert sorted(path.name for path in folder.iterdir()) == ["disk1.raw", "disk2.raw"]
    for disk, expected in zip(result.disks, guest.expected, strict=True):
        path = Path(disk.path)
        assert digest(path, "raw") == expected
        status = path.stat()
        assert status.st_mode & 0o777 == 0o600
        assert status.st_blocks * 512 < CAPACITY, "the image must stay sparse"
    assert commit(guest.argument, attempt()) == result


def test_overlays_become_part_of_the_images(guest: Guest) -> None:
    check(guest)
    begun = commit_begun(guest.staging)
    assert begun is not None
    assert all(Path(disk.base).exists() for disk in guest.argument.disks), "earlier records name them"


PROGRAMME = """
import logging, sys
from pathlib import Path
from hyperctl.activities.attempt import Attempt
from hyperctl.activities.chain import state_of_base
from hyperctl.activities.commit import commit
from hyperctl.workflows.contract import CommitInput
from hyperctl.workflows.status import Phase

argument = CommitInput.model_validate_json(Path(sys.argv[1]).read_bytes())
print("ready", flush=True)
commit(argument, Attempt(Phase.IMPORT, logging.getLogger("child")))
"""


def start(guest: Guest) -> subprocess.Popen[str]:
    """A process that commits, and has got as far as beginning."""
    document = Path(guest.argument.output_dir) / "input.json"
    document.write_text(guest.argument.model_dump_json())
    argv = [sys.executable, "-c", PROGRAMME, str(document)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_killed_at_any_moment_it_is_simply_done_again(guest: Guest) -> None:
    """kill -9 of all its processes, a little later each time, until one run gets to its end."""
    with locked(guest, 2):  # so that the first is certain to be killed in the middle
        process = start(guest)
        until(lambda: commit_begun(guest.staging) is not None or process.poll() is not None)
        assert not kill_all_of(process)
    assert_nothing_is_lost(guest)
    for milliseconds in (0, 60, 120, 180, 260, 360, 500, 700):
        process = start(guest)
        time.sleep(milliseconds / 1000)
        if kill_all_of(process):
            break
        assert_nothing_is_lost(guest)
    check(guest)


def kill_all_of(process: "subprocess.Popen[str]") -> bool:
    """kill -9 of a process and its children; whether it had ended by itself."""
    ended = process.poll() is not None
    if not ended:
        process.send_signal(signal.SIGSTOP)  # so that it starts no further child
    children = _children(process.pid)
    process.kill()
    process.wait()
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    return ended


def assert_nothing_is_lost(guest: Guest) -> None:
    _wait_until_unlocked(guest)
    seen = [digest(Path(disk.overlay), "qcow2") for disk in guest.argument.disks]
    assert tuple(seen) == guest.expected, "base and overlay together are the converted disk at any moment"


@contextlib.contextmanager
def locked(guest: Guest, index: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Another process writes to a disk's overlay: its merge has to wait."""
    argv = ["qemu-io", "-f", "qcow2", guest.argument.disks[index - 1].overlay]
    holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.read(len(b"qemu-io> ")) == b"qemu-io> ", "it prompts once it has the lock"
    try:
        yield holder
    finally:
        if holder.poll() is None:
            holder.communicate(b"quit\n")


def test_a_merge_dies_with_its_worker_and_is_done_again(guest: Guest) -> None:
    process = start(guest)
    children: list[int] = []

    def is_merging() -> bool:
        children[:] = _children(process.pid)
        return bool(children) and commit_begun(guest.staging) is not None

    until(lambda: is_merging() or process.poll() is not None)
    assert children
    process.kill()
    process.wait()
    until(lambda: not any(map(is_running, children)), "qemu-img goes on without its worker")
    check(guest)


def test_an_image_that_is_still_locked_is_waited_for(guest: Guest) -> None:
    folder = Path(guest.argument.output_dir) / "2026-01-17" / "web_01"
    (guest.staging.folder / MARKER).write_text(Begun(folder=str(folder)).model_dump_json())
    released: list[float] = []
    with locked(guest, 1) as holder:

        def release() -> None:
            time.sleep(2)
            released.append(time.monotonic())
            holder.communicate(b"quit\n")

        thread = threading.Thread(target=release)
        thread.start()
        commit(guest.argument, attempt())
        assert released, "it was merged while another process wrote to it"
        thread.join()
    check(guest)


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in text.read_text().split()] if text.exists() else []


def _wait_until_unlocked(guest: Guest) -> None:
    """A killed process holds its locks for as long as the kernel takes to end it."""

    def is_free(overlay: str) -> bool:
        argv = ["qemu-img", "info", "--backing-chain", "-f", "qcow2", overlay]
        return subprocess.run(argv, capture_output=True, check=False, timeout=60).returncode == 0

    until(lambda: all(is_free(disk.overlay) for disk in guest.argument.disks))


def test_a_cancel_leaves_it_to_be_done_again(guest: Guest) -> None:
    running = attempt()
    running.stop()
    with pytest.raises(BaseException, match="stopped"):
        commit(guest.argument, running)
    check(guest)


def test_images_of_another_migration_are_never_touched(guest: Guest) -> None:
    folder = Path(guest.argument.output_dir) / "2026-01-17" / "web_01"
    folder.mkdir(parents=True)
    (folder / "disk1.raw").write_text("precious")
    before = [digest(Path(disk.base), "raw") for disk in guest.argument.disks]
    with pytest.raises(HyperctlError) as refused:
        commit(guest.argument, attempt())
    assert refused.value.code is ErrorCode.OUTPUT_EXISTS
    assert (folder / "disk1.raw").read_text() == "precious"
    assert not (guest.staging.folder / MARKER).exists()
    assert [digest(Path(disk.base), "raw") for disk in guest.argument.disks] == before


def test_an_earlier_result_of_the_same_job_stays_beside_the_new_one(guest: Guest) -> None:
    """The second migration of a day, cut off after it has chosen its folder."""
    first = Path(guest.argument.output_dir) / "2026-01-17" / "web_01"
    first.mkdir(parents=True)
    (first / RESULT_FILE).write_text('{"job_id": "job-1"}')
    (first / "disk1.raw").write_text("precious")
    running = attempt()
    with (
        locked(guest, 2),
        once(lambda: commit_begun(guest.staging), running.stop),
        pytest.raises(BaseException, match="stopped"),
    ):
        commit(guest.argument, running)
    (first / RESULT_FILE).unlink()  # what is chosen holds, whatever happens to the first folder
    result = commit(guest.argument, attempt())
    assert result.folder == f"{first}~2"
    assert digest(Path(result.disks[0].path), "raw") == guest.expected[0]
    assert (first / "disk1.raw").read_text() == "precious"


def test_a_folder_that_somebody_puts_in_the_chosen_place_is_not_taken_for_ours(guest: Guest) -> None:
    folder = Path(guest.argument.output_dir) / "2026-01-17" / "web_01"
    (guest.staging.folder / MARKER).write_text(Begun(folder=str(folder)).model_dump_json())
    folder.mkdir(parents=True)
    (folder / "disk1.raw").write_text("precious")
    for _ in range(2):
        with pytest.raises(HyperctlError) as refused:
            commit(guest.argument, attempt())
        assert refused.value.code is ErrorCode.OUTPUT_EXISTS
    assert (folder / "disk1.raw").read_text() == "precious"
    (folder / "disk1.raw").unlink()
    check(guest)


def test_an_overlay_is_not_merged_into_another_image_in_the_place_of_its_base(guest: Guest) -> None:
    base = Path(guest.argument.disks[1].base)
    kept = base.rename(f"{base}.kept")
    for put in (lambda: None, lambda: base.write_text("precious")):
        put()
        with pytest.raises(HyperctlError) as refused:
            commit(guest.argument, attempt())
        assert refused.value.code is ErrorCode.IMAGE_INVALID
        assert f"{base} is not the image that was converted" in str(refused.value)
    assert base.read_text() == "precious"
    assert not (guest.staging.folder / MARKER).exists()
    kept.rename(base)
    commit(guest.argument, attempt())


def test_a_merge_without_room_goes_on_when_there_is(guest: Guest) -> None:
    """The limit on the size of files stands for a full filesystem: qemu-img's writes fail."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (32 * MIB, limits[1]))
    try:
        with pytest.raises(HyperctlError) as failed:
            commit(guest.argument, attempt())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert failed.value.code is ErrorCode.STORAGE_FAILED
    assert "a retry goes on with the merge" in failed.value.failure.hint
    check(guest)


def test_an_overlay_over_another_base_is_refused(guest: Guest, tmp_path: Path) -> None:
    victim = tmp_path / "victim.raw"
    victim.write_bytes(bytes(MIB))
    overlay = guest.argument.disks[1].overlay
    run("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", str(victim), overlay)
    with pytest.raises(HyperctlError) as refused:
        commit(guest.argument, attempt())
    assert refused.value.code is ErrorCode.IMAGE_INVALID
    assert str(victim) in str(refused.value)
    assert victim.read_bytes() == bytes(MIB)
    assert not (guest.staging.folder / MARKER).exists()
