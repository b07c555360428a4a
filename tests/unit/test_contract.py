"""Every stub that a workflow may call has exactly one implementation, of the same types, on its role."""

import typing

from temporalio import activity

from hyperctl.activities.settings import HostSettings
from hyperctl.worker.registry import WORKFLOWS, activities
from hyperctl.workflows.contract import ALL_ACTIVITIES


def test_every_stub_is_implemented_once_with_its_types_and_role() -> None:
    implemented = {}
    for role, functions in activities(HostSettings()).items():
        for function in functions:
            definition = activity._Definition.must_from_callable(function)
            assert definition.name not in implemented, f"{definition.name} is registered twice"
            hints = typing.get_type_hints(function)
            implemented[definition.name] = (role, hints["argument"], hints["return"])
    declared = {stub.name: (stub.role, stub.input_type, stub.result_type) for stub in ALL_ACTIVITIES}
    assert implemented == declared


def test_the_names_that_foreign_clients_use_are_stable() -> None:
    names = {workflow_type.__temporal_workflow_definition.name for workflow_type in WORKFLOWS}  # type: ignore[attr-defined]
    assert names == {
        "MigrationWorkflow",
        "RehearsalWorkflow",
        "RehearsalBatchWorkflow",
        "PlanWorkflow",
        "InventoryWorkflow",
        "ImportWorkflow",
        "LogsWorkflow",
        "DiscardWorkflow",
    }
