"""NBD servers of our own and reading from them: real nbdkit, real qemu-nbd."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.ledger import LedgerHeader
from hyperctl.activities.export.ranges import copy_ranges
from hyperctl.activities.export.throttle import Stopped, Throttle
from hyperctl.activities.export.vddk import probe_vddk
from hyperctl.activities.held_folder import remove_folders_left
from hyperctl.activities.nbd.command import nbdkit
from hyperctl.activities.nbd.reader import NbdReader
from hyperctl.activities.nbd.secret import SecretFile
from hyperctl.activities.nbd.server import FOLDER_PREFIX, NbdServer, NbdServerError, Place
from hyperctl.activities.settings import HostSettings
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from tests.moments import SOON_SECONDS, once, until
from tests.processes import is_running
from tests.unit.landings import landing_in

from .conftest import MIB, sha256, write_disk

CAPACITY = 40 * MIB + 512


@pytest.fixture(autouse=True)
def temporary_folder(own_tmp: Path) -> Path:
    """Where servers have their folders: nothing may be left there."""
    return own_tmp


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "source.raw"
    write_disk(path, CAPACITY, seed=3)
    return path


def copied(reader: NbdReader, folder: Path, running: Attempt, stop: threading.Event) -> Path:
    image = folder / "copy.raw"
    header = LedgerHeader.of(reader.capacity_bytes, "test")
    with landing_in(image, folder / "ledger", header) as landing:
        copy_ranges(reader, landing, Throttle(), running, stop)
        landing.finish("")
    return image


def test_a_server_leaves_nothing(temporary_folder: Path, disk: Path, running: Attempt) -> None:
    with NbdServer(lambda place: (*nbdkit(place), "file", f"file={disk}"), running) as server:
        assert server.socket.parent.stat().st_mode & 0o077 == 0
        pid = server.pid
        assert is_running(pid)
    assert not is_running(pid)
    assert list(temporary_folder.iterdir()) == []


def test_a_server_that_cannot_start_says_why_and_leaves_nothing(
    temporary_folder: Path, running: Attempt
) -> None:
    with pytest.raises(NbdServerError, match="No such file"):
        NbdServer(lambda place: (*nbdkit(place), "file", "file=/no/such/disk"), running)
    assert list(temporary_folder.iterdir()) == []


WORKER = """
import logging, sys, tempfile, threading, time
from pathlib import Path
from hyperctl.activities.attempt import Attempt
from hyperctl.activities.nbd.command import image_command, nbdkit
from hyperctl.activities.nbd.server import NbdServer
from hyperctl.workflows.status import Phase
tempfile.tempdir = sys.argv[1]
running = Attempt(Phase.EXPORT, logging.getLogger())
servers = []
def start(command):
    servers.append(NbdServer(lambda place: command(place), running))
# From threads that end at once: a server must not end with the thread that started it.
for command in (
    lambda place: (*nbdkit(place), "file", "file=" + sys.argv[2]),
    lambda place: image_command(place, Path(sys.argv[2]), "raw"),
):
    thread = threading.Thread(target=start, args=(command,))
    thread.start()
    thread.join()
time.sleep(0.3)
print(*(server.pid for server in servers), flush=True)
time.sleep(600)
"""


def test_servers_end_with_a_worker_that_is_killed(
    temporary_folder: Path, disk: Path, running: Attempt
) -> None:
    argv = [sys.executable, "-c", WORKER, str(temporary_folder), str(disk)]
    worker = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    pids = [int(pid) for pid in worker.stdout.readline().split()]
    assert len(pids) == 2
    assert all(map(is_running, pids))
    remove_folders_left(temporary_folder, FOLDER_PREFIX)
    assert len(list(temporary_folder.glob(f"{FOLDER_PREFIX}*"))) == 2, "they are in use"
    worker.kill()
    worker.wait()
    until(lambda: not any(map(is_running, pids)))
    remove_folders_left(temporary_folder, FOLDER_PREFIX)
    assert list(temporary_folder.iterdir()) == [], "the next server's start removes what the dead one left"


REMOVER = """
import sys
from pathlib import Path
from hyperctl.activities.held_folder import remove_folders_left
print(flush=True)
while True:
    remove_folders_left(Path(sys.argv[1]), sys.argv[2])
