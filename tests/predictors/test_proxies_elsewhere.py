"""Proxies on networks that they were not made for: a value where the formula applies, else the reason."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from nas.testing._zoo import ZOO, Blocks, Patches, conv, zoo_network
from predictors.ranking import rank_vote
from predictors.zerocost import REGISTRY, Passes, Proxy, Score, Vote, score_network

RUNNING = {name for name in REGISTRY if not isinstance(REGISTRY[name](), Vote)}
GRADIENTS = {"fisher", "grad_norm", "gradsign", "grasp", "l2_norm", "ntk_condition", "plain", "snip", "zico"}
"""Of any network all of whose weights are those of convolutions and linear layers."""
JACOBIANS = {"jacov", "epe_nas"}
"""Of any network whose inputs are real numbers."""
CODES = {"naswot", "swap"}
"""Of any network with rectifications."""
BLOCKS = {"az_expressivity", "az_progressivity", "az_trainability", "eznas_a", "meco"}
"""Of convolutions, in blocks."""

APPLY = {
    "language": set[str](),
    "heads": JACOBIANS,
    "vision": GRADIENTS | JACOBIANS,
    "mlp": GRADIENTS | JACOBIANS | CODES | {"linear_regions", "synflow"},
    "group_norm": GRADIENTS | JACOBIANS | CODES | BLOCKS,
    "gelu": GRADIENTS | JACOBIANS | BLOCKS | {"gdnas", "synflow", "zen"},
    "bare": RUNNING - {"gdnas"},
    "batch_norm": RUNNING,
}
REASONS = {
    ("language", "jacov"): "int64",
    ("language", "snip"): "stem.weight of Embedding",
    ("heads", "grad_norm"): "in_proj_weight of MultiheadAttention",
    ("heads", "meco"): "attention",
    ("vision", "synflow"): "attention",
    ("vision", "naswot"): "no rectification",
    ("mlp", "eznas_a"): "no convolution",
    ("mlp", "gdnas"): "BatchNorm2d",
    ("group_norm", "zen"): "GroupNorm",
    ("gelu", "linear_regions"): "no rectification",
}


@pytest.mark.parametrize("name", ZOO)
def test_every_proxy_has_a_value_or_says_why_its_formula_does_not_apply(name: str) -> None:
    network, context = zoo_network(name)
    scored = score_network(network, {proxy: REGISTRY[proxy]() for proxy in sorted(RUNNING)}, context)
    assert {proxy for proxy, found in scored.items() if found.value is not None} == APPLY[name]
    assert not [(proxy, found.error) for proxy, found in scored.items() if found.is_fault]
    for (kind, proxy), reason in REASONS.items():
        if kind == name:
            assert reason in str(scored[proxy].error)


def test_the_order_in_which_proxies_are_asked_changes_nothing() -> None:
    network, context = zoo_network("batch_norm")
    names = ["az_expressivity", "swap", "zen", "az_trainability", "az_progressivity"]
    one, other = (
        score_network(network, {name: REGISTRY[name]() for name in order}, context) for order in (names, names[::-1])
    )
    assert {name: one[name].value for name in names} == {name: other[name].value for name in names}
    assert None not in {found.value for found in one.values()}


def test_a_blocks_output_that_is_no_image_is_refused_though_the_network_convolves() -> None:
    network = Blocks(Patches(8), lambda: nn.Linear(8, 8), 8)
    _, context = zoo_network("vision")
    scored = score_network(network, {"az_expressivity": REGISTRY["az_expressivity"]()}, context)
    assert "channels x height x width" in str(scored["az_expressivity"].error)


def test_a_linear_layer_over_tokens_has_its_channels_last() -> None:
    """Fisher's sum over places is one over tokens, not over the units of a linear layer."""
    torch.manual_seed(0)
    network = Blocks(Patches(8), lambda: nn.Linear(8, 8), 8)
    _, context = zoo_network("vision")
    found = score_network(network, {"fisher": REGISTRY["fisher"]()}, context)["fisher"]
    kept: dict[str, torch.Tensor] = {}
    handle = network.body[0].register_forward_hook(lambda m, i, o: kept.update(value=o, kept=o.retain_grad()))
    effects = []
    for batch in context.batches:
        (context.loss(network.train()(batch.inputs), batch.labels) / len(context.batches)).backward()
        effects.append((kept["value"] * kept["value"].grad).sum(1))  # over tokens
    handle.remove()
    expected = 0.5 * torch.cat(effects).square().mean()
    assert found.layers["body.0"] == pytest.approx(float(expected.detach()), rel=1e-4)


class Failing(Proxy):
    """Breaks in a way that nobody foresaw, after it has spoiled the copy that others read."""

    error: Exception = IndexError("list index out of range")

    def score(self, passes: Passes) -> Score:
        for parameter in passes.as_initialised().parameters():
            parameter.data.zero_()
        raise self.error


@pytest.mark.parametrize("error", [IndexError("out of range"), KeyError("x"), ZeroDivisionError(), MemoryError("none")])
def test_whatever_a_proxy_raises_costs_its_own_score_alone(error: Exception) -> None:
    network, context = zoo_network("batch_norm")
    failing = Failing()
    failing.error = error
    names = ("grad_norm", "linear_regions", "swap")
    proxies = {"failing": failing, **{name: REGISTRY[name]() for name in names}}
    scored = score_network(network, proxies, context)
    alone = score_network(network, {name: REGISTRY[name]() for name in names}, context)
    assert scored["failing"].is_fault
    assert scored["failing"].value is None
    assert type(error).__name__ in str(scored["failing"].error)
    assert "test_proxies_elsewhere.py:" in str(scored["failing"].error)
    assert {name: scored[name].value for name in names} == {name: alone[name].value for name in names}


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_score_that_is_not_finite_is_none(value: float) -> None:
    class Infinite(Proxy):
        def score(self, passes: Passes) -> Score:
            return Score(value)

    network, context = zoo_network("mlp")
    found = score_network(network, {"infinite": Infinite()}, context)["infinite"]
    assert found.value is None
    assert "not finite" in str(found.error)


def test_a_block_that_hands_gradients_on_has_no_trainability_and_ranks_last() -> None:
    network, context = zoo_network("batch_norm")
    proxies = {name: REGISTRY[name]() for name in ("az_trainability", "az_expressivity", "az_progressivity")}
    whole = score_network(network, proxies, context)
    assert isinstance(network, Blocks)
    network.body[1] = nn.Identity()
    cut = score_network(network, proxies, context)
    assert cut["az_trainability"].value is None
    assert "minus infinity" in str(cut["az_trainability"].error)
    assert not cut["az_trainability"].is_fault
    assert cut["az_expressivity"].value is not None
    parts = [[np.nan if s[name].value is None else s[name].value for s in (cut, whole)] for name in proxies]
    assert rank_vote(parts[:1])[0] < rank_vote(parts[:1])[1]


def test_what_goes_into_the_first_block_counts_as_a_block_of_az_nas() -> None:
    """As in the released code; a network of one block has an increase of entropy and a Jacobian."""
    torch.manual_seed(0)
    _, context = zoo_network("batch_norm")
    stem = nn.Conv2d(3, 6, 3, padding=1, bias=False)
    network = Blocks(stem, lambda: conv(6, nn.BatchNorm2d(6), nn.ReLU()), 6)
    network.body = nn.ModuleList(list(network.body)[:1])
    proxies = {name: REGISTRY[name]() for name in ("az_trainability", "az_progressivity")}
    assert all(found.value is not None for found in score_network(network, proxies, context).values())
