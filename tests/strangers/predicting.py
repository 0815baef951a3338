"""A predictor of what is not a number."""

from __future__ import annotations

import numpy as np

from predictors.encoding import Encoded
from predictors.surrogates import Prediction, Predictor, PredictorConfig
from searchspaces import Plugin, Rng


class Predicting(Predictor):
    def _fit(self, known: Encoded, targets, rng: Rng, progress) -> None:  # type: ignore[no-untyped-def]
        pass

    def _predict(self, asked: Encoded) -> Prediction:
        return Prediction(np.full(len(asked), np.nan), np.ones(len(asked)))


FLAGS = {"uses": ("blocks",), "min_labels": 2, "exact": True}
PLUGIN = Plugin("predicting", "Nothing.", "nobody", Predicting, PredictorConfig, FLAGS)
