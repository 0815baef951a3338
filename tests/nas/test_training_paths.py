"""Fair and chained paths: what is dealt, what changes, and that both are functions of the seed and the step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy

from nas.streams import torch_stream
from nas.training import ChainPaths, FairPaths, PathSampler, Setting, UniformPaths
from searchspaces import REGISTRY as SPACES
from searchspaces import Architecture, SearchSpace
from tests.nas.conditional import Perceptrons

STEPS = 60


def setting(space: SearchSpace, *, seed: int = 0) -> Setting:
    return Setting(space, num_samples=26, num_steps_per_epoch=7, num_epochs=10, seed=seed)


def children(sampler: PathSampler, step: int) -> list[Architecture]:
    choices = [child.choice for child in sampler.plan(step)]
    assert len(choices) == sampler.num_children
    return [choice for choice in choices if isinstance(choice, Architecture)]


def uses(sampler: PathSampler, steps: Sequence[int]) -> Counter[tuple[str, str]]:
    return Counter(pair for step in steps for child in children(sampler, step) for pair in child)


def distance(first: Architecture, second: Architecture) -> int:
    """In how many of the decisions that both have they differ."""
    return sum(second[decision] != option for decision, option in first if decision in second)


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return SPACES["nasbench201"]({})


def unequal(space: SearchSpace) -> SearchSpace:
    """Edges with 2, 3 and 5 options."""
    for edge, kept in (("0->1", ("none", "skip_connect")), ("0->2", ("none", "skip_connect", "nor_conv_3x3"))):
        options = next(d.options for d in space.decisions if d.name == edge)
        space = space.partition(edge, [kept, [o for o in options if o not in kept]])[0]
    return space


def test_every_step_trains_every_option_once_by_new_permutations(space: SearchSpace) -> None:
    sampler = FairPaths(setting(space))
    assert sampler.num_children == 5
    for steps in (range(1), range(STEPS)):
        assert set(uses(sampler, steps).values()) == {len(steps)}
        assert len(uses(sampler, steps)) == 30
    sets = {tuple(child.text for child in children(sampler, step)) for step in range(STEPS)}
    assert len(sets) == STEPS


def test_decisions_with_fewer_options_are_fair_over_the_steps(space: SearchSpace) -> None:
    narrow = unequal(space)
    sampler = FairPaths(setting(narrow))
    for num_steps in (1, 2, 3, STEPS):
        counts = uses(sampler, range(num_steps))
        for decision in narrow.decisions:
            mine = [counts[decision.name, option] for option in decision.options]
            assert sum(mine) == 5 * num_steps
            assert max(mine) - min(mine) <= 1


def test_conditional_decisions_are_dealt_to_all_and_trained_where_they_are_active() -> None:
    sampler = FairPaths(setting(Perceptrons(widths=3)))
    for step in range(STEPS):
        counts = uses(sampler, [step])
        assert [counts["depth", option] for option in "123"] == [1, 1, 1]
        assert [counts["width1", option] for option in ("8", "16", "24")] == [1, 1, 1]
        assert sum(counts["width3", option] for option in ("8", "16", "24")) == 1  # only the deepest has it


def test_fair_paths_do_not_depend_on_what_was_asked_before(space: SearchSpace) -> None:
    narrow = unequal(space)
    first, second = FairPaths(setting(narrow)), FairPaths(setting(narrow))
    for step in (9, 3):
        children(first, step)
    assert children(first, 5) == children(second, 5)
    assert children(first, 5) != children(FairPaths(setting(narrow, seed=1)), 5)


@pytest.mark.parametrize("conditional", [False, True])
def test_successive_children_of_a_chain_differ_in_one_option(space: SearchSpace, conditional: bool) -> None:
    walked = Perceptrons() if conditional else space
    sampler = ChainPaths(setting(walked))
    chain = [children(sampler, step)[0] for step in range(STEPS)]
    changes = [distance(before, after) for before, after in pairwise(chain)]
    assert max(changes) == 1
    assert min(changes) == (0 if conditional else 1)  # a change of an inactive decision is not seen
    assert len(set(chain)) > STEPS / 4


def test_a_chain_is_a_function_of_the_seed_and_the_step(space: SearchSpace) -> None:
    whole = ChainPaths(setting(space))
    chain = [children(whole, step) for step in range(STEPS)]
    late = ChainPaths(setting(space))
    assert children(late, STEPS - 1) == chain[-1]
    assert [children(late, step) for step in (STEPS - 3, 2, 44, 45)] == [chain[i] for i in (STEPS - 3, 2, 44, 45)]
    resumed = ChainPaths(setting(space))
    resumed.load_state_dict(late.state_dict())
    assert [children(resumed, step) for step in (46, 43)] == [chain[46], chain[43]]
    assert children(ChainPaths(setting(space, seed=1)), 9) != chain[9]


def test_a_chain_takes_up_where_its_state_stands(space: SearchSpace) -> None:
    before, after = ChainPaths(setting(space)), ChainPaths(setting(space))
    children(before, 100)
    after.load_state_dict(before.state_dict())
    assert int(after.state_dict()["step"]) == 100
    assert children(after, 101) == children(before, 101)


@pytest.mark.parametrize("kind", [FairPaths, ChainPaths])
def test_every_path_is_as_probable_as_under_uniform_draws(kind: type[FairPaths | ChainPaths]) -> None:
    """Also with conditional decisions, at the very first step already; over seeds, since steps hang together."""
    space = Perceptrons(widths=2)  # 14 architectures: 2 of depth 1, 4 of depth 2, 8 of depth 3
    uniform, sampler = UniformPaths(setting(space)), kind(setting(space))
    every = list(space.iterate())
    assert [sampler.probability(a) for a in every] == pytest.approx([uniform.probability(a) for a in every])
    assert sampler.distribution() == uniform.distribution()
    seeds = 1400
    drawn = Counter(children(kind(setting(space, seed=seed)), 2)[-1] for seed in range(seeds))
    expected = {a: seeds * sampler.probability(a) for a in every}
    statistic = sum((drawn[a] - e) ** 2 / e for a, e in expected.items())
    assert statistic < 13 + 2 * (13 * 16) ** 0.5 + 2 * 16  # Laurent and Massart (2000): passed but for 1e-7


def test_a_chain_of_one_single_choice_stays(space: SearchSpace) -> None:
    for decision in space.decisions:
        space = space.partition(decision.name, [[option] for option in decision.options])[0]
    sampler = ChainPaths(setting(space))
    assert children(sampler, 0) == children(sampler, 5)


def test_neighbours_in_a_chain_interfere_less_on_what_they_share_than_independent_paths() -> None:
    """Cosine of the gradients of shared operations at fixed weights, on one batch; the paper's reason for the chain."""
    small = SPACES["nasbench201"]({"channels": 4, "cells_per_stage": 1, "input_shape": (1, 8, 8), "num_classes": 4})
    supernet = small.supernet(seed=0)
    generator = torch_stream(0, "images")
    images, targets = torch.randn(16, 1, 8, 8, generator=generator), torch.arange(16) % 4

    def gradients(architecture: Architecture) -> dict[str, Tensor]:
        supernet.zero_grad()
        cross_entropy(supernet(images, architecture), targets).backward()  # type: ignore[no-untyped-call]
        return {name: p.grad for name, p in supernet.named_parameters() if "operations" in name and p.grad is not None}

    def mean_cosine(sampler: PathSampler) -> float:
        found = [gradients(children(sampler, step)[0]) for step in range(STEPS)]
        cosines = [
            float(cosine_similarity(one[name].flatten(), other[name].flatten(), dim=0))
            for one, other in pairwise(found)
            for name in one.keys() & other.keys()
        ]
        return sum(cosines) / len(cosines)

    # over four seeds 0.14 to 0.22 against 0.00 to 0.06
    assert mean_cosine(ChainPaths(setting(small))) > mean_cosine(UniformPaths(setting(small))) + 0.05
