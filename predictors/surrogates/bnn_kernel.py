"""Bayesian neural network of infinite width: a Gaussian process whose covariance is the network's.

Li, Rudner and Wilson (2024), A Study of Bayesian Neural Network Surrogates for Bayesian Optimization, arXiv 2305.20028,
whose setting is the default: ReLU, three hidden layers, weight variance 10, bias variance 1.3. The covariance is the
recursion of Cho and Saul (2009), Kernel Methods for Deep Learning, and Lee et al. (2018), arXiv 1711.00165.
"""

from __future__ import annotations

from pydantic import Field

from predictors.encoding import Encoded, Encoder
from predictors.surrogates._gaussian import GaussianProcess, Network, Parts
from predictors.surrogates._predictor import Floats, Prediction, Predictor, PredictorConfig, Told
from searchspaces import Plugin, Rng


class BNNKernelConfig(PredictorConfig):
    """Settings of `bnn_kernel`."""

    depth: int = Field(3, ge=1, le=50, description="Hidden layers.")
    weight_variance: float = Field(10.0, gt=0, le=1e3, description="Variance of the weights, times their number.")
    bias_variance: float = Field(1.3, ge=0, le=1e3, description="Variance of the biases.")


class BNNKernel(Predictor):
    """Inputs are all parts of what is known, with equal weights; output scale and noise by marginal likelihood."""

    def __init__(self, config: BNNKernelConfig, encoder: Encoder) -> None:
        super().__init__(config, encoder)
        self._depth = config.depth
        self._variances = {"weight_variance": config.weight_variance, "bias_variance": config.bias_variance}

    def _fit(self, known: Encoded, targets: Floats, rng: Rng, progress: Told) -> None:
        self._parts = Parts(known)
        if not self._parts.names:
            raise ValueError("the architectures do not differ in anything that is known; give others, or more.")
        network = Network(self._parts.names, variance=1.0, depth=self._depth, **self._variances)
        self._process = GaussianProcess([network]).fit(self._parts(known), targets)

    def _predict(self, asked: Encoded) -> Prediction:
        return self._process.predict(self._parts(asked))


PLUGIN = Plugin(
    name="bnn_kernel",
    description="Gaussian process with the covariance of a ReLU network of infinite width.",
    source="Li, Rudner and Wilson (2024), arXiv 2305.20028; Lee et al. (2018), arXiv 1711.00165",
    create=BNNKernel,
    Config=BNNKernelConfig,
    flags={"uses": ("blocks", "graphs", "scores"), "min_labels": BNNKernel.min_labels, "exact": True},
)
