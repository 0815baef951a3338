"""Gaussian processes over whatever is known of architectures, their parameters by marginal likelihood.

Rasmussen and Williams (2006), Gaussian Processes for Machine Learning, chapters 2 and 5. What is known comes in parts
(`Parts`), each a matrix in which the mean squared distance of two fitted architectures is 1. A covariance is a sum of
terms: `Stationary` (one length for every part), `Linear` (a ridge regression whose weights are integrated out, section
2.7 there) and `Network` (a Bayesian network of infinite width).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from predictors.encoding import DesignMatrix, Encoded
from predictors.surrogates._predictor import Floats, Prediction
from predictors.surrogates._structure import Bag, neighbourhoods, path_statistics, places

Matrices = Mapping[str, Floats]

PATHS, PLACES, NEIGHBOURHOODS = "path statistics", "places", "neighbourhoods"
SCORE = "score "
NOISE = 0.2
"""The share of the targets' variance that is noise before anything is known."""

_JITTER = 1e-5
_LEARNED = 400  # examples that parameters are learned from: more change them little, and cost their cube
_CELLS = 2_000_000  # of a matrix that is made for every part at once
_STEPS = 60
_BOUND = 12.0


class Parts:
    """Blocks, what graphs say, and every score, each as a matrix scaled by the fitted architectures.

    Blocks of zeros and ones stay as they are, so that squared distances count differing bits; other columns get
    deviation 1, scores are normal scores by rank (`predictors.encoding.DesignMatrix`). Then every part is centred and
    divided by the root mean squared distance of two fitted architectures; parts in which all are equal are left out.

    Args:
        fitted: what a model is fitted on.
    """

    def __init__(self, fitted: Encoded) -> None:
        self._bits = {name for name, block in fitted.blocks.items() if np.isin(block, (0.0, 1.0)).all()}
        self._numbers = {name: DesignMatrix(part) for name, part in self._columns(fitted).items()}
        self._bags = {name: Bag(codes) for name, codes in _bags(fitted).items()}
        parts = self._unscaled(fitted)
        scales = {name: np.sqrt(2 * part.var(axis=0).sum()) for name, part in parts.items()}
        self._scales = {name: (parts[name].mean(axis=0), scale) for name, scale in scales.items() if scale > 1e-9}

    def __call__(self, asked: Encoded) -> dict[str, Floats]:
        """Name -> `len(asked) x columns`."""
        parts = self._unscaled(asked)
        return {name: (parts[name] - centre) / scale for name, (centre, scale) in self._scales.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """Of the parts."""
        return tuple(self._scales)

    @property
    def bits(self) -> tuple[str, ...]:
        """Names of the parts that are blocks of zeros and ones."""
        return tuple(name for name in self._scales if name in self._bits)

    def _columns(self, encoded: Encoded) -> dict[str, Encoded]:
        """What is scaled column by column."""
        numbers = {name: block for name, block in encoded.blocks.items() if name not in self._bits}
        if encoded.graphs is not None:
            numbers[PATHS] = path_statistics(encoded.graphs)
        parts = {name: Encoded(len(encoded), {name: block}) for name, block in numbers.items()}
        if encoded.scores is not None:
            for index, name in enumerate(encoded.scores.names):
                column = encoded.scores._replace(names=(name,), values=encoded.scores.values[:, index : index + 1])
                parts[SCORE + name] = Encoded(len(encoded), scores=column)
        return parts

    def _unscaled(self, encoded: Encoded) -> dict[str, Floats]:
        parts = {name: encoded.blocks[name] for name in sorted(self._bits)}
        parts |= {name: self._numbers[name](part) for name, part in self._columns(encoded).items()}
        return parts | {name: self._bags[name](codes) for name, codes in _bags(encoded).items()}


def _bags(encoded: Encoded) -> dict[str, npt.NDArray[np.uint64]]:
    if encoded.graphs is None:
        return {}
    return {PLACES: places(encoded.graphs), NEIGHBOURHOODS: neighbourhoods(encoded.graphs)}


def _side_by_side(parts: Matrices, names: Sequence[str]) -> Floats:
    """Columns of the parts, scaled so that fitted architectures have squared length 1 on average."""
    return np.asarray(np.concatenate([parts[name] for name in names], axis=1) * np.sqrt(2 / len(names)))


def _squared_distances(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T, 0))


