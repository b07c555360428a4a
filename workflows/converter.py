"""Our workers' data converter: a workflow whose argument cannot be used fails as `invalid_request`."""

import dataclasses
from collections.abc import Iterator

from pydantic import ValidationError
from temporalio.api.failure.v1 import Failure as FailureProto
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DefaultFailureConverter, PayloadConverter
from temporalio.exceptions import ApplicationError

from hyperctl.workflows.control import DiscardRequest, ImportRequest, LogsRequest
from hyperctl.workflows.errors import ErrorCode, Failure
from hyperctl.workflows.rehearsal import RehearsalBatchRequest, RehearsalRequest
from hyperctl.workflows.request import MigrationRequest

_ARGUMENTS = frozenset(
    model.__name__
    for model in (
        MigrationRequest,
        RehearsalRequest,
        RehearsalBatchRequest,
        ImportRequest,
        LogsRequest,
        DiscardRequest,
    )
)
_SECRETS = frozenset({"password", "passwd", "token", "secret"})


class RequestFailureConverter(DefaultFailureConverter):
    """Says what is wrong with a workflow's argument in our own words, a failure a problem.

    What was refused is not repeated: somebody may have put a password there.
    """

    def to_failure(
        self, exception: BaseException, payload_converter: PayloadConverter, failure: FailureProto
    ) -> None:
        if isinstance(exception, ValidationError) and exception.title in _ARGUMENTS:
            exception = invalid_request(exception)
        super().to_failure(exception, payload_converter, failure)


data_converter = dataclasses.replace(pydantic_data_converter, failure_converter_class=RequestFailureConverter)


def invalid_request(error: ValidationError) -> ApplicationError:
    """Every problem of an argument, as an error of the type `invalid_request` with a `Failure` for each."""
    failures = tuple(_failures(error))
    message = "; ".join(failure.message for failure in failures)
    return ApplicationError(
        f"the request cannot be used: {message}",
        *failures,
        type=ErrorCode.INVALID_REQUEST,
        non_retryable=True,
    )


def _failures(error: ValidationError) -> Iterator[Failure]:
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        field = ".".join(str(part) for part in problem["loc"]) or "the request"
        text = problem["msg"].removeprefix("Value error, ")
        hint = "Correct it and start it again; docs/workflow-api.md has the fields."
        if problem["type"] == "extra_forbidden":
            text = "there is no such field"
            if str(problem["loc"][-1]).lower() in _SECRETS:
                hint = "No secret belongs into a request: the worker has the vCenter's password."
        yield Failure(code=ErrorCode.INVALID_REQUEST, message=f"{field}: {text}", hint=hint)
