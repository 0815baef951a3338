"""What is thought of candidates after some were measured, quickly enough for every step of a search.

A Gaussian process (Rasmussen and Williams, 2006, chapters 2 and 5) over the parts of `predictors`' processes, each
scaled so that two measured architectures have a mean squared distance of 1. Length and noise are those of a small grid
with the largest marginal likelihood. Nothing is kept from step to step.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from predictors.encoding import Encoder, SpaceEncoder
from predictors.surrogates import MATERN, Parts
from searchspaces import Architecture, Rng, SearchSpace

Floats = npt.NDArray[np.float64]

_LENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # squared, in mean squared distances
_NOISES = (0.01, 0.05, 0.2)  # shares of the targets' variance
_LEARNED = 128  # examples that length and noise are chosen on: more change them little, and cost their cube
_JITTER = 1e-6


@lru_cache(maxsize=8)
def encoder_of(space: SearchSpace) -> SpaceEncoder:
    """What searchers see of a space's architectures; one for all searches of a space, as it remembers what it saw."""
    return SpaceEncoder(space)


class Shape(NamedTuple):
    """Parameters of a covariance: the squared length and the variance of the noise."""

    length: float = 1.0
    noise: float = 0.05


class Distances:
    """How far known architectures are from each other and from those asked about, by every part of what is seen.

    Args:
        known: `n`, two at least that differ.
        asked: `m`.
        encoder: what is seen of them.

    Attributes:
        names: of the parts.

    Raises:
        ValueError: the known ones are the same in all that the encoder gives.
    """

    def __init__(self, known: Sequence[Architecture], asked: Sequence[Architecture], encoder: Encoder) -> None:
        encoded = encoder(known)
        parts = Parts(encoded)
        if not parts.names:
            raise ValueError("the known architectures are all the same in what is seen of them; give others.")
        self.names, self._known, self._asked = parts.names, parts(encoded), parts(encoder(asked))
        self._among = {name: _squared_distances(part, part) for name, part in self._known.items()}
        self._across = {name: _squared_distances(part, self._asked[name]) for name, part in self._known.items()}

    def some(self, rng: Rng) -> tuple[str, ...]:
        """A random part of the parts, one at least."""
        while True:
            chosen = tuple(name for name in self.names if rng.random() < 0.5)
            if chosen:
                return chosen

    def among(self, rows: Sequence[int], names: Sequence[str]) -> Floats:
        """Squared distances between some of the known, `rows x rows`."""
        return np.asarray(sum(self._among[name][np.ix_(rows, rows)] for name in names) / len(names))

    def across(self, rows: Sequence[int], names: Sequence[str]) -> Floats:
        """Squared distances of some of the known from all that were asked about, `rows x m`."""
        return np.asarray(sum(self._across[name][rows] for name in names) / len(names))

    def from_asked(self, indices: Sequence[int], names: Sequence[str]) -> Floats:
        """Squared distances of some that were asked about from all of them, `indices x m`."""
        parts = [self._asked[name] for name in names]
        return np.asarray(sum(_squared_distances(part[list(indices)], part) for part in parts) / len(names))


class Posterior:
    """Mean and deviation of the noise-free target of every architecture that was asked about.

    Args:
        distances: of the known and of those asked about.
        rows: which of the known have a target.
        targets: of those, mean about 0 and deviation about 1.
        shape: of the covariance; None: the most likely one.
        names: the parts that count; None: all.

    Attributes:
        mean: `m`.
    """

    def __init__(
        self,
        distances: Distances,
        rows: Sequence[int],
        targets: Floats,
        shape: Shape | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        from scipy.linalg import solve_triangular

        self._distances, self._names = distances, distances.names if names is None else names
        among = distances.among(rows, self._names)
        self._shape = shape or most_likely(among, targets)
        factor = _factor(among, self._shape)
        covariance = MATERN.value(distances.across(rows, self._names) / self._shape.length)
        self._explained = solve_triangular(factor, covariance, lower=True)  # n x m
        self.mean = np.asarray(self._explained.T @ solve_triangular(factor, targets, lower=True))
        self._variance = 1.0 - (self._explained**2).sum(axis=0)

    @property
    def std(self) -> Floats:
        """`m`."""
        return np.asarray(np.sqrt(np.maximum(self._variance, _JITTER)))

    def expect(self, *indices: int) -> None:
        """Go on as if some that were asked about had been measured and been what is expected: deviations shrink."""
        from scipy.linalg import solve_triangular

        if not indices:
            return
        far, chosen = self._distances.from_asked(indices, self._names), list(indices)
        left = MATERN.value(far / self._shape.length) - self._explained[:, chosen].T @ self._explained
        inner = left[:, chosen] + (self._shape.noise + _JITTER) * np.eye(len(chosen))
        rows = solve_triangular(np.linalg.cholesky(inner), left, lower=True)
        self._explained = np.concatenate([self._explained, rows])
        self._variance = self._variance - (rows**2).sum(axis=0)

    def sample(self, rng: Rng) -> Floats:
        """A draw for every one alone (independent Thompson sampling), `m`."""
        return np.asarray(self.mean + self.std * rng.standard_normal(len(self.mean)))


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


def _squared_distances(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T, 0.0))
