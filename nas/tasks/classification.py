"""One class per image: cross-entropy and accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nas.tasks._task import Task
from searchspaces import Config, MeasurementError, Plugin

if TYPE_CHECKING:
    from torch import Tensor

    from nas.datasets import Dataset


class Classification(Task):
    """Logits are `batch x classes`, targets `batch` of class numbers."""

    def losses(self, logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """Cross-entropy of every sample, `batch`, in fp32; gradients flow."""
        from torch.nn import functional

        return functional.cross_entropy(logits.float(), targets, reduction="none", label_smoothing=label_smoothing)

    def metrics(self, logits: Tensor, targets: Tensor) -> dict[str, float]:
        """`accuracy` (fraction) and `loss` (mean cross-entropy, no smoothing) over all samples given; no gradients.

        Raises:
            MeasurementError: there is no sample, or a logit is not finite.
        """
        from torch.nn import functional

        if len(targets) == 0:
            raise MeasurementError("no sample to measure accuracy on; give a split that is not empty.")
        values = logits.detach().float()
        if not bool(values.isfinite().all()):
            raise MeasurementError("a logit is not finite, so neither accuracy nor loss can be computed.")
        return {
            "accuracy": float((values.argmax(dim=1) == targets).double().mean()),
            "loss": float(functional.cross_entropy(values, targets)),
        }

    def gradient_norm_bound(self, logits: Tensor, targets: Tensor) -> Tensor:
        """||softmax(z) - onehot(y)|| of every sample, `batch`, detached, fp32."""
        import torch

        probabilities = logits.detach().float().softmax(dim=1)  # batch x classes
        classes = torch.arange(probabilities.shape[1], device=targets.device)
        onehot = targets[:, None] == classes  # `one_hot` would read its targets on the host
        norms: Tensor = torch.linalg.vector_norm(probabilities - onehot.to(probabilities.dtype), dim=1)
        return norms


def create(config: Config, dataset: Dataset) -> Classification:
    """The task on this data set."""
    return Classification()


PLUGIN = Plugin(
    name="classification",
    description="One class per image: cross-entropy, accuracy",
    source="Katharopoulos and Fleuret (2018), Not All Samples Are Created Equal, arXiv 1803.00942 (gradient bound)",
    create=create,
    flags={"metrics": ("accuracy", "loss"), "fractions": ("accuracy",), "not_negative": ("loss",)},
)
