"""Copying, against govc and qemu-img, against curl, and against sha256sum.

What lands, ours and theirs, lands on the disk that temporary files are on, each time after the kernel has
written what came before; only what verification reads lies in memory (tmpfs), so that its processors are
measured and not the disk. The simulated vCenter serves over TLS on loopback and takes its share of the same
processors.
"""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from deploy.dev.artifact import keep
from deploy.dev.prepare import load_parts
from deploy.dev.programme import GOVC
from hyperctl.activities.export.ledger import LedgerHeader
from hyperctl.workflows.request import DiskFormat, MigrationRequest, TransportChoice, VerifyMode
from tests.bench.copying import CopyOrder, CopyTaken
from tests.bench.row import Row, at_least, at_most
from tests.simulator import USERNAME, VCenterSimulator, running_vcenter

GUEST = "web-server-01"
NOISE = "noise-01"
NOISE_BYTES = 4 << 30
SMALL = "noise-02"
SMALL_BYTES = 1 << 30
PASSWORD = "a password for benches"
MEMORY = Path("/dev/shm")
RUNS = 3
CONNECTIONS = 4
PACE_BYTES = 256 << 20
"""A second, of all connections together."""
KILLS = 20
KILLED_LIMIT_BYTES = 64 << 20
RSS_LIMIT_BYTES = 300 << 20
MIB = 1 << 20


def measure_copy(folder: Path) -> list[Row]:
    """All rows; needs some 5 GiB of disk for what lands, and as much memory for what is read."""
    with _field() as field:
        return [
            _digest(),
            _nfc(field),
            _datastore(field, NOISE, "4 GiB without a hole"),
            _datastore(field, GUEST, "the guest's 4 GiB"),
            _by_hand(field),
            _paced(field),
            _qcow2(field),
            *_verify(field),
            *_memory(field),
            _killed(field),
        ]


@dataclass(frozen=True)
class Field:
    """Where the bench takes place."""

    simulator: VCenterSimulator
    scratch: Path
    """On disk."""
    memory: Path
    disks: dict[str, Path]
    """The source disks, by VM."""

    def copy(
        self,
        vm: str,
        transport: TransportChoice,
        verify: VerifyMode = VerifyMode.NONE,
        *,
        image_format: DiskFormat = DiskFormat.RAW,
        output: Path | None = None,
        processors: int = 0,
    ) -> CopyTaken:
        """Ours, to its end; into a folder that stays, or into one that is removed again."""
        folder = output or self.scratch / "ours"
        os.sync()
        process = self.start(
            vm, transport, verify, image_format=image_format, output=folder, processors=processors
        )
        out, complaint = process.communicate()
        if output is None:
            shutil.rmtree(folder, ignore_errors=True)
        if process.returncode != 0:
            raise RuntimeError(f"the copy of {vm} failed:\n{complaint[-4000:]}")
        return CopyTaken.model_validate_json(out)

    def start(
        self,
        vm: str,
        transport: TransportChoice,
        verify: VerifyMode = VerifyMode.NONE,
        *,
        image_format: DiskFormat = DiskFormat.RAW,
        output: Path,
        processors: int = 0,
    ) -> "subprocess.Popen[str]":
        """Ours, begun."""
        request = MigrationRequest(
            vm_name=vm,
            vcenter=self.simulator.vcenter(),
            transport=transport,
            format=image_format,
            connections=CONNECTIONS,
            verify=verify,
        )
        order = CopyOrder(request=request, output_dir=str(output), processors=processors)
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.copying"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "VSPHERE_USERNAME": USERNAME, "VSPHERE_PASSWORD": PASSWORD},
        )
        assert process.stdin is not None
        process.stdin.write(order.model_dump_json())
        process.stdin.close()
        process.stdin = None
        return process

    @property
    def sent_bytes(self) -> int:
        """What the vCenter has sent of disks so far."""
        traffic: dict[str, int] = self.simulator.call("GET", "/traffic")
        return sum(traffic.values())


@contextmanager
def _field() -> Iterator[Field]:
    guests = [_noise(NOISE, NOISE_BYTES), _noise(SMALL, SMALL_BYTES), load_parts().guests / GUEST]
    with (
        tempfile.TemporaryDirectory(prefix="hyperctl-bench-") as scratch,
        tempfile.TemporaryDirectory(dir=MEMORY, prefix="hyperctl-bench-") as memory,
    ):
        folder = Path(scratch) / "guests"
        folder.mkdir()
        with running_vcenter(folder, Path(scratch) / "vcenter", PASSWORD) as simulator:
            for guest in guests:
                simulator.call("POST", "/guests", {"directory": str(guest)})
            disks = {guest.name: guest / "disk1.raw" for guest in guests}
            yield Field(simulator, Path(scratch), Path(memory), disks)


