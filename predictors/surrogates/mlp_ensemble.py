"""Ensemble of narrow, deep networks: the predictor of BANANAS.

White, Neiswanger and Savani (2021), BANANAS: Bayesian Optimization with Neural Architectures for Neural Architecture
Search, AAAI, arXiv 1910.11858. Five networks of ten layers of 20 units, mean absolute error, Adam at 0.01, 150 epochs
in batches of 32. Here all members are trained at once, as one batched product per layer, each on an order of its own.
Deviation: inputs are the columns of the design matrix, not path bits alone.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from predictors.encoding import Encoder
from predictors.surrogates._matrix import USES, MatrixPredictor
from predictors.surrogates._predictor import Floats, Prediction, PredictorConfig, Told
from searchspaces import Plugin, Rng

if TYPE_CHECKING:
    from torch import Tensor


class MLPEnsembleConfig(PredictorConfig):
    """Settings of `mlp_ensemble`; the defaults are the paper's."""

    members: int = Field(5, ge=2, le=100, description="How many networks.")
    layers: int = Field(10, ge=1, le=100, description="Hidden layers of each.")
    width: int = Field(20, ge=1, le=10_000, description="Units of a hidden layer.")
    epochs: int = Field(150, ge=1, le=100_000, description="Passes over the examples.")
    batch_size: int = Field(32, ge=1, le=100_000, description="Examples of a step.")
    learning_rate: float = Field(0.01, gt=0, le=1, description="Rate of Adam.")


class MLPEnsemble(MatrixPredictor):
    """Networks with rectified units, in torch."""

    def __init__(self, config: MLPEnsembleConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self._settings = config
        self._weights: list[tuple[Tensor, Tensor]] = []

    def _fit_matrix(self, x: Floats, targets: Floats, rng: Rng, progress: Told) -> None:
        import torch

        config = self._settings
        widths = [x.shape[1], *([config.width] * config.layers), 1]
        self._weights = [_layer(config.members, *shape, rng) for shape in pairwise(widths)]
        optimizer = torch.optim.Adam([w for layer in self._weights for w in layer], lr=config.learning_rate)
        inputs, wanted = torch.from_numpy(x).float(), torch.from_numpy(targets).float()
        with torch.enable_grad():
            for epoch in range(config.epochs):
                order = torch.from_numpy(rng.permuted(np.tile(np.arange(len(x)), (config.members, 1)), axis=1))
                for batch in torch.split(order, config.batch_size, dim=1):  # members x batch
                    # Summed over the members: none sees the others' gradient.
                    loss = (self._forward(inputs[batch]) - wanted[batch]).abs().mean(dim=1).sum()
                    optimizer.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                progress((epoch + 1) / config.epochs)
        for layer in self._weights:
            for weights in layer:
                weights.requires_grad_(False)

    def _predict_matrix(self, x: Floats) -> Prediction:
        import torch

        every = self._forward(torch.from_numpy(x).float().expand(self._settings.members, *x.shape)).double().numpy()
        return Prediction(mean=every.mean(axis=0), std=every.std(axis=0))

    def _forward(self, x: Tensor) -> Tensor:
        """x: `members x n x columns`; gives `members x n`."""
        import torch

        for weights, bias in self._weights[:-1]:
            x = torch.baddbmm(bias, x, weights).relu()
        weights, bias = self._weights[-1]
        return torch.baddbmm(bias, x, weights).squeeze(2)


def _layer(members: int, inputs: int, outputs: int, rng: Rng) -> tuple[Tensor, Tensor]:
    """Weights, uniform as Glorot and Bengio (2010) draw them, and zero biases."""
    import torch

    bound = np.sqrt(6 / (inputs + outputs))
    drawn = rng.uniform(-bound, bound, size=(members, inputs, outputs))
    return torch.from_numpy(drawn).float().requires_grad_(), torch.zeros(members, 1, outputs, requires_grad=True)


PLUGIN = Plugin(
    name="mlp_ensemble",
    description="Mean and spread of five narrow networks of ten layers, as in BANANAS",
    source="White, Neiswanger and Savani (2021), BANANAS, AAAI, arXiv 1910.11858",
    create=MLPEnsemble,
    Config=MLPEnsembleConfig,
    flags={"uses": USES, "min_labels": MLPEnsemble.min_labels, "exact": False, "quick": ("epochs=25", "layers=4")},
)