# --- covariances -----------------------------------------------------------------------------------------------------


class Term(ABC):
    """One summand of a covariance; its logarithmic parameters are the variance and what else it has.

    `relations` is what stays fixed while parameters change.
    """

    def __init__(self, variance: float) -> None:
        self.variance = variance

    def start(self) -> list[float]:
        """The parameters that are most likely before anything is known."""
        return [float(np.log(self.variance))]

    @abstractmethod
    def relations(self, a: Matrices, b: Matrices) -> list[Floats]:
        """`len(a) x len(b)` each."""

    @abstractmethod
    def covariance(self, relations: Sequence[Floats], parameters: Floats) -> Floats:
        """`len(a) x len(b)`."""

    def slopes(self, relations: Sequence[Floats], parameters: Floats, weights: Floats) -> list[float]:
        """Derivatives of the sum of weights times covariance by every parameter."""
        return [float(np.vdot(weights, self.covariance(relations, parameters)))]

    @abstractmethod
    def variances(self, a: Matrices, parameters: Floats) -> Floats:
        """The diagonal of the covariance of `a` with itself."""


class Shape(NamedTuple):
    """How covariance falls with the squared distance u: the value at u, and the derivative by u."""

    value: Callable[[Floats], Floats]
    slope: Callable[[Floats], Floats]


def _root(u: Floats) -> Floats:
    return np.asarray(np.sqrt(5 * u))


MATERN = Shape(
    lambda u: (1 + _root(u) + 5 * u / 3) * np.exp(-_root(u)), lambda u: -5 / 6 * (1 + _root(u)) * np.exp(-_root(u))
)
"""Matérn of smoothness 5/2."""
EXPONENTIAL = Shape(lambda u: np.exp(-u), lambda u: -np.exp(-u))
"""Of squared distances: a Gaussian of numbers, and of bits the exponential of how many differ."""


class Stationary(Term):
    """Falls with the squared distance, summed over parts, each divided by its own length.

    Args:
        shape: how it falls.
        names: of the parts.
        variance: as it is expected.
    """

    def __init__(self, shape: Shape, names: Sequence[str], variance: float) -> None:
        super().__init__(variance)
        self.shape, self.names = shape, tuple(names)

    def start(self) -> list[float]:
        return super().start() + [float(np.log(len(self.names)))] * len(self.names)

    def relations(self, a: Matrices, b: Matrices) -> list[Floats]:
        return [_squared_distances(a[name], b[name]) for name in self.names]

    def covariance(self, relations: Sequence[Floats], parameters: Floats) -> Floats:
        return np.asarray(np.exp(parameters[0]) * self.shape.value(self._summed(relations, parameters)))

    def slopes(self, relations: Sequence[Floats], parameters: Floats, weights: Floats) -> list[float]:
        summed = self._summed(relations, parameters)
        weighted = np.exp(parameters[0]) * weights
        by_distance = weighted * self.shape.slope(summed)
        shares = np.exp(-parameters[1:])
        by_length = [-share * float(np.vdot(by_distance, d)) for d, share in zip(relations, shares, strict=True)]
        return [float(np.vdot(weighted, self.shape.value(summed))), *by_length]

    def variances(self, a: Matrices, parameters: Floats) -> Floats:
        return np.full(len(a[self.names[0]]), np.exp(parameters[0]))

    def _summed(self, relations: Sequence[Floats], parameters: Floats) -> Floats:
        total = np.zeros_like(relations[0])
        for share, distances in zip(np.exp(-parameters[1:]), relations, strict=True):
            total += share * distances
        return total


class Linear(Term):
    """Products of columns: ridge regression on a part, or on several side by side."""

    def __init__(self, names: Sequence[str], variance: float) -> None:
        super().__init__(variance)
        self.names = tuple(names)

    def relations(self, a: Matrices, b: Matrices) -> list[Floats]:
        return [np.asarray(_side_by_side(a, self.names) @ _side_by_side(b, self.names).T)]

    def covariance(self, relations: Sequence[Floats], parameters: Floats) -> Floats:
        return np.asarray(np.exp(parameters[0]) * relations[0])

    def variances(self, a: Matrices, parameters: Floats) -> Floats:
        return np.asarray(np.exp(parameters[0]) * (_side_by_side(a, self.names) ** 2).sum(axis=1))


