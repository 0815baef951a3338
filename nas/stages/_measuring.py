"""What a proposal is worth: costs, what the job's evaluator measures, and scores, held against the constraints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from nas.evaluators import REGISTRY as EVALUATORS
from nas.evaluators import EvaluationContext, Outcome, Request, level_of, needs_supernet, writable
from nas.resources import Evaluation, EvaluationState, Fidelity, Measurement, Settlement
from nas.stages._pricing import Price, Pricing
from nas.stages._score import scores_of

if TYPE_CHECKING:
    from nas.evaluators import Evaluator
    from nas.scoring import Scores
    from nas.stages._context import UnitContext
    from searchspaces import Architecture


@dataclass
class Measuring:
    """Measures proposals as the job asks for: the free costs always, the measured ones when something names them."""

    context: UnitContext
    evaluator: Evaluator
    pricing: Pricing
    scores: Scores
    fidelity: Fidelity

    @classmethod
    def of(cls, context: UnitContext) -> Measuring:
        spec, bench = context.spec, context.bench
        if needs_supernet(spec.evaluator):
            bench.supernet()  # weights that do not fit end the job, not every evaluation by itself
        return cls(
            context=context,
            evaluator=EVALUATORS[spec.evaluator.name](spec.evaluator.config, bench),
            pricing=Pricing.of(context),
            scores=scores_of(bench, context.view),
            fidelity=Fidelity(level=level_of(spec)),
        )

    def settlements(
        self, evaluations: Sequence[Evaluation], *, should_stop: Callable[[], bool]
    ) -> Iterator[Settlement]:
        """Price all and end those that are infeasible or failed; then, as they come, those that the evaluator measures.

        What it leaves unanswered stays pending for whoever goes on.
        """
        priced = {e.evaluation_id: self.pricing.price(e.proposal) for e in evaluations}
        for key, price in priced.items():
            if price.error or price.violation > 0:
                yield Settlement(
                    evaluation_id=key,
                    state=EvaluationState.FAILED if price.error else EvaluationState.INFEASIBLE,
                    measurements=price.measurements,
                    violation=price.violation,
                    error=price.error,
                )
        asked = {
            e.evaluation_id: e
            for e in evaluations
            if not priced[e.evaluation_id].error and not priced[e.evaluation_id].violation
        }
        for outcome in self._outcomes(tuple(asked.values()), should_stop):
            yield self._settlement(outcome, priced[outcome.evaluation_id], asked[outcome.evaluation_id])

    def _outcomes(self, evaluations: Sequence[Evaluation], should_stop: Callable[[], bool]) -> Iterator[Outcome]:
        context = self.context
        requests = [
            Request(
                e.evaluation_id, context.bench.space.parse(e.proposal.text), e.proposal.fidelity, e.proposal.replicate
            )
            for e in evaluations
        ]
        settings = EvaluationContext(
            seed=context.spec.seed,
            should_stop=should_stop,
            checkpoints=context.checkpoints,
            exchange=context.exchange,
        )
        return map(writable, self.evaluator.evaluate(requests, settings)) if requests else iter(())

    def _settlement(self, outcome: Outcome, price: Price, evaluation: Evaluation) -> Settlement:
        """An outcome with its costs and proxies, held against the constraints on what was measured."""
        scored = () if outcome.error else self._scored(self.context.bench.space.parse(evaluation.proposal.text))
        measurements = (*price.measurements, *outcome.measurements, *scored)
        wanted = self._needed_proxies - {m.metric for m in measurements}
        error = outcome.error or (f"{', '.join(sorted(wanted))} is not defined for this network" if wanted else None)
        wrong = {m.fidelity.level for m in outcome.measurements} - {"cost", "proxy", evaluation.proposal.fidelity.level}
        if wrong:
            error = f"asked for {evaluation.proposal.fidelity.level}, measured at {', '.join(sorted(wrong))}"
        final = [m for m in outcome.measurements if m.fidelity.level != "partial"]  # bounds are on what is meant to be
        violation = self.pricing.violation((*final, *scored))
        state = EvaluationState.INFEASIBLE if violation > 0 else EvaluationState.FINISHED
        return Settlement(
            evaluation_id=outcome.evaluation_id,
            state=EvaluationState.FAILED if error else state,
            measurements=measurements,
            violation=violation,
            error=error,
            seconds=outcome.seconds,
        )

    @cached_property
    def _needed_proxies(self) -> set[str]:
        """Proxies that an objective or a constraint names: without them nothing is measured."""
        spec = self.context.spec
        named = set(spec.objectives) | {bound.metric for bound in spec.bounds()}
        return named & {ref.name for ref in spec.scoring.proxies}

    def _scored(self, architecture: Architecture) -> tuple[Measurement, ...]:
        """What the job's proxies say of an architecture; one that is not defined says nothing."""
        scoring = self.context.spec.scoring
        context: dict[str, str | int | float | bool] = {"images": scoring.images, "reduced": scoring.reduced}
        return tuple(
            Measurement(metric=name, value=value, fidelity=Fidelity(level="proxy"), context=context)
            for name, value in self.scores.proxy_scores(architecture).items()
            if value is not None
        )
