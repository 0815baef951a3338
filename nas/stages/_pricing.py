"""What a proposal costs, before it is evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.evaluators import faults
from nas.quantities import Constraint, within_floats
from nas.resources import Fidelity, Measurement, Proposal
from predictors.costs import Estimated, Reading
from searchspaces import Architecture, MeasurementError

if TYPE_CHECKING:
    from nas.stages._context import UnitContext
    from predictors.costs import Cost


@dataclass(frozen=True)
class Price:
    """The costs of one architecture, how far they break the constraints, or why they are not known."""

    measurements: tuple[Measurement, ...] = ()
    violation: float = 0.0
    error: str | None = None


@dataclass
class Pricing:
    """All costs a job needs: the free ones always, the measured ones when an objective or constraint asks."""

    context: UnitContext
    costs: dict[str, Cost]
    bounds: tuple[Constraint, ...]

    @classmethod
    def of(cls, context: UnitContext) -> Pricing:
        return cls(context, context.bench.costs(context.bench.needed_costs()), context.spec.bounds())

    @property
    def predicted(self) -> dict[str, Estimated]:
        """The costs that are predicted and could be measured."""
        return {metric: cost for metric, cost in self.costs.items() if isinstance(cost, Estimated)}

    def price(self, proposal: Proposal, *, really: bool = False) -> Price:
        """The costs of a proposal; a cost that cannot be computed fails the evaluation with its reason.

        Args:
            really: measure what would be predicted.
        """
        architecture = self.context.bench.space.parse(proposal.text)
        try:
            readings = {metric: _reading(cost, architecture, really=really) for metric, cost in self.costs.items()}
        except MeasurementError as error:
            return Price(error=str(error))
        measurements = tuple(measurement_of(metric, reading) for metric, reading in readings.items())
        if wrong := faults(measurements):
            return Price(error=wrong)
        return Price(measurements, self.violation(measurements))

    def violation(self, measurements: Sequence[Measurement]) -> float:
        """Summed relative violation of the constraints on these measurements; 0 when all hold."""
        values = {m.metric: m.value for m in measurements}
        return within_floats(sum(b.violation(values[b.metric]) for b in self.bounds if b.metric in values))


def measurement_of(metric: str, reading: Reading) -> Measurement:
    """A reading of a cost as the store keeps it."""
    return Measurement(
        metric=metric,
        value=reading.value,
        unit=reading.unit,
        std=reading.std,
        fidelity=Fidelity(level="cost"),
        context=dict(reading.context),
    )


def _reading(cost: Cost, architecture: Architecture, *, really: bool) -> Reading:
    return cost.really(architecture) if really and isinstance(cost, Estimated) else cost.measure(architecture)
