"""A cost that is dear to measure: measured for some networks, predicted for the others."""

from __future__ import annotations

from collections.abc import Mapping

from predictors.costs._cost import Cost, Reading
from predictors.costs._estimate import EstimateError, Estimator
from searchspaces import Architecture, SearchSpace

_SPREAD = 1.4826  # standard deviations in a median absolute deviation


def predicted(value: float, like: Reading, error: EstimateError) -> Reading:
    """A prediction as a reading: in the unit and context of `like`, marked, with its error and spread."""
    known: dict[str, str | int | float] = {"predicted": True, "predicted_from": error.networks, "error": error.relative}
    if error.kendall is not None:
        known["error_kendall"] = error.kendall
    return Reading(value, like.unit, _SPREAD * error.relative * value, {**like.context, **known})


class Estimated(Cost):
    """A cost whose readings of some networks are given; the others are predicted from these.

    Networks with equal live parts count as one. `really` measures, whatever is predicted, and remembers. `like` is one
    of the readings: in their unit and context is what is predicted.

    Args:
        cost: what measures.
        space: whose architectures they are.
        known: what was measured: at least `FEWEST` networks.

    Raises:
        MeasurementError: too few are known.
    """

    error: EstimateError

    def __init__(self, cost: Cost, space: SearchSpace, known: Mapping[Architecture, Reading]) -> None:
        self.cost, self.space = cost, space
        self._known = {space.live(architecture): reading for architecture, reading in known.items()}
        self._estimator = Estimator(space, {a: reading.value for a, reading in self._known.items()})
        self.error = self._estimator.error
        self.like = next(iter(self._known.values()))

    def measure(self, architecture: Architecture) -> Reading:
        live = self.space.live(self.space.check(architecture))
        return self._known.get(live) or predicted(self._estimator(live), self.like, self.error)

    def really(self, architecture: Architecture) -> Reading:
        """The cost, measured.

        Raises:
            MeasurementError: it cannot be.
        """
        live = self.space.live(self.space.check(architecture))
        if live not in self._known:
            self._known[live] = self.cost.measure(architecture)
        return self._known[live]

    def within(self, space: SearchSpace) -> SearchSpace:
        return self.cost.within(space)
