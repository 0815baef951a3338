"""What a cost is expected to be, learned from a few architectures of which it is known."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from predictors.encoding import SpaceEncoder
from searchspaces import Architecture, MeasurementError, SearchSpace

Floats = npt.NDArray[np.float64]

FEWEST = 8
"""Known architectures below which nothing is predicted."""

_REMEMBERED = 100_000
_PENALTIES = np.logspace(-2.5, 1, 15)  # a smaller one fits 8 networks exactly, and then its own error looks like none
# How much a column may explain, by block: sizes before counts of options before the place of each. Of the weights that
# were tried these predicted best over 8 to 300 labels on five devices of NAS-Bench-201 and HW-NAS-Bench and on macro.
_SIZES, _COUNTS, _PLACES = 2.0, 0.6, 0.15
_LEAST = 1e-9
_LEVERAGE = 1e-2  # of a row that nothing else explains
_HEAVIEST = 0.9  # quantile of the rows' weights at which they are cut: one tiny value is not to outweigh all


class EstimateError(NamedTuple):
    """How far predictions are off, every known architecture predicted from the others.

    Attributes:
        networks: how many are known.
        relative: median of the absolute difference over the value.
        kendall: rank correlation of prediction and value; None where all are equal.
    """

    networks: int
    relative: float
    kendall: float | None

    def __str__(self) -> str:
        order = "" if self.kendall is None else f", Kendall tau {self.kendall:.2f}"
        return f"held-out error {self.relative:.1%} (median){order}"


class Estimator:
    """Ridge regression of a cost on sizes, counts of options and places, each of the live architecture.

    A cost is a sum over what a network runs, so it is learned as it is and not its logarithm; rows are weighted for
    relative errors. The penalty is chosen by the error of every row when it is left out. A prediction is never below
    the smallest value that is known. One takes about a tenth of a millisecond, and is remembered.

    Args:
        space: whose architectures they are.
        known: architecture -> its cost, above 0.

    Raises:
        MeasurementError: fewer than `FEWEST` are known.
    """

    def __init__(self, space: SearchSpace, known: Mapping[Architecture, float]) -> None:
        if len(known) < FEWEST:
            raise MeasurementError(f"{len(known)} known costs are too few to predict others; give at least {FEWEST}.")
        self.space = space
        self._encoder = SpaceEncoder(space, ("onehot", "counts"))
        self._options = len({option for decision in space.decisions for option in decision.options})
        values = np.array(list(known.values()), dtype=np.float64)
        columns = np.stack([self._columns(architecture) for architecture in known])
        self._fit(columns, values)
        self._least = float(values.min())
        self._predicted = lru_cache(maxsize=_REMEMBERED)(self._predict)

    def __call__(self, architecture: Architecture) -> float:
        """The expected cost."""
        return self._predicted(self.space.live(architecture))

    def _predict(self, live: Architecture) -> float:
        row = (self._columns(live) - self._mean)[self._kept] * self._scale
        return max(self._least, float(row @ self._weights) + self._middle)

    def _columns(self, architecture: Architecture) -> Floats:
        """Sizes, counts of options and of paths, and which option stands where: one row, unscaled."""
        blocks = self._encoder([self.space.live(architecture)]).blocks
        counts, places = blocks["counts"][0], blocks["onehot"][0]
        sizes = np.expm1(counts[self._options : self._options + 2])
        of_paths = counts[self._options + 2 :]
        return np.concatenate([sizes, counts[: self._options], of_paths, places])

    def _fit(self, columns: Floats, values: Floats) -> None:
        num_counts = self._options + 3
        shares = np.full(columns.shape[1], _PLACES)
        shares[:2], shares[2 : 2 + num_counts] = _SIZES, _COUNTS
        self._mean, deviation = columns.mean(axis=0), columns.std(axis=0)
        self._kept = deviation > _LEAST * np.maximum(1.0, np.abs(self._mean))
        self._scale = shares[self._kept] / deviation[self._kept]
        rows = (columns - self._mean)[:, self._kept] * self._scale
        weights = 1 / values**2
        weights = np.minimum(weights, np.quantile(weights, _HEAVIEST))
        weights /= weights.sum()
        root, centre, middle = np.sqrt(weights), weights @ rows, float(weights @ values)
        u, s, vt = np.linalg.svd((rows - centre) * root[:, None], full_matrices=False)
        target = (values - middle) * root
        left_out = [_left_out(u, s**2 / (s**2 + penalty), target, weights) for penalty in _PENALTIES]
        best = int(np.argmin([float(np.mean(residuals**2)) for residuals in left_out]))
        self._weights = vt.T @ (s / (s**2 + _PENALTIES[best]) * (u.T @ target))
        self._middle = middle - float(centre @ self._weights)
        self.error = _error(values, np.maximum(values - left_out[best] / root, values.min()))


def _left_out(u: Floats, shrunk: Floats, target: Floats, weights: Floats) -> Floats:
    """The weighted residual of every row when the model is fitted without it: that with it over 1 less its leverage."""
    leverage = (u**2 * shrunk).sum(axis=1) + weights
    return np.asarray((target - u @ (shrunk * (u.T @ target))) / np.maximum(1 - leverage, _LEVERAGE))


def _error(values: Floats, predicted: Floats) -> EstimateError:
    from scipy.stats import kendalltau

    found = float(kendalltau(predicted, values).statistic) if np.ptp(values) and np.ptp(predicted) else np.nan
    relative = float(np.median(np.abs(predicted - values) / values))
    return EstimateError(len(values), relative, found if np.isfinite(found) else None)
