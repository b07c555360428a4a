"""What the client says when it cannot do what it was asked; every error names the way out."""

from collections.abc import Sequence

from hyperctl.workflows.errors import Failure
from hyperctl.workflows.status import MigrationStatus


class ClientError(Exception):
    """Base of all of them: a message of one line and a hint what to do next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigurationError(ClientError):
    """The configuration cannot be used; `problems` holds everything that is wrong with it."""

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        super().__init__(f"{source} cannot be used", "Correct it and try again.")
        self.problems = tuple(problems)


class UnreachableError(ClientError):
    """Somebody who should answer does not."""


class ServerUnreachable(UnreachableError):
    """No Temporal server answers at the address."""


class NoWorker(UnreachableError):
    """Temporal answers, and no worker is there to do the work."""


class JobNotFound(ClientError):
    """There is no such migration."""


class JobAmbiguous(ClientError):
    """Several migrations answer to the description."""


class JobConflict(ClientError):
    """The migration is not in a state in which this can be done."""


class SearchAttributesMissing(ClientError):
    """The namespace does not know what migrations are listed by."""


class QuestionFailed(ClientError):
    """A plan or an inventory could not be made; `failures` says why."""

    def __init__(self, failures: tuple[Failure, ...]) -> None:
        super().__init__("; ".join(failure.message for failure in failures), failures[0].hint)
        self.failures = failures


class MigrationFailed(ClientError):
    """The migration ended without success. `status` is its last word, `failures` says why."""

    def __init__(self, status: MigrationStatus, failures: tuple[Failure, ...]) -> None:
        reason = "; ".join(failure.message for failure in failures) or f"it is {status.status}"
        hint = failures[0].hint if failures else ""
        super().__init__(f"{status.job_id} ({status.vm_name}): {reason}", hint)
        self.status = status
        self.failures = failures


class MigrationCancelled(MigrationFailed):
    """Somebody cancelled the migration."""
