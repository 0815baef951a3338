"""AUDIT: train a few networks for real, and say how far the ranking can be trusted."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nas.evaluators import REGISTRY as EVALUATORS
from nas.evaluators import EvaluationContext, Evaluator, Request, level_of
from nas.ports import Control, JobView
from nas.resources import (
    Candidate,
    Correlation,
    Evaluation,
    EvaluationState,
    Fidelity,
    JsonObject,
    Objective,
    Phase,
    Proposal,
    Settlement,
    TrustReport,
    UnitPlan,
)
from nas.spec import JobSpec
from nas.stages._context import UnitContext
from nas.stages._search import free_costs
from nas.streams import stream

Scores = npt.NDArray[np.float64]

_PER_UNIT = 8
_ENOUGH = 30
_TRUTH = "accuracy@short"
_TRAINED = ("short", "full")


class AuditStage:
    """Units of a few networks each, so that many workers share the training."""

    def plan(self, spec: JobSpec, view: JobView) -> list[UnitPlan]:
        if level_of(spec.evaluator) in _TRAINED:
            return []  # the search itself trained its networks: there is no ranking left to check
        chosen = audited(view.candidates(), view.job().objectives, spec)
        chunks = [chosen[start : start + _PER_UNIT] for start in range(0, len(chosen), _PER_UNIT)]
        return [
            UnitPlan(key=f"audit-{number:04d}", payload={"texts": [candidate.text for candidate in chunk]})
            for number, chunk in enumerate(chunks)
        ]

    def run(self, context: UnitContext) -> JsonObject:
        spec, space = context.spec, context.bench.space
        fidelity = Fidelity(level="short", resources={"epochs": spec.audit.training.epochs})
        texts: list[str] = context.unit.payload["texts"]
        architectures = [space.parse(text) for text in texts]
        context.journal.propose(
            [Proposal(text=a.text, digest=a.digest, fidelity=fidelity, reason="audit") for a in architectures]
        )
        mine = {architecture.digest for architecture in architectures}
        evaluator: Evaluator = EVALUATORS["standalone"](
            {"level": "short", "training": spec.audit.training.model_dump()}, context.bench
        )
        for evaluation in context.journal.pending("short"):
            if evaluation.proposal.digest in mine:
                if context.must_leave():
                    raise context.leave()
                if context.control() is Control.STOP or context.out_of_time():
                    break
                self._audit_one(context, evaluator, evaluation)
        if context.must_leave():
            raise context.leave()
        report = trust_report(context.view, spec)
        context.journal.report(report)
        return {"audited": report.audited}

    def _audit_one(self, context: UnitContext, evaluator: Evaluator, evaluation: Evaluation) -> None:
        began = time.monotonic()
        request = Request(
            evaluation.evaluation_id,
            context.bench.space.parse(evaluation.proposal.text),
            evaluation.proposal.fidelity,
            evaluation.proposal.replicate,
        )
        settings = EvaluationContext(
            seed=context.spec.seed, should_stop=context.must_leave, checkpoints=context.checkpoints
        )
        for outcome in evaluator.evaluate([request], settings):
            state = EvaluationState.FAILED if outcome.error else EvaluationState.FINISHED
            context.journal.settle(
                [
                    Settlement(
                        evaluation_id=outcome.evaluation_id,
                        state=state,
                        measurements=outcome.measurements,
                        error=outcome.error,
                        seconds=time.monotonic() - began,
                    )
                ]
            )
            self._tell(context, evaluation, {m.metric: m.value for m in outcome.measurements})

    def _tell(self, context: UnitContext, evaluation: Evaluation, values: dict[str, float]) -> None:
        settled = context.journal.settled("short")
        done, total = len(settled), context.spec.audit.networks
        each = float(np.mean([e.seconds for e in settled if e.seconds])) if settled else 0.0
        context.journal.progress(
            phase=Phase.AUDIT,
            fraction=min(1.0, done / max(1, total)),
            message="training networks to check the ranking",
            seconds_left=max(0, total - done) * each + context.seconds_after(Phase.AUDIT),
            audited=done,
            audits_total=total,
        )
        data = {"digest": evaluation.proposal.digest, "done": done, "total": total, **values}
        context.journal.event("audit", data)


def audited(candidates: Sequence[Candidate], objectives: Sequence[Objective], spec: JobSpec) -> list[Candidate]:
    """Which candidates are trained for real: half from the front, half stratified over the first cost."""
    num_networks = spec.audit.networks
    scored = [c for c in candidates if all(objective.key in c.values for objective in objectives)]
    on_front = sorted((c for c in scored if c.on_front), key=lambda c: c.number)
    rng = stream(spec.seed, "audit")
    half = min(len(on_front), -(-num_networks // 2))
    chosen = (
        [on_front[i] for i in np.unique(np.linspace(0, len(on_front) - 1, half).round().astype(int))] if half else []
    )
    others = [c for c in scored if c.digest not in {kept.digest for kept in chosen}]
    by_cost = sorted(others, key=lambda c: (c.values.get(_cost_key(objectives), 0.0), c.number))
    strata = np.array_split(np.arange(len(by_cost)), min(len(by_cost), num_networks - len(chosen)) or 1)
    chosen += [by_cost[int(rng.choice(stratum))] for stratum in strata if len(stratum)] if by_cost else []
    return chosen[:num_networks]


def _cost_key(objectives: Sequence[Objective]) -> str:
    costs = [objective.key for objective in objectives if objective.level == "cost"]
    return costs[0] if costs else f"{free_costs()[0]}@cost"


def trust_report(view: JobView, spec: JobSpec) -> TrustReport:
    """Agreement of everything that ranks the candidates with the audited networks, beside the free baselines."""
    rows = [c for c in view.candidates() if _TRUTH in c.values]
    truth = np.array([c.values[_TRUTH] for c in rows])
    learned = [objective for objective in view.job().objectives if objective.level != "cost"]
    level = level_of(spec.evaluator)
    rankers: dict[str, Scores] = {}
    for name, key, sign in (
        *((o.key, o.key, 1.0) if o.direction == "max" else (f"-{o.key}", o.key, -1.0) for o in learned),
        (f"accuracy@{level}", f"accuracy@{level}", 1.0),
        (f"-loss@{level}", f"loss@{level}", -1.0),
        *((metric, f"{metric}@cost", 1.0) for metric in free_costs()),
    ):
        if rows and all(key in c.values for c in rows):
            rankers[name] = sign * np.array([c.values[key] for c in rows])
    rankers["random"] = stream(spec.seed, "trust", "random").random(len(rows))
    correlations = tuple(_correlation(name, scores, truth, spec.seed) for name, scores in rankers.items())
    return TrustReport(
        audited=len(rows),
        verdict=_verdict(correlations, rankers, truth, spec.seed),
        truth=f"validation accuracy after {spec.audit.training.epochs} epochs of training alone",
        rankers=correlations,
    )


def _correlation(name: str, scores: Scores, truth: Scores, seed: int) -> Correlation:
    from predictors.ranking import kendall, kendall_interval, kendall_top_decile, spearman

    return Correlation(
        ranker=name,
        kendall=kendall(truth, scores),
        interval=kendall_interval(truth, scores, rng=stream(seed, "trust", name)),
        spearman=spearman(truth, scores),
        kendall_top_decile=kendall_top_decile(truth, scores),
    )


def _verdict(correlations: Sequence[Correlation], rankers: dict[str, Scores], truth: Scores, seed: int) -> str:
    """In words: the ranker that was used against the best free baseline, paired on the same networks."""
    from predictors.ranking import kendall_difference_interval

    if len(truth) < _ENOUGH:
        return f"too few: {len(truth)} audited networks, {_ENOUGH} are needed to say how far the ranking can be trusted"
    taus = {c.ranker: c.kendall for c in correlations if c.kendall is not None}
    used = correlations[0].ranker
    free = [name for name in free_costs() if name in taus]
    if used not in taus or not free:
        return "undefined: the audited networks, or their scores, do not differ"
    best = max(free, key=lambda name: taus[name])
    rng = stream(seed, "trust", "difference")
    interval = kendall_difference_interval(truth, rankers[used], rankers[best], rng=rng)
    low, high = interval or (0.0, 0.0)
    how = "better than" if low > 0 else "worse than" if high < 0 else "neither clearly better nor worse than"
    return (
        f"{used} ranks {how} counting {best}: Kendall tau {taus[used]:.2f} against {taus[best]:.2f} "
        f"on {len(truth)} audited networks, difference {low:+.2f} to {high:+.2f} (95 %)"
    )
