"""What is thought of candidates after some were measured, quickly enough for every step of a search.

A Gaussian process (Rasmussen and Williams, 2006, chapters 2 and 5) over the parts of `predictors`' processes, each
scaled so that two measured architectures have a mean squared distance of 1, with one length for all parts; length and
noise are those of a small grid with the largest marginal likelihood. Nothing is kept from step to step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from predictors.encoding import Encoder
from predictors.surrogates._gaussian import MATERN, Parts
from searchspaces import Architecture

Floats = npt.NDArray[np.float64]

_LENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # squared, in mean squared distances
_NOISES = (0.01, 0.05, 0.2)  # shares of the targets' variance
_LEARNED = 128  # examples that length and noise are chosen on: more change them little, and cost their cube
_JITTER = 1e-6


class Shape(NamedTuple):
    """Parameters of a covariance: the squared length and the variance of the noise."""

    length: float = 1.0
    noise: float = 0.05


class Distances:
    """Squared distances of known architectures from each other and from those asked about.

    Args:
        known: `n`, two at least that differ.
        asked: `m`.
        encoder: what is seen of them.

    Raises:
        ValueError: the known ones are the same in all that the encoder gives.
    """

    def __init__(self, known: Sequence[Architecture], asked: Sequence[Architecture], encoder: Encoder) -> None:
        encoded = encoder(known)
        parts = Parts(encoded)
        if not parts.names:
            raise ValueError("the known architectures are all the same in what is seen of them; give others.")
        self._known, self._asked = (_side_by_side(parts(part)) for part in (encoded, encoder(asked)))
        self.among = _squared_distances(self._known, self._known)  # n x n
        self.across = _squared_distances(self._known, self._asked)  # n x m

    def from_asked(self, index: int) -> Floats:
        """Of one of those asked about from all of them, `m`."""
        return _squared_distances(self._asked[index : index + 1], self._asked)[0]


class Posterior:
    """Mean and deviation of the noise-free target of every architecture that was asked about.

    Args:
        distances: of the known ones from each other and from the others.
        rows: which of the known ones have a target.
        targets: of those, mean about 0 and deviation about 1.
        shape: of the covariance; None: the most likely one.

    Attributes:
        mean: `m`.
    """

    def __init__(self, distances: Distances, rows: Sequence[int], targets: Floats, shape: Shape | None = None) -> None:
        from scipy.linalg import solve_triangular

        self._distances = distances
        among = distances.among[np.ix_(rows, rows)]
        self.shape = shape or most_likely(among, targets)
        factor = _factor(among, self.shape)
        covariance = MATERN.value(distances.across[list(rows)] / self.shape.length)
        self._explained = solve_triangular(factor, covariance, lower=True)  # n x m
        self.mean = np.asarray(self._explained.T @ solve_triangular(factor, targets, lower=True))
        self._variance = 1.0 - (self._explained**2).sum(axis=0)

    @property
    def std(self) -> Floats:
        """`m`."""
        return np.asarray(np.sqrt(np.maximum(self._variance, _JITTER)))

    def sample(self, rng: np.random.Generator) -> Floats:
        """A draw for every one alone (independent Thompson sampling), `m`."""
        return np.asarray(self.mean + self.std * rng.standard_normal(len(self.mean)))

    def expect(self, index: int) -> None:
        """Go on as if one of those asked about had been measured and been what is expected: only deviations shrink."""
        covariance = MATERN.value(self._distances.from_asked(index) / self.shape.length)
        left = covariance - self._explained[:, index] @ self._explained
        row = left / np.sqrt(max(left[index], 0.0) + self.shape.noise + _JITTER)
        self._explained = np.concatenate([self._explained, row[None]])
        self._variance = self._variance - row**2


def most_likely(among: Floats, targets: Floats) -> Shape:
    """Of the grid, the shape with the largest marginal likelihood; of many targets a part, spread evenly, is used."""
    from scipy.linalg import solve_triangular

    if len(targets) > _LEARNED:
        order = np.argsort(targets, kind="stable")
        kept = order[np.linspace(0, len(targets) - 1, _LEARNED).astype(int)]
        among, targets = among[np.ix_(kept, kept)], targets[kept]

    def likelihood(shape: Shape) -> float:
        factor = _factor(among, shape)
        white = solve_triangular(factor, targets, lower=True)
        return float(-0.5 * white @ white - np.log(np.diag(factor)).sum())

    return max((Shape(length, noise) for length in _LENGTHS for noise in _NOISES), key=likelihood)


def _factor(among: Floats, shape: Shape) -> Floats:
    """The Cholesky factor of the covariance of what was measured."""
    covariance = MATERN.value(among / shape.length)
    return np.asarray(np.linalg.cholesky(covariance + (shape.noise + _JITTER) * np.eye(len(among))))


def _side_by_side(parts: dict[str, Floats]) -> Floats:
    return np.asarray(np.concatenate(list(parts.values()), axis=1) / np.sqrt(len(parts)))


def _squared_distances(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T, 0.0))
