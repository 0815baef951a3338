"""Seeded initialisation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from searchspaces._layers import Style, inherit, initialised


def weights(seed: int) -> torch.Tensor:
    with initialised(seed):
        return nn.Linear(4, 4).weight.detach()


def test_equal_seeds_give_equal_weights_and_other_seeds_others() -> None:
    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_the_global_generator_is_put_back_even_after_an_error() -> None:
    before = torch.default_generator.get_state()
    with pytest.raises(RuntimeError, match="negative dimension"), initialised(1):
        nn.Sequential(nn.Linear(4, 4), nn.Linear(4, -4))
    assert torch.equal(before, torch.default_generator.get_state())


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_a_convolution_keeps_the_image_s_size_but_for_the_stride(kernel: int) -> None:
    x = torch.zeros(1, 2, 7, 6)
    assert Style().conv(2, 3, kernel)(x).shape == (1, 3, 7, 6)
    assert Style().conv(2, 3, kernel, stride=2)(x).shape == (1, 3, 4, 3)


def test_an_heir_has_the_values_but_not_the_tensors_of_its_parent() -> None:
    parent = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).eval()
    with torch.device("meta"):
        child = nn.Sequential(nn.Linear(2, 2))
    child = inherit(child, parent)
    assert torch.equal(child[0].weight, parent[0].weight)
    assert child[0].weight.data_ptr() != parent[0].weight.data_ptr()
    assert not child.training
