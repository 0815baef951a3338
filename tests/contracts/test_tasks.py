"""Every task keeps its contract."""

from __future__ import annotations

import pytest
import torch

from nas.datasets import REGISTRY as DATASETS
from nas.tasks import REGISTRY
from nas.testing import check_task
from searchspaces import MeasurementError


@pytest.mark.parametrize("name", REGISTRY)
def test_a_task_keeps_its_contract(name: str) -> None:
    check_task(REGISTRY[name](None, DATASETS["digits"]()), REGISTRY[name].flags)


def test_the_gradient_bound_of_classification_is_the_gradients_norm() -> None:
    task = REGISTRY["classification"](None, DATASETS["digits"]())
    logits = torch.randn(7, 10, generator=torch.Generator().manual_seed(1)).requires_grad_()
    targets = torch.arange(7)
    (gradient,) = torch.autograd.grad(task.losses(logits, targets).sum(), logits)
    torch.testing.assert_close(task.gradient_norm_bound(logits, targets), gradient.norm(dim=1))


def test_logits_that_are_not_finite_are_a_failure_and_no_accuracy() -> None:
    task = REGISTRY["classification"](None, DATASETS["digits"]())
    with pytest.raises(MeasurementError, match="not finite"):
        task.metrics(torch.full((2, 10), float("nan")), torch.tensor([0, 1]))
