"""Gradient-boosted trees, an ensemble over resampled examples.

Ke et al. (2017), LightGBM: A Highly Efficient Gradient Boosting Decision Tree, NeurIPS. Boosted trees have no spread of
their own; here it is that of a few models on bootstrap samples (Efron, 1979, Annals of Statistics 7), whose mean also
ranks better than one model on all.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from predictors.encoding import Encoder
from predictors.surrogates._matrix import USES, MatrixPredictor
from predictors.surrogates._predictor import Floats, Prediction, PredictorConfig, Told
from searchspaces import BrokenPlugin, Plugin, Rng

if TYPE_CHECKING:
    from lightgbm import Booster


class LightGBMConfig(PredictorConfig):
    """Settings of `lightgbm`."""

    members: int = Field(8, ge=2, le=1000, description="How many models, each on a bootstrap sample of its own.")
    trees: int = Field(150, ge=1, le=100_000, description="Boosting rounds of a member.")
    learning_rate: float = Field(0.05, gt=0, le=1, description="Share of a tree that is added.")
    leaves: int = Field(15, ge=2, le=10_000, description="Most leaves of a tree.")
    smallest_leaf: int = Field(3, ge=1, le=1000, description="Fewest examples in a leaf.")
    columns: float = Field(0.5, gt=0, le=1, description="Share of the columns that a tree may use.")


class LightGBM(MatrixPredictor):
    """LightGBM on one thread in its deterministic mode."""

    def __init__(self, config: LightGBMConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self._members, self._trees = config.members, config.trees
        self._settings: dict[str, object] = {
            "objective": "regression",
            "learning_rate": config.learning_rate,
            "num_leaves": config.leaves,
            "min_data_in_leaf": config.smallest_leaf,
            "min_data_in_bin": 1,
            "feature_fraction": config.columns,
            "num_threads": 1,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }
        self._boosters: list[Booster] = []

    def _fit_matrix(self, x: Floats, targets: Floats, rng: Rng, progress: Told) -> None:
        lightgbm = _library()
        self._boosters = []
        for member in range(self._members):
            settings = {**self._settings, "seed": int(rng.integers(2**31))}
            # How often an example was drawn is its weight: a leaf needs so many different ones.
            drawn = rng.multinomial(len(x), np.full(len(x), 1 / len(x)))
            kept = drawn > 0
            data = lightgbm.Dataset(x[kept], targets[kept], weight=drawn[kept], params=settings)
            self._boosters.append(lightgbm.train(settings, data, num_boost_round=self._trees))
            progress((member + 1) / self._members)

    def _predict_matrix(self, x: Floats) -> Prediction:
        every = np.stack([np.asarray(booster.predict(x, num_threads=1)) for booster in self._boosters])  # members x n
        return Prediction(mean=every.mean(axis=0), std=every.std(axis=0))


def _library() -> ModuleType:
    """LightGBM.

    Raises:
        BrokenPlugin: it is not installed, or the system lacks the OpenMP library that it needs.
    """
    try:
        return import_module("lightgbm")
    except (ImportError, OSError) as error:
        raise BrokenPlugin(f"lightgbm does not load: {error}; install it, and Debian's libgomp1.") from error


PLUGIN = Plugin(
    name="lightgbm",
    description="Gradient-boosted trees, an ensemble over bootstrap samples",
    source="Ke et al. (2017), LightGBM: A Highly Efficient Gradient Boosting Decision Tree, NeurIPS",
    create=LightGBM,
    Config=LightGBMConfig,
    flags={"uses": USES, "min_labels": LightGBM.min_labels, "exact": False, "quick": ("trees=50",)},
)
