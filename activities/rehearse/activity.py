"""`plan_rehearsal` and `rehearse`."""

from temporalio import activity

from hyperctl.activities.attempt import attempt
from hyperctl.activities.rehearse.preflight import plan_rehearsal
from hyperctl.activities.rehearse.rehearsal import rehearse
from hyperctl.activities.settings import HostSettings
from hyperctl.workflows.contract import PLAN_REHEARSAL, REHEARSE, PlanRehearsalInput, RehearseInput
from hyperctl.workflows.rehearsal import RehearsalPlan, Rehearsed
from hyperctl.workflows.status import Phase


class RehearseActivities:
    def __init__(self, settings: HostSettings) -> None:
        self._settings = settings

    @activity.defn(name=PLAN_REHEARSAL.name, no_thread_cancel_exception=True)
    def plan_rehearsal(self, argument: PlanRehearsalInput) -> RehearsalPlan:
        """Look at both sides and change nothing. Problems come back together, they are not raised."""
        with attempt(Phase.PLAN, argument.job_id, self._settings.log_dir) as running:
            return plan_rehearsal(argument.request, self._settings, running)

    @activity.defn(name=REHEARSE.name, no_thread_cancel_exception=True)
    def rehearse(self, argument: RehearseInput) -> Rehearsed:
        """Nothing is recorded and nothing is left: another attempt begins anew."""
        with attempt(Phase.REHEARSE, argument.job_id, self._settings.log_dir) as running:
            return rehearse(argument, self._settings, running)
