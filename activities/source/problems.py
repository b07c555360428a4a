"""Everything that is wrong with a source file, collected so that it can be said at once."""

from hyperctl.workflows.errors import ErrorCode, Failure, PreflightError


class Problems:
    """What was found wrong with one file. Every message begins with the file's name."""

    MOST = 50
    """A hostile descriptor could have millions of mistakes; nobody reads more than this."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._found: list[Failure] = []
        self._left_out = 0
        self.count = 0
        """How many were told, whether they are kept or not: a part that raised it has found something."""

    def __bool__(self) -> bool:
        return bool(self._found)

    @property
    def failures(self) -> tuple[Failure, ...]:
        if not self._left_out:
            return tuple(self._found)
        rest = Failure(
            code=ErrorCode.SOURCE_INVALID, message=f"{self.file}: and {self._left_out} problems more"
        )
        return (*self._found, rest)

    def invalid(self, what: str, hint: str = "") -> None:
        """It is damaged, or contradicts itself or its format."""
        self._add(ErrorCode.SOURCE_INVALID, what, hint)

    def unsafe(self, what: str, hint: str = "") -> None:
        """It names something that is not its own."""
        self._add(ErrorCode.SOURCE_UNSAFE, what, hint)

    def unsupported(self, what: str, hint: str = "") -> None:
        """It is well-formed, and cannot be moved as it is."""
        self._add(ErrorCode.VM_UNSUPPORTED, what, hint)

    def take(self, failures: tuple[Failure, ...]) -> None:
        """Add what a part found; its messages name their file themselves."""
        for failure in failures:
            self._keep(failure)

    def raise_any(self) -> None:
        """Raise `PreflightError` with all of it, if there is any."""
        if self._found:
            raise PreflightError(self.failures)

    def _add(self, code: ErrorCode, what: str, hint: str) -> None:
        self._keep(Failure(code=code, message=f"{self.file}: {what}", hint=hint))

    def _keep(self, failure: Failure) -> None:
        self.count += 1
        if failure in self._found:
            return
        if len(self._found) < self.MOST:
            self._found.append(failure)
        else:
            self._left_out += 1


def shown(text: str) -> str:
    """A name out of a hostile file, quoted and bounded, fit for a terminal."""
    return repr(text if len(text) <= 120 else text[:117] + "...")
