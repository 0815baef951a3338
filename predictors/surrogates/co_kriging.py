"""Gaussian processes across fidelities: many cheap measurements tell what a few dear ones would be.

Kennedy and O'Hagan (2000), Predicting the Output from a Complex Computer Code when Fast Approximations are Available,
Biometrika 87: what is measured at one fidelity is rho times what is at the cheaper one, plus a process of its own. Rho
is fitted by least squares on normal scores; every process is `gp`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from predictors.encoding import Encoded, Encoder
from predictors.surrogates._predictor import AcrossFidelities, Cheaper, Floats, Prediction, Predictor, Told
from predictors.surrogates.gp import GP, GPConfig
from searchspaces import Architecture, Plugin, Rng

_LEAST = 1e-6  # a difference between fidelities that is smaller than this is none


class _Step(NamedTuple):
    """From one fidelity to the next: `rho` times what is expected below, and the rest in units of `scale`."""

    rho: float
    scale: float
    rest: GP | None


class CoKriging(AcrossFidelities):
    """Predicts the dearest fidelity from all of them; without cheaper ones it is `gp`."""

    def __init__(self, config: GPConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self._gp = config
        self._below: CoKriging | None = None
        self._step = _Step(0.0, 1.0, None)

    def fit(
        self,
        architectures: Sequence[Architecture],
        values: npt.ArrayLike,
        *,
        rng: Rng,
        progress: Told = lambda share: None,
        cheaper: Sequence[Cheaper] = (),
    ) -> Self:
        """Fidelities with too few measurements are left out; see `AcrossFidelities.fit`."""
        useful = [found for found in cheaper if len(found[0]) >= self.min_labels]
        self._below = None
        if useful:
            self._below = CoKriging(self._gp, self.encoder)
            self._below.fit(*useful[-1], rng=rng, cheaper=useful[:-1])
        Predictor.fit(self, architectures, values, rng=rng, progress=progress)
        return self

    def _fit(self, known: Encoded, targets: Floats, rng: Rng, progress: Told) -> None:
        rho, rest = 0.0, targets
        if self._below is not None:
            expected = self._below.predict_encoded(known).mean
            rho = max(0.0, float(expected @ targets) / max(float(expected @ expected), _LEAST))
            rest = targets - rho * expected
        scale = float(np.sqrt(np.mean(rest**2)))
        process = None
        if scale > _LEAST:
            process = GP(self._gp, self.encoder)
            process.learn(known, rest / scale, rng, progress)
        self._step = _Step(rho, scale, process)

    def _predict(self, asked: Encoded) -> Prediction:
        return self.predict_encoded(asked)

    def predict_encoded(self, asked: Encoded) -> Prediction:
        """As `predict`, of architectures that are encoded already."""
        mean, variance = np.zeros(asked.size), np.zeros(asked.size)
        if self._step.rest is not None:
            found = self._step.rest.predict_encoded(asked)
            mean, variance = self._step.scale * found.mean, (self._step.scale * found.std) ** 2
        if self._below is not None:
            below = self._below.predict_encoded(asked)
            mean, variance = mean + self._step.rho * below.mean, variance + (self._step.rho * below.std) ** 2
        return Prediction(mean, np.sqrt(variance))


PLUGIN = Plugin(
    name="co_kriging",
    description="Gaussian processes across fidelities: rho times the cheaper one, plus what that does not tell.",
    source="Kennedy and O'Hagan (2000), Predicting the Output from a Complex Computer Code, Biometrika 87",
    create=CoKriging,
    Config=GPConfig,
    flags={
        "uses": ("blocks", "graphs", "scores"),
        "min_labels": CoKriging.min_labels,
        "exact": True,
        "fidelities": True,
    },
)
