"""Results of rehearsals, for the tests of what is shown."""

import base64
import struct
import zlib
from datetime import timedelta
from typing import Any

from hyperctl.workflows.errors import ErrorCode, Failure
from hyperctl.workflows.estimate import Estimate, Sample
from hyperctl.workflows.rehearsal import RehearsalResult, Verdict
from tests.unit.machines import GIB, guest
from tests.unit.statuses import BEGAN, PROOF, STEPS

NO_ROOT = Failure(
    code=ErrorCode.PROOF_FAILED, message="db-02 did not pass its boot proof: no root device", hint="Look."
)
AWAY = Failure(code=ErrorCode.VM_POWERED_ON, message="db-03 is powered on", hint="Shut it down.")
ESTIMATE = Estimate(
    sample=Sample(connections=4, read_bytes=32 << 20, seconds=0.32, blocks=64, data_blocks=16),
    transfer_bytes=4 * GIB,
    copy_seconds=41.0,
    land_bytes_low=GIB // 2,
    land_bytes_high=GIB,
    land_basis="16 of 64 blocks read at random were not empty",
    guest_seconds=95.0,
    needed_bytes=GIB,
    free_bytes=40 * GIB,
)


def png() -> bytes:
    """The smallest picture: one black pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0\0")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


SCREEN = base64.b64encode(png()).decode()


def booting(name: str = "db-01", **changes: Any) -> RehearsalResult:
    facts: dict[str, Any] = {
        "verdict": Verdict.BOOTS,
        "job_id": f"rehearsal-{name}",
        "vm_name": name,
        "vcenter": "vcenter.example.com",
        "host": "kvm-01",
        "guest": guest(),
        "steps": STEPS,
        "proof": PROOF,
        "estimate": ESTIMATE,
        "read_bytes": 180 << 20,
        "waited_seconds": 3.0,
        "duration_seconds": 98.0,
        "started_at": BEGAN,
        "completed_at": BEGAN + timedelta(seconds=100),
    }
    return RehearsalResult(**(facts | changes))


def not_booting(name: str = "db-02", **changes: Any) -> RehearsalResult:
    failed = PROOF.model_copy(update={"passed": False, "problems": ("no root device",)})
    facts = {"verdict": Verdict.DOES_NOT_BOOT, "reason": NO_ROOT, "proof": failed, "screen": SCREEN}
    return booting(name, **(facts | changes))


def not_rehearsed(name: str = "db-03", **changes: Any) -> RehearsalResult:
    facts: dict[str, Any] = {
        "verdict": Verdict.NOT_REHEARSED,
        "reason": AWAY,
        "guest": None,
        "steps": (),
        "proof": None,
        "estimate": None,
        "read_bytes": 0,
        "duration_seconds": 0.0,
    }
    return booting(name, **(facts | changes))
