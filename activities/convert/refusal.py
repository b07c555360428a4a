"""Why a guest is not converted."""

from hyperctl.workflows.errors import ErrorCode


class Refused(Exception):
    """The guest cannot be converted; nothing of it is kept."""

    def __init__(self, code: ErrorCode, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


class StepFailed(Exception):
    """A step that the guest needs could not be done; the message says why."""
