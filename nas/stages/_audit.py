"""AUDIT: train a few networks for real, and say how far the ranking can be trusted."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest

from nas.evaluators import REGISTRY as EVALUATORS
from nas.evaluators import EvaluationContext, Evaluator, Request, level_of, waits, writable
from nas.ports import Control, JobView
from nas.quantities import Constraint
from nas.resources import (
    AUDITED,
    Evaluation,
    EvaluationState,
    Fidelity,
    JsonObject,
    Phase,
    Proposal,
    Settlement,
    UnitPlan,
)
from nas.spec import JobSpec
from nas.stages._choice import tell_choice
from nas.stages._context import UnitContext
from nas.stages._dear_costs import measure_front
from nas.stages._drawing import Chosen, drawn_of, near_front, of_space
from nas.stages._measuring import Measuring
from nas.stages._trust import audit_level, audits, checked, num_audit_units, stratified_by
from nas.streams import stream
from predictors.costs import Cost
from searchspaces import Architecture, MeasurementError

_GROWTH = 1.5


def auditor(context: UnitContext) -> Evaluator:
    """What measures the networks: the spec's evaluator, or training alone."""
    ref = context.spec.audit.evaluator
    if ref is not None:
        found: Evaluator = EVALUATORS[ref.name](ref.config, context.bench)
        return found
    settings = {"level": "short", "training": context.spec.audit.training.model_dump()}
    alone: Evaluator = EVALUATORS["standalone"](settings, context.bench)
    return alone


def _settings(context: UnitContext) -> EvaluationContext:
    """What the auditor may use; one that waits for others waits no longer than the audit may last."""
    is_waiting = _is_waiting(context)
    return EvaluationContext(
        seed=context.spec.seed,
        should_stop=lambda: context.must_leave() or (is_waiting and (context.must_end() or _is_too_late(context))),
        checkpoints=context.checkpoints,
        exchange=context.exchange,
    )


def _is_waiting(context: UnitContext) -> bool:
    """Whether others measure the networks, so that all of them may be asked for at once."""
    ref = context.spec.audit.evaluator
    return ref is not None and waits(ref)


def _is_too_late(context: UnitContext) -> bool:
    """Whether one more network does not fit into the audit's time: of all that is planned, these are dropped first."""
    _, _, each = context.view.tally(audit_level(context.spec))
    return context.time_left(Phase.AUDIT) <= (0.0 if _is_waiting(context) else each)


def _is_left_out(context: UnitContext, text: str) -> bool:
    """Whether the job whose plan is done again did not come to this network."""
    plan = context.job.plan
    return plan is not None and plan.fixed and text not in plan.audited


