"""Ridge regression: the linear model that every other has to beat.

Hoerl and Kennard (1970), Ridge Regression: Biased Estimation for Nonorthogonal Problems, Technometrics 12. In its
Bayesian reading: weights have a normal prior, its width and that of the noise are the most probable ones (MacKay, 1992,
Bayesian Interpolation, Neural Computation 4), and the spread is the posterior's.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from predictors.encoding import Encoder
from predictors.surrogates._matrix import USES, MatrixPredictor
from predictors.surrogates._predictor import Floats, Prediction, PredictorConfig, Told
from searchspaces import Plugin, Rng

_PENALTIES = np.logspace(-4, 4, 65)  # times the number of columns


class RidgeConfig(PredictorConfig):
    """Settings of `ridge`."""

    penalty: float | None = Field(
        None,
        ge=1e-6,
        le=1e6,
        description="Variance of the noise over that of the weights, per column; without it the most probable one.",
    )


class Ridge(MatrixPredictor):
    """Linear in the columns of the design matrix."""

    def __init__(self, config: RidgeConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self._penalty = config.penalty

    def _fit_matrix(self, x: Floats, targets: Floats, rng: Rng, progress: Told) -> None:
        left, singular, self._axes = np.linalg.svd(x, full_matrices=False)  # n x r, r, r x columns
        along, outside = left.T @ targets, max(float(targets @ targets - ((left.T @ targets) ** 2).sum()), 0.0)
        penalties = (_PENALTIES if self._penalty is None else np.array([self._penalty])) * x.shape[1]
        inside = singular**2 + penalties[:, None]  # penalties x r
        # With y ~ N(0, s (x x' + penalty I)) the most probable s has a closed form.
        scales = ((along**2 / inside).sum(axis=1) + outside / penalties) / len(x)
        scales = np.maximum(scales, np.finfo(float).tiny)
        log_volume = np.log(inside).sum(axis=1) + (len(x) - len(singular)) * np.log(penalties)
        best = int(np.argmin(len(x) * np.log(scales) + log_volume))
        self._scale, penalty = float(scales[best]), penalties[best]
        self._weights = self._axes.T @ (singular * along / (singular**2 + penalty))
        self._shrinkage = singular**2 / (singular**2 + penalty)

    def _predict_matrix(self, x: Floats) -> Prediction:
        explained = (x @ self._axes.T) ** 2 @ self._shrinkage
        variance = self._scale * np.maximum((x**2).sum(axis=1) - explained, 0.0)
        return Prediction(mean=x @ self._weights, std=np.sqrt(variance))


PLUGIN = Plugin(
    name="ridge",
    description="Linear regression with a normal prior on its weights",
    source="Hoerl and Kennard (1970), Ridge Regression, Technometrics 12; MacKay (1992), Neural Computation 4",
    create=Ridge,
    Config=RidgeConfig,
    flags={"uses": USES, "min_labels": Ridge.min_labels, "exact": True},
)