"""


def test_a_server_that_starts_is_not_taken_for_left_over(temporary_folder: Path, running: Attempt) -> None:
    argv = [sys.executable, "-c", REMOVER, str(temporary_folder), FOLDER_PREFIX]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as remover:
        assert remover.stdout is not None
        remover.stdout.readline()
        try:
            for _ in range(500):  # nothing is started, which leaves the time in between to the folder
                with pytest.raises(NbdServerError, match="there is no"):
                    NbdServer(lambda place: ("/no/such/server",), running)
        finally:
            remover.kill()
    assert list(temporary_folder.iterdir()) == []


def test_a_secret_is_read_by_the_child_and_is_in_no_file(running: Attempt) -> None:
    with SecretFile("hunter2") as secret:
        argv = [sys.executable, "-c", f"print(open('{secret.path}').read())"]
        child = subprocess.run(argv, pass_fds=[secret.descriptor], capture_output=True, text=True, check=True)
        assert child.stdout == "hunter2\n"
        assert os.readlink(secret.path).startswith("/memfd:")
        assert subprocess.run(argv, capture_output=True).returncode != 0


def test_a_disk_is_read_by_several_connections(disk: Path, tmp_path: Path, running: Attempt) -> None:
    stop = threading.Event()
    with NbdServer(lambda place: (*nbdkit(place), "file", f"file={disk}"), running) as server:
        reader = NbdReader(server, "disk", 4, stop, running)
        assert reader.connections == 4
        extents = list(reader.extents())
        assert sum(extent.length_bytes for extent in extents) == CAPACITY
        assert sum(extent.length_bytes for extent in extents if extent.is_zero) > CAPACITY / 2
        assert sha256(copied(reader, tmp_path, running, stop)) == sha256(disk)


def test_connections_are_one_where_the_server_promises_nothing(
    disk: Path, tmp_path: Path, running: Attempt
) -> None:
    stop = threading.Event()
    arguments = ("--filter=noextents", "--filter=multi-conn", "file", str(disk), "multi-conn-mode=disable")
    with NbdServer(lambda place: (*nbdkit(place), *arguments), running) as server:
        reader = NbdReader(server, "disk", 4, stop, running)
        assert reader.connections == 1
        assert [extent.is_zero for extent in reader.extents()] == [False]
        assert sha256(copied(reader, tmp_path, running, stop)) == sha256(disk)


def test_reads_that_fail_are_tried_again(
    disk: Path, tmp_path: Path, running: Attempt, caplog: pytest.LogCaptureFixture
) -> None:
    """Every request fails until three of them were told of."""
    stop = threading.Event()
    trigger = tmp_path / "broken"
    trigger.touch()
    arguments = ("--filter=error", "file", str(disk), "error-pread-rate=100%", f"error-file={trigger}")
    with NbdServer(lambda place: (*nbdkit(place), *arguments), running) as server:
        reader = NbdReader(server, "disk", 2, stop, running)
        with once(lambda: caplog.text.count("cannot be read") >= 3, trigger.unlink):
            assert sha256(copied(reader, tmp_path, running, stop)) == sha256(disk)


def test_a_broken_read_has_its_code(disk: Path, running: Attempt) -> None:
    arguments = ("--filter=error", "file", str(disk), "error-pread=EIO", "error-pread-rate=100%")
    with NbdServer(lambda place: (*nbdkit(place), *arguments), running) as server:
        reader = NbdReader(server, "web.vmdk", 1, threading.Event(), running)
        with (
            pytest.raises(HyperctlError, match=r"web\.vmdk") as caught,
            reader.connect() as connection,
            connection.open(0, MIB) as body,
        ):
            body.readinto(memoryview(bytearray(MIB)))
    assert caught.value.code is ErrorCode.TRANSFER_INTERRUPTED


def is_fetching() -> bool:
    return any(thread.name == "disk-range" for thread in threading.enumerate())


def test_a_server_that_dies_is_started_again(disk: Path, tmp_path: Path, running: Attempt) -> None:
    """The first answers no read in this test's time."""
    stop = threading.Event()
    killed: list[int] = []

    def command(place: Place) -> tuple[str, ...]:
        return (*nbdkit(place), "--filter=delay", "file", str(disk), f"rdelay={0 if killed else 60}")

    with NbdServer(command, running) as server:
        reader = NbdReader(server, "disk", 2, stop, running)

        def kill() -> None:
            killed.append(server.pid)
            os.kill(server.pid, signal.SIGKILL)

        with once(is_fetching, kill):
            assert sha256(copied(reader, tmp_path, running, stop)) == sha256(disk)
        assert server.pid not in killed


def test_a_server_that_does_not_answer_stops_long_before_it_would(
    disk: Path, tmp_path: Path, running: Attempt
) -> None:
    stop = threading.Event()
    arguments = ("--filter=delay", "file", str(disk), "rdelay=60")
    with NbdServer(lambda place: (*nbdkit(place), *arguments), running) as server:
        reader = NbdReader(server, "disk", 2, stop, running)
        with once(is_fetching, stop.set) as stopped, pytest.raises(Stopped):
            copied(reader, tmp_path, running, stop)
        assert stopped.seconds < SOON_SECONDS
        os.kill(server.pid, signal.SIGKILL)


def test_patience_has_an_end(disk: Path, running: Attempt) -> None:
    arguments = ("--filter=delay", "file", str(disk), "rdelay=60")
    with NbdServer(lambda place: (*nbdkit(place), *arguments), running) as server:
        reader = NbdReader(server, "disk", 1, threading.Event(), running, patience_seconds=0.5)
        with (
            pytest.raises(HyperctlError, match="no answer") as caught,
            reader.connect() as connection,
            connection.open(0, MIB) as body,
        ):
            body.readinto(memoryview(bytearray(MIB)))
        os.kill(server.pid, signal.SIGKILL)
    assert caught.value.code is ErrorCode.TRANSFER_INTERRUPTED


@pytest.mark.parametrize("folder", [None, "empty", "library"])
def test_without_the_library_the_probe_says_what_is_missing(
    settings: HostSettings, running: Attempt, tmp_path: Path, folder: str | None
) -> None:
    expected = {None: "not configured", "empty": "holds no lib64", "library": "VDDK plugin does not work"}
    if folder:
        settings = settings.model_copy(update={"vddk_library_dir": tmp_path / folder})
    if folder == "library":
        (tmp_path / folder / "lib64").mkdir(parents=True)
        (tmp_path / folder / "lib64" / "libvixDiskLib.so.8").touch()
    with pytest.raises(HyperctlError, match=expected[folder]) as caught:
        probe_vddk(settings, running)
    assert caught.value.code is ErrorCode.HOST_INCAPABLE
