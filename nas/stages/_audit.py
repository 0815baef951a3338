"""AUDIT: train a few networks for real, and say how far the ranking can be trusted."""

from __future__ import annotations

import time
from collections.abc import Sequence

from nas.evaluators import REGISTRY as EVALUATORS
from nas.evaluators import EvaluationContext, Evaluator, Request, waits, writable
from nas.ports import Control, JobView
from nas.resources import (
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
from nas.stages._context import UnitContext
from nas.stages._trust import audit_level, audited, audits, trust_report

_PER_UNIT = 8
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
        should_stop=lambda: context.must_leave() or (is_waiting and (context.must_end() or context.out_of_time())),
        checkpoints=context.checkpoints,
        exchange=context.exchange,
    )


def _is_waiting(context: UnitContext) -> bool:
    """Whether others measure the networks, so that all of them may be asked for at once."""
    ref = context.spec.audit.evaluator
    return ref is not None and waits(ref)


class AuditStage:
    """Units of a few networks each, so that many workers share the training."""

    def plan(self, spec: JobSpec, view: JobView) -> list[UnitPlan]:
        if not audits(spec):
            return []
        chosen = audited(view.candidates(), view.job().objectives, spec)
        known = {evaluation.proposal.digest for evaluation in view.settled(audit_level(spec))}
        due = view.tally(audit_level(spec)).settled + sum(candidate.digest not in known for candidate in chosen)
        chunks = [chosen[start : start + _PER_UNIT] for start in range(0, len(chosen), _PER_UNIT)]
        return [
            UnitPlan(key=f"audit-{number:04d}", payload={"texts": [c.text for c in chunk], "due": due})
            for number, chunk in enumerate(chunks)
        ]

    def run(self, context: UnitContext) -> JsonObject:
        spec, space = context.spec, context.bench.space
        evaluator, level = auditor(context), audit_level(spec)
        resources = {} if spec.audit.evaluator else {"epochs": spec.audit.training.epochs}
        fidelity = Fidelity(level=level, resources=resources)
        texts: list[str] = context.unit.payload["texts"]
        architectures = [space.parse(text) for text in texts]
        context.journal.propose(
            [Proposal(text=a.text, digest=a.digest, fidelity=fidelity, reason="audit") for a in architectures]
        )
        mine = {architecture.digest for architecture in architectures}
        pending = [e for e in context.journal.pending(level) if e.proposal.digest in mine]
        at_once = max(1, len(pending)) if _is_waiting(context) else 1
        for start in range(0, len(pending), at_once):
            if context.must_leave():
                raise context.leave()
            if context.control() is Control.STOP or context.out_of_time():
                break
            self._audit(context, evaluator, pending[start : start + at_once])
        if context.must_leave():
            raise context.leave()
        audited_so_far = context.view.tally(level).finished
        if self._is_to_report(context):
            context.journal.report(trust_report(context.view, spec))
        return {"audited": audited_so_far}

    def _is_to_report(self, context: UnitContext) -> bool:
        """Whether the trust report is due: the audit is over, or half as many again are known as in the last report.

        A report costs what all networks together cost, so one for every unit would cost their square. Whoever settles
        the last network sees all settled, so however many workers share the audit, one of them reports at its end.
        """
        tally, last = context.view.tally(audit_level(context.spec)), context.journal.job().trust
        is_over = tally.settled >= context.unit.payload["due"] or context.must_end() or context.out_of_time()
        return is_over or last is None or tally.finished >= _GROWTH * last.audited

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
