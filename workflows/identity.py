"""The job id: derived from what is migrated, so that the same command twice is one migration."""

import hashlib

JOB_PREFIX = "job-"


def derive_job_id(server: str, datacenter: str | None, vm_name: str) -> str:
    """The id of the migration of one VM, which is also its workflow id.

    The server's name is compared without case and without the default port; a datacenter that was not
    given counts as the empty one.
    """
    host = server.strip().lower().removesuffix(":443").rstrip("/")
    identity = "\x00".join((host, datacenter or "", vm_name))
    return JOB_PREFIX + hashlib.sha256(identity.encode()).hexdigest()[:10]
