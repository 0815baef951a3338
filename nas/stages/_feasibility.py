"""Whether a search that has nothing yet, no network that meets its constraints or none that could be measured, may."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from nas.quantities import Constraint
from nas.resources import Evaluation, EvaluationState

_FEWEST = 90
_EXPECTED = 0.01
_FASTER = 3.0
_FAILURES, _FEWEST_FAILURES, _VARIED = 50, 20, 4


@dataclass
class Feasibility:
    """What the constraints on measured metrics left so far.

    The rule. Once 90 networks are measured and none meets the constraints, and at three times the pace at which the
    later half of them came nearer than the earlier the rest of the budget does not get there, the search ends when that
    rest is not expected to hold a hundredth of a network that does. That is reckoned with a tail that falls off as an
    exponential function does, more slowly than a normal one: of n networks the nearest came `gained` nearer than the
    median, so that of any `gained` more a share of 2/n is left.

    How often it ends a random search of 400 networks before one that meets the bound: where values are normally
    distributed, in none of 1,000 searches if one in fifty meets it, in 2 if one in a hundred does, in 3 if one in two
    hundred. Values in two heaps, of which only the far one meets the bound, follow no tail: 10 if one in twenty is in
    it, 162 if one in fifty. A bound five standard deviations above the mean is given up after 187 networks (median),
    one of six after 106, and one of percent where fractions are measured after 90.
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
        if self._climbs_there(budget - num) or self._expected(budget - num) > _EXPECTED:
            return None
        values = {m.metric: m.value for m in self.nearest.measurements}
        broken = [b for b in bounds if b.metric in values and b.violation(values[b.metric])]
        asked = ", ".join(f"{b.metric} {values[b.metric]:.4g} where {b.operator} {b.bound:g} is asked" for b in broken)
        return f"none of {num} measured architectures meets the constraints, the nearest has {asked}; loosen them"

    def _climbs_there(self, left: int) -> bool:
        """Whether a searcher that goes on to come nearer, three times as fast as so far, would meet the constraints."""
        half = len(self.violations) // 2
        earlier, later = min(self.violations[:half]), min(self.violations[half:])
        return later < earlier and later <= _FASTER * (earlier - later) * left / half

    def _expected(self, left: int) -> float:
        """How many of the networks that are left to measure are expected to meet the constraints."""
        num, least = len(self.violations), min(self.violations)
        gained = statistics.median(self.violations) - least
        return left / 2 * (num / 2) ** -(1 + least / gained) if gained > 0 else 0.0


@dataclass
class Failures:
    """What became of a search's evaluations, as long as all of them failed.

    After 50 that failed for one reason, or half of a smaller budget but never less than 20, the search ends; after four
    times as many whatever the reasons. Where one network in ten can be measured, 50 of a random search fail in one
    search of two hundred, and where it is one in fifty, 200 fail in one of sixty.
    """

    num_measured: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    last: str = ""

    def note(self, evaluation: Evaluation) -> None:
        """Count an evaluation that was tried."""
        if evaluation.state is not EvaluationState.FAILED:
            self.num_measured += 1
            return
        self.last = evaluation.error or "no reason given"
        self.reasons[_alike(self.last, evaluation.proposal.text)] += 1

    def why_hopeless(self, budget: int) -> str | None:
        """Why no more is to be measured; None while there is hope."""
        num, limit = sum(self.reasons.values()), min(_FAILURES, max(_FEWEST_FAILURES, budget // 2))
        if self.num_measured or num < limit * (1 if len(self.reasons) == 1 else _VARIED):
            return None
        why = "for one reason" if len(self.reasons) == 1 else f"for {len(self.reasons)} reasons, the last"
        return f"all of {num} evaluations failed {why}: {self.last}"


def _alike(error: str, text: str) -> str:
    """An error without what tells one network's from another's: its text, and numbers."""
    return re.sub(r"\d+(\.\d+)?", "#", error.replace(text, "architecture"))
