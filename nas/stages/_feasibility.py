"""Whether a search whose candidates all break the constraints may still find one that does not."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from nas.quantities import Constraint
from nas.resources import Evaluation, EvaluationState

_FEWEST = 20
_FAR = 2.0


@dataclass
class Feasibility:
    """What the constraints on measured metrics left so far.

    The rule, once 20 networks are measured and none meets the constraints. The search ends when the later half of them
    came no nearer than the earlier, and

    - the nearest is far: what it lacks is more than twice what it is ahead of the median. Of normally distributed
      values that is a bound at more than five standard deviations, which no million of networks would reach; or
    - half of the budget is spent.

    A searcher that comes nearer is given the whole budget. Of random searches of 400 networks under a bound that one in
    fifty meets, one in a hundred ends too early, and one in eight where it is one in a hundred.
    """

    num_feasible: int = 0
    violations: list[float] = field(default_factory=list)
    nearest: Evaluation | None = None

    def note(self, evaluation: Evaluation) -> None:
        """Count an evaluation that was measured whole; those that costs alone ruled out are no matter of this."""
        if evaluation.state is EvaluationState.FINISHED:
            self.num_feasible += evaluation.proposal.fidelity.level != "partial"
        elif evaluation.state is EvaluationState.INFEASIBLE:
            if self.nearest is None or evaluation.violation < self.nearest.violation:
                self.nearest = evaluation
            self.violations.append(evaluation.violation)

    def why_hopeless(self, bounds: Sequence[Constraint], budget: int) -> str | None:
        """Why no more is to be measured; None while there is hope."""
        num = len(self.violations)
        if self.num_feasible or self.nearest is None or num < _FEWEST:
            return None
        least = self.nearest.violation
        half = num // 2
        if min(self.violations[half:]) < min(self.violations[:half]):
            return None
        if num < budget / 2 and least <= _FAR * (statistics.median(self.violations) - least):
            return None
        values = {m.metric: m.value for m in self.nearest.measurements}
        broken = [b for b in bounds if b.metric in values and b.violation(values[b.metric])]
        asked = ", ".join(f"{b.metric} {values[b.metric]:.4g} where {b.operator} {b.bound:g} is asked" for b in broken)
        return f"none of {num} measured architectures meets the constraints, the nearest has {asked}; loosen them"