def _noise(name: str, size_bytes: int) -> Path:
    """A guest whose disk cannot be compressed; made once."""

    def make(folder: Path) -> None:
        guest = folder / name
        guest.mkdir()
        source = random.Random(1)
        with (guest / "disk1.raw").open("wb") as file:
            for _ in range(size_bytes // MIB):
                file.write(source.randbytes(MIB))
        document = {
            "name": name,
            "guest_id": "debian12_64Guest",
            "guest_full_name": "Debian GNU/Linux 12 (64-bit)",
            "disks": [{"flat": "disk1.raw"}],
        }
        (guest / "guest.json").write_text(json.dumps(document))

    return keep(f"{name}-{size_bytes}", make, "bench") / name


def _nfc(field: Field) -> Row:
    ours, peer = [], []
    for _ in range(RUNS):
        ours.append(field.copy(GUEST, TransportChoice.NFC, VerifyMode.FULL).seconds)
        peer.append(_govc(field))
    return at_most(
        0.5, "nfc: the guest to a verified image", "s", ours, "govc export.ovf, qemu-img convert", peer
    )


def _govc(field: Field) -> float:
    govc = GOVC.make()
    folder = field.scratch / "govc"
    environment = {
        **os.environ,
        "GOVC_URL": f"https://{field.simulator.server}/sdk",
        "GOVC_USERNAME": USERNAME,
        "GOVC_PASSWORD": PASSWORD,
        "GOVC_TLS_CA_CERTS": str(field.simulator.ca_file),
        "GOVC_PERSIST_SESSION": "false",
        "HOME": str(field.scratch),
    }
    os.sync()
    started = time.monotonic()
    subprocess.run(
        [str(govc), "export.ovf", "-vm", GUEST, str(folder)], env=environment, check=True, capture_output=True
    )
    (stream,) = folder.rglob("*.vmdk")
    image = folder / "disk1.raw"
    subprocess.run(["qemu-img", "convert", "-f", "vmdk", "-O", "raw", str(stream), str(image)], check=True)
    seconds = time.monotonic() - started
    shutil.rmtree(folder)
    return seconds


def _datastore(field: Field, vm: str, what: str) -> Row:
    size_mib = field.disks[vm].stat().st_size / MIB
    ours, peer = [], []
    for _ in range(RUNS):
        peer.append(size_mib / _curls(field, vm))
        ours.append(size_mib / field.copy(vm, TransportChoice.DATASTORE).export_seconds)
    return at_least(
        0.85,
        f"datastore, {CONNECTIONS} connections: {what}",
        "MiB/s",
        ours,
        f"{CONNECTIONS} curls to /dev/null",
        peer,
    )


def _paced(field: Field) -> Row:
    """From a source no faster than one in a data centre: the processors wait for it, not it for them."""
    field.simulator.fault("slow", vm=SMALL, bytes_per_second=PACE_BYTES // CONNECTIONS)
    try:
        return _datastore(field, SMALL, f"1 GiB at {PACE_BYTES // MIB} MiB/s")
    finally:
        field.simulator.call("DELETE", "/faults")


def _qcow2(field: Field) -> Row:
    """What the format costs: one copy into either."""
    seconds: dict[DiskFormat, list[float]] = {each: [] for each in (DiskFormat.QCOW2, DiskFormat.RAW)}
    for _ in range(RUNS):
        for image_format, taken in seconds.items():
            copy = field.copy(NOISE, TransportChoice.DATASTORE, image_format=image_format)
            taken.append(copy.export_seconds)
    return at_most(
        1.1, "datastore into qcow2", "s", seconds[DiskFormat.QCOW2], "into raw", seconds[DiskFormat.RAW]
    )


def _by_hand(field: Field) -> Row:
    """The same work with the tools of the system: ranges that are fetched, hashed and on the disk."""
    size_mib = NOISE_BYTES / MIB
    ours, peer = [], []
    for _ in range(RUNS):
        peer.append(size_mib / _curls(field, NOISE, landed=field.scratch / "by-hand.raw"))
        ours.append(size_mib / field.copy(NOISE, TransportChoice.DATASTORE).export_seconds)
    return at_least(
        1, f"datastore, {CONNECTIONS} connections: on disk", "MiB/s", ours, "curl, sha256sum and dd", peer
    )


_LAND = """
set -o pipefail
curl --config - | tee >(sha256sum > /dev/null) |
    dd of="$1" bs=4M iflag=fullblock oflag=direct,seek_bytes seek="$2" conv=notrunc,fdatasync status=none
"""


def _curls(field: Field, vm: str, landed: Path | None = None) -> float:
    """Seconds of curls, one for each connection, of a part each: to nowhere, or hashed and into an image."""
    size = field.disks[vm].stat().st_size
    query = urlencode({"dcPath": "DC1", "dsName": "datastore1"})
    share = -(-size // CONNECTIONS)
    share += -share % MIB
    os.sync()
    started = time.monotonic()
    processes = []
    for start in range(0, size, share):
        config = [
            f'url = "https://{field.simulator.server}/folder/{vm}/{vm}-flat.vmdk?{query}"',
            f'range = "{start}-{min(start + share, size) - 1}"',
            f'cacert = "{field.simulator.ca_file}"',
            f'user = "{USERNAME}:{PASSWORD}"',
            "fail",
            "silent",
        ]
        if landed is None:
            config.append('output = "/dev/null"')
            argv = ["curl", "--config", "-"]
        else:
            argv = ["bash", "-c", _LAND, "bash", str(landed), str(start)]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write("\n".join(config).encode())
        process.stdin.close()
        processes.append(process)
    codes = [process.wait() for process in processes]
    if any(codes):
        raise RuntimeError("a curl failed")
    seconds = time.monotonic() - started
    if landed is not None:
        landed.unlink()
    return seconds


def _digest() -> Row:
    """The digest that new ledgers are made with, against SHA-256, on one processor."""
    header = LedgerHeader.of(NOISE_BYTES, "bench")
    block = random.Random(1).randbytes(header.block_bytes)

    def rate(digest: Callable[[bytes], bytes]) -> float:
        started = time.monotonic()
        rounds = 0
        while time.monotonic() - started < 1.0:
            digest(block)
            rounds += 1
        return rounds * len(block) / MIB / (time.monotonic() - started)

    ours, peer = [], []
    for _ in range(RUNS):
        ours.append(rate(header.digest))
        peer.append(rate(lambda content: hashlib.sha256(content).digest()))
    return at_least(1, f"the ledger's digest, {header.algorithm}", "MiB/s", ours, "SHA-256", peer)


def _verify(field: Field) -> list[Row]:
    """Reading a landed image again, on one processor and on all."""
    output = field.memory / "landed"
    field.copy(NOISE, TransportChoice.DATASTORE, output=output)
    one: list[float] = []
    all_of_them: list[float] = []
    peer: list[float] = []
    size_mib = NOISE_BYTES / MIB
    for _ in range(RUNS):
        peer.append(size_mib / _sha256sum(field.disks[NOISE]))
        for processors, rates in ((1, one), (0, all_of_them)):
            taken = field.copy(
                NOISE, TransportChoice.DATASTORE, VerifyMode.FULL, output=output, processors=processors
            )
            rates.append(size_mib / taken.verify_seconds)
    shutil.rmtree(output)
    count = len(os.sched_getaffinity(0))
    scaled = at_least(0.8 * count, f"verify on {count} processors", "MiB/s", all_of_them, "on one", one)
    return [at_least(0.8, "verify on one processor", "MiB/s", one, "sha256sum", peer), scaled]


def _sha256sum(path: Path) -> float:
    processor = str(min(os.sched_getaffinity(0)))
    started = time.monotonic()
    subprocess.run(["taskset", "-c", processor, "sha256sum", str(path)], check=True, capture_output=True)
    return time.monotonic() - started


def _memory(field: Field) -> list[Row]:
    """The peak of a process that copies and verifies."""
    rows = []
    for vm, transport in ((GUEST, TransportChoice.NFC), (NOISE, TransportChoice.DATASTORE)):
        taken = field.copy(vm, transport, VerifyMode.FULL)
        peak, limit = [taken.peak_bytes / MIB], [RSS_LIMIT_BYTES / MIB]
        rows.append(at_most(1, f"peak memory, {transport}", "MiB", peak, "the limit", limit))
    return rows


def _killed(field: Field) -> Row:
    """The most that crossed the network twice because a copy was killed, of so many tries."""
    source = random.Random(time.time_ns())
    usual = field.copy(SMALL, TransportChoice.DATASTORE).export_seconds
    again = []
    for _ in range(KILLS):
        output = field.scratch / "killed"
        before = field.sent_bytes
        process = field.start(SMALL, TransportChoice.DATASTORE, output=output)
        while field.sent_bytes == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(source.uniform(0, usual))
        process.kill()
        process.communicate()
        field.copy(SMALL, TransportChoice.DATASTORE, VerifyMode.FULL, output=output)
        again.append((field.sent_bytes - before - SMALL_BYTES) / MIB)
        shutil.rmtree(output)
    limit = [KILLED_LIMIT_BYTES / MIB]
    return at_most(1, f"moved again after kill -9, worst of {KILLS}", "MiB", [max(again)], "the limit", limit)
