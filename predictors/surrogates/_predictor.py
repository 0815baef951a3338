"""What every predictor is: fitted on architectures whose value is known, it says what others are worth."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from predictors.encoding import Encoded, Encoder
from searchspaces import Architecture, Config, Rng

Floats = npt.NDArray[np.float64]
Told = Callable[[float], None]
Target = Literal["normal_scores", "standardised"]


class Prediction(NamedTuple):
    """What architectures are expected to be worth, higher better, in the units of the fitted targets.

    Attributes:
        mean: `n`.
        std: `n`: standard deviation of the noise-free value.
    """

    mean: Floats
    std: Floats


class PredictorConfig(Config):
    """Settings that all predictors have."""

    target: Target = Field(
        "normal_scores",
        description="What is fitted: normal scores by rank, which no heavy tail of bad networks can distort, or "
        "standardised values.",
    )


class Predictor(ABC):
    """Learns a value from examples and predicts it for other architectures of the space.

    Args:
        config: the plug-in's settings.
        encoder: how architectures are written as numbers.

    Attributes:
        min_labels: with fewer it refuses to learn; 0 where it ranks by what is known without any.
        is_fitted: whether it can predict.
    """

    min_labels: ClassVar[int] = 2

    def __init__(self, config: PredictorConfig, encoder: Encoder) -> None:
        self.config, self.encoder = config, encoder
        self.is_fitted = False

    def fit(
        self,
        architectures: Sequence[Architecture],
        values: npt.ArrayLike,
        *,
        rng: Rng,
        progress: Told = lambda share: None,
    ) -> Self:
        """Learns from architectures and their values, `n`, larger better; forgets what it was fitted on before.

        Args:
            rng: for initial weights, resampling and the like; equal streams give equal predictions.
            progress: told the share that is done, 0 to 1.

        Raises:
            ValueError: numbers differ, a value is not finite, there are fewer than `min_labels`, the encoder lacks
                what the predictor reads, or the architectures are all the same in it.
        """
        learned = np.asarray(values, dtype=np.float64).reshape(-1)
        if len(learned) != len(architectures):
            raise ValueError(f"{len(architectures)} architectures but {len(learned)} values; give one for each.")
        if not np.isfinite(learned).all():
            raise ValueError("a value is not finite; leave out what failed.")
        if len(learned) < self.min_labels:
            raise ValueError(f"{len(learned)} values are too few to learn from; give at least {self.min_labels}.")
        transform = normal_scores if self.config.target == "normal_scores" else standardised
        self._fit(self.encoder(architectures), transform(learned), rng, progress)
        self.is_fitted = True
        progress(1.0)
        return self

    def predict(self, architectures: Sequence[Architecture]) -> Prediction:
        """What they are worth. Equal every time it is asked.

        Raises:
            RuntimeError: nothing was fitted yet.
        """
        if not self.is_fitted:
            raise RuntimeError("nothing was fitted yet; call `fit` first.")
        if not architectures:
            return Prediction(np.zeros(0), np.zeros(0))
        return self._predict(self.encoder(architectures))

    @abstractmethod
    def _fit(self, known: Encoded, targets: Floats, rng: Rng, progress: Told) -> None:
        """Learns the targets, `n`, mean about 0 and standard deviation about 1."""

    @abstractmethod
    def _predict(self, asked: Encoded) -> Prediction:
        """In units of the targets, of one architecture at least."""


Cheaper = tuple[Sequence[Architecture], npt.ArrayLike]
"""What was measured at a lower fidelity: architectures and their values, `n`, larger better."""


class AcrossFidelities(Predictor):
    """A predictor that learns from cheaper measurements too; its plug-in has the flag `fidelities`."""

    @abstractmethod
    def fit(
        self,
        architectures: Sequence[Architecture],
        values: npt.ArrayLike,
        *,
        rng: Rng,
        progress: Told = lambda share: None,
        cheaper: Sequence[Cheaper] = (),
    ) -> Self:
        """As `Predictor.fit`; `cheaper`, cheapest first, is what was measured at lower fidelities.

        Raises:
            ValueError: as `Predictor.fit`, of any fidelity.
        """


def normal_scores(values: npt.ArrayLike) -> Floats:
    """Standard normal quantiles of the ranks, `n`; equal values share theirs. Larger values get larger scores."""
    from scipy.stats import norm, rankdata

    given = np.asarray(values, dtype=np.float64)
    return np.asarray(norm.ppf((rankdata(given) - 0.5) / len(given)))


def standardised(values: npt.ArrayLike) -> Floats:
    """Mean 0, standard deviation 1; zeros where all are equal."""
    given = np.asarray(values, dtype=np.float64)
    if len(given) == 0:
        return given
    return np.asarray((given - given.mean()) / (given.std() or 1.0))
