"""What a client can be told instead of an answer."""


class ClientError(Exception):
    """Something between the user and the migration failed; `hint` is the way out."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ServerUnreachable(ClientError):
    """Temporal does not answer."""


class JobNotFound(ClientError):
    """Temporal knows no such job."""
