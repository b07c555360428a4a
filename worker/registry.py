"""The explicit lists: which workflows there are, and which activities belong to which role."""

from collections.abc import Callable
from typing import Any

from hyperctl.activities.cleanup import CleanUpActivities
from hyperctl.activities.commit import CommitActivities
from hyperctl.activities.convert.activity import ConvertActivities
from hyperctl.activities.discard import DiscardActivities
from hyperctl.activities.export.activity import ExportActivities
from hyperctl.activities.export.bandwidth import BandwidthActivities
from hyperctl.activities.jobs import JobActivities
from hyperctl.activities.logs import LogActivities
from hyperctl.activities.plan_source import PlanSourceActivities
from hyperctl.activities.plan_target import PlanTargetActivities
from hyperctl.activities.prepare_source import PrepareSourceActivities
from hyperctl.activities.prove.activity import ProveActivities
from hyperctl.activities.read_inventory import InventoryActivities
from hyperctl.activities.rehearse.activity import RehearseActivities
from hyperctl.activities.settings import HostSettings
from hyperctl.activities.target.activity import TargetActivities
from hyperctl.activities.verify.activity import VerifyActivities
from hyperctl.workflows.discard import DiscardWorkflow
from hyperctl.workflows.import_domain import ImportWorkflow
from hyperctl.workflows.logs import LogsWorkflow
from hyperctl.workflows.migration import MigrationWorkflow
from hyperctl.workflows.preflight import PlanWorkflow
from hyperctl.workflows.queues import Role
from hyperctl.workflows.read_inventory import InventoryWorkflow
from hyperctl.workflows.rehearsal_batch import RehearsalBatchWorkflow
from hyperctl.workflows.rehearse import RehearsalWorkflow

WORKFLOWS: tuple[type, ...] = (
    MigrationWorkflow,
    RehearsalWorkflow,
    RehearsalBatchWorkflow,
    PlanWorkflow,
    InventoryWorkflow,
    ImportWorkflow,
    LogsWorkflow,
    DiscardWorkflow,
)


def activities(settings: HostSettings) -> dict[Role, list[Callable[..., Any]]]:
    """Every implementation by the role whose queues it is served on."""
    plan_source = PlanSourceActivities(settings)
    inventory = InventoryActivities(settings)
    prepare_source = PrepareSourceActivities(settings)
    export = ExportActivities(settings)
    verify = VerifyActivities(settings)
    convert = ConvertActivities(settings)
    prove = ProveActivities(settings)
    commit = CommitActivities(settings)
    clean_up = CleanUpActivities(settings)
    plan_target = PlanTargetActivities(settings)
    target = TargetActivities(settings)
    rehearsals = RehearseActivities(settings)
    logs = LogActivities(settings)
    bandwidth = BandwidthActivities()
    discard = DiscardActivities(settings)
    jobs = JobActivities()
    return {
        Role.EXPORT: [
            plan_source.plan_source,
            prepare_source.prepare_source,
            export.export_disks,
        ],
        Role.SOURCE: [
            plan_source.preview_source,
            inventory.read_inventory,
            prepare_source.remove_snapshot,
            prepare_source.power_on_source,
        ],
        Role.VERIFY: [verify.verify_disks],
        Role.CONVERT: [
            convert.convert_guest,
            convert.discard_conversion,
            prove.prove_boot,
            commit.commit_conversion,
            clean_up.clean_up,
            clean_up.record_failure,
        ],
        Role.IMPORT: [plan_target.plan_target, target.import_domain, target.remove_domain],
        Role.REHEARSE: [rehearsals.plan_rehearsal, prepare_source.take_snapshot, rehearsals.rehearse],
        Role.CONTROL: [
            logs.read_log,
            bandwidth.set_bandwidth,
            discard.take_stock,
            discard.discard_copy,
            jobs.require_ended,
            jobs.find_rival,
        ],
    }
