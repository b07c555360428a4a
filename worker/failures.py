"""Turns what an activity raises into what a workflow can decide on."""

import errno
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
            full = _full(error)
            if full is not None:
                raise ApplicationError(full.message, full, type=full.code, non_retryable=True) from error
            failure = Failure(
                code=ErrorCode.INTERNAL_ERROR,
                message=f"{type(error).__name__}: {error}",
                hint="This is a defect of hyperctl; the job's log has the details.",
                traceback="".join(traceback.format_exception(error))[-8000:],
            )
            raise ApplicationError(
                failure.message, failure, type=ErrorCode.INTERNAL_ERROR, non_retryable=True
            ) from error


def _full(error: Exception) -> Failure | None:
    """A file system without room is no defect, wherever a step runs into it."""
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    where = f" for {error.filename}" if error.filename else ""
    return Failure(
        code=ErrorCode.NO_SPACE,
        message=f"no space left on this host{where}: {error.strerror}",
        hint="Make room in the output folder and in the worker's own (df -h, df -i).",
    )