def ridge(parts: Parts, variance: float) -> list[Linear]:
    """Regressions on every block, on the path statistics and on all scores together, which share the variance."""
    scores = [name for name in parts.names if name.startswith(SCORE)]
    alone = [[name] for name in parts.names if name not in {*scores, PLACES, NEIGHBOURHOODS}]
    groups = alone + ([scores] if scores else [])
    return [Linear(names, variance / len(groups)) for names in groups]


class Network(Term):
    """A fully connected ReLU network of infinite width with normal weights (Cho and Saul, 2009; Lee et al., 2018).

    Args:
        names: of the parts that are its inputs.
        depth: hidden layers.
        weight_variance, bias_variance: of the normal weights and biases.
        variance: of what it puts out, as it is expected.
    """

    def __init__(
        self, names: Sequence[str], *, depth: int, weight_variance: float, bias_variance: float, variance: float
    ) -> None:
        super().__init__(variance)
        self.names, self.depth = tuple(names), depth
        self.weight_variance, self.bias_variance = weight_variance, bias_variance

    def relations(self, a: Matrices, b: Matrices) -> list[Floats]:
        x, y = _side_by_side(a, self.names), _side_by_side(b, self.names)
        of_x, of_y = self._inputs((x**2).sum(axis=1)), self._inputs((y**2).sum(axis=1))
        between = self._inputs(x @ y.T)
        for _ in range(self.depth):
            root = np.sqrt(of_x[:, None] * of_y)
            angle = np.arccos(np.clip(between / root, -1, 1))
            expected = root / (2 * np.pi) * (np.sin(angle) + (np.pi - angle) * np.cos(angle))
            between = self.bias_variance + self.weight_variance * expected
            of_x, of_y = (self.bias_variance + self.weight_variance * of / 2 for of in (of_x, of_y))
        return [between / self._typical()]

    def covariance(self, relations: Sequence[Floats], parameters: Floats) -> Floats:
        return np.asarray(np.exp(parameters[0]) * relations[0])

    def variances(self, a: Matrices, parameters: Floats) -> Floats:
        of = self._inputs((_side_by_side(a, self.names) ** 2).sum(axis=1))
        for _ in range(self.depth):
            of = self.bias_variance + self.weight_variance * of / 2
        return np.asarray(np.exp(parameters[0]) * of / self._typical())

    def _inputs(self, products: Floats) -> Floats:
        return np.asarray(self.bias_variance + self.weight_variance * products)

    def _typical(self) -> float:
        """The variance of the output for an input of squared length 1, which the outputs are divided by."""
        of = self.bias_variance + self.weight_variance
        for _ in range(self.depth):
            of = self.bias_variance + self.weight_variance * of / 2
        return of


def mixture(predictions: Sequence[Prediction], weights: Floats | None = None) -> Prediction:
    """Mean and deviation of a mixture of normal distributions; equal weights by default."""
    shares = np.ones(len(predictions)) if weights is None else weights
    shares = shares / shares.sum()
    means, stds = (np.stack(each) for each in zip(*predictions, strict=True))  # members x n
    mean = shares @ means
    return Prediction(mean, np.sqrt(shares @ (stds**2 + (means - mean) ** 2)))


# --- the process -----------------------------------------------------------------------------------------------------


