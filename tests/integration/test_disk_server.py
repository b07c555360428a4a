"""The NBD server of this process, read by qemu and libnbd."""

import contextlib
import logging
import os
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbd
import pytest

from hyperctl.activities.attempt import Attempt
from hyperctl.activities.export.datastore import FlatDisk, FlatFile
from hyperctl.activities.export.datastore_files import DatastoreFiles
from hyperctl.activities.nbd.command import nbdkit
from hyperctl.activities.nbd.disk_server import DiskServer
from hyperctl.activities.nbd.fetched import BLOCK_BYTES, FetchedDisk
from hyperctl.activities.nbd.reader import NbdReader
from hyperctl.activities.nbd.server import NbdServer
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.vsphere.session import open_session
from hyperctl.workflows.errors import ErrorCode, HyperctlError
from hyperctl.workflows.status import Phase
from tests.integration.conftest import MIB, write_disk
from tests.moments import SOON_SECONDS, until
from tests.simulator import VCenterSimulator

CAPACITY = 24 * MIB + 199 * 1024


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "source.raw"
    write_disk(path, CAPACITY, seed=3)
    return path


@contextmanager
def shown(
    disk: Path, folder: Path, filter_name: str = "", *settings: str
) -> Iterator[tuple[DiskServer, FetchedDisk]]:
    """A raw disk through nbdkit, as VMware's library is read, and through our own server."""
    running = Attempt(Phase.CONVERT, logging.getLogger("test"))
    stop = threading.Event()
    filters = (f"--filter={filter_name}",) if filter_name else ()
    arguments = (*filters, "file", str(disk), *settings)
    with NbdServer(lambda place: (*nbdkit(place), *arguments), running) as server:
        reader = NbdReader(server, "disk", 4, stop, running)
        with (
            FetchedDisk("disk", reader, disk.stat().st_size, folder, stop, running) as fetched,
            DiskServer(fetched, folder / "socket", running) as shown,
        ):
            yield shown, fetched
    assert sorted(path.name for path in folder.iterdir()) == ["source.raw"]


def compare(disk: Path, folder: Path, address: str) -> int:
    overlay = folder / "overlay.qcow2"
    subprocess.run(["qemu-img", "create", "-qf", "qcow2", "-F", "raw", "-b", address, overlay], check=True)
    try:
        argv = ["qemu-img", "compare", "-f", "raw", "-F", "qcow2", str(disk), str(overlay)]
        return subprocess.run(argv, timeout=60).returncode
    finally:
        overlay.unlink()


def test_an_overlay_over_it_has_the_content_and_nothing_is_fetched_twice(disk: Path, tmp_path: Path) -> None:
    with shown(disk, tmp_path) as (server, fetched):
        assert compare(disk, tmp_path, server.address) == 0
        assert fetched.fetched_bytes == CAPACITY
        assert compare(disk, tmp_path, server.address) == 0
        assert fetched.fetched_bytes == CAPACITY
        assert fetched.waited_seconds > 0
        assert stat.S_IMODE(server.path.stat().st_mode) == 0o600


def test_little_is_fetched_for_little(disk: Path, tmp_path: Path) -> None:
    with shown(disk, tmp_path) as (server, fetched):
        handle = nbd.NBD()
        handle.connect_uri(server.address)
        assert handle.get_size() == CAPACITY
        assert handle.is_read_only()
        assert handle.can_multi_conn()
        content = disk.read_bytes()
        assert handle.pread(512, 0) == content[:512]
        assert handle.pread(700, CAPACITY - 700) == content[-700:]
        assert fetched.fetched_bytes <= 2 * BLOCK_BYTES
        with pytest.raises(nbd.Error):
            handle.pread(512, CAPACITY)
        assert handle.pread(512, 512) == content[512:1024], "a request that is refused breaks nothing"
        handle.shutdown()


def test_a_client_that_writes_or_babbles_is_sent_away(disk: Path, tmp_path: Path) -> None:
    with shown(disk, tmp_path) as (server, _):
        handle = nbd.NBD()
        handle.set_strict_mode(0)
        handle.connect_uri(server.address)
        with pytest.raises(nbd.Error):
            handle.pwrite(bytes(512), 0)
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(str(server.path))
            stranger.sendall(bytes(64))
            stranger.settimeout(5)
            with contextlib.suppress(ConnectionResetError):
                while stranger.recv(100):
                    pass
        assert compare(disk, tmp_path, server.address) == 0


def test_it_ends_at_once_whatever_its_clients_wait_for(disk: Path, tmp_path: Path) -> None:
    with shown(disk, tmp_path, "delay", "rdelay=90") as (server, fetched):
        reading = subprocess.Popen(
            ["qemu-img", "convert", "-f", "raw", "-O", "raw", server.address, tmp_path / "out"],
            stderr=subprocess.DEVNULL,
        )
        until(lambda: fetched.waited_until_now_seconds, "nothing was read")
        server.close()
        assert reading.wait(SOON_SECONDS) != 0
        (tmp_path / "out").unlink(missing_ok=True)


def test_a_source_that_fails_is_the_reason_at_the_next_checkpoint(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperctl.activities.nbd.fetched.TRIES", 2)
    trigger = tmp_path.parent / "broken"
    trigger.touch()
    filters = ("error", "error-pread-rate=100%", f"error-file={trigger}")
    running = Attempt(Phase.CONVERT, logging.getLogger("test"))
    with shown(disk, tmp_path, *filters) as (server, fetched), running.guarded_by(fetched.check):
        running.checkpoint()
        assert compare(disk, tmp_path, server.address) != 0
        with pytest.raises(HyperctlError) as caught:
            running.checkpoint()
        assert caught.value.code is ErrorCode.TRANSFER_INTERRUPTED
    running.checkpoint()


def test_a_source_that_is_too_slow_is_the_reason(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperctl.activities.nbd.fetched.SLOW_SECONDS", 2.0)
    with shown(disk, tmp_path, "delay", "rdelay=500ms") as (_, fetched):
        for offset in range(0, CAPACITY, 4 * MIB):
            fetched.read(offset, 512)
            time.sleep(0.6)
        with pytest.raises(HyperctlError, match="KiB/s"):
            fetched.check()


def test_a_disk_in_a_datastore_survives_its_session_and_a_drop(
    sim: VCenterSimulator, settings: HostSettings, running: Attempt, tmp_path: Path
) -> None:
    """By address and pinned certificate, which no other NBD server can be told."""
    target = "/folder/web-server-01/web-server-01-flat.vmdk?dcPath=DC1&dsName=datastore1"
    stop = threading.Event()
    source = sim.raw_disk("web-server-01", 1)
    with open_session(sim.vcenter(), settings, running) as session, DatastoreFiles(session) as files:
        with files.reader(stop) as reader:
            state = reader.state(target, "flat")
        flat = FlatDisk(files, FlatFile(target, "flat", state), 4, stop)
        with (
            FetchedDisk("flat", flat, state.size_bytes, tmp_path, stop, running) as fetched,
            DiskServer(fetched, tmp_path / "socket", running) as server,
        ):
            fetched.read(0, 512)
            sim.fault("expire_sessions")
            sim.fault("drop_connection", vm="web-server-01", disk=0, transport="folder", after_bytes=MIB)
            assert compare(source, tmp_path, server.address) == 0
    assert sim.call("GET", "/sessions")["count"] == 0
    assert os.listdir(tmp_path) == []
