"""What there is in a space: costs of a uniform sample, and what the constraints on them leave."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.quantities import Constraint
from nas.resources import CostPrediction, CostRange
from nas.spec import JobSpec
from nas.streams import stream
from searchspaces import Architecture, MeasurementError

if TYPE_CHECKING:
    from nas.workbench import Workbench
    from predictors.costs import Cost, EstimateError

_SAMPLE = 400
_MEASURED_SAMPLE = 10
_EXHAUSTIVE = 30_000


@dataclass
class Survey:
    """Costs of a uniform sample of the space, and what the constraints on them leave."""

    space_values: dict[str, list[float]]
    units: dict[str, str]
    measured: set[str]
    errors: dict[str, EstimateError]
    bounds: tuple[Constraint, ...]
    satisfiable: bool | None
    share_feasible: float | None

    @classmethod
    def of(cls, spec: JobSpec, bench: Workbench) -> Survey:
        rng = stream(spec.seed, "preflight")
        costs = bench.costs(bench.needed_costs())
        sample = [*bench.space.extremes(), *(bench.space.sample(rng) for _ in range(_SAMPLE))]
        values: dict[str, list[float]] = {}
        units: dict[str, str] = {}
        for metric, cost in costs.items():
            is_slow = bench.is_measured(metric) and not bench.is_predicted(metric)
            chosen = sample[: _MEASURED_SAMPLE + 2] if is_slow else sample
            values[metric], units[metric] = _readings(cost, chosen)
        measured = {metric for metric in costs if bench.is_measured(metric)}
        bounds = tuple(bound for bound in spec.bounds() if bound.metric in costs)
        errors = {metric: cost.error for metric, cost in costs.items() if cost.error}
        survey = cls(values, units, measured, errors, bounds, satisfiable=True, share_feasible=None)
        if bounds:
            survey.share_feasible = survey._share()
            survey.satisfiable = bool(survey.share_feasible) or survey._search_all(bench, costs)
        return survey

    @property
    def _num_sampled(self) -> int:
        return min(len(self.space_values[bound.metric]) for bound in self.bounds)

    def _share(self) -> float:
        met = [
            all(_holds(bound, self.space_values[bound.metric][i]) for bound in self.bounds)
            for i in range(self._num_sampled)
        ]
        return sum(met) / self._num_sampled

    def _search_all(self, bench: Workbench, costs: dict[str, Cost]) -> bool | None:
        """Whether any architecture meets the bounds, where the sample held none; None when the space is too large."""
        if bench.space.size() > _EXHAUSTIVE:
            return None
        on_paper = [bound for bound in self.bounds if bound.metric not in self.measured]
        seen: dict[str, list[float]] = {bound.metric: [] for bound in on_paper}
        for architecture in bench.space.iterate():
            values = {metric: _value(costs[metric], architecture) for metric in seen}
            if all(_holds(bound, values[bound.metric]) for bound in on_paper):
                return True if len(on_paper) == len(self.bounds) else None
            for metric, value in values.items():
                seen[metric].append(value)
        self.space_values |= seen  # the whole range, to say what there is
        return False

    def ranges(self) -> tuple[CostRange, ...]:
        """Least, median and largest of each cost in the sample; of the whole space where all of it had to be asked."""
        return tuple(
            CostRange(
                metric=metric,
                unit=self.units[metric],
                minimum=min(values),
                median=statistics.median_low(values) / 2 + statistics.median_high(values) / 2,  # without overflow
                maximum=max(values),
                share_feasible=self._share_of(metric),
                predicted=self._prediction(metric),
            )
            for metric in self.space_values
            if (values := self._known(metric))
        )

    def _prediction(self, metric: str) -> CostPrediction | None:
        error = self.errors.get(metric)
        return error and CostPrediction(networks=error.networks, error=error.relative, kendall=error.kendall)

    def _known(self, metric: str) -> list[float]:
        return [value for value in self.space_values[metric] if math.isfinite(value)]

    def _share_of(self, metric: str) -> float | None:
        mine = [bound for bound in self.bounds if bound.metric == metric]
        return self._share_within(*mine) if mine else None

    def _share_within(self, first: Constraint, *more: Constraint) -> float:
        """The share of the values of a metric that lies within these bounds on it."""
        values = self.space_values[first.metric]
        met = [value for value in values if all(_holds(bound, value) for bound in (first, *more))]
        return len(met) / len(values)

    def unmet(self) -> tuple[str, ...]:
        """What `why` says of bounds that nothing in the space meets; empty where something does, or may."""
        return tuple(self.why()) if self.satisfiable is False else ()

    def why(self) -> list[str]:
        """For every bound that nothing meets alone: what it asks and what there is; else what each bound leaves.

        Where the space is too large to look at all of it, that is said of the sample, and no bound is refused.
        """
        if self.satisfiable:
            return []
        shares = {bound: self._share_within(bound) for bound in self.bounds}
        alone = [
            f"{b.metric} {b.operator} {b.bound:g}, but {b.metric} goes from {min(v):g} to {max(v):g}"
            for b, share in shares.items()
            if share == 0 and (v := self._known(b.metric))
        ]
        if alone:
            return alone
        left = ", ".join(f"{b.metric} {b.operator} {b.bound:g} leaves {share:.3%}" for b, share in shares.items())
        which = "no architecture" if self.satisfiable is False else f"none of {self._num_sampled} architectures drawn"
        return [f"{which} meets these bounds together: {left}"]


def _holds(bound: Constraint, value: float) -> bool:
    return math.isfinite(value) and bound.violation(value) == 0


def _value(cost: Cost, architecture: Architecture) -> float:
    """A cost; NaN where it is not known."""
    try:
        return cost.measure(architecture).value
    except MeasurementError:
        return math.nan


def _readings(cost: Cost, architectures: Sequence[Architecture]) -> tuple[list[float], str]:
    """The cost of each, NaN where it is not known, and its unit.

    Raises:
        MeasurementError: it is known of none, with the reason of the last.
    """
    values, unit, reason = list[float](), None, None
    for architecture in architectures:
        try:
            found = cost.measure(architecture)
            unit = found.unit
            values.append(found.value)
        except MeasurementError as error:
            reason = error
            values.append(math.nan)
    if unit is None and reason is not None:
        raise reason
    return values, unit or ""
