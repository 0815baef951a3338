"""Gaussian process over everything that is known: kernels, a ridge mean, an ensemble of kernels.

Chen et al. (2023), GP-NAS-ensemble: a model for NAS Performance Prediction, arXiv 2301.09231: the average of Gaussian
processes with different kernels around a ridge regression, fitted to normal scores. Deviations: one length for every
part of what is known, by marginal likelihood, and the weights of the ridge integrated out rather than fitted before,
so that the spread knows of them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from predictors.encoding import Encoded, Encoder
from predictors.surrogates._gaussian import (
    EXPONENTIAL,
    MATERN,
    GaussianProcess,
    Parts,
    Stationary,
    mixture,
    ridge,
)
from predictors.surrogates._predictor import Floats, Prediction, Predictor, PredictorConfig, Told
from searchspaces import Plugin, Rng

_MEAN = 0.3  # share of the targets' variance that the ridge regression is expected to explain


class GPConfig(PredictorConfig):
    """Settings of `gp`."""

    kernel: Literal["matern", "gaussian", "hamming", "ensemble"] = Field(
        "matern",
        description="How covariance falls with distance: Matérn 5/2 or Gaussian of all that is known, exponential of "
        "the number of differing bits of one-hot and path codes, or the average of all three, which took three times "
        "as long and ranked no better on any table.",
    )
    mean: Literal["ridge", "zero"] = Field("ridge", description="What the process is spread around.")


class GP(Predictor):
    """One or several Gaussian processes; their mean, and the deviation of their mixture."""

    def __init__(self, config: GPConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self._kernel, self._mean = config.kernel, config.mean

    def _fit(self, known: Encoded, targets: Floats, rng: Rng, progress: Told) -> None:
        self.learn(known, targets, rng, progress)

    def _predict(self, asked: Encoded) -> Prediction:
        return self.predict_encoded(asked)

    def learn(self, known: Encoded, targets: Floats, rng: Rng, progress: Told = lambda share: None) -> None:
        """Learns targets, `n`, mean about 0 and standard deviation about 1, of architectures that are encoded."""
        self._parts = Parts(known)
        mean = ridge(self._parts, _MEAN) if self._mean == "ridge" else []
        kernels = self._kernels(1 - _MEAN if mean else 1.0)
        if not kernels:
            raise ValueError("the architectures do not differ in what the kernel reads; give others, or more.")
        parts, self._processes = self._parts(known), []
        for number, kernel in enumerate(kernels, 1):
            self._processes.append(GaussianProcess([kernel, *mean]).fit(parts, targets))
            progress(number / len(kernels))

    def predict_encoded(self, asked: Encoded) -> Prediction:
        """As `predict`, of architectures that are encoded already; in units of the targets."""
        parts = self._parts(asked)
        return mixture([process.predict(parts) for process in self._processes])

    def _kernels(self, variance: float) -> list[Stationary]:
        shapes = {
            "matern": (MATERN, self._parts.names),
            "gaussian": (EXPONENTIAL, self._parts.names),
            "hamming": (EXPONENTIAL, self._parts.bits),
        }
        chosen = list(shapes) if self._kernel == "ensemble" else [self._kernel]
        return [Stationary(*shapes[name], variance) for name in chosen if shapes[name][1]]


PLUGIN = Plugin(
    name="gp",
    description="Gaussian processes with one length for every part of what is known, around a ridge regression.",
    source="Chen et al. (2023), GP-NAS-ensemble, arXiv 2301.09231",
    create=GP,
    Config=GPConfig,
    flags={"uses": ("blocks", "graphs", "scores"), "min_labels": GP.min_labels, "exact": True},
)
