"""A job, from spec to delivered models: which stages, in which order, and how one unit of work is done.

The only place that knows the order. What a stage does is in `nas.stages`, what it needs from outside in `nas.ports`.
"""

from __future__ import annotations

from collections.abc import Sequence

from nas.admission import admit
from nas.ports import JobView
from nas.resources import Job, JsonObject, Phase, UnitPlan
from nas.spec import JobSpec
from nas.stages import (
    AuditStage,
    DeliverStage,
    Limits,
    PreflightStage,
    ScoreStage,
    SearchStage,
    Stage,
    SupernetStage,
    UnitContext,
    ahead,
    blamed,
    end_measuring,
    planned,
    preflight,
    refuse_changed,
    trust_report,
)

STAGES: dict[Phase, Stage] = {
    Phase.PREFLIGHT: PreflightStage(),
    Phase.SCORE: ScoreStage(),
    Phase.SUPERNET: SupernetStage(),
    Phase.SEARCH: SearchStage(),
    Phase.AUDIT: AuditStage(),
    Phase.DELIVER: DeliverStage(),
}


class JobPlanner:
    """Says what a job does next (`nas.ports.Planner`)."""

    def stages(self, job: Job) -> Sequence[Phase]:
        """All stages in order; one that has nothing to do plans no units and is passed."""
        return tuple(STAGES)

    def plan(self, phase: Phase, view: JobView) -> list[UnitPlan]:
        """The units of work of a stage, with the job's plan as the time that is left makes it."""
        job, plan = view.job(), ahead(phase, view)
        spec = planned(JobSpec.from_mapping(job.spec), plan or job.plan)
        return [unit.model_copy(update={"plan": plan}) for unit in STAGES[phase].plan(spec, view)]


def run_unit(context: UnitContext) -> JsonObject:
    """Do one unit of work; its result.

    Raises:
        Cancelled: it was asked to end before it was done; checkpoints and pending evaluations are kept.
        LeaseLost: another worker has it now.
        InputsChanged: what the job stands on is not what its preflight read.
        NASError: it cannot be done, and trying again would not help.
    """
    context.set_threads()
    refuse_changed(context)
    return STAGES[context.unit.stage].run(context)


__all__ = [
    "STAGES",
    "JobPlanner",
    "Limits",
    "UnitContext",
    "admit",
    "blamed",
    "end_measuring",
    "preflight",
    "run_unit",
    "trust_report",
]
