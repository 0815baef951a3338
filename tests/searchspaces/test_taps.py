"""What supernets show of the way: outputs of options, and so the gradients there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from searchspaces import REGISTRY, Architecture, SearchSpace, Supernet

SHAPE = (1, 8, 8)


def images() -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(4, *SHAPE))).float()


def loss(logits: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, torch.arange(len(logits)) % 3)


@pytest.fixture(params=["nasbench201", "macro"])
def space(request: pytest.FixtureRequest) -> SearchSpace:
    small = {"nasbench201": {"channels": 4, "cells_per_stage": 1}, "macro": {"width": 0.25}}
    return REGISTRY[request.param]({"input_shape": SHAPE, "num_classes": 3, **small[request.param]})


def drawn(space: SearchSpace) -> list[Architecture]:
    rng = np.random.default_rng(1)
    return [*space.extremes(), *(space.sample(rng) for _ in range(6))]


def test_the_logits_are_those_of_forward(space: SearchSpace) -> None:
    supernet = space.supernet(seed=0)
    for architecture in drawn(space):
        tapped = supernet.taps(images(), architecture)
        torch.testing.assert_close(tapped.logits, supernet(images(), architecture), rtol=1e-4, atol=1e-5)
        assert set(tapped.outputs) <= {decision for decision, _ in architecture}


def test_weights_get_the_gradients_that_they_get_from_forward(space: SearchSpace) -> None:
    supernet, architecture = space.supernet(seed=0), space.extremes().largest
    gradients = []
    for logits in (supernet(images(), architecture), supernet.taps(images(), architecture).logits):
        supernet.zero_grad()
        loss(logits).backward()  # type: ignore[no-untyped-call]
        gradients.append({name: p.grad for name, p in supernet.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-5)


def output_gradients(supernet: Supernet, architecture: Architecture) -> dict[str, list[Tensor]]:
    tapped = supernet.taps(images(), architecture)
    outputs = [output for held in tapped.outputs.values() for output in held]
    found = iter(torch.autograd.grad(loss(tapped.logits), outputs))
    return {decision: [next(found) for _ in held] for decision, held in tapped.outputs.items()}


def test_every_live_option_has_an_output_in_every_cell(space: SearchSpace) -> None:
    for architecture in drawn(space):
        shown = output_gradients(space.supernet(seed=0), architecture)
        live = {decision for decision, option in space.live(architecture) if option != "none"}
        assert set(shown) >= live
        assert len({len(held) for held in shown.values()}) <= 1
        assert all(bool(gradient.isfinite().all()) for held in shown.values() for gradient in held)


def test_edges_into_one_node_see_one_gradient_also_where_nothing_runs() -> None:
    space = REGISTRY["nasbench201"]({"channels": 4, "cells_per_stage": 1, "input_shape": SHAPE, "num_classes": 3})
    options = ("nor_conv_3x3", "none", "skip_connect", "none", "avg_pool_3x3", "nor_conv_1x1")
    names = ("0->1", "0->2", "1->2", "0->3", "1->3", "2->3")
    architecture = space.architecture(dict(zip(names, options, strict=True)))
    shown = output_gradients(space.supernet(seed=0), architecture)
    assert set(shown) == set(names)
    for first, *others in (("0->2", "1->2"), ("0->3", "1->3", "2->3")):
        for other in others:
            for here, there in zip(shown[first], shown[other], strict=True):
                torch.testing.assert_close(here, there)
    assert not torch.allclose(shown["0->1"][0], shown["1->2"][0])  # a skip's own output, not that of its source


def test_a_supernet_without_taps_gives_its_logits_and_no_outputs() -> None:
    space = REGISTRY["nasbench201"]({"channels": 4, "cells_per_stage": 1, "input_shape": SHAPE, "num_classes": 3})
    supernet, architecture = space.supernet(seed=0), space.extremes().largest
    tapped = Supernet.taps(supernet, images(), architecture)
    assert not tapped.outputs
    torch.testing.assert_close(tapped.logits, supernet(images(), architecture))
