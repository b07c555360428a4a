"""The connection to Temporal, and its errors as ours."""

import functools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.runtime import (
    LogForwardingConfig,
    LoggingConfig,
    Runtime,
    TelemetryConfig,
    TelemetryFilter,
)
from temporalio.service import RPCError, RPCStatusCode

from hyperctl.client.config import ADDRESS_VARIABLE, NAMESPACE_VARIABLE, Temporal
from hyperctl.client.errors import ClientError, SearchAttributesMissing, ServerUnreachable
from hyperctl.workflows.attributes import ALL_ATTRIBUTES

_NO_ANSWER = frozenset({RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED})
_NOT_ALLOWED = frozenset({RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED})


@dataclass(frozen=True, slots=True)
class Connection:
    """A Temporal client with what it takes to speak of it."""

    client: Client
    settings: Temporal

    @property
    def timeout(self) -> timedelta:
        return timedelta(seconds=self.settings.timeout)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what Temporal refuses in the block into errors with a way out."""
        try:
            yield
        except RPCError as error:
            raise translate(error, self.settings) from error

    async def missing_search_attributes(self) -> tuple[str, ...]:
        """Those of ours that the namespace does not know as keywords."""
        with self.errors():
            listed = await self.client.operator_service.list_search_attributes(
                ListSearchAttributesRequest(namespace=self.client.namespace), timeout=self.timeout
            )
        return tuple(key.name for key in ALL_ATTRIBUTES if key.name not in listed.custom_attributes)

    async def refuse_missing_attributes(self) -> None:
        """Raise `SearchAttributesMissing` where that is why a list was refused."""
        missing = await self.missing_search_attributes()
        if missing:
            raise SearchAttributesMissing(
                f"the namespace {self.client.namespace} lacks the search attributes {', '.join(missing)}",
                "A worker registers them when it starts: hyperctl worker. By hand: "
                f"temporal operator search-attribute create --type Keyword --name {missing[0]}",
            )


async def connect(settings: Temporal) -> Connection:
    """Connect and make sure of the namespace. Raises `ServerUnreachable` or `ClientError`."""
    timeout = timedelta(seconds=settings.timeout)
    try:
        client = await Client.connect(
            settings.address,
            namespace=settings.namespace,
            data_converter=pydantic_data_converter,
            connect_timeout=timeout,
            runtime=_runtime(),
        )
    except (RuntimeError, TimeoutError) as error:
        raise _unreachable(settings) from error
    try:
        await client.workflow_service.describe_namespace(
            DescribeNamespaceRequest(namespace=settings.namespace), timeout=timeout
        )
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise ClientError(
                f"Temporal at {settings.address} has no namespace {settings.namespace}",
                f"Set {NAMESPACE_VARIABLE}, or create it: "
                f"temporal operator namespace create --namespace {settings.namespace}",
            ) from error
        raise translate(error, settings) from error
    return Connection(client, settings)


@functools.cache
def _runtime() -> Runtime:
    """One whose own words go to a logger, and nowhere unless somebody listens: never between what we draw."""
    logger = logging.getLogger("hyperctl.client.temporal")
    logger.addHandler(logging.NullHandler())
    return Runtime(
        telemetry=TelemetryConfig(
            logging=LoggingConfig(
                filter=TelemetryFilter(core_level="WARN", other_level="ERROR"),
                forwarding=LogForwardingConfig(logger=logger, append_target_to_name=False),
            )
        )
    )


def translate(error: RPCError, settings: Temporal) -> ClientError:
    """An error of Temporal's as one of ours."""
    if error.status in _NO_ANSWER:
        return _unreachable(settings)
    if error.status in _NOT_ALLOWED:
        return ClientError(
            f"Temporal at {settings.address} does not allow this: {error.message}",
            f"Ask who runs it for access to the namespace {settings.namespace}.",
        )
    return ClientError(f"Temporal at {settings.address} refused: {error.message}")


def _unreachable(settings: Temporal) -> ServerUnreachable:
    return ServerUnreachable(
        f"Temporal at {settings.address} does not answer",
        f"Start one (temporal server start-dev, or `make dev` in a clone of hyperctl), or say where it is: "
        f"{ADDRESS_VARIABLE}=HOST:PORT, or daemons.temporal.address in the configuration.",
    )