class GaussianProcess:
    """A sum of terms and noise. Parameters have log-normal priors, of deviation 1, around where they start.

    400 examples with ten parts take about half a second on one core. Parameters are learned from at most so many,
    spread evenly over the targets; all examples are conditioned on.

    Args:
        terms: at least one.
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        self.terms = tuple(terms)
        starts = [term.start() for term in self.terms]
        self._ends = np.cumsum([len(start) for start in starts])
        self._start = np.array([*(value for start in starts for value in start), np.log(NOISE)])
        self.parameters = self._start

    def fit(self, parts: Matrices, targets: Floats) -> GaussianProcess:
        """Learn parameters and condition on the targets, `n`, mean about 0, deviation about 1."""
        from scipy.linalg import cho_factor

        learned = np.argsort(targets, kind="stable")
        if len(targets) > _LEARNED:
            learned = learned[np.linspace(0, len(targets) - 1, _LEARNED).astype(int)]
        self.parameters = self._most_likely({name: part[learned] for name, part in parts.items()}, targets[learned])
        self._parts, self._targets = parts, targets
        covariance = np.concatenate([self._to_examples(chunk) for chunk in self._chunks(parts)])
        self._factor = cho_factor(covariance + self._noise() * np.eye(len(targets)), lower=True)
        self._weights = self._solve(targets)
        return self

    def predict(self, parts: Matrices) -> Prediction:
        """Posterior mean and deviation, without noise."""
        return Prediction(*map(np.concatenate, zip(*map(self._predict, self._chunks(parts)), strict=True)))

    def left_out(self) -> Prediction:
        """What is predicted of every example from all others, the parameters kept; the deviation is with noise.

        Rasmussen and Williams (2006), section 5.4.2.
        """
        variance = 1 / np.diag(self._solve(np.eye(len(self._targets))))
        return Prediction(self._targets - self._weights * variance, np.sqrt(variance))

    def _predict(self, parts: Matrices) -> Prediction:
        from scipy.linalg import solve_triangular

        between = self._to_examples(parts)
        explained = (solve_triangular(self._factor[0], between.T, lower=True) ** 2).sum(axis=0)
        prior = sum(term.variances(parts, p) for term, p in zip(self.terms, self._split(), strict=True))
        return Prediction(between @ self._weights, np.sqrt(np.maximum(prior - explained, _JITTER)))

    def _most_likely(self, parts: Matrices, targets: Floats) -> Floats:
        from scipy.optimize import minimize

        relations, identity = self._relations(parts, parts), np.eye(len(targets))

        def loss(parameters: Floats) -> tuple[float, Floats]:
            return self._loss(parameters, relations, targets, identity)

        bounds = [(-_BOUND, _BOUND)] * len(self._start)
        found = minimize(loss, self._start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _STEPS})
        return np.asarray(found.x)

    def _loss(
        self, parameters: Floats, relations: list[list[Floats]], targets: Floats, identity: Floats
    ) -> tuple[float, Floats]:
        """Negative logarithm of the marginal likelihood times the prior, and its gradient."""
        from scipy.linalg import cho_factor, cho_solve

        self.parameters = parameters
        factor = cho_factor(self._covariance(relations) + self._noise() * identity, lower=True)
        weights = cho_solve(factor, targets)
        by_covariance = 0.5 * (cho_solve(factor, identity) - np.outer(weights, weights))
        each = zip(self.terms, relations, self._split(), strict=True)
        slopes = [slope for term, known, p in each for slope in term.slopes(known, p, by_covariance)]
        slopes.append(float(np.exp(parameters[-1]) * np.trace(by_covariance)))
        away = parameters - self._start
        value = 0.5 * targets @ weights + np.log(np.diag(factor[0])).sum() + 0.5 * away @ away
        return float(value), np.array(slopes) + away

    def _chunks(self, parts: Matrices) -> Iterator[Matrices]:
        """Some rows at a time; at least one chunk."""
        rows = max(1, _CELLS // len(self._targets))
        for first in range(0, max(1, len(next(iter(parts.values())))), rows):
            yield {name: part[first : first + rows] for name, part in parts.items()}

    def _to_examples(self, parts: Matrices) -> Floats:
        return self._covariance(self._relations(parts, self._parts))

    def _relations(self, a: Matrices, b: Matrices) -> list[list[Floats]]:
        return [term.relations(a, b) for term in self.terms]

    def _covariance(self, relations: Sequence[Sequence[Floats]]) -> Floats:
        each = zip(self.terms, relations, self._split(), strict=True)
        return np.asarray(sum(term.covariance(known, p) for term, known, p in each))

    def _split(self) -> list[Floats]:
        return np.split(self.parameters[:-1], self._ends[:-1])

    def _noise(self) -> float:
        return float(np.exp(self.parameters[-1])) + _JITTER

    def _solve(self, right: Floats) -> Floats:
        from scipy.linalg import cho_solve

        return np.asarray(cho_solve(self._factor, right))
