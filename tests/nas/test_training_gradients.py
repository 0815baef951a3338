"""Gradient policies on one step: which weights move, and by how much."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas.testing._recipes import small_space
from nas.training import Accumulate, Child, Displacement, GradientNorms, GradientPolicy, Step
from searchspaces import Architecture, Mixture, RoutedSupernet, Split, Supernet

RATE, MOMENTUM, DECAY = 0.1, 0.9, 0.01
SPACE = small_space()
EVERY = list(SPACE.iterate())
Weights = dict[str, Tensor]


class OneStep(Step):
    """A step on eight fixed images."""

    def __init__(self, supernet: Supernet, choices: Iterable[Architecture | Mixture], *, clip: float = 1e6) -> None:
        rng = np.random.default_rng(0)
        self.images = torch.from_numpy(rng.normal(size=(8, 1, 6, 6))).float()
        self.targets = torch.from_numpy(rng.integers(0, 4, 8))
        self.supernet, self.children = supernet, [Child(choice) for choice in choices]
        self.optimizer = torch.optim.SGD(supernet.parameters(), lr=RATE / 2, momentum=MOMENTUM, weight_decay=DECAY)
        self.learning_rate, self.rate_factor, self.clip_norm = RATE, 0.5, clip
        self.seen: list[GradientNorms] = []
        self.passes = 0

    def backward(self, child: Child) -> None:
        self.passes += 1
        loss = nn.functional.cross_entropy(self.supernet(self.images, child.choice), self.targets)
        loss.backward()  # type: ignore[no-untyped-call]

    def observe(self, norms: GradientNorms) -> None:
        self.seen.append(norms)
        total = torch.stack([p.grad.norm() for p in self.supernet.parameters() if p.grad is not None]).norm()
        torch.testing.assert_close(norms.total, total)


def weights(supernet: Supernet) -> Weights:
    return {name: parameter.detach().clone() for name, parameter in supernet.named_parameters()}


def after(policy: GradientPolicy, choices: Sequence[Architecture | Mixture], *, steps: int = 1, **more: Any) -> Weights:
    supernet = SPACE.supernet(seed=0)
    step = OneStep(supernet, choices, **more)
    for _ in range(steps):
        policy.run(step)
    assert len(step.seen) == steps
    assert step.passes == steps * len(choices) * policy.passes_per_child
    assert all(parameter.grad is None for parameter in supernet.parameters())
    assert len(step.optimizer.param_groups[0]["params"]) == len(list(supernet.parameters()))
    return weights(supernet)


def plainly(choices: Sequence[Architecture], *, steps: int = 1, clip: float = 1e6) -> Weights:
    """The same with torch's own means, over all parameters."""
    supernet = SPACE.supernet(seed=0)
    step = OneStep(supernet, choices, clip=clip)
    for _ in range(steps):
        step.optimizer.zero_grad()
        for child in step.children:
            step.backward(child)
        nn.utils.clip_grad_norm_(supernet.parameters(), clip)
        step.optimizer.step()
    return weights(supernet)


def moved(before: Weights, now: Weights) -> set[str]:
    return {name for name, tensor in now.items() if not torch.equal(tensor, before[name])}


START = weights(SPACE.supernet(seed=0))


@pytest.mark.parametrize("clip", [1e6, 0.1])
@pytest.mark.parametrize("chosen", [(7,), (0, 8, 24)])
def test_accumulating_on_the_path_alone_is_what_torch_does_on_all(chosen: Sequence[int], clip: float) -> None:
    choices = [EVERY[i] for i in chosen]
    mine, torchs = after(Accumulate(), choices, steps=3, clip=clip), plainly(choices, steps=3, clip=clip)
    assert moved(START, mine) == moved(START, torchs) != set()
    for name, tensor in torchs.items():
        torch.testing.assert_close(mine[name], tensor)


def test_a_mixture_touches_everything() -> None:
    sizes = {d.name: len(d.options) for d in SPACE.decisions}
    mixture = Mixture({name: torch.full((size,), 1 / size) for name, size in sizes.items()})
    touched = moved(START, after(Accumulate(), [mixture]))
    assert touched == set(START) - {name for name in START if name.endswith("bias") and "conv" in name}


def of_paths(choices: Iterable[Architecture]) -> set[str]:
    """Names of the weights that these paths own or share."""
    supernet = SPACE.supernet(seed=0)
    pairs = {(d.name, option) for d in SPACE.decisions for option in d.options}
    idle = pairs - {pair for choice in choices for pair in choice}
    outside = {id(p) for pair in idle for p in supernet.parameters_of(*pair)}
    return {name for name, p in supernet.named_parameters() if id(p) not in outside}


