"""Turns what an activity raises into what a workflow can decide on."""

import traceback
from typing import Any

from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from hyperctl.workflows.errors import ErrorCode, Failure, HyperctlError


class FailureInterceptor(Interceptor):
    """Business failures carry their code and are the workflow's to retry; all else keeps its meaning."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _FailureTranslation(next)


class _FailureTranslation(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        try:
            return await self.next.execute_activity(input)
        except (ApplicationError, CancelledError):
            raise
        except HyperctlError as error:
            raise ApplicationError(
                str(error), *error.failures, type=error.code, non_retryable=True
            ) from error
        except Exception as error:
            failure = Failure(
                code=ErrorCode.INTERNAL_ERROR,
                message=f"{type(error).__name__}: {error}",
                hint="This is a defect of hyperctl; the job's log has the details.",
                traceback="".join(traceback.format_exception(error))[-8000:],
            )
            raise ApplicationError(
                failure.message, failure, type=ErrorCode.INTERNAL_ERROR, non_retryable=True
            ) from error
