"""Gradients of each sample in one pass equal those of batches of one, and the network is left as found."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.streams import stream
from nas.training import has_bf16
from predictors.zerocost._per_sample import gradient_gram, gradient_signs
from searchspaces import REGISTRY, fused
from searchspaces import _kernels as kernels

NASBENCH201 = {"channels": 8, "cells_per_stage": 1, "input_shape": [3, 9, 8], "num_classes": 10}
BARE = {**NASBENCH201, "affine": False, "track_running_stats": False, "bias": True, "channels": 5}
MACRO = {"input_shape": [3, 16, 16], "num_classes": 10}
IMAGES = 5


@pytest.fixture(params=["kernels", "torch"])
def operations(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways in which a machine may run a pass."""
    if request.param == "torch":
        monkeypatch.setattr(kernels, "_library", lambda: None)
    elif kernels.kernel_mode(torch.device("cpu")) != "fused":
        pytest.skip("no compiler here")
    return str(request.param)


def batch(shape: tuple[int, ...], num_images: int = IMAGES) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    return torch.randn((num_images, *shape), generator=generator), torch.arange(num_images) % 10


def weights_of(network: nn.Module) -> dict[str, nn.Parameter]:
    layers = {n: m for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    return {f"{name}.weight": layer.weight for name, layer in layers.items()}


def alone(network: nn.Module, value: Callable[[Tensor, Tensor], Tensor], inputs: Tensor, labels: Tensor) -> list[dict]:  # type: ignore[type-arg]
    """The reference: one training-mode pass per sample."""
    network, found = network.train(), []
    weights = weights_of(network)
    for x, y in zip(inputs.split(1), labels.split(1), strict=True):
        gradients = torch.autograd.grad(value(network(x), y), list(weights.values()), allow_unused=True)
        pairs = zip(weights.items(), gradients, strict=True)
        found.append({name: torch.zeros_like(w) if g is None else g for (name, w), g in pairs})
    return found


def signs_alone(network: nn.Module, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
    each = alone(network, F.cross_entropy, inputs, labels)
    return {name: torch.stack([g[name].sign() for g in each]).sum(0) for name in each[0]}


def disagreement(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Difference over the sum of what is summed up."""
    assert one.keys() == other.keys()
    return float(sum((one[n] - other[n]).abs().sum() for n in one) / sum(other[n].abs().sum() for n in one))


@pytest.mark.parametrize(("name", "config"), [("nasbench201", NASBENCH201), ("nasbench201", BARE), ("macro", MACRO)])
def test_signs_equal_those_of_batches_of_one(name: str, config: dict[str, object], operations: str) -> None:
    space = REGISTRY[name](config)
    drawn = (space.sample(stream(0, "signs", k)) for k in range(6))
    for architecture in [a for a in drawn if space.is_connected(a)][:2]:
        inputs, labels = batch(space.input_shape)
        expected = signs_alone(space.build(architecture, seed=1), inputs, labels)
        found = gradient_signs(space.build(architecture, seed=1), inputs, labels, F.cross_entropy)
        assert all(found[n].shape == expected[n].shape for n in found)
        # what rounding moves over zero: a gradient that is zero but for it, or a rectification there
        assert disagreement(found, expected) < 2e-3


def test_many_samples_take_several_passes(operations: str, monkeypatch: pytest.MonkeyPatch) -> None:
    space = REGISTRY["nasbench201"](NASBENCH201)
    network = space.build(space.extremes().largest, seed=1)
    inputs, labels = batch(space.input_shape)
    whole = gradient_signs(network, inputs, labels, F.cross_entropy)
    monkeypatch.setattr("predictors.zerocost._per_sample._AT_ONCE", 2)
    assert disagreement(gradient_signs(network, inputs, labels, F.cross_entropy), whole) < 1e-3


def test_bf16_gives_nearly_the_score_of_fp32(operations: str) -> None:
    if not has_bf16(torch.device("cpu")):
        pytest.skip("this processor has no bf16")
    space = REGISTRY["nasbench201"](NASBENCH201)
    inputs, labels = batch(space.input_shape, 24)
    scores = {}
    for dtype in (torch.float32, torch.bfloat16):
        signs = gradient_signs(space.build(space.extremes().largest), inputs, labels, F.cross_entropy, dtype=dtype)
        scores[dtype] = float(sum(total.abs().sum() for total in signs.values()))
    assert scores[torch.bfloat16] == pytest.approx(scores[torch.float32], rel=0.03)


@pytest.mark.parametrize(("name", "config"), [("nasbench201", BARE), ("macro", MACRO)])
def test_the_gram_matrix_holds_inner_products_of_gradients(
    name: str, config: dict[str, object], operations: str
) -> None:
    space = REGISTRY[name](config)
    architecture = space.sample(stream(0, "gram"))
    inputs, labels = batch(space.input_shape)
    each = alone(space.build(architecture, seed=1), lambda logits, _: logits.sum(), inputs, labels)
    rows = torch.stack([torch.cat([g.flatten() for g in gradients.values()]) for gradients in each])
    gram = gradient_gram(space.build(architecture, seed=1), inputs)
    torch.testing.assert_close(gram, rows @ rows.T, rtol=0, atol=2e-2 * float((rows @ rows.T).abs().max()))


class Odd(nn.Module):
    """Every kind of layer that the spaces do not have, and one weight in two places."""

    def __init__(self, *, tied: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, (3, 1), stride=(2, 1), padding=(2, 0), bias=True)
        self.grouped = nn.Conv2d(6, 4, 3, padding="same", dilation=2, groups=2)
        self.round = nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")
        self.again = nn.Conv2d(4, 4, 3, padding="valid")
        self.norm, self.drop = nn.BatchNorm2d(4), nn.Dropout(0.5)
        self.mixed = nn.Linear(4, 4)
        self.head = nn.Linear(4, 10)
        self.idle = nn.Linear(4, 10)
        self.frozen = nn.Conv2d(4, 4, 1).requires_grad_(False)
        self.tied = tied

    def forward(self, x: Tensor) -> Tensor:
        x = self.grouped(self.first(x))
        x = self.norm(self.again(x)).relu()
        if self.tied:
            x = self.again(self.round(x))
        x = self.frozen(x) + x
        x = self.mixed(x.flatten(2).transpose(1, 2)).tanh().mean(1)  # batch x pixels x channels -> batch x channels
        logits: Tensor = self.head(self.drop(x))
        return logits


@pytest.mark.parametrize("tied", [False, True])
def test_layers_of_any_geometry_and_weights_used_twice(*, tied: bool, operations: str) -> None:
    network, (inputs, labels) = seeded(Odd(tied=tied)), batch((3, 11, 12))
    found = gradient_signs(network, inputs, labels, F.cross_entropy)
    network.drop.p = 0.0  # type: ignore[union-attr, assignment]
    network.frozen.requires_grad_(True)
    expected = signs_alone(network, inputs, labels)
    expected["frozen.weight"].zero_()  # no gradient was wanted
    assert not found["idle.weight"].any()
    assert found["mixed.weight"].any()
    assert disagreement(found, expected) < 5e-3


def seeded(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(3)
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.5
    return network


@pytest.mark.parametrize("training", [False, True])
def test_the_network_is_left_as_found(*, training: bool, operations: str) -> None:
    network, (inputs, labels) = seeded(Odd(tied=False)).train(training), batch((3, 11, 12))
    network.norm.eval()  # type: ignore[union-attr, operator]
    gradients = {}
    for name, parameter in network.named_parameters():
        parameter.grad = gradients[name] = torch.ones_like(parameter)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    keys = [set(vars(module)) for module in network.modules()]
    drawn = torch.get_rng_state()
    gradient_signs(network, inputs, labels, F.cross_entropy)
    gradient_gram(network, inputs)
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    assert all(p.grad is gradients[name] and bool((p.grad == 1).all()) for name, p in network.named_parameters())
    assert [module.training for module in network.modules()] == modes
    assert [set(vars(module)) for module in network.modules()] == keys
    assert torch.equal(torch.get_rng_state(), drawn)


def test_a_failed_pass_leaves_the_network_as_found(operations: str) -> None:
    network, (inputs, labels) = seeded(Odd(tied=False)).train(), batch((3, 11, 12))

    def fails(logits: Tensor, labels: Tensor) -> Tensor:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        gradient_signs(network, inputs, labels, fails)
    assert network.training
    assert not any("forward" in vars(module) for module in network.modules())


def test_one_value_per_sample_and_channel_cannot_be_normalised(operations: str) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten())
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        gradient_signs(network, *batch((3, 1, 1)), F.cross_entropy)


def test_gradients_that_are_not_numbers_count_nothing(operations: str) -> None:
    network, (inputs, labels) = seeded(nn.Sequential(nn.Flatten(), nn.Linear(12, 10))), batch((3, 2, 2))
    inputs[2] = torch.nan
    kept = torch.tensor([0, 1, 3, 4])
    expected = gradient_signs(network, inputs[kept], labels[kept], F.cross_entropy)
    found = gradient_signs(network, inputs, labels, F.cross_entropy)
    assert torch.equal(found["1.weight"], expected["1.weight"])


def test_signs_do_not_depend_on_who_called_before() -> None:
    space = REGISTRY["nasbench201"](NASBENCH201)
    network, (inputs, labels) = space.build(space.extremes().largest), batch(space.input_shape)
    first = gradient_signs(network, inputs, labels, F.cross_entropy)
    with torch.no_grad(), fused(False):
        second = gradient_signs(network, inputs, labels, F.cross_entropy)
    assert all(torch.equal(first[name], second[name]) for name in first)