class AuditStage:
    """Units of a few networks each, so that many workers share the training.

    Half of the networks are drawn near the front, half from the whole space; every unit holds some of both, so that an
    audit that ends early has both as well. Where the search waits for others, nothing more is asked of them: all
    networks are then drawn near the front.
    """

    def plan(self, spec: JobSpec, view: JobView) -> list[UnitPlan]:
        if not audits(spec) or not spec.audit.networks:
            return []
        wanted = spec.audit.networks
        num_near = wanted if waits(spec.evaluator) else -(-wanted // 2)
        near = near_front(view.candidates(), view.job().objectives, num_near, stream(spec.seed, "audit"))
        parts = num_audit_units(wanted)
        shared = {
            "near": [[chosen.text, chosen.digest, chosen.memo] for chosen in near],
            "of_space": 0 if waits(spec.evaluator) else wanted - len(near),
            "parts": parts,
        }
        return [UnitPlan(key=f"audit-{part:04d}", payload={**shared, "part": part}) for part in range(parts)]

    def run(self, context: UnitContext) -> JsonObject:
        spec, level = context.spec, audit_level(context.spec)
        evaluator = auditor(context)
        resources = {} if spec.audit.evaluator else {"epochs": spec.audit.training.epochs}
        near, others = _drawn(context)
        chosen = [c for c in _part(near, others, context.unit.payload) if not _is_left_out(context, c.text)]
        unranked = _unranked(context, chosen)
        context.journal.propose(
            [
                Proposal(
                    text=each.text,
                    digest=each.digest,
                    fidelity=Fidelity(level=level, resources=resources),
                    reason=AUDITED,
                    memo=each.memo,
                )
                for each in chosen
            ]
        )
        mine = {each.digest for each in chosen}
        pending = [e for e in context.journal.pending(level) if e.proposal.digest in mine]
        self._give_up([e for e in pending if e.proposal.digest in unranked], context)
        pending = [e for e in pending if e.proposal.digest not in unranked]
        at_once = max(1, len(pending)) if _is_waiting(context) else 1
        for start in range(0, len(pending), at_once):
            if context.must_leave():
                raise context.leave()
            if context.control() is Control.STOP or _is_too_late(context):
                break
            self._audit(context, evaluator, pending[start : start + at_once])
        if context.must_leave():
            raise context.leave()
        audited_so_far = context.view.tally(level).finished
        measured = [e.proposal.text for e in context.view.settled(level) if e.proposal.reason == AUDITED]
        context.journal.plan(
            audit_networks=spec.audit.networks, audit_epochs=spec.audit.training.epochs, audited=measured
        )
        if self._is_to_report(context, [c for c in (*near, *others) if not _is_left_out(context, c.text)]):
            found = checked(context.view, spec)
            context.journal.report(found.report)
            tell_choice(context, found)
        return {"audited": audited_so_far}

    def _give_up(self, evaluations: Sequence[Evaluation], context: UnitContext) -> None:
        """Settle those that there is nothing to hold against."""
        error = f"{context.spec.evaluator.name} has no value for this network, so there is no ranking to check"
        failed = EvaluationState.FAILED
        context.journal.settle(
            [Settlement(evaluation_id=e.evaluation_id, state=failed, error=error) for e in evaluations]
        )

    def _is_to_report(self, context: UnitContext, chosen: Sequence[Chosen]) -> bool:
        """Whether the trust report is due: the audit is over, or half as many again are known as in the last report.

        A report costs what all networks together cost, so one for every unit would cost their square. Whoever settles
        the last network sees all settled, so however many workers share the audit, one of them reports at its end.
        """
        level, last = audit_level(context.spec), context.journal.job().trust
        tally = context.view.tally(level)
        if context.must_end() or _is_too_late(context) or last is None or tally.finished >= _GROWTH * last.audited:
            return True
        if tally.settled < len(chosen):
            return False
        settled = {evaluation.proposal.digest for evaluation in context.view.settled(level)}
        return settled.issuperset(each.digest for each in chosen)

    def _audit(self, context: UnitContext, evaluator: Evaluator, evaluations: Sequence[Evaluation]) -> None:
        """Measure these and settle each as it comes; what is left unanswered stays pending."""
        space, began = context.bench.space, time.monotonic()
        asked = {e.evaluation_id: e for e in evaluations}
        requests = [
            Request(key, space.parse(e.proposal.text), e.proposal.fidelity, e.proposal.replicate)
            for key, e in asked.items()
        ]
        for outcome in map(writable, evaluator.evaluate(requests, _settings(context))):
            passed = time.monotonic() - began
            state = EvaluationState.FAILED if outcome.error else EvaluationState.FINISHED
            context.journal.settle(
                [
                    Settlement(
                        evaluation_id=outcome.evaluation_id,
                        state=state,
                        measurements=outcome.measurements,
                        error=outcome.error,
                        seconds=passed if outcome.seconds is None else outcome.seconds,
                    )
                ]
            )
            self._tell(context, asked[outcome.evaluation_id], {m.metric: m.value for m in outcome.measurements})

    def _tell(self, context: UnitContext, evaluation: Evaluation, values: dict[str, float]) -> None:
        done, _, each = context.view.tally(audit_level(context.spec))
        total = context.spec.audit.networks
        context.journal.progress(
            phase=Phase.AUDIT,
            fraction=min(1.0, done / max(1, total)),
            message="measuring networks to check the ranking",
            seconds_left=max(0, total - done) * each + context.seconds_after(Phase.AUDIT),
            audited=done,
            audits_total=total,
        )
        data = {"digest": evaluation.proposal.digest, "done": done, "total": total, **values}
        context.journal.event("audit", data)


def _drawn(context: UnitContext) -> tuple[list[Chosen], list[Chosen]]:
    """The networks of the audit: those near the front, the best first, and those of the space; both in random order.

    All units draw the same of the space. One that is near the front too stands there, as drawn from both.
    """
    payload, spec = context.unit.payload, context.spec
    near = [Chosen(text, digest, drawn_of(memo)) for text, digest, memo in payload["near"]]
    costs, bounds = context.bench.known_costs(), spec.bounds()
    metric = stratified_by(spec, costs)
    drawn = of_space(
        context.bench.space,
        payload["of_space"],
        stream(spec.seed, "audit", "space"),
        cost=None if metric is None else lambda architecture: costs[metric].measure(architecture).value,
        holds=lambda architecture: _holds(architecture, costs, bounds),
    )
    of_both = {each.digest: each.drawn.space for each in drawn}
    near = [each._replace(drawn=each.drawn._replace(space=of_both.get(each.digest))) for each in near]
    others = [each for each in drawn if each.digest not in {known.digest for known in near}]
    order = stream(spec.seed, "audit", "order").permutation(max(len(near), len(others)))
    return [*near[:1], *(near[i] for i in order if 0 < i < len(near))], [others[i] for i in order if i < len(others)]


def _part(near: Sequence[Chosen], others: Sequence[Chosen], payload: JsonObject) -> list[Chosen]:
    """The networks of one unit: its part of both, in turn."""
    part, parts = payload["part"], payload["parts"]
    pairs = zip_longest(near[part::parts], others[part::parts])
    return [each for each in chain.from_iterable(pairs) if each is not None]


def _holds(architecture: Architecture, costs: Mapping[str, Cost], bounds: Sequence[Constraint]) -> bool:
    """Whether an architecture is priced, and meets the bounds on costs that are known without measuring."""
    try:
        return not any(
            bound.violation(costs[bound.metric].measure(architecture).value)
            for bound in bounds
            if bound.metric in costs
        )
    except MeasurementError:
        return False


def _unranked(context: UnitContext, chosen: Sequence[Chosen]) -> set[str]:
    """Digests of those that the search has no value for. What was drawn from the space is measured now, as in it."""
    fidelity = Fidelity(level=level_of(context.spec))
    new = [each for each in chosen if each.drawn.near_front is None]
    asked = [Proposal(text=e.text, digest=e.digest, fidelity=fidelity, reason=AUDITED, memo=e.memo) for e in new]
    context.journal.propose(asked)
    mine = {each.digest for each in new}
    pending = [e for e in context.journal.pending(fidelity.level) if e.proposal.digest in mine]
    should_stop = context.must_end if waits(context.spec.evaluator) else context.must_leave
    if pending:
        measuring = Measuring.of(context)
        for settlement in measuring.settlements(pending, should_stop=should_stop):
            context.journal.settle([settlement])
        measure_front(context, measuring.pricing)
    if context.must_leave():
        raise context.leave()
    return {digest for digest in mine if not _is_ranked(context, digest)}


def _is_ranked(context: UnitContext, digest: str) -> bool:
    """Whether all that the search ranks by is known of an architecture."""
    evaluations = context.view.evaluations(digest)
    known = {f"{m.metric}@{m.fidelity.level}" for evaluation in evaluations for m in evaluation.measurements}
    return known.issuperset(objective.key for objective in context.job.objectives)
