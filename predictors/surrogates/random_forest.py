"""Random forest: the mean and the spread of regression trees on resampled examples.

Breiman (2001), Random Forests, Machine Learning 45. The spread over the trees as uncertainty is from Hutter, Hoos and
Leyton-Brown (2011), Sequential Model-Based Optimization for General Algorithm Configuration (SMAC).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from predictors.encoding import Encoder
from predictors.surrogates._matrix import USES, MatrixPredictor
from predictors.surrogates._predictor import Floats, Prediction, PredictorConfig, Told
from searchspaces import Plugin, Rng

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestRegressor


class RandomForestConfig(PredictorConfig):
    """Settings of `random_forest`."""

    trees: int = Field(200, ge=2, le=10_000, description="How many trees.")
    columns: float = Field(1 / 3, gt=0, le=1, description="Share of the columns that a split may choose from.")
    smallest_leaf: int = Field(1, ge=1, le=1000, description="Fewest examples in a leaf.")


class RandomForest(MatrixPredictor):
    """Trees of scikit-learn on one thread."""

    def __init__(self, config: RandomForestConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self._settings = {
            "n_estimators": config.trees,
            "max_features": config.columns,
            "min_samples_leaf": config.smallest_leaf,
        }
        self._forest: RandomForestRegressor

    def _fit_matrix(self, x: Floats, targets: Floats, rng: Rng, progress: Told) -> None:
        from sklearn.ensemble import RandomForestRegressor

        self._forest = RandomForestRegressor(**self._settings, random_state=int(rng.integers(2**31)), n_jobs=1)
        self._forest.fit(x, targets)

    def _predict_matrix(self, x: Floats) -> Prediction:
        every = np.stack([tree.predict(x) for tree in self._forest.estimators_])  # trees x n
        return Prediction(mean=every.mean(axis=0), std=every.std(axis=0))


PLUGIN = Plugin(
    name="random_forest",
    description="Mean and spread of regression trees on resampled examples",
    source="Breiman (2001), Random Forests, Machine Learning 45",
    create=RandomForest,
    Config=RandomForestConfig,
    flags={"uses": USES, "min_labels": RandomForest.min_labels, "exact": False, "quick": ("trees=50",)},
)
