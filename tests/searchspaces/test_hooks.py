"""Whoever looks at a built network from outside, as summaries and profilers do, meets tensors at every module."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from searchspaces import REGISTRY, Architecture, SearchSpace, fused

SHAPE = (3, 8, 8)
SMALL: dict[str, dict[str, object]] = {"nasbench201": {"channels": 4, "cells_per_stage": 1}, "macro": {"width": 0.25}}


@pytest.fixture(params=[name for name in REGISTRY if REGISTRY[name].flags.get("networks", True)])
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return REGISTRY[request.param]({"input_shape": SHAPE, "num_classes": 4, **SMALL.get(request.param, {})})


def networks(space: SearchSpace) -> Iterator[nn.Module]:
    rng, supernet = np.random.default_rng(0), space.supernet()
    for architecture in (*space.extremes(), *(space.sample(rng) for _ in range(4))):
        yield space.build(architecture)
        yield supernet.extract(architecture)


def summary(network: nn.Module, x: Tensor) -> dict[str, tuple[list[int], list[int], int]]:
    """Module -> size of its input, of its output, and its weights, read as summaries do: without a look at the type."""
    rows: dict[str, tuple[list[int], list[int], int]] = {}
    handles = []
    for name, module in network.named_modules():

        def row(module: nn.Module, given: tuple[Tensor, ...], output: Tensor, name: str = name) -> None:
            (only,) = given
            weights = sum(parameter.numel() for parameter in module.parameters(recurse=False))
            rows[name] = (list(only.size()), list(output.detach().size()), weights)

        handles.append(module.register_forward_hook(row))
    network(x)
    for handle in handles:
        handle.remove()
    return rows


def test_a_summary_lists_every_module_that_runs_and_all_weights_that_are_used(space: SearchSpace) -> None:
    for network in networks(space):
        x = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
        rows = summary(network, x)
        network(x).square().sum().backward()
        used = {name.rpartition(".")[0] for name, p in network.named_parameters() if p.grad is not None}
        held = sum(weights for _, _, weights in rows.values())
        assert rows[""][:2] == ([2, *SHAPE], [2, 4])
        assert used <= rows.keys()
        assert held == sum(p.numel() for p in network.parameters() if p.grad is not None)
        for name, module in network.named_modules():
            if isinstance(module, nn.Sequential):  # rectifications and normalisations beside a convolution run with it
                assert len({f"{name}.{child}" in rows for child, _ in module.named_children()} | {name in rows}) == 1


def test_a_hook_that_changes_an_output_changes_what_follows(space: SearchSpace) -> None:
    network = space.build(space.extremes().largest).eval()
    x = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    before = network(x)
    for name, module in network.named_modules():
        handle = module.register_forward_hook(lambda module, given, output: output * 0)
        changed = network(x)
        handle.remove()
        assert changed.shape == before.shape
        if list(module.parameters()) and not isinstance(module, nn.ModuleList | nn.ModuleDict):
            assert not torch.equal(changed, before), name


@pytest.mark.parametrize("is_fused", [False, True])
def test_plain_and_fused_operations_are_one_function(is_fused: bool) -> None:
    space = REGISTRY["nasbench201"]({"input_shape": SHAPE, "num_classes": 4, **SMALL["nasbench201"]})
    architecture: Architecture = space.extremes().largest
    network, supernet = space.build(architecture), space.supernet()
    network.load_state_dict(supernet.extract(architecture).state_dict(), strict=False)
    x = torch.randn(6, *SHAPE, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    with fused(is_fused):
        logits = network(x)
    torch.testing.assert_close(logits, supernet(x, architecture), rtol=1e-4, atol=1e-5)
