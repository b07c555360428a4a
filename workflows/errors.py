"""Error codes and failures: what can go wrong, by code, never by message text."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict


class ErrorCode(StrEnum):
    """Why something failed. The values are stable: clients branch on them."""

    VCENTER_UNREACHABLE = "vcenter_unreachable"
    VCENTER_NAME_UNKNOWN = "vcenter_name_unknown"
    VCENTER_CERTIFICATE_UNTRUSTED = "vcenter_certificate_untrusted"
    VCENTER_FAULT = "vcenter_fault"
    AUTHENTICATION_FAILED = "authentication_failed"
    CREDENTIALS_MISSING = "credentials_missing"
    CREDENTIALS_UNSAFE = "credentials_unsafe"
    PERMISSION_DENIED = "permission_denied"
    VM_NOT_FOUND = "vm_not_found"
    VM_AMBIGUOUS = "vm_ambiguous"
    DATACENTER_NOT_FOUND = "datacenter_not_found"
    VM_POWERED_ON = "vm_powered_on"
    VM_BUSY = "vm_busy"
    TOOLS_NOT_RUNNING = "tools_not_running"
    SNAPSHOT_LOST = "snapshot_lost"
    VM_MIGRATING = "vm_migrating"
    VM_UNSUPPORTED = "vm_unsupported"
    GUEST_UNSUPPORTED = "guest_unsupported"
    TRANSFER_INTERRUPTED = "transfer_interrupted"
    TRANSFER_CORRUPT = "transfer_corrupt"
    LEASE_LOST = "lease_lost"
    IMAGE_INVALID = "image_invalid"
    SOURCE_NOT_FOUND = "source_not_found"
    SOURCE_INVALID = "source_invalid"
    SOURCE_UNSAFE = "source_unsafe"
    NO_SPACE = "no_space"
    STORAGE_FAILED = "storage_failed"
    VERIFICATION_FAILED = "verification_failed"
    CONVERSION_FAILED = "conversion_failed"
    PROOF_FAILED = "proof_failed"
    LIBVIRT_UNREACHABLE = "libvirt_unreachable"
    LIBVIRT_REFUSED = "libvirt_refused"
    DOMAIN_EXISTS = "domain_exists"
    OUTPUT_EXISTS = "output_exists"
    OUTPUT_UNUSABLE = "output_unusable"
    HOST_INCAPABLE = "host_incapable"
    PREFLIGHT_FAILED = "preflight_failed"
    INVALID_REQUEST = "invalid_request"
    JOB_RUNNING = "job_running"
    CANCELLED = "cancelled"
    INTERNAL_ERROR = "internal_error"

    @property
    def is_transient(self) -> bool:
        """Whether the same step may succeed later without anybody changing anything."""
        return self in _TRANSIENT

    @property
    def needs_space(self) -> bool:
        """Whether the same step may succeed once somebody has made room."""
        return self is ErrorCode.NO_SPACE


_TRANSIENT = frozenset(
    {
        ErrorCode.VCENTER_UNREACHABLE,
        ErrorCode.VCENTER_FAULT,
        ErrorCode.VM_BUSY,
        ErrorCode.SNAPSHOT_LOST,
        ErrorCode.TRANSFER_INTERRUPTED,
        ErrorCode.TRANSFER_CORRUPT,
        ErrorCode.LEASE_LOST,
        ErrorCode.VERIFICATION_FAILED,
        ErrorCode.STORAGE_FAILED,
    }
)


class Failure(BaseModel):
    """One thing that went wrong: what, on which object, and the way out."""

    model_config = ConfigDict(frozen=True)

    code: ErrorCode
    message: str
    hint: str = ""
    traceback: str = ""
    """Filled for `internal_error` only."""


class HyperctlError(Exception):
    """Base of everything the product raises on purpose; carries one failure or several found together."""

    def __init__(self, code: ErrorCode, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.failures: tuple[Failure, ...] = (Failure(code=code, message=message, hint=hint),)

    @property
    def failure(self) -> Failure:
        """The first, which speaks for the whole."""
        return self.failures[0]

    @property
    def code(self) -> ErrorCode:
        return self.failure.code


class PreflightError(HyperctlError):
    """Every problem found before anything was touched, together.

    The code is the only problem's own, or `preflight_failed` where there are several.
    """

    def __init__(self, failures: tuple[Failure, ...]) -> None:
        single = failures[0] if len(failures) == 1 else None
        message = "; ".join(failure.message for failure in failures)
        super().__init__(single.code if single else ErrorCode.PREFLIGHT_FAILED, message)
        self.failures = failures

    @property
    def code(self) -> ErrorCode:
        return self.failures[0].code if len(self.failures) == 1 else ErrorCode.PREFLIGHT_FAILED
