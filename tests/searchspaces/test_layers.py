"""Seeded initialisation."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from searchspaces import REGISTRY
from searchspaces._layers import StridedPointwise, Style, inherit, initialised

_TRAIN = """
import torch
from searchspaces._layers import Style
torch.manual_seed(0)
torch.set_num_threads(2)
for channels in (3, 4, 8, 16):
    for size in ((32, 32), (8, 16)):
        for _ in range(20):
            conv = Style().conv(channels, 8, 1, stride=2).to(memory_format=torch.channels_last)
            x = torch.randn(64, channels, *size).contiguous(memory_format=torch.channels_last)
            y = conv(x)
            y.square().mean().backward()
print("whole")
"""


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


def test_a_strided_pixel_convolution_has_the_gradients_of_the_plain_one() -> None:
    ours = Style(bias=True).conv(4, 6, 1, stride=2).to(memory_format=torch.channels_last)
    assert isinstance(ours, StridedPointwise)
    x = torch.randn(3, 4, 9, 8, requires_grad=True)
    y = ours(x.contiguous(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)
    exact = F.conv2d(x.double(), ours.weight.double(), ours.bias.double() if ours.bias is not None else None, 2)
    torch.testing.assert_close(y.double(), exact, rtol=1e-5, atol=1e-5)
    held = (x, *ours.parameters())
    got = torch.autograd.grad(y.square().sum(), held)
    for gradient, wanted in zip(got, torch.autograd.grad(exact.square().sum(), held), strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-4)


def test_a_strided_pixel_convolution_is_exported_as_one_convolution() -> None:
    made = torch.export.export(Style().conv(4, 6, 1, stride=2), (torch.zeros(2, 4, 8, 8),))
    called = [str(node.target) for node in made.graph.nodes if node.op == "call_function"]
    assert called == ["aten.conv2d.default"]


@pytest.mark.parametrize("name", [name for name in REGISTRY if REGISTRY[name].flags.get("networks", True)])
def test_no_space_builds_a_pixel_convolution_with_a_stride_that_may_crash_in_training(name: str) -> None:
    space = REGISTRY[name]({})
    for architecture in space.extremes():
        with torch.device("meta"):
            network = space.build(architecture)
        for layer in network.modules():
            is_read_in_steps = isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and max(layer.stride) > 1
            assert not is_read_in_steps or isinstance(layer, StridedPointwise)


@pytest.mark.slow
@pytest.mark.parametrize("instructions", ["AVX2", "DEFAULT"])
def test_training_it_breaks_no_memory(instructions: str) -> None:
    # with AVX2 the plain layer aborts here at 4 channels, in most runs
    there = {**os.environ, "ONEDNN_MAX_CPU_ISA": instructions, "MALLOC_CHECK_": "3"}
    command = [sys.executable, "-c", _TRAIN]
    ended = subprocess.run(command, env=there, capture_output=True, text=True, timeout=300, check=False)
    assert (ended.returncode, ended.stdout.strip()) == (0, "whole"), ended.stderr[-500:]


def test_an_heir_has_the_values_but_not_the_tensors_of_its_parent() -> None:
    parent = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).eval()
    with torch.device("meta"):
        child = nn.Sequential(nn.Linear(2, 2))
    child = inherit(child, parent)
    assert torch.equal(child[0].weight, parent[0].weight)
    assert child[0].weight.data_ptr() != parent[0].weight.data_ptr()
    assert not child.training
