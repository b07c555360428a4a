"""The job id: derived from what is migrated, so that the same command twice is one migration."""

import hashlib
from pathlib import PurePosixPath

JOB_PREFIX = "job-"
REHEARSAL_PREFIX = "rehearsal-"


def derive_job_id(server: str, datacenter: str | None, vm_name: str) -> str:
    """The id of the migration of one VM, which is also its workflow id.

    The server's name is compared without case and without the default port; a datacenter that was not
    given counts as the empty one.
    """
    host = server.strip().lower().removesuffix(":443").rstrip("/")
    return _job_id(host, datacenter or "", vm_name)


def derive_rehearsal_id(server: str, datacenter: str | None, vm_name: str) -> str:
    """The id of the rehearsals of one VM: the migration's, with a beginning of its own."""
    return REHEARSAL_PREFIX + derive_job_id(server, datacenter, vm_name).removeprefix(JOB_PREFIX)


def derive_file_rehearsal_id(host: str | None, path: str, vm_name: str | None) -> str:
    """The same of a file."""
    return REHEARSAL_PREFIX + derive_file_job_id(host, path, vm_name).removeprefix(JOB_PREFIX)


def derive_file_job_id(host: str | None, path: str, vm_name: str | None) -> str:
    """The id of the migration of a machine that is a file on a target host.

    A host that was not given counts as one of its own, for nobody knows yet which it will be.
    """
    return _job_id("file", host or "", str(PurePosixPath(path)), vm_name or "")


def _job_id(*identity: str) -> str:
    return JOB_PREFIX + hashlib.sha256("\x00".join(identity).encode()).hexdigest()[:10]
