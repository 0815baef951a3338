"""What every task is: what a batch means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class Task(ABC):
    """Turns logits and targets into losses and metrics."""

    @abstractmethod
    def losses(self, logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """Loss of every sample, `batch`; gradients flow."""

    @abstractmethod
    def metrics(self, logits: Tensor, targets: Tensor) -> dict[str, float]:
        """Metric name -> value over all samples given (`accuracy` is a fraction, `loss` a mean); no gradients."""

    @abstractmethod
    def gradient_norm_bound(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Norm of the loss gradient at the logits for every sample, `batch`, detached.

        The upper bound of the per-sample gradient norm of Katharopoulos and Fleuret (2018, arXiv 1803.00942), up to a
        constant; for cross-entropy it is ||softmax(z) - onehot(y)||.
        """
