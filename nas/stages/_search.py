"""SEARCH: ask the searcher, price what it proposes, evaluate what is feasible, settle."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nas.evaluators import waits
from nas.history import History
from nas.pareto import Hypervolume, hypervolume_reference
from nas.ports import Control, JobView
from nas.quantities import counted
from nas.resources import AUDITED, Evaluation, EvaluationState, Fidelity, Job, JsonObject, Phase, Settlement, UnitPlan
from nas.searchers import make_searcher, within
from nas.spec import JobSpec
from nas.stages._choice import tell_choice
from nas.stages._dear_costs import measure_front, measure_here
from nas.stages._feasibility import Failures, Feasibility
from nas.stages._measuring import Measuring
from nas.stages._trust import checked
from nas.streams import stream
from searchspaces import InfeasibleSpace

if TYPE_CHECKING:
    from nas.searchers import Searcher
    from nas.stages._context import UnitContext

_INFEASIBLE_PER_EVALUATION = 50
_REFERENCE_SAMPLE = 32
_SETTLE_SECONDS = 1.0


class SearchStage:
    """One unit: the searcher and the shared weights have one owner at a time."""

    def plan(self, spec: JobSpec, view: JobView) -> list[UnitPlan]:
        return [UnitPlan(key="search")]

    def run(self, context: UnitContext) -> JsonObject:
        search = Search.begin(context)
        search.take_up_pending()
        reason = search.why_ended()
        while reason is None:
            reason = search.turn() or search.why_ended()
        context.journal.event("log", {"level": "info", "message": f"search ended: {reason}"})
        measure_front(context, search.measuring.pricing)
        context.journal.plan(evaluations=search.most(context.journal.job()), proposals=search.history.num_proposals)
        if not context.journal.front_size():
            raise InfeasibleSpace(f"no architecture was found that could be measured and is feasible: {reason}.")
        has_audits = bool(context.view.results(Phase.AUDIT))  # of an earlier round, before the budget was raised
        tell_choice(context, checked(context.view, context.spec) if has_audits else None)
        return {"reason": reason, "evaluations": search.num_evaluated, "infeasible": search.num_infeasible}


@dataclass
class Search:
    """The search loop of one job, rebuilt from the store wherever it is taken up."""

    context: UnitContext
    history: History
    searcher: Searcher
    measuring: Measuring
    cursor: int = 0
    num_evaluated: int = 0
    num_infeasible: int = 0
    num_failed: int = 0
    seconds_each: float = 0.0
    volume: Hypervolume | None = None
    feasibility: Feasibility = field(default_factory=Feasibility)
    failures: Failures = field(default_factory=Failures)

    @classmethod
    def begin(cls, context: UnitContext) -> Search:
        measure_here(context)
        objectives, measuring = context.job.objectives, Measuring.of(context)
        search = cls(
            context=context,
            history=History(objectives),
            searcher=make_searcher(
                within(context.spec.searcher, context.spec.budget.evaluations),
                context.bench.space,
                objectives,
                measuring.scores,
            ),
            measuring=measuring,
        )
        search.catch_up()
        return search

    # --- the loop ----------------------------------------------------------------------------------------------------

    def why_ended(self) -> str | None:
        """Why no more is to be proposed; None while the search goes on. Raises Cancelled when the unit must leave."""
        if self.context.must_leave():
            raise self.context.leave()
        job = self.context.journal.job()
        if self.num_evaluated >= self.most(job):
            planned = job.plan is not None and job.plan.promises == "time"
            what = "evaluations that fit into budget.wall_time" if planned else "budget.evaluations"
            return f"{what} ({self.most(job)}) spent"
        if job.plan and job.plan.fixed and not self.is_raised(job) and self.history.num_proposals >= self.repeated(job):
            return f"all that job {self.context.job.spec['plan']['from']} proposed is proposed"
        may_end = self.num_evaluated > 0 or waits(self.context.spec.evaluator)  # others may never measure a first one
        if may_end and self.context.control() is Control.STOP:
            return "stopped by user"
        if may_end and self.context.out_of_time(Phase.SEARCH):
            return f"budget.wall_time ({job.budget.wall_time:g} s) spent as far as the search may"
        if self.num_infeasible > _INFEASIBLE_PER_EVALUATION * max(20, self.num_evaluated):
            return f"{self.num_infeasible} proposals were infeasible; loosen the constraints"
        most = self.most(job)
        return self.failures.why_hopeless(most) or self.feasibility.why_hopeless(self.context.spec.bounds(), most)

    def most(self, job: Job) -> int:
        """How many architectures are evaluated at most; a number that the user changed meanwhile holds at once."""
        plan = job.plan
        if plan is None or plan.evaluations is None or not (plan.promises == "time" or plan.fixed):
            return job.budget.evaluations
        if plan.fixed or "evaluations" in plan.given:
            if self.is_raised(job):  # as far as the time allows
                return job.budget.evaluations
            return plan.evaluations if plan.fixed else min(plan.evaluations, job.budget.evaluations)
        return plan.evaluations

    def is_raised(self, job: Job) -> bool:
        """Whether the user asked for more after the job was submitted."""
        return job.budget.evaluations > int(job.spec["budget"]["evaluations"])

    def repeated(self, job: Job) -> float:
        """How many proposals the job made whose plan is done again."""
        return math.inf if job.plan is None or job.plan.proposals is None else job.plan.proposals

    def turn(self) -> str | None:
        """Propose, evaluate and settle one batch; a reason when the searcher has nothing left."""
        wanted = min(self.context.spec.batch, self.most(self.context.journal.job()) - self.num_evaluated)
        rng = stream(self.context.spec.seed, "searcher", self.history.num_proposals)
        proposals = [
            proposal.model_copy(update={"fidelity": self.meant(proposal.fidelity)})
            for proposal in self.searcher.ask(self.history, wanted, rng)
        ]
        if not proposals:
            return f"all {self.history.num_distinct} architectures of the space were proposed"
        evaluations = self.context.journal.propose(proposals)
        if not evaluations:
            return "the searcher proposed nothing but what was proposed before"
        self.history.extend(evaluations, self.context.bench.space)
        self.measure(evaluations)
        return None

    def meant(self, asked: Fidelity) -> Fidelity:
        """What a searcher's fidelity is in this job: partial, or all that its evaluator gives."""
        if asked.level == "partial":
            return asked
        return self.measuring.fidelity.model_copy(update={"resources": asked.resources})

    def take_up_pending(self) -> None:
        """Measure first what an earlier owner proposed and did not settle."""
        pending = self.context.journal.pending(self.measuring.fidelity.level, "partial")
        self.history.extend(pending, self.context.bench.space)
        for start in range(0, len(pending), self.context.spec.batch):
            self.measure(pending[start : start + self.context.spec.batch])

    def measure(self, evaluations: Sequence[Evaluation]) -> None:
        """Measure and settle all, at least once a second."""
        began = told = time.monotonic()
        num_before, settlements = self.num_evaluated, list[Settlement]()
        for settlement in self.measuring.settlements(evaluations, should_stop=self.must_stop):
            settlements.append(settlement)
            if time.monotonic() - told >= _SETTLE_SECONDS:
                self.context.journal.settle(settlements)
                settlements, told = [], time.monotonic()
                self.catch_up()
                self.tell()
        self.context.journal.settle(settlements)
        self.catch_up()
        if self.num_evaluated > num_before:
            each = (time.monotonic() - began) / (self.num_evaluated - num_before)
            self.seconds_each = each if not self.seconds_each else 0.8 * self.seconds_each + 0.2 * each
        self.tell()

    def must_stop(self) -> bool:
        """Whether the evaluator is to begin no more: the unit must leave, or others are not waited for any longer."""
        if waits(self.context.spec.evaluator):
            return self.context.must_end() or self.context.out_of_time(Phase.SEARCH)
        return self.context.must_leave()

    # --- keeping up --------------------------------------------------------------------------------------------------

    def catch_up(self) -> None:
        """Append what was settled since, in the store's commit order."""
        settled = self.context.journal.settled(self.measuring.fidelity.level, "partial", after=self.cursor)
        self.history.extend(settled, self.context.bench.space)
        for evaluation in settled:
            self.cursor = evaluation.commit or self.cursor
            if evaluation.state is EvaluationState.FINISHED:
                known = {m.metric: m.value for m in evaluation.measurements if m.fidelity.level == "proxy"}
                self.measuring.scores.learn(self.context.bench.space.parse(evaluation.proposal.text), known)
            self.num_failed += evaluation.state is EvaluationState.FAILED
            only_priced = all(m.fidelity.level == "cost" for m in evaluation.measurements)
            infeasible = evaluation.state is EvaluationState.INFEASIBLE
            self.num_infeasible += infeasible
            if not (infeasible and only_priced):
                self.num_evaluated += evaluation.proposal.reason != AUDITED  # what the audit adds is not the searcher's
                self.feasibility.note(evaluation)
                self.failures.note(evaluation)

    def tell(self) -> None:
        """Progress and events of the batch."""
        total, front_size = self.most(self.context.journal.job()), self.context.journal.front_size()
        left = max(0, total - self.num_evaluated) * self.seconds_each
        volume, reference = self.hypervolume()
        self.context.journal.progress(
            phase=Phase.SEARCH,
            fraction=min(1.0, self.num_evaluated / total),
            message=f"{counted(front_size, 'point')} on the front",
            seconds_left=left + self.context.seconds_after(Phase.SEARCH),
            evaluations_done=self.num_evaluated,
            evaluations_total=total,
            failures=self.num_failed,
            infeasible=self.num_infeasible,
            hypervolume=volume,
            reference=reference,
        )
        self.context.journal.event(
            "evaluations",
            {
                "done": self.num_evaluated,
                "total": total,
                "failed": self.num_failed,
                "infeasible": self.num_infeasible,
                "front_size": front_size,
                "hypervolume": volume,
            },
        )

    def hypervolume(self) -> tuple[float | None, dict[str, float] | None]:
        """Hypervolume of what was found, and its reference: that of the first evaluations, so that it never shrinks."""
        losses, objectives = self.history.losses(), self.history.objectives
        if len(losses) < _REFERENCE_SAMPLE:
            return None, None
        if self.volume is None:
            self.volume = Hypervolume(hypervolume_reference(losses[:_REFERENCE_SAMPLE], objectives))
        for row in losses[self.volume.num_added :]:
            self.volume.add(row)
        each = zip(objectives, self.volume.reference, strict=True)
        value = self.volume.value if math.isfinite(self.volume.value) else None  # penalties as large as floats get
        return value, {o.key: float(r if o.direction == "min" else -r) for o, r in each}