@pytest.mark.parametrize("policy", [Accumulate(), Displacement()])
def test_weights_of_no_child_stand_still(policy: GradientPolicy) -> None:
    choices = [EVERY[24], EVERY[1]]
    touched = moved(START, after(policy, choices, steps=2))
    assert touched <= of_paths(choices) < set(START)


def test_idle_weights_may_decay() -> None:
    ended = after(Accumulate(idle="decay"), [EVERY[24]])
    for name in set(START) - of_paths([EVERY[24]]):
        torch.testing.assert_close(ended[name], START[name] * (1 - RATE / 2 * DECAY))


def test_the_parts_of_a_supernet_that_was_split_are_trained() -> None:
    """Their parameters are new ones, also when a checkpoint brings back the structure that is there already."""
    supernet, policy, choice = RoutedSupernet.of(SPACE.supernet(seed=0)), Accumulate(), EVERY[24]
    decision = SPACE.decisions[-1]
    split = Split(0, decision.name, tuple((option,) for option in decision.options))
    for change in (lambda: None, lambda: supernet.split(split), lambda: supernet.arrange([split])):
        change()
        step, before = OneStep(supernet, [choice]), weights(supernet)
        policy.run(step)
        part = f"held.{supernet.part_of(choice)}."
        touched = moved(before, weights(supernet))
        assert touched
        assert all(name.startswith(part) for name in touched)


# --- displacement ----------------------------------------------------------------------------------------------------


def test_without_an_inner_rate_nothing_moves() -> None:
    assert not moved(START, after(Displacement(inner_rate=0.0, outer_weight_decay=0.0), EVERY[::6], steps=2))


@pytest.mark.parametrize("clip", [1e6, 0.1])
def test_one_inner_step_of_one_child_is_sgd_at_the_product_of_the_rates(clip: float) -> None:
    policy = Displacement(inner_steps=1, inner_rate=0.3, outer_rate=0.8, outer_weight_decay=0.0)
    ended = after(policy, [EVERY[24]], clip=clip)
    supernet = SPACE.supernet(seed=0)
    step = OneStep(supernet, [EVERY[24]])
    step.backward(step.children[0])
    nn.utils.clip_grad_norm_(supernet.parameters(), clip)
    torch.optim.SGD(supernet.parameters(), lr=0.3 * 0.8 * step.rate_factor).step()
    for name, expected in weights(supernet).items():
        torch.testing.assert_close(ended[name], expected)


def test_the_shared_weights_go_the_mean_way_of_children_that_train_apart() -> None:
    choices, clip = [EVERY[24], EVERY[1], EVERY[12]], 0.5
    ended = after(Displacement(inner_steps=3, outer_rate=0.8, outer_weight_decay=0.02), choices, clip=clip)
    ways = {name: torch.zeros_like(tensor) for name, tensor in START.items()}
    for choice in choices:  # every one from the same start, with its own optimizer
        supernet = SPACE.supernet(seed=0)
        step = OneStep(supernet, [choice])
        inner = torch.optim.SGD(supernet.parameters(), lr=RATE, momentum=MOMENTUM)
        for _ in range(3):
            inner.zero_grad()
            step.backward(step.children[0])
            nn.utils.clip_grad_norm_(supernet.parameters(), clip)
            inner.step()
        for name, tensor in weights(supernet).items():
            ways[name] += (START[name] - tensor) / 3
    touched = of_paths(choices) & moved(START, ended)
    assert touched
    for name in touched:
        torch.testing.assert_close(ended[name], START[name] - 0.8 * 0.5 * (ways[name] + 0.02 * START[name]))


def test_a_restart_slows_the_inner_steps_too() -> None:
    """They follow no schedule; without it, a divergence inside them would come back at every restart."""
    policy = Displacement(inner_steps=1, inner_rate=0.3, outer_rate=0.8, outer_weight_decay=0.0)
    ways = []
    for factor in (1.0, 0.5):
        supernet = SPACE.supernet(seed=0)
        step = OneStep(supernet, [EVERY[24]])
        step.restart_factor = factor
        policy.run(step)
        ways.append(supernet.trunk.classifier.weight.detach() - START["trunk.classifier.weight"])  # type: ignore[union-attr,operator,arg-type]
    assert ways[0].abs().sum() > 0
    torch.testing.assert_close(ways[1], ways[0] / 2, rtol=1e-3, atol=1e-7)


def test_inner_momentum_may_run_on_from_child_to_child() -> None:
    choices = [EVERY[24], EVERY[24]]
    fresh, leaking = (after(Displacement(fresh=fresh), choices) for fresh in (True, False))
    once = after(Displacement(), choices[:1])
    for name, tensor in fresh.items():
        torch.testing.assert_close(tensor, once[name])
    assert moved(fresh, leaking)
