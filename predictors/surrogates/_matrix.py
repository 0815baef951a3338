"""Predictors that read everything that is known as one matrix."""

from __future__ import annotations

from abc import abstractmethod

from predictors.encoding import DesignMatrix, Encoded
from predictors.surrogates._predictor import Floats, Prediction, Predictor, Told
from searchspaces import Rng

USES = ("blocks", "scores")


class MatrixPredictor(Predictor):
    """Fitted on the design matrix of blocks and scores; see `predictors.encoding.DesignMatrix`."""

    def _fit(self, known: Encoded, targets: Floats, rng: Rng, progress: Told) -> None:
        if not known.matrix().shape[1]:
            raise ValueError("the encoder gives no column to learn from; give it blocks or scores.")
        self._design = DesignMatrix(known)
        self._fit_matrix(self._design(known), targets, rng, progress)

    def _predict(self, asked: Encoded) -> Prediction:
        return self._predict_matrix(self._design(asked))

    @abstractmethod
    def _fit_matrix(self, x: Floats, targets: Floats, rng: Rng, progress: Told) -> None:
        """Learns from x, `n x columns`, and the targets, `n`."""

    @abstractmethod
    def _predict_matrix(self, x: Floats) -> Prediction:
        """Of x, `n x columns`."""
